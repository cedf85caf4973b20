"""The regression of likes on similarity and followers (paper, equation 1), by Poisson or negative binomial.

Here: follower bands, the design, the fits and their intervals, and in words what could not be estimated.
Not here: quintiles, mean likes, and the table of both (`engagement`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

Family = Literal["poisson", "negative_binomial"]
QUINTILES = (1, 2, 3, 4, 5)
BANDS = ("< 500", "500-5,000", "> 5,000", "unknown")
RESULT = {
    "quantity": pl.String,
    "term": pl.String,
    "estimate": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p_value": pl.Float64,
    "n": pl.Int64,
    "groups": pl.Int64,
    "note": pl.String,
}
"""Columns of every result on likes."""

_ROUNDS = 50
_NOT_OVERDISPERSED = "the likes are not overdispersed: alpha is 0, the negative binomial is the Poisson model"


def fit_likes(ranked: pl.DataFrame, robust: bool, family: Family) -> pl.DataFrame:
    """Fit equation (1) to rows that have likes and a quintile; see `engagement.fit_likes_model`."""
    known = ranked.with_columns(band=_band())
    bands = [band for band in BANDS[1:] if band != "unknown" or (known["band"] == "unknown").any()]
    terms = [("rate_ratio", "quintile", str(q)) for q in QUINTILES[:4]]
    terms += [("followers_ratio", "band", band) for band in bands]
    fit = _fit(known, robust, family)
    rows: list[dict[str, Any]] = []
    for quantity, column, term in terms:
        here = known.filter(pl.col(column).cast(pl.String) == term)
        found = fit.estimates.get((column, term), {})
        note = fit.note if found else _why_not(here, known, column, fit.note)
        row = {"quantity": quantity, "term": term, "n": here.height, "groups": fit.groups, "note": note}
        rows.append(row | found)
    whole = {"term": "all", "n": known.height, "groups": fit.groups, "note": fit.note}
    rows.append({"quantity": "dispersion", "estimate": fit.dispersion, **whole})
    if family == "negative_binomial":
        rows.append({"quantity": "alpha", "estimate": fit.alpha, **whole})
    return pl.DataFrame(rows, schema=RESULT)


def groups_of(frame: pl.DataFrame) -> np.ndarray:
    """Return (n,) group numbers from 0: the author; where none is known the post, else the row alone."""
    keys = [
        pl.concat_str(pl.lit(f"{name}:"), pl.col(name))
        for name in ("author_id", "tweet_id")
        if name in frame.columns
    ]
    alone = pl.concat_str(pl.lit("row:"), pl.int_range(pl.len()).cast(pl.String))
    named = frame.select(pl.coalesce(*keys, alone).alias("key"))["key"].to_numpy()
    return np.unique(named, return_inverse=True)[1]


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


def _why_not(here: pl.DataFrame, known: pl.DataFrame, column: str, note: str | None) -> str:
    """Say why a term has no estimate."""
    if not here.height:
        return "no row has it"
    if not here["like_count"].sum():
        return "none of its rows has a like"
    if column == "band" and not (known.filter(band=BANDS[0])["like_count"].sum() or 0):
        return "no liked row of an account with fewer than 500 followers to compare with"
    return note or "no estimate"


@dataclass(frozen=True)
class _Fitted:
    """Ratio, interval and p by (column, term), and what belongs to the fit as a whole."""

    estimates: dict[tuple[str, str], dict[str, float]]
    dispersion: float | None = None
    alpha: float | None = None
    groups: int | None = None
    note: str | None = None


def _fit(known: pl.DataFrame, robust: bool, family: Family) -> _Fitted:
    # a level without a single like has the estimate 0 and no interval; the others do not depend on it
    liked = known
    for column in ("quintile", "band"):
        liked = liked.filter(pl.col("like_count").sum().over(column) > 0)
    groups = groups_of(liked)
    nothing = _Fitted({}, groups=len(np.unique(groups)) if robust else None)
    if not liked.height:
        return replace(nothing, note="no row has a like")
    if not (liked["quintile"] == 5).any():
        return replace(nothing, note="quintile 5, the baseline, has no row with a like")
    bands = [band for band in BANDS if (liked["band"] == band).any()]
    columns = [("quintile", str(q)) for q in QUINTILES[:4] if (liked["quintile"] == q).any()]
    columns += [("band", band) for band in bands[1:]]
    design = np.column_stack(
        [np.ones(liked.height)]
        + [liked.select(pl.col(name).cast(pl.String) == term).to_numpy() for name, term in columns]
    ).astype(np.float64)
    if liked.height <= design.shape[1]:
        return replace(nothing, note="no more rows than terms")
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return replace(nothing, note="quintiles and follower bands cannot be told apart")
    return _estimate(liked, design, columns, nothing, robust, family, bands[0] == BANDS[0])


def _estimate(
    liked: pl.DataFrame,
    design: np.ndarray,
    columns: list[tuple[str, str]],
    nothing: _Fitted,
    robust: bool,
    family: Family,
    small_accounts: bool,
) -> _Fitted:
    import statsmodels.api as sm

    likes = liked["like_count"].to_numpy().astype(np.float64)
    alpha = _heterogeneity(likes, design) if family == "negative_binomial" else 0.0
    options: dict[str, Any] = {}
    # as many authors as clustered errors are estimated from, at least
    enough = not robust or (nothing.groups or 0) > design.shape[1]
    if robust and enough:
        options = {"cov_type": "cluster", "cov_kwds": {"groups": groups_of(liked)}, "use_t": True}
    variance = sm.families.NegativeBinomial(alpha=alpha) if alpha else sm.families.Poisson()
    with _exact_fits_allowed():
        result = sm.GLM(likes, design, family=variance).fit(**options)
    with np.errstate(over="ignore"):
        ratios, ends = np.exp(result.params), np.exp(result.conf_int())
    # a sandwich of few authors can have a negative variance
    enough = enough and bool(np.isfinite(np.column_stack([result.bse, result.pvalues])).all())
    estimates = {}
    for i, key in enumerate(columns, start=1):
        if (key[0] == "band" and not small_accounts) or not np.isfinite(ratios[i]):
            continue
        estimates[key] = {"estimate": float(ratios[i])}
        if enough:
            low, high = (float(end) for end in ends[i])
            estimates[key] |= {"low": low, "high": high, "p_value": float(result.pvalues[i])}
    note = None
    if family == "negative_binomial" and not alpha:
        note = _NOT_OVERDISPERSED
    if not enough:
        note = f"{nothing.groups} authors are too few for intervals clustered by author"
    dispersion = float(result.pearson_chi2 / result.df_resid)
    return replace(nothing, estimates=estimates, dispersion=dispersion, alpha=alpha, note=note)


@contextmanager
def _exact_fits_allowed() -> Iterator[None]:
    """Silence what statsmodels says of a fit without residuals: as many cells as terms, or equal likes."""
    from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        yield


def _heterogeneity(likes: np.ndarray, design: np.ndarray) -> float:
    """Return the maximum-likelihood alpha of variance = mean + alpha · mean², 0 where it is at its boundary.

    Coefficients and alpha are maximised in turn, as in Venables and Ripley's glm.nb. The general optimiser
    of statsmodels' own NB2 model takes alpha below 0 on likes that are Poisson, and all its errors are NaN.
    Rows of one cell of the design share a mean, so that each step costs the cells and not the rows.
    """
    import statsmodels.api as sm
    from scipy import optimize, special

    cells, cell, size = np.unique(design, axis=0, return_inverse=True, return_counts=True)
    cell = cell.ravel()
    means = np.bincount(cell, weights=likes) / size
    pairs, times = np.unique(np.column_stack([cell, likes]), axis=0, return_counts=True)
    at, y = pairs[:, 0].astype(np.int64), pairs[:, 1]

    def means_under(family: Any) -> np.ndarray:
        with _exact_fits_allowed():
            return sm.GLM(means, cells, family=family, freq_weights=size).fit().fittedvalues

    mu = means_under(sm.families.Poisson())
    # the slope of the likelihood in alpha at 0: without overdispersion the maximum lies there
    if float((times * (np.square(y - mu[at]) - y)).sum()) <= 0:
        return 0.0
    log_alpha = 0.0
    for _ in range(_ROUNDS):

        def loss(value: float, expected: np.ndarray = mu[at]) -> float:
            shape = np.exp(-value)
            return -float(
                (
                    times
                    * (
                        special.gammaln(y + shape)
                        - special.gammaln(shape)
                        - (y + shape) * np.log1p(expected / shape)
                        + y * np.log(expected / shape)
                    )
                ).sum()
            )

        before = log_alpha
        log_alpha = float(
            optimize.minimize_scalar(loss, bounds=(-14, 10), method="bounded", options={"xatol": 1e-9}).x
        )
        mu = means_under(sm.families.NegativeBinomial(alpha=float(np.exp(log_alpha))))
        if abs(log_alpha - before) < 1e-7:
            break
    return float(np.exp(log_alpha)) if log_alpha > -13.5 else 0.0
