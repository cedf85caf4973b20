from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from twigma_core import tables
from twigma_core.analysis import neighbors as subject


def unit(n: int, d: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(("m", "k"), [(5000, 5), (3001, 24), (700, 5), (70, 5), (64, 1)])
def test_topk_agrees_with_scikit_learn(m: int, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_QUERIES_PER_BLOCK", 64)
    monkeypatch.setattr(subject, "_BASE_PER_BLOCK", 2048)
    queries, base = unit(150, 24, 1), unit(m, 24, 2)
    distances, rows = (
        NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(base).kneighbors(queries)
    )
    similarities, found = subject.topk(queries, base, k)
    assert np.allclose(similarities, 1 - distances, atol=1e-5)
    assert (found == rows).mean() > 0.999
    assert np.allclose(
        subject.mean_topk_similarity(queries * 7, base * 3, k), (1 - distances).mean(axis=1), atol=1e-5
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 400), st.integers(1, 9), st.integers(0, 99))
def test_topk_of_any_shape_equals_a_full_sort(n: int, m: int, k: int, seed: int) -> None:
    queries, base = unit(n, 3, seed), unit(m, 3, seed + 1)
    similarities, rows = subject.topk(queries, base, k)
    full = -np.sort(-(queries.astype(float) @ base.T.astype(float)), axis=1)[:, : min(k, m)]
    assert similarities.shape == rows.shape == full.shape
    assert np.allclose(similarities, full, atol=1e-5)
    assert all(len(set(row)) == len(row) for row in rows.tolist())


def test_neighbors_table_names_the_planted_copies_and_inspirations_rank_them() -> None:
    laion, artbench = unit(300, 16, 1), unit(200, 16, 2)
    x = unit(40, 16, 3)
    x[7] = artbench[11]
    x[9] = 0.98 * laion[5] + 0.05 * x[9]
    ids = [f"p{i}" for i in range(40)]
    corpora = {
        "laion": ([f"l{i}" for i in range(300)], laion),
        "artbench": ([f"a{i}" for i in range(200)], artbench),
    }
    table = subject.neighbors_table("2021-05", ids, x, corpora)
    assert table.height == 80
    assert table["neighbor_ids"].list.len().unique().to_list() == [5]
    means = table["neighbor_similarities"].list.mean().cast(pl.Float64)
    assert np.allclose(means, table["similarity"], atol=1e-6)
    dataset = pl.DataFrame({"image_id": ids, "nsfw_score": [0.5] * 40})
    human = pl.DataFrame(
        {
            "corpus": ["artbench", "laion", "laion"],
            "image_id": ["a11", "a11", "l5"],
            "nsfw_score": [0.9, 0.1, 0.2],
        }
    )
    pairs = subject.inspirations(table, dataset, human, n=10)
    assert pairs["neighbor_nsfw_score"].to_list()[:2] == pytest.approx([0.9, 0.2])
    assert pairs["neighbor_nsfw_score"].null_count() == 8
    near = table.filter(image_id="p7", corpus="artbench")["neighbor_similarities"][0]
    assert pairs["margin"][0] == pytest.approx(near[0] - near[1])
    assert pairs["rank"].to_list() == list(range(1, 11))
    assert pairs.select("image_id", "corpus", "neighbor_id").rows()[:2] == [
        ("p7", "artbench", "a11"),
        ("p9", "laion", "l5"),
    ]
    assert pairs["image_id"].n_unique() == 10
    assert pairs["similarity"].is_sorted(descending=True)
    assert "p7" not in subject.inspirations(table, dataset.filter(pl.col("image_id") != "p7"))["image_id"]


def test_bad_input_is_named() -> None:
    x = unit(4, 8, 0)
    with pytest.raises(ValueError, match="neighbors/2021-05: corpus laion: no picture to compare with"):
        subject.neighbors_table("2021-05", list("abcd"), x, {"laion": ([], x[:0])})
    with pytest.raises(ValueError, match="different models"):
        subject.topk(x, unit(3, 5, 0), 1)
    broken = x.copy()
    broken[2] = 0
    with pytest.raises(ValueError, match="1 of 4 queries are zero, NaN or infinite, first at row 2"):
        subject.topk(broken, x, 1)
    assert subject.neighbors_table("2021-05", [], x[:0], {}).equals(tables.empty("neighbors"))
    assert subject.topk(x[:0], x, 2)[0].shape == (0, 2)


def test_a_single_human_picture_has_no_margin_and_nothing_gives_nothing() -> None:
    x = unit(3, 8, 0)
    table = subject.neighbors_table("2021-05", list("abc"), x, {"laion": (["only"], x[:1])})
    dataset = pl.DataFrame({"image_id": list("abc"), "nsfw_score": [0.1, None, 0.2]})
    pairs = subject.inspirations(table, dataset)
    assert pairs["margin"].null_count() == pairs.height == 3 and pairs["image_id"][0] == "a"
    assert subject.inspirations(table.clear(), dataset).equals(tables.empty("inspirations"))
