"""Tables of variation: every metric of every source, equal n, conditions, and histograms of distances."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from tests.core.analysis.made import summarise, unit
from twigma_core.analysis.codebook import Codebook
from twigma_core.analysis.variation_tables import (
    groups_of,
    pair_distances,
    variation_metrics,
    variation_table,
)
from twigma_core.lake import ArrayTable


@pytest.mark.parametrize("n", [0, 1, 2, 80])
def test_a_month_of_any_size_has_its_metrics(n: int) -> None:
    codebook = Codebook.from_centroids({4: unit(4, 6, 8), 10: unit(10, 6, 9)})
    frame = variation_metrics(summarise(unit(n, 6, 0), codebook), "2022-08")
    assert frame["metric"].to_list() == [
        "mean_pairwise_distance",
        "inverse_explained_variance",
        "inverse_explained_variance_corrected",
        "product_of_marginal_variances",
        "product_of_marginal_variances_corrected",
        "vendi_score",
        "vendi_score_corrected",
        "quantized_entropy",
        "quantized_entropy_corrected",
    ]
    assert frame["n"].unique().to_list() == [n]
    assert frame["value"].count() == {0: 0, 1: 4, 2: 6, 80: 9}[n]
    assert frame["low"].count() == frame["high"].count() == (9 if n == 80 else 0)
    assert frame["reason"].null_count() == (9 if n == 80 else 0), "what is missing says why"
    if n == 80:
        assert frame.filter((pl.col("low") > pl.col("value")) | (pl.col("high") < pl.col("value"))).is_empty()


def test_variation_table_compares_at_equal_n_and_within_groups() -> None:
    codebook = Codebook.from_centroids({10: unit(10, 8, 9)})
    wide = unit(3000, 8, 0)
    summaries = {
        "twigma": summarise(wide, codebook, "t"),
        "laion": summarise(wide[:300], codebook, "l"),
        "artbench": summarise(np.zeros((0, 8)), codebook),
    }
    rng = np.random.default_rng(0)
    centres = unit(40, 8, 3)
    artists = np.repeat(np.arange(40), 5)
    close = centres[artists] + rng.normal(scale=0.05, size=(200, 8))
    close /= np.linalg.norm(close, axis=1, keepdims=True)
    groups = {"artbench_same_artist": (close, [f"artist {a}" for a in artists])}
    frame = variation_table(summaries, groups)
    got = {(row["source"], row["metric"]): row for row in frame.iter_rows(named=True)}
    names = (
        "inverse_explained_variance",
        "product_of_marginal_variances",
        "vendi_score",
        "quantized_entropy",
    )
    for metric in names:
        here, there = got["twigma", f"{metric}_equal_n"], got["laion", f"{metric}_equal_n"]
        assert here["n"] == there["n"] == 300
        assert here["low"] <= there["high"] and there["low"] <= here["high"]  # the same population
        assert there["value"] == pytest.approx(got["laion", metric]["value"], rel=1e-6)
        assert here["value"] < got["twigma", metric]["value"] or metric.startswith("product")
        assert got["artbench", f"{metric}_equal_n"]["value"] is None
    same = got["artbench_same_artist", "mean_pairwise_distance"]
    assert same["high"] < got["twigma", "mean_pairwise_distance"]["low"] and same["n"] == 200
    across = got["artbench_same_artist", "mean_pairwise_distance_across"]
    ratio = got["artbench_same_artist", "within_across_ratio"]
    assert ratio["value"] == pytest.approx(same["value"] / across["value"]) and ratio["high"] < 0.2
    shuffled = variation_table(
        summaries,
        {"artbench_same_artist": (close, rng.permutation(groups["artbench_same_artist"][1]).tolist())},
    )
    mixed = shuffled.filter(pl.col("source") == "artbench_same_artist").row(0, named=True)
    assert mixed["low"] > 2 * same["high"]  # the condition is what makes the difference


def test_pair_distances_are_densities() -> None:
    stored = ArrayTable(
        pl.DataFrame({"artist": ["a", "a", None], "prompt_id": [None, None, None]}),
        {"vectors": unit(3, 4, 0)},
    )
    groups = groups_of({"artbench": stored})
    assert list(groups) == ["artbench_same_artist"]
    texts = {
        "prompts": ArrayTable(pl.DataFrame({"words": [5] * 20}), {"vectors": unit(20, 4, 1)}),
        "haiku": ArrayTable(pl.DataFrame({"words": [5] * 9}), {"vectors": unit(9, 4, 2)}),
    }
    summaries = {"twigma": summarise(unit(50, 4, 5)), "laion": summarise(unit(1, 4, 5))}
    frame = pair_distances(summaries, groups, texts)
    totals = frame.group_by("source").agg(
        pl.col("pairs").sum(), ((pl.col("right") - pl.col("left")) * pl.col("density")).sum().alias("area")
    )
    assert dict(totals.select("source", "pairs").iter_rows()) == {
        "twigma": 50 * 49 // 2,
        "artbench_same_artist": 1,
        "prompts": 190,
        "haiku": 36,
    }
    assert totals["area"].to_list() == pytest.approx([1.0] * 4)
    with pytest.raises(ValueError, match="normalise the rows"):
        pair_distances({"twigma": summarise(10 * unit(50, 4, 5))})
