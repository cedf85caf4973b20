from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import statsmodels.formula.api as smf
from scipy import stats

from twigma_core import tables
from twigma_core.analysis.engagement import (
    engagement_table,
    explain,
    fit_likes_model,
    likes_by_quintile,
    with_quintiles,
)


def world(seed: int, authors: int = 120, effect: float = 0.25, author_sd: float = 0.7) -> pl.DataFrame:
    """Pictures of authors with a level of their own; log likes fall by `effect` from quintile 1 to 5."""
    rng = np.random.default_rng(seed)
    author = np.repeat(np.arange(authors), rng.integers(2, 15, authors))
    n = len(author)
    similarity = rng.normal(0.6, 0.1, n) + 0.08 * rng.normal(size=authors)[author]
    quintile = np.ceil(5 * stats.rankdata(similarity) / n)
    followers = rng.choice([100, 499, 500, 5000, 5001, 90_000], authors)[author]
    band = np.digitize(followers, [500, 5001])
    mean = np.exp(
        1.5 + 0.6 * band + effect * (5 - quintile) / 4 + author_sd * rng.normal(size=authors)[author]
    )
    return pl.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(n)],
            "tweet_id": [f"t{i // 2}" for i in range(n)],
            "author_id": [f"a{i}" for i in author],
            "like_count": rng.poisson(mean),
            "followers": followers,
            "similarity": similarity,
        }
    )


def oracle_frame(frame: pl.DataFrame):
    data = with_quintiles(frame).select("like_count", "followers", "quintile", "author_id").to_pandas()
    data["band"] = np.digitize(data["followers"], [500, 5001])
    return data


@pytest.mark.parametrize("robust", [False, True])
def test_model_is_statsmodels_regression_of_equation_1(robust: bool) -> None:
    frame = world(1)
    found = fit_likes_model(frame, robust)
    data = oracle_frame(frame)
    options: dict = {}
    if robust:
        codes = data["author_id"].astype("category").cat.codes
        options = {"cov_type": "cluster", "cov_kwds": {"groups": codes}, "use_t": True}
    oracle = smf.poisson("like_count ~ C(quintile, Treatment(5)) + C(band)", data).fit(disp=0, **options)
    ratios = found.filter(pl.col("quantity") != "dispersion")
    order = [f"C(quintile, Treatment(5))[T.{q}]" for q in range(1, 5)] + ["C(band)[T.1]", "C(band)[T.2]"]
    assert np.allclose(ratios["estimate"], np.exp(oracle.params[order]), rtol=1e-5)
    # statsmodels' discrete and GLM models differ in the small-sample factor of the clustered errors
    ends = np.exp(oracle.conf_int().loc[order].to_numpy())
    assert np.allclose(ratios.select("low", "high").to_numpy(), ends, rtol=5e-3 if robust else 1e-5)
    fitted = oracle.predict()
    pearson = ((data["like_count"] - fitted) ** 2 / fitted).sum() / (len(data) - 7)
    assert found["estimate"][-1] == pytest.approx(pearson, rel=1e-5)
    assert ratios["n"].sum() > 0


def test_robust_intervals_cover_where_those_of_the_paper_do_not() -> None:
    hits = {False: 0, True: 0}
    runs = 40
    for seed in range(runs):
        frame = world(seed, authors=100)
        for robust in hits:
            row = fit_likes_model(frame, robust).row(0, named=True)
            hits[robust] += row["low"] <= np.exp(0.25) <= row["high"]
    assert hits[True] >= 0.8 * runs
    assert hits[False] <= 0.5 * runs


def test_mean_likes_by_quintile_against_direct_formulas() -> None:
    frame = world(2)
    plain, robust = likes_by_quintile(frame), likes_by_quintile(frame, robust=True)
    data = oracle_frame(frame)
    for quintile in range(1, 6):
        part = data[data["quintile"] == quintile]
        row = plain.row(quintile - 1, named=True)
        low, high = stats.norm.interval(0.95, part["like_count"].mean(), stats.sem(part["like_count"]))
        assert (row["estimate"], row["low"], row["high"]) == pytest.approx(
            (part["like_count"].mean(), low, high)
        )
        groups = part["author_id"].astype("category").cat.codes
        ols = smf.ols("like_count ~ 1", part).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
        ends = robust.row(quintile - 1, named=True)
        assert ends["estimate"] == pytest.approx(row["estimate"])
        assert ends["low"] == pytest.approx(ols.conf_int().iloc[0, 0], rel=5e-3)
    assert plain["n"].sum() == frame.height
    width = [float((t["high"] - t["low"]).to_numpy().sum()) for t in (plain, robust)]
    assert width[1] > 1.2 * width[0]


def test_table_counts_pictures_without_likes_and_keeps_unknown_followers() -> None:
    frame = world(3).with_columns(
        like_count=pl.when(pl.int_range(pl.len()) % 10 == 0).then(None).otherwise("like_count"),
        followers=pl.when(pl.int_range(pl.len()) % 7 == 0).then(None).otherwise("followers"),
    )
    near = pl.concat(
        [frame.select("image_id", "similarity", corpus=pl.lit(corpus)) for corpus in ("laion", "artbench")]
    )
    table = engagement_table(frame.drop("similarity"), near)
    missing = frame["like_count"].null_count()
    assert missing > 50 and table["without_likes"].unique().to_list() == [missing]
    means = table.filter(corpus="laion", column="paper", quantity="mean_likes")
    assert means["n"].sum() == frame.height - missing
    unknown = table.filter(corpus="laion", column="paper", term="unknown").row(0, named=True)
    assert unknown["n"] > 0 and unknown["estimate"] is not None
    same = table.filter(column="paper")["estimate"].to_list()
    assert table.filter(column="robust")["estimate"].to_list() == pytest.approx(same)
    text = explain(table)
    assert text.startswith("artbench: ") and "times as wide" in text and "laion: " in text


DEGENERATE: dict[str, dict] = {
    "one quintile": {"similarity": 0.5},
    "all zero": {"like_count": 0},
    "no likes": {"like_count": None},
    "no followers known": {"followers": None},
    "one author": {"author_id": "a"},
    "no author": {"author_id": None},
    "big accounts only": {"followers": 10_000},
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_data_give_nulls_and_not_a_crash(case: str) -> None:
    frame = world(4, authors=20)
    types = frame.schema
    for name, value in DEGENERATE[case].items():
        frame = frame.with_columns(pl.lit(value, types[name]).alias(name))
    near = frame.select("image_id", "similarity", corpus=pl.lit("laion"))
    table = engagement_table(frame.drop("similarity"), near)
    assert set(table["quantity"]) == {"mean_likes", "rate_ratio", "followers_ratio", "dispersion"}
    first = {
        c: table.filter(column=c, quantity="rate_ratio", term="1").row(0, named=True)
        for c in ("paper", "robust")
    }
    assert explain(table)
    if case in ("one quintile", "all zero", "no likes"):
        assert first["paper"]["estimate"] is None and first["robust"]["estimate"] is None
        assert "do not allow" in explain(table)
    elif case == "one author":
        assert first["paper"]["estimate"] > 0 and first["robust"]["low"] is None
    else:
        assert first["robust"]["low"] < first["robust"]["estimate"] < first["robust"]["high"]
    if case == "big accounts only":
        assert table.filter(quantity="followers_ratio")["estimate"].null_count() == 4


def test_no_pictures_and_a_quintile_without_a_single_like() -> None:
    frame = world(5, authors=30)
    near = frame.select("image_id", "similarity", corpus=pl.lit("laion"))
    assert engagement_table(frame, near.clear()).equals(tables.empty("engagement"))
    ranked = with_quintiles(frame).with_columns(
        like_count=pl.when(pl.col("quintile") == 2).then(0).otherwise("like_count")
    )
    model = fit_likes_model(ranked)
    assert model["estimate"][1] is None and model["n"][1] > 0
    assert model["estimate"][0] is not None
