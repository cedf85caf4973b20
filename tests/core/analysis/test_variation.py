"""Variation: closed forms, independent computations of the same, intervals that cover, tables."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from twigma_core.analysis import variation
from twigma_core.analysis.codebook import Codebook
from twigma_core.analysis.distances import (
    distance_histogram,
    group_distances,
    mean_distance_interval,
    row_mean_distances,
)
from twigma_core.analysis.summary import EmbeddingSummary
from twigma_core.lake import ArrayTable


def unit(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, d)) + shift
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def summarise(x: np.ndarray, codebook: Codebook | None = None, prefix: str = "") -> EmbeddingSummary:
    return EmbeddingSummary.from_embeddings(x, [f"{prefix}{i}" for i in range(len(x))], codebook)


# ---------------------------------------------------------------- closed forms


def test_mean_pairwise_distance_of_known_shapes() -> None:
    assert variation.mean_pairwise_distance(np.eye(7)) == pytest.approx(math.sqrt(2), rel=1e-12)
    assert variation.mean_pairwise_distance(np.array([[0.6, 0.8], [-0.6, -0.8]])) == pytest.approx(2)
    assert variation.mean_pairwise_distance(np.array([[0.0, 0.0], [3.0, 4.0]])) == pytest.approx(5)
    d = 64
    expected = 2 ** (d - 1) * math.gamma(d / 2) ** 2 / (math.sqrt(math.pi) * math.gamma(d - 0.5))
    assert expected == pytest.approx(1.41141, abs=1e-5)
    assert variation.mean_pairwise_distance(unit(3000, d, 0)) == pytest.approx(expected, abs=2e-3)


def test_inverse_explained_variance_of_known_spectra() -> None:
    assert variation.inverse_explained_variance(np.eye(9)) == pytest.approx(9)
    assert variation.inverse_explained_variance(np.outer([1, 2, 3], [1, 1])) == pytest.approx(1)
    assert variation.inverse_explained_variance(np.diag(0.5 ** np.arange(7))) == pytest.approx(1.984375)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (2500, 30)])
@pytest.mark.parametrize("centred", [False, True])
def test_inverse_explained_variance_agrees_with_svd(shape: tuple[int, int], centred: bool) -> None:
    x = unit(*shape, seed=3, shift=1)
    sigma = np.linalg.svd(x - centred * x.mean(axis=0), compute_uv=False)
    assert variation.inverse_explained_variance(x, centred) == pytest.approx(sigma.sum() / sigma[0], rel=1e-6)


def test_product_of_marginal_variances_of_known_shapes() -> None:
    d = 6
    axes = np.concatenate([np.eye(d), -np.eye(d)])
    assert variation.product_of_marginal_variances(axes) == pytest.approx(math.sqrt(2 / (2 * d - 1)))
    x = unit(100, 768, 1)
    assert variation.product_of_marginal_variances(x) > 0.03  # where the product itself is 0 in float64
    assert variation.product_of_marginal_variances(5 * x) == pytest.approx(
        5 * variation.product_of_marginal_variances(x)
    )
    x[:, 3] = 0.25
    assert variation.product_of_marginal_variances(x) == 0


def test_entropy_of_known_histograms() -> None:
    assert variation.quantized_entropy(np.full(10, 7)) == pytest.approx(math.log(10))
    assert variation.quantized_entropy(np.array([0.5, 0.5, 0])) == pytest.approx(math.log(2))
    assert variation.quantized_entropy(np.array([0, 5, 0])) == 0
    for bad in ([0, 0], [1, -1], [1, math.nan]):
        with pytest.raises(ValueError):
            variation.quantized_entropy(np.array(bad))


def test_corrected_entropy_is_nearer_where_cells_are_sparse() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(500, 5.0))
    truth = variation.quantized_entropy(p)
    draws = rng.multinomial(500, p, size=50)
    plug_in = np.mean([variation.quantized_entropy(c) for c in draws]) - truth
    corrected = np.mean([variation.corrected_entropy(c) for c in draws]) - truth
    assert plug_in < -0.5 and abs(corrected) < 0.1


def test_expected_entropy_is_the_mean_over_draws() -> None:
    rng = np.random.default_rng(1)
    counts = np.array([400, 150, 40, 9, 1, 0])
    draws = rng.multivariate_hypergeometric(counts, 30, size=20_000)
    simulated = np.mean([variation.quantized_entropy(c) for c in draws])
    assert variation.expected_entropy(counts, 30) == pytest.approx(simulated, abs=3e-3)
    assert variation.expected_entropy(counts, 600) == pytest.approx(variation.quantized_entropy(counts))
    assert variation.expected_entropy(counts, 1) == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="601 of 600"):
        variation.expected_entropy(counts, 601)


# ---------------------------------------------------------------- distances


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 1000), st.sampled_from([1e-3, 1.0, 1e3]))
def test_distances_agree_with_scipy(n: int, d: int, seed: int, size: float) -> None:
    x = np.random.default_rng(seed).normal(size=(n, d)) * size
    assert variation.mean_pairwise_distance(x) == pytest.approx(pdist(x).mean(), rel=1e-7)


def test_distances_over_several_blocks_agree_with_scipy() -> None:
    x = unit(2500, 16, 0).astype(np.float32)
    exact = pdist(x.astype(np.float64))
    assert variation.mean_pairwise_distance(x) == pytest.approx(exact.mean(), rel=1e-9)
    edges = np.linspace(0, 2, 41)
    np.testing.assert_allclose(distance_histogram(x, edges), np.histogram(exact, edges)[0], atol=2)
    assert distance_histogram(x, edges).sum() == len(exact)


def test_identical_rows_are_at_no_distance() -> None:
    x = np.repeat(unit(1, 512, 0).astype(np.float32), 1500, axis=0)
    assert row_mean_distances(x).max() < 1e-12
    with pytest.raises(ValueError, match="at least 2 rows"):
        variation.mean_pairwise_distance(x[:1])
    x[7, 3] = np.nan
    with pytest.raises(ValueError, match="row 7 "):
        variation.mean_pairwise_distance(x)


def test_twenty_thousand_wide_rows_take_seconds() -> None:
    """A third of the rows, a ninth of the pairs; the bound leaves room for a busy machine."""
    x = unit(6_667, 768, 0).astype(np.float32)
    start = time.process_time()
    variation.mean_pairwise_distance(x)
    assert time.process_time() - start < 10


def test_distances_within_groups() -> None:
    x = unit(60, 8, 4)
    groups = [None if i % 5 == 0 else f"g{i % 3}" for i in range(60)]
    groups[1] = "alone"
    within = group_distances(x, groups, np.linspace(0, 2, 11))
    for name, rows, pairs, mean in zip(within.names, within.rows, within.pairs, within.means, strict=True):
        member = x[[i for i, g in enumerate(groups) if g == name]]
        assert (rows, pairs) == (len(member), len(member) * (len(member) - 1) // 2)
        assert mean == pytest.approx(pdist(member).mean())
    assert "alone" not in within.names and within.histogram.sum() == within.pairs.sum()
    assert group_distances(x, ["one"] * 60, per_group=10).rows.tolist() == [10]
    with pytest.raises(ValueError, match="60 rows but 59 groups"):
        group_distances(x, groups[1:])


# ---------------------------------------------------------------- intervals


def test_intervals_cover() -> None:
    """Nominal 95 % over 120 samples of 100 pictures: below 88 % or above 99.5 % would be a broken formula."""
    truth_x = unit(20_000, 12, 99, shift=0.4) * np.linspace(0.3, 1.5, 12)
    truth = variation.metric_intervals(summarise(truth_x))
    expected = {name: truth[name].value for name in list(truth)[:3]}
    covered = dict.fromkeys(expected, 0)
    widths = dict.fromkeys(expected, 0.0)
    for seed in range(120):
        x = unit(100, 12, seed, shift=0.4) * np.linspace(0.3, 1.5, 12)
        found = variation.metric_intervals(summarise(x))
        for name, value in expected.items():
            interval = found[name]
            assert interval.low is not None and interval.high is not None and value is not None
            covered[name] += interval.low <= value <= interval.high
            widths[name] += (interval.high - interval.low) / value / 120
    assert all(hits >= 0.88 * 120 for hits in covered.values()), covered
    assert all(width < 0.35 for width in widths.values()), widths  # not by being wide


def test_entropy_intervals_cover() -> None:
    rng = np.random.default_rng(5)
    p = rng.dirichlet(np.ones(10))
    truth, hits = variation.quantized_entropy(p), 0
    for counts in rng.multinomial(150, p, size=200):
        interval = variation.entropy_interval(counts, corrected=True)
        assert interval.low is not None and interval.high is not None
        hits += interval.low <= truth <= interval.high
    assert hits >= 180
    uniform = variation.entropy_interval(np.full(10, 20), corrected=True)
    assert uniform.high == pytest.approx(math.log(10)) and uniform.low < math.log(10)  # type: ignore[operator]


def test_pairs_that_share_rows_are_not_counted_as_independent() -> None:
    x = unit(400, 8, 0, shift=0.5)
    interval = mean_distance_interval(x)
    assert interval.low is not None and interval.high is not None
    naive = 2 * 1.96 * pdist(x).std() / math.sqrt(400 * 399 / 2)
    assert interval.high - interval.low > 5 * naive


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize("n", [0, 1, 2, 80])
def test_a_month_of_any_size_has_its_metrics(n: int) -> None:
    codebook = Codebook.from_centroids({4: unit(4, 6, 8), 10: unit(10, 6, 9)})
    frame = variation.variation_metrics(summarise(unit(n, 6, 0), codebook), "2022-08")
    assert frame["metric"].to_list() == [
        "mean_pairwise_distance",
        "inverse_explained_variance",
        "product_of_marginal_variances",
        "quantized_entropy",
        "quantized_entropy_corrected",
    ]
    assert frame["n"].unique().to_list() == [n]
    defined = {0: 0, 1: 3, 2: 5, 80: 5}[n]
    assert frame["value"].count() == defined
    assert frame["low"].count() == frame["high"].count() == (5 if n == 80 else 0)
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
    frame = variation.variation_table(summaries, groups)
    got = {(row["source"], row["metric"]): row for row in frame.iter_rows(named=True)}
    for metric in ("inverse_explained_variance", "product_of_marginal_variances", "quantized_entropy"):
        here, there = got["twigma", f"{metric}_equal_n"], got["laion", f"{metric}_equal_n"]
        assert here["n"] == there["n"] == 300
        assert here["low"] <= there["high"] and there["low"] <= here["high"]  # the same population
        assert there["value"] == pytest.approx(got["laion", metric]["value"], rel=1e-6)
        assert here["value"] < got["twigma", metric]["value"] or metric.startswith("product")
        assert got["artbench", f"{metric}_equal_n"]["value"] is None
    same = got["artbench_same_artist", "mean_pairwise_distance"]
    assert same["high"] < got["twigma", "mean_pairwise_distance"]["low"] and same["n"] == 200
    shuffled = variation.variation_table(
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
    groups = variation.groups_of({"artbench": stored})
    assert list(groups) == ["artbench_same_artist"]
    texts = {
        "prompts": ArrayTable(pl.DataFrame({"words": [5] * 20}), {"vectors": unit(20, 4, 1)}),
        "haiku": ArrayTable(pl.DataFrame({"words": [5] * 9}), {"vectors": unit(9, 4, 2)}),
    }
    summaries = {"twigma": summarise(unit(50, 4, 5)), "laion": summarise(unit(1, 4, 5))}
    frame = variation.pair_distances(summaries, groups, texts)
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
        variation.pair_distances({"twigma": summarise(10 * unit(50, 4, 5))})


def test_real_embeddings_go_through_every_metric(shared_data: Path) -> None:
    """CLIP vectors of museum works: less spread than random directions."""
    folder = shared_data / "pictures" / "art" / "museum_met"
    x = np.load(next(folder.rglob("embeddings.npy")))
    summary = summarise(x)
    assert summary.mean_pairwise_distance() == pytest.approx(pdist(x.astype(float)).mean(), rel=1e-9)
    frame = variation.variation_metrics(summary, "2021-01").drop_nulls("value")
    assert frame.height == 3 and frame.filter(pl.col("low") < pl.col("value")).height == 3
    assert frame["value"][0] < 1.2  # random directions: 1.41
