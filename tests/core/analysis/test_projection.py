from __future__ import annotations

import numpy as np
import pytest

from twigma_core import tables
from twigma_core.analysis import projection as subject

Sources = dict[str, tuple[list[str], np.ndarray]]


def sources(sizes: dict[str, int], d: int = 32, seed: int = 0) -> Sources:
    rng = np.random.default_rng(seed)
    found: Sources = {}
    for name, size in sizes.items():
        x = rng.normal(size=d) + 0.4 * rng.normal(size=(size, d))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        found[name] = ([f"{name}{i}" for i in range(size)], x.astype(np.float32))
    return found


@pytest.fixture(scope="module")
def fitted() -> tuple:
    given = sources({"twigma": 150, "laion": 100, "artbench": 90})
    return given, *subject.fit_projection(given, per_source=80, seed=1)


def test_map_is_equal_sized_deterministic_and_separates_the_sources(fitted: tuple) -> None:
    given, table, arrays = fitted
    assert table.group_by("source").len()["len"].to_list() == [80, 80, 80]
    again, _ = subject.fit_projection(given, per_source=80, seed=1)
    assert again.equals(table)
    place = table.select("x", "y").to_numpy()
    centre = {s: place[(table["source"] == s).to_numpy()].mean(axis=0) for s in given}
    own = [
        min(centre, key=lambda s: float(np.linalg.norm(p - centre[s]))) == source
        for p, source in zip(place, table["source"], strict=True)
    ]
    assert np.mean(own) > 0.95
    assert np.allclose(arrays["coordinates"], place)


def test_new_pictures_go_where_umap_itself_starts_them(fitted: tuple) -> None:
    import scipy.sparse
    from umap import umap_

    _, _, arrays = fitted
    new = sources({"twigma": 30}, seed=5)["twigma"][1]
    reduced = (new - arrays["pca_mean"]) @ arrays["pca_components"].T
    full = np.linalg.norm(reduced[:, None] - arrays["vectors"][None], axis=2)
    nearest = np.argsort(full, axis=1)[:, :15]
    distances = np.take_along_axis(full, nearest, axis=1).astype(np.float32)
    sigmas, rhos = umap_.smooth_knn_dist(distances, 15.0, local_connectivity=0.0)
    r, c, v, _ = umap_.compute_membership_strengths(
        nearest.astype(np.int32), distances, sigmas, rhos, bipartite=True
    )
    graph = scipy.sparse.coo_matrix((v, (r, c)), shape=full.shape).tocsr()
    oracle = umap_.init_graph_transform(graph, arrays["coordinates"])
    assert np.allclose(subject.project(arrays, new), oracle, atol=1e-3)


def test_a_picture_of_the_sample_keeps_its_place_and_batches_do_not_matter(fitted: tuple) -> None:
    given, table, arrays = fitted
    ids, x = given["twigma"]
    rows = [ids.index(i) for i in table.filter(source="twigma")["image_id"]]
    places = subject.project(arrays, x[rows])
    assert np.allclose(places, table.filter(source="twigma").select("x", "y").to_numpy(), atol=1e-5)
    whole = subject.projection_table("2021-01", ids, x, table, arrays)
    alone = subject.project(arrays, x[3:4])
    assert np.allclose(whole.select("x", "y").row(3), alone[0], atol=1e-4)
    assert subject.projection_table("2021-02", [], x[:0], table, arrays).equals(tables.empty("projection"))


@pytest.mark.parametrize("n", [1, 2, 4, 5, 14])
def test_a_handful_of_pictures_gets_a_map(n: int) -> None:
    given = sources({"twigma": n})
    table, arrays = subject.fit_projection(given, per_source=100, seed=0)
    assert table.height == n
    places = subject.project(arrays, given["twigma"][1])
    assert places.shape == (n, 2) and np.isfinite(places).all()
    assert np.allclose(places, table.select("x", "y").to_numpy(), atol=1e-4)


def test_identical_pictures_get_a_map() -> None:
    same = np.repeat(sources({"laion": 1})["laion"][1], 20, axis=0)
    table, arrays = subject.fit_projection({"laion": ([str(i) for i in range(20)], same)})
    assert table.height == 20 and np.isfinite(arrays["coordinates"]).all()
    assert np.isfinite(subject.project(arrays, same)).all()


def test_bad_input_is_named(fitted: tuple) -> None:
    given, table, arrays = fitted
    with pytest.raises(ValueError, match="no picture in any source"):
        subject.fit_projection({"laion": ([], np.empty((0, 4)))}, 10, 0)
    with pytest.raises(ValueError, match="materialize projection_model again"):
        subject.project(arrays, np.ones((2, 5)))
    with pytest.raises(ValueError, match="projection/2021-01: 1 ids for 2"):
        subject.projection_table("2021-01", ["a"], given["laion"][1][:2], table, arrays)


def test_other_pictures_are_far_from_the_map_and_those_of_the_fit_are_not(fitted: tuple) -> None:
    given, _, arrays = fitted
    left_out = given["twigma"][1]
    assert subject.far_from_map(arrays, left_out).mean() < 0.1
    other = sources({"another": 40}, seed=7)["another"][1]
    assert subject.far_from_map(arrays, other).mean() > 0.9
    assert subject.far_from_map(arrays, left_out[:0]).shape == (0,)
    older = {name: array for name, array in arrays.items() if name != "reach"}
    assert (subject.far_from_map(older, left_out) == subject.far_from_map(arrays, left_out)).all()
