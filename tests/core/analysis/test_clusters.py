from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from twigma_core.analysis.clusters import align_labels, assign, fit_kmeans


def blobs(sizes: list[int], seed: int = 0, d: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Return unit rows of groups of these sizes, shuffled, and the groups."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(len(sizes), d))
    truth = np.repeat(np.arange(len(sizes)), sizes)
    order = rng.permutation(len(truth))
    x = centers[truth] + 0.35 * rng.normal(size=(len(truth), d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x[order].astype(np.float32), truth[order]


def test_fit_is_as_good_as_scikit_learn_and_finds_the_groups() -> None:
    x, truth = blobs([300, 200, 150, 100, 50])
    fit = fit_kmeans(x, 5, seed=1)
    oracle = KMeans(5, n_init=10, random_state=0).fit(x)
    assert fit.inertia <= oracle.inertia_ * 1.005
    assert adjusted_rand_score(fit.labels, truth) > 0.95
    assert fit.inertia == pytest.approx(np.square(x - fit.centroids[fit.labels - 1]).sum(), rel=1e-4)


def test_labels_run_by_size_and_repeat_exactly() -> None:
    x, _ = blobs([300, 200, 150, 100, 50])
    one, two = fit_kmeans(x, 5, seed=1), fit_kmeans(x, 5, seed=1)
    assert np.array_equal(one.centroids, two.centroids)
    assert one.version == two.version
    sizes = np.bincount(one.labels)[1:]
    assert list(sizes) == sorted(sizes, reverse=True)
    assert np.array_equal(assign(x, one.centroids)[0], one.labels)
    assert fit_kmeans(x, 4, seed=1).version != one.version


def test_assign_agrees_with_brute_force_far_from_the_origin() -> None:
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(9000, 6)) + 1000).astype(np.float32)  # more than one block
    c = (rng.normal(size=(7, 6)) + 1000).astype(np.float32)
    labels, distances = assign(x, c)
    every = np.linalg.norm(x[:, None, :].astype(float) - c[None].astype(float), axis=2)
    assert np.array_equal(labels, every.argmin(axis=1) + 1)
    assert np.allclose(distances, every.min(axis=1), rtol=1e-5)


@pytest.mark.parametrize(("width", "size"), [(48, 1.0), (300, 1.0), (300, 1e10)])
def test_inertia_is_within_one_per_cent_of_scikit_learn_when_starts_see_only_a_sample(
    width: int, size: float
) -> None:
    rng = np.random.default_rng(4)
    spectrum = np.arange(1, width + 1) ** -0.5
    x = (rng.normal(size=(9000, width)) * spectrum).astype(np.float32)  # no groups: the hard case
    x *= size / np.linalg.norm(x, axis=1, keepdims=True)
    fit = fit_kmeans(x, 10, seed=0)  # 5,120 rows are sampled
    oracle = KMeans(10, n_init=3, random_state=0).fit(x)
    assert fit.inertia <= oracle.inertia_ * 1.01
    refined = KMeans(10, init=fit.centroids, n_init=1, tol=0).fit(x)
    assert fit.inertia <= refined.inertia_ * 1.002, "the pass over all rows has all but converged"


def test_groups_apart_in_directions_of_little_spread_are_found_in_wide_rows() -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 8, 3000)
    x = rng.normal(size=(3000, 200)) * np.arange(1, 201) ** -0.5
    x[:, 100:108] += 3 * np.eye(8)[truth]
    assert adjusted_rand_score(fit_kmeans(x, 8, seed=0).labels, truth) > 0.95


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_best_of_many_starts_finds_forty_groups_where_one_start_does_not(seed: int) -> None:
    rng = np.random.default_rng(40)
    centres = 2 * rng.normal(size=(40, 6))
    x = np.repeat(centres, 20, axis=0) + 0.1 * rng.normal(size=(800, 6))
    planted = np.square(x.reshape(40, 20, 6) - x.reshape(40, 20, 6).mean(axis=1, keepdims=True)).sum()
    assert fit_kmeans(x, 40, seed, starts=20).inertia < 1.05 * planted
    assert fit_kmeans(x, 40, seed, starts=1).inertia > 1.5 * planted


def test_labels_do_not_hang_on_the_other_rows() -> None:
    x, _ = blobs([900, 700, 500])
    c = fit_kmeans(x, 3, seed=0).centroids
    between = np.concatenate([(c[0] + c[1])[None] / 2 + 1e-7 * np.eye(16)[:8], x]).astype(np.float32)
    every = np.linalg.norm(between[:, None].astype(float) - c[None].astype(float), axis=2).argmin(axis=1) + 1
    assert np.array_equal(assign(between, c)[0], every)
    one_by_one = np.concatenate([assign(between[i : i + 1], c)[0] for i in range(20)])
    assert np.array_equal(one_by_one, every[:20])


def test_align_labels_undoes_a_renaming_and_numbers_what_is_new() -> None:
    rng = np.random.default_rng(0)
    old = rng.integers(1, 6, 500)
    renamed = np.array([0, 3, 5, 1, 2, 4])[old]
    noisy = np.where(rng.random(500) < 0.1, rng.integers(1, 6, 500), renamed)
    mapping = align_labels(old, noisy)
    assert mapping == {3: 1, 5: 2, 1: 3, 2: 4, 4: 5}
    finer = np.where((old == 1) & (rng.random(500) < 0.2), 6, old)
    assert align_labels(old, finer) == {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}
    with pytest.raises(ValueError, match="same pictures"):
        align_labels(old, old[:3])


def test_bad_input_is_refused_with_the_reason() -> None:
    x, _ = blobs([20, 20])
    with pytest.raises(ValueError, match="a corpus of 7 pictures is smaller than k=10 clusters"):
        fit_kmeans(x[:7], 10, seed=0)
    broken = x.copy()
    broken[5, 3] = np.nan
    with pytest.raises(ValueError, match="1 of 40 embeddings hold NaN or infinity, first at row 5"):
        fit_kmeans(broken, 2, seed=0)
    with pytest.raises(ValueError, match="different models"):
        assign(x[:, :5], x[:3])
    with pytest.raises(ValueError, match=r"\(n, d\) array"):
        fit_kmeans(x[0], 2, seed=0)
    with pytest.raises(ValueError, match="both must be at least 1"):
        fit_kmeans(x, 0, seed=0)


values = st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-3, 300.0])


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 30), st.integers(1, 5)).flatmap(
        lambda shape: arrays(np.float32, shape, elements=values)
    ),
    st.integers(1, 6),
)
def test_any_finite_rows_are_clustered_and_too_few_refused(x: np.ndarray, k: int) -> None:
    """Zero vectors, one picture, identical pictures, rows of any length."""
    if len(x) < k:
        with pytest.raises(ValueError, match=f"smaller than k={k}"):
            fit_kmeans(x, k, seed=0, starts=2)
        return
    fit = fit_kmeans(x, k, seed=0, starts=2)
    assert fit.centroids.shape == (k, x.shape[1]) and np.isfinite(fit.centroids).all()
    sizes = np.bincount(fit.labels, minlength=k + 1)
    assert sizes[0] == 0 and sizes.sum() == len(x) and list(sizes[1:]) == sorted(sizes[1:], reverse=True)
    far = np.square(x.astype(float) - fit.centroids[fit.labels - 1].astype(float)).sum()
    assert fit.inertia == pytest.approx(far, rel=1e-3, abs=1e-3)
    assert fit.inertia <= np.square(x - x.mean(axis=0)).sum() * (1 + 1e-4) + 1e-3, "no worse than one cluster"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=40))
def test_the_crosswalk_is_one_to_one_and_keeps_the_most(pairs: list[tuple[int, int]]) -> None:
    old, new = (np.array(side) for side in zip(*pairs, strict=True))
    mapping = align_labels(old, new)
    assert sorted(mapping) == sorted(set(new.tolist()))
    assert len(set(mapping.values())) == len(mapping)
    kept = sum(mapping[b] == a for a, b in pairs)
    for label, name in mapping.items():  # no exchange of two labels keeps more
        for other, its in mapping.items():
            swapped = mapping | {label: its, other: name}
            assert sum(swapped[b] == a for a, b in pairs) <= kept
