from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.neighbors import NearestNeighbors

from twigma_core import tables
from twigma_core.analysis import neighbors as subject


def unit(n: int, d: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_mean_similarity_is_that_of_scikit_learn_whatever_the_lengths() -> None:
    queries, base = unit(150, 24, 1), unit(700, 24, 2)
    distances, _ = NearestNeighbors(n_neighbors=5, metric="cosine").fit(base).kneighbors(queries)
    found = subject.mean_topk_similarity(queries * 7, base * 3, 5)
    assert np.allclose(found, (1 - distances).mean(axis=1), atol=1e-5)


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
    with pytest.raises(ValueError, match="neighbors/2021-05: 3 ids for 4 embeddings"):
        subject.neighbors_table("2021-05", list("abc"), x, {"laion": (list("abcd"), x)})
    with pytest.raises(ValueError, match="2 ids for 4 rows of the base"):
        subject.nearest(x, x, ["a", "b"], 1)
    assert subject.neighbors_table("2021-05", [], x[:0], {}).equals(tables.empty("neighbors"))


def test_a_single_human_picture_has_no_margin_and_nothing_gives_nothing() -> None:
    x = unit(3, 8, 0)
    table = subject.neighbors_table("2021-05", list("abc"), x, {"laion": (["only"], x[:1])})
    dataset = pl.DataFrame({"image_id": list("abc"), "nsfw_score": [0.1, None, 0.2]})
    pairs = subject.inspirations(table, dataset)
    assert pairs["margin"].null_count() == pairs.height == 3 and pairs["image_id"][0] == "a"
    assert subject.inspirations(table.clear(), dataset).equals(tables.empty("inspirations"))
