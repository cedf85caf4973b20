"""What each cluster is about and how its share moves over the months (paper, Section 4.2, Figures 4b-c).

Here: the words that set a cluster's captions apart, its NSFW scores, and trends of monthly shares. Not here:
the clusters themselves (`clusters`, `cluster_model`) and people's words for them (`annotation`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from twigma_core import tables

MIN_LIFT = 1.2
TEMPLATE_SHARE = 0.05
TEMPLATE_SPREAD = 0.75
TEMPLATE_LIFT = 2.0
ALPHA = 0.05
UNSAFE_FROM = 0.5
"""NSFW score from which a picture counts as not safe for work."""
_BINS = 20
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def words_of(text: str) -> list[str]:
    """Return a text's words, lower case, without numbers, single letters and scikit-learn's stop words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    found = (match.group().replace("’", "'") for match in _WORD.finditer(text.lower()))
    return [word for word in found if len(word) > 1 and word not in ENGLISH_STOP_WORDS]


def top_words(captions: Sequence[str], labels: Sequence[int] | np.ndarray, n: int = 10) -> pl.DataFrame:
    """Return the n words that set each cluster's captions apart, best first (paper, Figure 4c).

    A word counts once a caption. Words are ranked by share · log(lift), the word's part in the divergence
    of the cluster's captions from all captions: frequent and distinctive. Left out, besides stop words:
    words whose lift is below 1.2, and template words such as those of "a painting of", "on a ... background":
    words in at least 5 % of the captions of at least three quarters of the clusters, unless their lift is
    2 or more. A cluster in which nothing stands out gets its most frequent words, whose lift then says so.

    Args:
        captions: n captions.
        labels: their clusters.
        n: words per cluster.

    Returns:
        Table `cluster_themes`: cluster, rank, word, count, share, lift. A cluster without a word has no row.

    Raises:
        ValueError: captions and labels differ in number.
    """
    if len(captions) != len(labels):
        raise ValueError(f"{len(captions)} captions for {len(labels)} labels")
    size: Counter[int] = Counter()
    inside: dict[int, Counter[str]] = {}
    for caption, label in zip(captions, labels, strict=True):
        size[int(label)] += 1
        inside.setdefault(int(label), Counter()).update(set(words_of(caption)))
    everywhere: Counter[str] = Counter()
    common: Counter[str] = Counter()  # clusters in which the word is frequent
    for label, counts in inside.items():
        everywhere.update(counts)
        common.update(word for word, count in counts.items() if count >= TEMPLATE_SHARE * size[label])
    spread = TEMPLATE_SPREAD * len(size)
    rows: list[dict[str, object]] = []
    for label in sorted(inside):
        scored = []
        for word, count in inside[label].items():
            share = count / size[label]
            lift = share / (everywhere[word] / len(captions))
            scored.append((share * float(np.log(lift)), count, word, share, lift))
        telling = [
            row
            for row in scored
            if row[4] >= (TEMPLATE_LIFT if common[row[2]] >= spread else MIN_LIFT) and row[1] > 1
        ]
        telling.sort(key=lambda row: (-row[0], row[2]))
        if not telling:
            telling = sorted(scored, key=lambda row: (-row[1], row[2]))
        for rank, (_, count, word, share, lift) in enumerate(telling[:n], start=1):
            rows.append(
                {"cluster": label, "rank": rank, "word": word, "count": count, "share": share, "lift": lift}
            )
    return tables.conform("cluster_themes", pl.DataFrame(rows)) if rows else tables.empty("cluster_themes")


def cluster_themes(captions: pl.DataFrame, clusters: pl.DataFrame, n: int = 10) -> pl.DataFrame:
    """Return table `cluster_themes`: `top_words` of each cluster of the pictures that have a caption.

    Args:
        captions: columns image_id, caption.
        clusters: columns image_id, cluster.
        n: words per cluster.
    """
    both = clusters.select("image_id", "cluster").join(
        captions.select("image_id", "caption"), on="image_id", how="inner"
    )
    return top_words(both["caption"].to_list(), both["cluster"].to_list(), n)


def cluster_nsfw(scores: pl.DataFrame, clusters: pl.DataFrame, k: int | None = None) -> pl.DataFrame:
    """Return table `cluster_nsfw`: the distribution of each cluster's NSFW scores (paper, Section 4.2).

    The share of pictures with a score of 0.5 or more has a Wilson interval. A cluster without a scored
    picture has nulls, and a histogram of zeros.

    Args:
        scores: columns image_id, nsfw_score; null where there is none.
        clusters: columns image_id, cluster.
        k: number of clusters of the model, so that one without any picture has its row, too.

    Raises:
        ValueError: a score outside [0, 1].
    """
    from statsmodels.stats.proportion import proportion_confint

    both = clusters.select("image_id", "cluster").join(
        scores.select("image_id", "nsfw_score"), on="image_id", how="left"
    )
    labels = range(1, k + 1) if k else sorted(both["cluster"].unique().to_list())
    rows: list[dict[str, object]] = []
    for label in labels:
        column = both.filter(pl.col("cluster") == label)["nsfw_score"].cast(pl.Float64)
        known = column.drop_nulls().to_numpy()
        if not ((known >= 0) & (known <= 1)).all():
            raise ValueError(
                f"cluster_nsfw: cluster {label} has scores outside [0, 1]; materialize nsfw_scores again"
            )
        unsafe = int((known >= UNSAFE_FROM).sum())
        row: dict[str, object] = {
            "cluster": label,
            "pictures": len(column),
            "scored": len(known),
            "unsafe": unsafe,
            "histogram": np.histogram(known, _BINS, (0, 1))[0].tolist(),
        }
        names = ("mean", "q05", "q25", "median", "q75", "q95", "share", "low", "high")
        values: Sequence[float | None] = [None] * len(names)
        if len(known):
            ends = proportion_confint(unsafe, len(known), method="wilson")
            marks = np.quantile(known, (0.05, 0.25, 0.5, 0.75, 0.95))
            values = [float(v) for v in (known.mean(), *marks, unsafe / len(known), *ends)]
        rows.append(row | dict(zip(names, values, strict=True)))
    if not rows:
        return tables.empty("cluster_nsfw")
    return tables.conform("cluster_nsfw", pl.DataFrame(rows, infer_schema_length=None))


@dataclass(frozen=True)
class Trend:
    """A fitted trend of a monthly share.

    Attributes:
        slope: change of the log odds of the share per month; None where it cannot be estimated.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: of slope = 0.
        dispersion: Pearson chi2 / df that the interval allows for; 1 for purely binomial counts.
    """

    slope: float | None
    low: float | None
    high: float | None
    p_value: float | None
    dispersion: float | None


_NO_TREND = Trend(None, None, None, None, None)


def trend(
    shares: Sequence[float] | np.ndarray,
    totals: Sequence[int] | np.ndarray | None = None,
    months: Sequence[int] | np.ndarray | None = None,
) -> Trend:
    """Return the trend of a share over months: an overdispersed binomial regression on the month.

    logit E(share) = a + b · month, variance = dispersion · share (1 − share) / total (quasi-likelihood),
    interval and test by Student's t with (months − 2) degrees of freedom.

    Args:
        shares: share of each month, in [0, 1].
        totals: pictures of each month. Without them all months weigh the same, and the dispersion is
            whatever the residuals say; with them it is at least 1.
        months: number of each month, for series with gaps; 0, 1, 2, … by default.

    Returns:
        The trend; all None with fewer than three months of pictures or a share that is always 0 or always 1.

    Raises:
        ValueError: lengths differ, or a share is outside [0, 1].
    """
    y = np.asarray(shares, dtype=np.float64)
    weights = np.ones(len(y)) if totals is None else np.asarray(totals, dtype=np.float64)
    at = np.arange(len(y)) if months is None else np.asarray(months)
    if not len(y) == len(weights) == len(at):
        raise ValueError(f"{len(y)} shares, {len(weights)} totals and {len(at)} months do not match")
    if ((y < 0) | (y > 1)).any():
        raise ValueError("shares must lie in [0, 1]; pass pictures divided by totals")
    fit = _logit_slope(y, weights, at.astype(np.float64))
    if fit is None:
        return _NO_TREND
    dispersion = fit.chi2 / fit.df
    if totals is not None:
        dispersion = max(1.0, dispersion)
    return _with_dispersion(fit, dispersion, fit.df)


@dataclass(frozen=True)
class _Fit:
    slope: float
    unit_error: float  # standard error of the slope at dispersion 1
    chi2: float
    df: int


def _logit_slope(y: np.ndarray, weights: np.ndarray, at: np.ndarray) -> _Fit | None:
    """Fit the binomial regression, or return None where there is nothing to fit."""
    import warnings

    import statsmodels.api as sm

    keep = weights > 0
    y, weights, at = y[keep], weights[keep], at[keep]
    if len(np.unique(at)) < 3 or (y == 0).all() or (y == 1).all():
        return None
    design = sm.add_constant(at - at.mean())
    for pseudo in (0.0, 0.5):
        # a share that is 0 up to some month and positive after it has no finite slope: add half a picture
        # to it and half to the others (Haldane), as is usual for tables with empty cells
        shifted = (y * weights + pseudo) / (weights + 2 * pseudo)
        model = sm.GLM(shifted, design, family=sm.families.Binomial(), var_weights=weights + 2 * pseudo)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                result = model.fit(scale=1.0)
            except (np.linalg.LinAlgError, ValueError):
                continue
        slope, error = float(result.params[1]), float(result.bse[1])
        if result.converged and np.isfinite([slope, error]).all() and error < 10:
            return _Fit(slope, error, float(result.pearson_chi2), len(y) - 2)
    return None


def _with_dispersion(fit: _Fit, dispersion: float, df: int) -> Trend:
    from scipy import stats

    error = fit.unit_error * float(np.sqrt(dispersion))
    if error == 0:  # residuals of exactly zero: a straight line, no error to estimate
        return Trend(fit.slope, fit.slope, fit.slope, 0.0 if fit.slope else 1.0, dispersion)
    half = float(stats.t.ppf(0.975, df)) * error
    p_value = float(2 * stats.t.sf(abs(fit.slope) / error, df))
    return Trend(fit.slope, fit.slope - half, fit.slope + half, p_value, dispersion)


def cluster_trends(clusters: pl.DataFrame, k: int | None = None) -> pl.DataFrame:
    """Return table `cluster_trends`: shares by month with Wilson intervals, and each cluster's trend.

    The regression is that of `trend`, with one dispersion for all clusters: counts of a month that vary
    more than multinomially do so by one factor (Dirichlet-multinomial), and the pooled estimate has
    (k − 1)(months − 2) degrees of freedom where a single cluster's has months − 2. It is at least 1.
    p-values are corrected over the clusters by Holm's method; a trend is rising or falling where the
    corrected one is below 0.05, else steady, and unknown with fewer than three months or no estimate.

    Args:
        clusters: table `clusters` of any months (columns month, cluster).
        k: number of clusters of the model, so that one without any picture has its rows, too.
    """
    from statsmodels.stats.proportion import proportion_confint

    months = sorted(clusters["month"].unique().to_list())
    if not months:
        return tables.empty("cluster_trends")
    labels = list(range(1, k + 1)) if k else sorted(clusters["cluster"].unique().to_list())
    grouped = clusters.group_by("cluster", "month").len()
    counted = {(label, month): count for label, month, count in grouped.iter_rows()}
    totals = np.array([sum(counted.get((label, month), 0) for label in labels) for month in months])
    at = np.array([12 * int(month[:4]) + int(month[5:]) for month in months])
    counts = {label: np.array([counted.get((label, month), 0) for month in months]) for label in labels}
    fits = {label: _logit_slope(counts[label] / totals, totals.astype(float), at) for label in labels}
    trends = _pooled(fits, len(labels))
    tested = [label for label in labels if trends[label].p_value is not None]
    corrected = dict(zip(tested, holm([trends[label].p_value or 0.0 for label in tested]), strict=True))
    rows = []
    for label in labels:
        found = trends[label]
        low, high = proportion_confint(counts[label], totals, method="wilson")
        for i, month in enumerate(months):
            rows.append(
                {
                    "cluster": label,
                    "month": month,
                    "pictures": int(counts[label][i]),
                    "total": int(totals[i]),
                    "share": counts[label][i] / totals[i],
                    "low": float(low[i]),
                    "high": float(high[i]),
                    "slope": found.slope,
                    "slope_low": found.low,
                    "slope_high": found.high,
                    "p_value": found.p_value,
                    "p_holm": corrected.get(label),
                    "trend": _direction(found.slope, corrected.get(label)),
                }
            )
    return tables.conform("cluster_trends", pl.DataFrame(rows, infer_schema_length=None))


def holm(p_values: Sequence[float] | np.ndarray) -> list[float]:
    """Return p-values corrected by Holm's step-down method (1979), in the given order.

    The k-th smallest of m is multiplied by m − k + 1, and none is less than a smaller one's. (statsmodels'
    `multipletests` gives the same, but collects the garbage of the whole process at every call.)
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    corrected = np.empty(len(p))
    corrected[order] = stepped
    return [float(value) for value in corrected]


def _pooled(fits: dict[int, _Fit | None], clusters: int) -> dict[int, Trend]:
    """Return each cluster's trend under the dispersion that all clusters share."""
    present = [fit for fit in fits.values() if fit is not None]
    if not present:
        return dict.fromkeys(fits, _NO_TREND)
    # shares add up to 1: of k series only k - 1 are free
    dispersion = max(1.0, float(np.mean([fit.chi2 / fit.df for fit in present])))
    df = max(1, min(len(present), clusters - 1)) * present[0].df
    return {
        label: _NO_TREND if fit is None else _with_dispersion(fit, dispersion, df)
        for label, fit in fits.items()
    }


def _direction(slope: float | None, p_holm: float | None) -> str:
    if slope is None or p_holm is None:
        return "unknown"
    if p_holm >= ALPHA:
        return "steady"
    return "rising" if slope > 0 else "falling"


def trends_in_words(table: pl.DataFrame) -> str:
    """Return the clusters of table `cluster_trends` by direction, such as "rising: 8, 9; steady: 2"."""
    directions = table.select("cluster", pl.col("trend").cast(pl.String)).unique().sort("cluster")
    parts = [
        f"{way}: {', '.join(str(label) for label in directions.filter(trend=way)['cluster'])}"
        for way in ("rising", "falling", "steady", "unknown")
        if (directions["trend"] == way).any()
    ]
    return "; ".join(parts) or "no month"
