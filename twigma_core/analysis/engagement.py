"""Likes against similarity to human pictures (paper, Section 4.1, Figure 2d and equation 1).

Here: quintiles of similarity, mean likes by quintile, the Poisson regression, and table `engagement`,
which holds each number twice: *paper*, as in the paper (rows are pictures, independent, model-based), and
*robust* (clustered by author). Not here: the similarities (`neighbors`).

Likes belong to posts, a post may hold several pictures, and an author posts many times: taking pictures as
independent makes the paper's intervals several times too short. The estimates are the same in both columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from twigma_core import tables

QUINTILES = (1, 2, 3, 4, 5)
BANDS = ("< 500", "500-5,000", "> 5,000", "unknown")
_RESULT = {
    "quantity": pl.String,
    "term": pl.String,
    "estimate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p_value": pl.Float64,
    "n": pl.Int64,
}


def with_quintiles(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that have likes, with column `quintile`: 1 least, 5 most similar to human pictures.

    Equal similarities share a quintile. A `quintile` that is there already is kept.

    Args:
        frame: columns like_count and similarity or quintile.
    """
    known = frame.filter(pl.col("like_count").is_not_null())
    if "quintile" in known.columns or not known.height:
        return known if "quintile" in known.columns else known.with_columns(quintile=pl.lit(0, pl.Int64))
    rank = pl.col("similarity").rank("average")
    return known.with_columns(quintile=(rank * 5 / pl.len()).ceil().clip(1, 5).cast(pl.Int64))


def likes_by_quintile(frame: pl.DataFrame, robust: bool = False) -> pl.DataFrame:
    """Return the mean likes of each quintile of similarity with a 95 % interval (paper, Figure 2d, right).

    Args:
        frame: one row a picture: like_count, similarity (or quintile), and author_id if `robust`. Rows
            without likes are left out.
        robust: False, rows are independent, normal interval, as in the paper. True, clustered by author:
            the linearised variance of a ratio with Student's t at (authors − 1) degrees of freedom.

    Returns:
        Columns quantity ("mean_likes"), term (the quintile), estimate, low, high, p_value (null), n. The
        estimate of an empty quintile is null, as is the interval of fewer than two rows or authors.
    """
    known = with_quintiles(frame)
    rows: list[dict[str, Any]] = []
    for quintile in QUINTILES:
        part = known.filter(pl.col("quintile") == quintile)
        likes = part["like_count"].to_numpy().astype(np.float64)
        mean = float(likes.mean()) if len(likes) else None
        half = _half_width(likes, _groups(part)) if robust else _half_width(likes, None)
        rows.append(_row("mean_likes", str(quintile), mean, half, len(likes)))
    return pl.DataFrame(rows, schema=_RESULT)


def _half_width(values: np.ndarray, groups: np.ndarray | None) -> float | None:
    """Return half the 95 % interval of a mean, of independent or grouped rows."""
    from scipy import stats

    if len(values) < 2:
        return None
    if groups is None:
        return float(stats.norm.ppf(0.975) * values.std(ddof=1) / np.sqrt(len(values)))
    count = int(groups.max()) + 1
    if count < 2:
        return None
    totals = np.bincount(groups, weights=values - values.mean())
    error = np.sqrt(np.square(totals).sum() * count / (count - 1)) / len(values)
    return float(stats.t.ppf(0.975, count - 1) * error)


def _groups(frame: pl.DataFrame) -> np.ndarray:
    """Return (n,) group numbers from 0: the author; where none is known the post, else the picture alone."""
    keys = [
        pl.concat_str(pl.lit(f"{name}:"), pl.col(name))
        for name in ("author_id", "tweet_id")
        if name in frame.columns
    ]
    alone = pl.concat_str(pl.lit("row:"), pl.int_range(pl.len()).cast(pl.String))
    named = frame.select(pl.coalesce(*keys, alone).alias("key"))["key"].to_numpy()
    return np.unique(named, return_inverse=True)[1]


def fit_likes_model(frame: pl.DataFrame, robust: bool = False) -> pl.DataFrame:
    """Fit equation (1) of the paper and return its ratios with 95 % intervals.

    log E(likes) = α + β₁·1(500–5,000 followers) + β₂·1(> 5,000) + Σᵢ₌₁⁴ γᵢ·1(quintile i): Poisson, against
    quintile 5 (most similar) and fewer than 500 followers. Accounts whose followers are unknown are a band
    of their own, so that no row is lost.

    Args:
        frame: one row a picture: like_count, followers, similarity (or quintile), and author_id if `robust`.
            Rows without likes are left out.
        robust: False, model-based intervals, as in the paper. True, standard errors clustered by author
            (Liang and Zeger, 1986), Student's t at (authors − 1) degrees of freedom.

    Returns:
        Columns quantity, term, estimate, low, high, p_value, n: `rate_ratio` exp(γᵢ) for quintiles 1-4,
        `followers_ratio` exp(β) for each band but the first, `dispersion` (Pearson χ²/df; 1 for a Poisson
        variable). What the data cannot tell is null: a term without rows or likes, or not separable from
        another term; everything where quintile 5 has no likes; intervals if there are no more authors than
        terms.
    """
    known = with_quintiles(frame).with_columns(band=_band())
    bands = [band for band in BANDS[1:] if band != "unknown" or (known["band"] == "unknown").any()]
    terms = [("rate_ratio", "quintile", str(q)) for q in QUINTILES[:4]]
    terms += [("followers_ratio", "band", band) for band in bands]
    estimates, dispersion = _fit(known, robust)
    rows = []
    for quantity, column, term in terms:
        n = known.filter(pl.col(column).cast(pl.String) == term).height
        found = estimates.get((column, term), {})
        rows.append({"quantity": quantity, "term": term, **found, "n": n})
    rows.append({"quantity": "dispersion", "term": "all", "estimate": dispersion, "n": known.height})
    return pl.DataFrame(rows, schema=_RESULT)


def _band() -> pl.Expr:
    followers = pl.col("followers")
    return (
        pl.when(followers.is_null())
        .then(pl.lit("unknown"))
        .when(followers < 500)
        .then(pl.lit("< 500"))
        .when(followers <= 5000)
        .then(pl.lit("500-5,000"))
        .otherwise(pl.lit("> 5,000"))
    )


def _fit(frame: pl.DataFrame, robust: bool) -> tuple[dict[tuple[str, str], dict[str, float]], float | None]:
    """Return ratio, interval and p by (column, term), and the dispersion; empty where undefined."""
    import statsmodels.api as sm

    # a level without a single like has the estimate 0 and no interval; the others do not depend on it
    liked = frame
    for column in ("quintile", "band"):
        liked = liked.filter(pl.col("like_count").sum().over(column) > 0)
    if not liked.height or not (liked["quintile"] == 5).any():
        return {}, None
    bands = [band for band in BANDS if (liked["band"] == band).any()]
    columns = [("quintile", str(q)) for q in QUINTILES[:4] if (liked["quintile"] == q).any()]
    columns += [("band", band) for band in bands[1:]]
    design = np.column_stack(
        [np.ones(liked.height)]
        + [liked.select(pl.col(name).cast(pl.String) == term).to_numpy() for name, term in columns]
    ).astype(np.float64)
    if liked.height <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        return {}, None
    likes = liked["like_count"].to_numpy().astype(np.float64)
    options: dict[str, Any] = {}
    enough = True  # authors to estimate as many clustered errors as there are terms
    if robust:
        groups = _groups(liked)
        enough = int(groups.max()) + 1 > design.shape[1]
        if enough:
            options = {"cov_type": "cluster", "cov_kwds": {"groups": groups}, "use_t": True}
    result = sm.GLM(likes, design, family=sm.families.Poisson()).fit(**options)
    interval = result.conf_int()
    estimates = {}
    for i, key in enumerate(columns, start=1):
        if key[0] == "band" and bands[0] != BANDS[0]:
            continue  # without an account below 500 followers there is nothing to compare with
        with np.errstate(over="ignore"):
            estimates[key] = {"estimate": float(np.exp(result.params[i]))}
            if enough:
                estimates[key] |= {
                    "low": float(np.exp(interval[i][0])),
                    "high": float(np.exp(interval[i][1])),
                    "p_value": float(result.pvalues[i]),
                }
    return estimates, float(result.pearson_chi2 / result.df_resid)


def engagement_table(dataset: pl.DataFrame, neighbors: pl.DataFrame) -> pl.DataFrame:
    """Return table `engagement`: both columns for each corpus of `neighbors` (paper, Figure 2d, equation 1).

    Pictures without likes are counted in `without_likes` and left out of the estimates; quintiles are taken
    over the others. Data that do not allow an estimate give rows with nulls.

    Args:
        dataset: table `dataset`: image_id, tweet_id, author_id, like_count, followers.
        neighbors: table `neighbors`: image_id, corpus, similarity.
    """
    columns = ["image_id", "tweet_id", "author_id", "like_count", "followers"]
    joined = neighbors.select("image_id", "corpus", "similarity").join(
        dataset.select(columns), on="image_id", how="inner"
    )
    parts = []
    for corpus in joined["corpus"].unique().sort():
        frame = joined.filter(pl.col("corpus") == corpus)
        ranked = with_quintiles(frame)
        for robust in (False, True):
            part = pl.concat([likes_by_quintile(ranked, robust), fit_likes_model(ranked, robust)])
            parts.append(
                part.with_columns(
                    corpus=pl.lit(corpus),
                    column=pl.lit("robust" if robust else "paper"),
                    without_likes=pl.lit(frame.height - ranked.height, pl.Int64),
                )
            )
    if not parts:
        return tables.empty("engagement")
    order = list(tables.SCHEMAS["engagement"].columns())
    return tables.conform("engagement", pl.concat(parts).select(order))


def explain(table: pl.DataFrame) -> str:
    """Say in a plain sentence for each corpus what the robust column changes, quintile 1 against 5."""
    sentences = []
    unknown: dict[str, Any] = {"estimate": None, "low": None}
    for corpus in table["corpus"].unique().sort():
        found: dict[str, dict[str, Any]] = {}
        for column in ("paper", "robust"):
            rows = table.filter(corpus=corpus, column=column, quantity="rate_ratio", term="1")
            found[column] = rows.row(0, named=True) if rows.height else unknown
        paper, robust = found["paper"], found["robust"]
        if paper["estimate"] is None or robust["estimate"] is None or robust["low"] is None:
            sentences.append(
                f"{corpus}: the likes at hand do not allow the comparison of quintiles 1 and 5"
                " in both columns (no likes, one quintile, or too few authors)."
            )
            continue
        wider = (robust["high"] - robust["low"]) / max(paper["high"] - paper["low"], 1e-12)
        excluded = {name: not row["low"] <= 1 <= row["high"] for name, row in found.items()}
        verdict = {
            (True, True): "both exclude no difference",
            (True, False): "so that the difference is no longer beyond chance",
            (False, True): "only the robust one excludes no difference",
            (False, False): "neither excludes no difference",
        }[excluded["paper"], excluded["robust"]]
        sentences.append(
            f"{corpus}: the pictures least similar to human ones get {_percent(robust['estimate'])} likes "
            f"compared with the most similar, [{_percent(paper['low'])}, {_percent(paper['high'])}] "
            f"as in the paper and [{_percent(robust['low'])}, {_percent(robust['high'])}] when an author's "
            f"pictures count as one group: {wider:.1f} times as wide; {verdict}."
        )
    return " ".join(sentences) or "No picture has both likes and neighbours."


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %"


def _row(quantity: str, term: str, estimate: float | None, half: float | None, n: int) -> dict[str, Any]:
    return {
        "quantity": quantity,
        "term": term,
        "estimate": estimate,
        "low": estimate - half if estimate is not None and half is not None else None,
        "high": estimate + half if estimate is not None and half is not None else None,
        "p_value": None,
        "n": n,
    }
