from __future__ import annotations

import gc

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from twigma_core import tables
from twigma_core.analysis.themes import (
    cluster_nsfw,
    cluster_themes,
    cluster_trends,
    holm,
    top_words,
    trend,
    trends_in_words,
)


def test_top_words_finds_subjects_and_leaves_out_the_template() -> None:
    rng = np.random.default_rng(0)
    subjects = {1: ["woman", "portrait"], 2: ["castle", "mountain"], 3: ["cat"], 4: ["robot", "city"]}
    captions, labels = [], []
    for label, words in subjects.items():
        for _ in range(60):
            word = rng.choice(words)
            medium = rng.choice(["painting", "drawing"])
            ground = rng.choice(["white", "dark", "blue"])
            captions.append(f"a {medium} of a {word} on a {ground} background")
            labels.append(label)
    table = top_words(captions, labels, n=5)
    found = {int(c): set(g["word"]) for (c,), g in table.group_by("cluster")}  # type: ignore[call-overload]
    assert found == {label: set(words) for label, words in subjects.items()}
    cat = table.row(by_predicate=(pl.col("word") == "cat"), named=True)
    assert cat == {"cluster": 3, "rank": 1, "word": "cat", "count": 60, "share": 1.0, "lift": 4.0}
    # a template word that becomes the subject of one cluster is kept there
    captions += ["an oil painting"] * 200
    labels += [5] * 200
    grown = top_words(captions, labels)
    assert "oil" in grown.filter(cluster=5)["word"].to_list()


def test_words_rank_by_share_and_lift_together() -> None:
    """Red is in all captions of the cluster, and elsewhere too; castle in nine of ten, and nowhere else."""
    captions = ["red castle"] * 9 + ["red"] + ["red fox"] * 6 + ["fox"] * 4 + ["ship"] * 30
    table = top_words(captions, [1] * 10 + [2] * 10 + [3] * 10 + [4] * 10 + [5] * 10)
    first = table.filter(cluster=1)
    assert first["word"].to_list() == ["castle", "red"]  # 0.9 log(5) = 1.45, 1.0 log(50 / 16) = 1.14
    assert first["lift"].to_list() == pytest.approx([5, 50 / 16])


def test_a_cluster_in_which_nothing_stands_out_says_so_by_its_lift() -> None:
    table = top_words(["a red fox", "a red fish", "a red fox"], [1, 1, 1], n=2)
    assert table.select("word", "count", "lift").rows() == [("red", 3, 1.0), ("fox", 2, 1.0)]
    assert top_words([], []).equals(tables.empty("cluster_themes"))
    with pytest.raises(ValueError, match="2 captions for 1 labels"):
        top_words(["a", "b"], [1])


def test_cluster_themes_joins_by_picture() -> None:
    captions = pl.DataFrame({"image_id": ["c", "a", "x"], "caption": ["a dog", "a ship", "a moon"]})
    clusters = pl.DataFrame({"image_id": ["a", "b", "c"], "cluster": [1, 1, 2]})
    assert cluster_themes(captions, clusters).select("cluster", "word").rows() == [(1, "ship"), (2, "dog")]


def test_trend_is_the_quasi_binomial_regression_of_statsmodels() -> None:
    rng = np.random.default_rng(2)
    totals = rng.integers(80, 400, 14)
    p = 1 / (1 + np.exp(2 - 0.1 * np.arange(14) + rng.normal(0, 0.4, 14)))
    counts = rng.binomial(totals, p)
    found = trend(counts / totals, totals)
    oracle = sm.GLM(
        np.column_stack([counts, totals - counts]),
        sm.add_constant(np.arange(14.0)),
        family=sm.families.Binomial(),
    ).fit()
    fitted = oracle.fittedvalues
    dispersion = np.sum((counts - totals * fitted) ** 2 / (totals * fitted * (1 - fitted))) / 12
    error = oracle.bse[1] * np.sqrt(dispersion)
    assert found.dispersion == pytest.approx(dispersion) and dispersion > 1.5
    assert found.slope == pytest.approx(oracle.params[1], rel=1e-6)
    assert found.p_value == pytest.approx(2 * stats.t.sf(oracle.params[1] / error, 12), rel=1e-5)
    assert found.low == pytest.approx(oracle.params[1] - 2.178813 * error, rel=1e-5)
    assert trend(counts / totals).low == pytest.approx(found.low, abs=0.05)
    assert trend([0.1, 0.12, 0.2, 0.22, 0.3]).p_value == pytest.approx(0.0, abs=0.01)


def test_trend_without_enough_months_or_pictures_is_none() -> None:
    assert trend([0.1, 0.4], [50, 50]).slope is None
    assert trend([0.1, 0.4, 0.2], [50, 50, 0]).slope is None
    assert trend([0, 0, 0, 0], [5, 5, 5, 5]).slope is None
    apart = trend([0, 0, 1, 1], [40, 40, 40, 40])  # separated: no finite maximum, but a clear rise
    assert apart.slope is not None and 0 < apart.slope < 10
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        trend([3, 4, 5])


PLANTED = [(0.1, 0.04), (0.3, -0.04), (0.2, 0), (0.2, 0), (0.2, 0)]


def months_of(rng: np.random.Generator, shares: list[tuple[float, float]], n: int) -> pl.DataFrame:
    """Six months of n pictures whose clusters have the shares start + change · month."""
    frames = []
    for t in range(6):
        labels = rng.choice(len(shares), size=n, p=[start + change * t for start, change in shares]) + 1
        frames.append(pl.DataFrame({"month": [f"2021-{t + 1:02d}"] * n, "cluster": labels}))
    return pl.concat(frames)


def test_planted_trends_are_found_and_only_those() -> None:
    table = cluster_trends(months_of(np.random.default_rng(1), PLANTED, 250), k=6)
    directions = dict(table.select("cluster", "trend").unique().rows())
    assert directions == {1: "rising", 2: "falling", 3: "steady", 4: "steady", 5: "steady", 6: "unknown"}
    assert trends_in_words(table) == "rising: 1; falling: 2; steady: 3, 4, 5; unknown: 6"
    first = table.filter(cluster=1)
    assert first["month"].to_list() == [f"2021-{m:02d}" for m in range(1, 7)]
    assert ((first["low"] < first["share"]) & (first["share"] < first["high"])).all()
    per_cluster = table.unique("cluster", maintain_order=True).drop_nulls("p_value")
    _, holm, _, _ = multipletests(per_cluster["p_value"].to_list(), method="holm")
    assert np.allclose(holm, per_cluster["p_holm"])
    assert table.group_by("month").agg(pl.col("share").sum())["share"].to_list() == pytest.approx([1.0] * 6)


def test_trend_test_holds_its_level_even_when_months_are_overdispersed() -> None:
    rng = np.random.default_rng(8)
    false_alarms = 0
    for _ in range(30):
        frames = []
        for t in range(6):
            labels = (
                rng.choice(5, size=200, p=rng.dirichlet([30] * 5)) + 1
            )  # variance about 2.3 times multinomial
            frames.append(pl.DataFrame({"month": [f"2021-{t + 1:02d}"] * 200, "cluster": labels}))
        table = cluster_trends(pl.concat(frames))
        false_alarms += table.filter(pl.col("trend").is_in(["rising", "falling"])).height > 0
    assert false_alarms <= 5  # 1.5 expected; without a dispersion about 12


def test_two_months_are_unknown_and_a_gap_counts_its_months() -> None:
    rng = np.random.default_rng(1)
    frame = months_of(rng, [(0.1, 0.05), (0.9, -0.05)], 400)
    early = cluster_trends(frame.filter(pl.col("month") <= "2021-02"))
    assert early["trend"].unique().to_list() == ["unknown"]
    assert early["p_value"].null_count() == early.height
    gappy = cluster_trends(frame.filter(pl.col("month").is_in(["2021-01", "2021-02", "2021-06"])))
    assert gappy["slope_low"][0] < 0.31 < gappy["slope_high"][0]
    assert cluster_trends(frame.clear()).equals(tables.empty("cluster_trends"))
    assert trends_in_words(cluster_trends(frame.clear())) == "no month"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    gc.freeze()  # statsmodels collects garbage at each call: half a second, late in a long run of tests
    try:
        expected = multipletests(p_values, method="holm")[1].tolist()
    finally:
        gc.unfreeze()
    assert holm(p_values) == pytest.approx(expected)


scores = st.lists(st.tuples(st.integers(1, 3), st.one_of(st.none(), st.floats(0, 1, width=32))), max_size=40)


@settings(max_examples=40, deadline=None)
@given(scores)
def test_nsfw_scores_of_any_clusters(rows: list[tuple[int, float | None]]) -> None:
    ids = [str(i) for i in range(len(rows))]
    clusters = pl.DataFrame(
        {"image_id": ids, "cluster": [c for c, _ in rows]},
        schema={"image_id": pl.String, "cluster": pl.Int64},
    )
    dataset = pl.DataFrame(
        {"image_id": ids, "nsfw_score": [s for _, s in rows]},
        schema={"image_id": pl.String, "nsfw_score": pl.Float32},
    )
    table = cluster_nsfw(dataset, clusters, k=4)
    assert table["cluster"].to_list() == [1, 2, 3, 4] and table["scored"][3] == 0
    assert table["pictures"].sum() == len(rows)
    for row in table.iter_rows(named=True):
        known = [s for c, s in rows if c == row["cluster"] and s is not None]
        assert row["scored"] == len(known) == sum(row["histogram"])
        if not known:
            assert row["mean"] is row["low"] is row["median"] is None
            continue
        oracle = stats.binomtest(sum(s >= 0.5 for s in known), len(known)).proportion_ci(method="wilson")
        assert (row["low"], row["high"]) == pytest.approx((oracle.low, oracle.high), abs=1e-9)
        assert row["share"] == row["unsafe"] / len(known)
        marks = [row[q] for q in ("q05", "q25", "median", "q75", "q95")]
        assert marks == sorted(marks) and row["median"] == pytest.approx(np.median(known))


def test_a_score_of_one_half_counts_as_not_safe() -> None:
    clusters = pl.DataFrame({"image_id": ["a", "b"], "cluster": [1, 1]})
    table = cluster_nsfw(pl.DataFrame({"image_id": ["a", "b"], "nsfw_score": [0.5, 0.499]}), clusters)
    assert table.select("unsafe", "share").rows() == [(1, 0.5)]


def test_nsfw_scores_out_of_range_are_refused_and_no_cluster_is_no_row() -> None:
    clusters = pl.DataFrame({"image_id": ["a"], "cluster": [1]})
    with pytest.raises(ValueError, match="materialize nsfw_scores again"):
        cluster_nsfw(pl.DataFrame({"image_id": ["a"], "nsfw_score": [1.5]}), clusters)
    nothing = cluster_nsfw(pl.DataFrame({"image_id": ["a"], "nsfw_score": [0.5]}), clusters.clear())
    assert nothing.equals(tables.empty("cluster_nsfw"))
