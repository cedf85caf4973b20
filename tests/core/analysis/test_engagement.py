from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import statsmodels.formula.api as smf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy import stats

from twigma_core import tables
from twigma_core.analysis.engagement import (
    COLUMNS,
    by_post,
    engagement_table,
    explain,
    fit_likes_model,
    left_out,
    likes_by_quintile,
    side_by_side,
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
        assert (ends["low"], ends["high"]) == pytest.approx(tuple(ols.conf_int().iloc[0]), rel=1e-6)
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
    of_pictures = table.filter(pl.col("column") != "posts")
    assert missing > 50 and of_pictures["without_likes"].unique().to_list() == [missing]
    means = table.filter(corpus="laion", column="paper", quantity="mean_likes")
    assert means["n"].sum() == frame.height - missing
    unknown = table.filter(corpus="laion", column="paper", term="unknown").row(0, named=True)
    assert unknown["n"] > 0 and unknown["estimate"] is not None
    same = table.filter(column="paper")["estimate"].to_list()
    assert table.filter(column="robust")["estimate"].to_list() == pytest.approx(same)
    assert table.filter(column="paper")["groups"].null_count() == len(same)
    text = explain(table)
    assert text.startswith("artbench: ") and "times as wide" in text and "laion: " in text
    assert "with one row a post" in text and "by the negative binomial model" in text
    assert "times as much as the Poisson model allows" in text
    beside = side_by_side(table)
    assert beside.columns == ["corpus", "quantity", "term", *COLUMNS]
    first = beside.filter(corpus="laion", quantity="rate_ratio", term="1").row(0)
    paper, robust = (cell.split(" ", 1) for cell in first[3:5])
    assert paper[0] == robust[0] and paper[1] != robust[1]
    dataset = frame.with_columns(month=pl.lit("2021-01")).with_columns(
        like_count=pl.when(pl.int_range(pl.len()) < 4).then(None).otherwise("like_count"),
        month=pl.when(pl.int_range(pl.len()) < 4).then(pl.lit("2020-12")).otherwise("month"),
    )
    gone = dataset["like_count"].null_count()
    said = left_out(dataset, near.filter(pl.col("image_id") != dataset["image_id"][-1]))
    assert said.startswith(f"{frame.height - gone - 1:,} of {frame.height:,} pictures count.")
    assert f"Left out: {gone} pictures of " in said and "; 1 picture without neighbours yet" in said
    assert said.endswith("No likes at all in 2020-12.")


def test_one_dummy_has_the_closed_form_of_a_ratio_of_poisson_means() -> None:
    rng = np.random.default_rng(0)
    quintile = np.repeat([1, 5], [70, 110])
    likes = rng.poisson(np.where(quintile == 1, 9, 6))
    frame = pl.DataFrame({"like_count": likes, "quintile": quintile, "followers": 10})
    row = fit_likes_model(frame).row(0, named=True)
    sums = [likes[quintile == q].sum() for q in (1, 5)]
    ratio = (sums[0] / 70) / (sums[1] / 110)
    half = stats.norm.ppf(0.975) * np.sqrt(1 / sums[0] + 1 / sums[1])
    assert (row["estimate"], row["low"], row["high"]) == pytest.approx(
        (ratio, ratio * np.exp(-half), ratio * np.exp(half)), rel=1e-6
    )
    assert row["p_value"] == pytest.approx(
        2 * stats.norm.sf(abs(np.log(ratio)) / (half / 1.959964)), rel=1e-4
    )


def test_negative_binomial_is_the_maximum_likelihood_of_statsmodels() -> None:
    frame = world(6)
    found = fit_likes_model(frame, family="negative_binomial")
    data = oracle_frame(frame)
    formula = "like_count ~ C(quintile, Treatment(5)) + C(band)"
    oracle = smf.negativebinomial(formula, data).fit(disp=0, maxiter=500, gtol=1e-9)
    order = [f"C(quintile, Treatment(5))[T.{q}]" for q in range(1, 5)] + ["C(band)[T.1]", "C(band)[T.2]"]
    rows = {(row["quantity"], row["term"]): row for row in found.iter_rows(named=True)}
    assert rows["alpha", "all"]["estimate"] == pytest.approx(oracle.params["alpha"], rel=1e-4)
    ratios = found.head(6)
    assert np.allclose(ratios["estimate"], np.exp(oracle.params[order]), rtol=1e-4)
    # alpha and the coefficients are orthogonal: errors given alpha are those of the joint fit, nearly
    assert np.allclose(
        ratios.select("low", "high").to_numpy(), np.exp(oracle.conf_int().loc[order]), rtol=0.01
    )
    assert 0.8 < rows["dispersion", "all"]["estimate"] < 1.3
    clustered = fit_likes_model(frame, robust=True, family="negative_binomial")
    codes = data["author_id"].astype("category").cat.codes
    sandwich = smf.negativebinomial(formula, data).fit(
        disp=0, maxiter=500, cov_type="cluster", cov_kwds={"groups": codes}, use_t=True
    )
    ends = np.exp(sandwich.conf_int().loc[order].to_numpy())
    assert np.allclose(clustered.head(6).select("low", "high").to_numpy(), ends, rtol=0.03)


@pytest.mark.parametrize("seed", range(6))
def test_likes_that_are_poisson_get_intervals_from_the_negative_binomial_too(seed: int) -> None:
    frame = world(seed, author_sd=0.0)
    rng = np.random.default_rng(seed)
    band = np.digitize(frame["followers"], [500, 5001])
    frame = frame.with_columns(like_count=pl.Series(rng.poisson(np.exp(1.5 + 0.6 * band))))
    found = fit_likes_model(frame, robust=True, family="negative_binomial")
    ends = found.head(6).select("low", "high").to_numpy()
    assert np.isfinite(ends).all()
    alpha = found.filter(quantity="alpha")["estimate"][0]
    assert alpha < 0.02
    if alpha == 0:
        assert "not overdispersed" in found["note"][0]
        plain = fit_likes_model(frame, robust=True)
        assert np.allclose(plain.head(6).select("low", "high").to_numpy(), ends)


def test_one_row_a_post_averages_its_pictures() -> None:
    frame = world(2)
    posts = by_post(frame)
    sums = frame.group_by("tweet_id", maintain_order=True).agg(pl.col("similarity").mean())
    assert posts.height == frame["tweet_id"].n_unique()
    assert posts["similarity"].to_list() == pytest.approx(sums["similarity"].to_list())
    assert by_post(frame.with_columns(tweet_id=pl.lit(None, pl.String))).height == frame.height
    near = frame.select("image_id", "similarity", corpus=pl.lit("laion"))
    table = engagement_table(frame.drop("similarity"), near)
    of_posts = table.filter(column="posts", quantity="mean_likes")
    assert of_posts["n"].sum() == posts.height
    direct = likes_by_quintile(posts, robust=True)
    assert of_posts["estimate"].to_list() == direct["estimate"].to_list()


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
    assert set(table["quantity"]) == {"mean_likes", "rate_ratio", "followers_ratio", "dispersion", "alpha"}
    silent = table.filter(
        pl.col("low").is_null()
        & ~pl.col("quantity").is_in(["dispersion", "alpha"])
        & pl.col("note").is_null()
    )
    assert silent.is_empty(), "what has no interval says why"
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
        assert table.filter(quantity="followers_ratio")["estimate"].null_count() == 2 * len(COLUMNS)


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


row = st.fixed_dictionaries(
    {
        "like_count": st.one_of(st.none(), st.integers(0, 3), st.integers(0, 10**6)),
        "followers": st.one_of(st.none(), st.sampled_from([0, 499, 500, 5000, 5001, 10**7])),
        "author_id": st.one_of(st.none(), st.sampled_from(["a", "b", "c", "d"])),
        "tweet_id": st.one_of(st.none(), st.sampled_from(["t1", "t2", "t3"])),
        "similarity": st.floats(-1, 1, width=32),
    }
)
SCHEMA = {
    "like_count": pl.Int64,
    "followers": pl.Int64,
    "author_id": pl.String,
    "tweet_id": pl.String,
    "similarity": pl.Float64,
}


@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(row, max_size=40))
def test_any_likes_give_a_whole_table_whose_intervals_hold_their_estimates(rows: list[dict]) -> None:
    frame = (
        pl.DataFrame(rows, schema=SCHEMA)
        .with_row_index("number")
        .with_columns(image_id=pl.col("number").cast(pl.String))
    )
    near = frame.select("image_id", "similarity", corpus=pl.lit("laion"))
    dataset = frame.drop("similarity").with_columns(tweet_id=pl.coalesce("tweet_id", "image_id"))
    table = engagement_table(dataset, near)
    assert explain(table) and left_out(dataset.with_columns(month=pl.lit("2021-01")), near)
    if not rows:
        assert table.is_empty()
        return
    assert {c for (c,) in table.select("column").unique().rows()} == set(COLUMNS)
    for column in ("paper", "robust"):
        means = table.filter(column=column, quantity="mean_likes")
        assert means["n"].sum() + means["without_likes"][0] == frame.height
    known = table.drop_nulls(["estimate", "low", "high"])
    slack = 1e-9 * (1 + known["estimate"].abs())
    assert (known["low"] <= known["estimate"] + slack).all()
    assert (known["estimate"] <= known["high"] + slack).all()
    assert known["estimate"].is_finite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"similarity": float("nan")}, "no finite similarity"),
        ({"similarity": None}, "no finite similarity"),
        ({"like_count": -1}, "negative"),
    ],
)
def test_likes_that_cannot_be_ranked_are_refused(change: dict, message: str) -> None:
    frame = world(1, authors=5).with_columns(**{key: pl.lit(value) for key, value in change.items()})
    with pytest.raises(ValueError, match=message):
        fit_likes_model(frame)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match="lacks followers"):
        fit_likes_model(world(1, authors=5).drop("followers"))
    with pytest.raises(ValueError, match="lacks similarity"):
        likes_by_quintile(world(1, authors=5).drop("similarity"))
