"""What the 2023 release says of a picture beside what this platform says, joined by media id.

Reading the release belongs to `twigma_core.collect.release_2023`; the paper's own numbers to `paper`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from twigma_core import tables

_Z = 1.959964
_DRAWS = 500
Row = dict[str, Any]


def compare(
    theirs: pl.DataFrame, dataset: pl.DataFrame, clusters: pl.DataFrame, seed: int = 0
) -> pl.DataFrame:
    """Return table `release_2023_comparison`.

    Measures, each with a 95 % interval where it is an estimate:

    - `pictures_theirs`, `pictures_ours`, `pictures_both`: pictures of the months that the dataset has.
    - `share_found`: of their pictures, those that are in the dataset (Wilson).
    - `same_post`, `same_caption`, `same_sensitive`: of the pictures in both, those of which the two say the
      same (Wilson).
    - `cluster_adjusted_rand`: adjusted Rand index of the two clusterings (Hubert and Arabie 1985), 0 by
      chance, 1 where they are one; the labels' numbers play no part. Interval: ±1.96 standard deviations
      of the index over multinomial draws of the contingency table.
    - `nsfw_spearman`, `likes_spearman`: rank correlation (Fisher's z, standard error of Bonett and Wright
      2000).
    - `nsfw_mean_difference`, `likes_mean_difference`: ours minus theirs (normal, paired).
    - `likes_median_difference`: ours minus theirs (order statistics).

    Args:
        theirs: table `release_2023`.
        dataset: table `dataset`, the whole.
        clusters: table `clusters`, the whole.
        seed: of the draws.

    Returns:
        The table; without rows where there is no release. A value is null where nothing is in both.
    """
    if theirs.is_empty():
        return tables.empty("release_2023_comparison")
    ours = dataset.join(clusters.select("image_id", "cluster"), on="image_id", how="left")
    theirs = theirs.filter(pl.col("month").is_in(ours["month"].unique().to_list()))
    both = theirs.join(ours, on="image_id", suffix="_ours")
    rows = [
        _count("pictures_theirs", theirs.height),
        _count("pictures_ours", ours.height),
        _count("pictures_both", both.height),
        _share("share_found", both.height, theirs.height),
        _same("same_post", both, "tweet_id", "tweet_id_ours"),
        _same("same_caption", both, "caption", "caption_ours"),
        _same("same_sensitive", both, "possibly_sensitive", "possibly_sensitive_ours"),
        _rand(*_pair(both, "cluster", "cluster_ours"), seed),
        _rank_correlation("nsfw_spearman", *_pair(both, "nsfw_score", "nsfw_score_ours")),
        _mean_difference("nsfw_mean_difference", *_pair(both, "nsfw_score", "nsfw_score_ours")),
        _rank_correlation("likes_spearman", *_pair(both, "like_count", "like_count_ours")),
        _mean_difference("likes_mean_difference", *_pair(both, "like_count", "like_count_ours")),
        _median_difference("likes_median_difference", *_pair(both, "like_count", "like_count_ours")),
    ]
    schema: Any = tables.empty("release_2023_comparison").schema
    return tables.conform("release_2023_comparison", pl.DataFrame(rows, schema=schema))


def _pair(both: pl.DataFrame, theirs: str, ours: str) -> tuple[np.ndarray, np.ndarray]:
    known = both.select(theirs, ours).drop_nulls()
    return known[theirs].to_numpy(), known[ours].to_numpy()


def _row(measure: str, value: float | None, low: float | None, high: float | None, n: int) -> Row:
    return {"measure": measure, "value": value, "low": low, "high": high, "n": n}


def _count(measure: str, number: int) -> Row:
    return _row(measure, float(number), None, None, number)


def _share(measure: str, hits: int, n: int) -> Row:
    from statsmodels.stats.proportion import proportion_confint

    if not n:
        return _row(measure, None, None, None, 0)
    low, high = proportion_confint(hits, n, method="wilson")
    return _row(measure, hits / n, min(float(low), hits / n), max(float(high), hits / n), n)


def _same(measure: str, both: pl.DataFrame, theirs: str, ours: str) -> Row:
    a, b = _pair(both, theirs, ours)
    return _share(measure, int((a == b).sum()), len(a))


def adjusted_rand(table: np.ndarray) -> float:
    """Return the adjusted Rand index of a contingency table (r, c) of whole counts; nan if it is undefined.

    Example:
        >>> adjusted_rand(np.array([[2, 0], [0, 3]]))
        1.0
    """

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1.0)).sum() / 2)

    n = float(table.sum())
    if n < 2:
        return math.nan
    rows, columns = pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    expected = rows * columns / (n * (n - 1) / 2)
    largest = (rows + columns) / 2
    return 1.0 if largest == expected else (pairs(table) - expected) / (largest - expected)


def _rand(a: np.ndarray, b: np.ndarray, seed: int) -> Row:
    measure = "cluster_adjusted_rand"
    if len(a) < 2:
        return _row(measure, None, None, None, len(a))
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(table, (a, b), 1)
    value = adjusted_rand(table)
    drawn = np.random.default_rng(seed).multinomial(len(a), table.ravel() / len(a), size=_DRAWS)
    half = _Z * float(np.std([adjusted_rand(one.reshape(table.shape)) for one in drawn], ddof=1))
    return _row(measure, value, max(-1.0, value - half), min(1.0, value + half), len(a))


def _rank_correlation(measure: str, a: np.ndarray, b: np.ndarray) -> Row:
    from scipy.stats import spearmanr

    n = len(a)
    if n < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return _row(measure, None, None, None, n)
    value = float(spearmanr(a, b).statistic)
    if abs(value) >= 1 - 1e-12:
        return _row(measure, value, value, value, n)
    middle, half = math.atanh(value), _Z * math.sqrt((1 + value**2 / 2) / (n - 3))
    return _row(measure, value, math.tanh(middle - half), math.tanh(middle + half), n)


def _mean_difference(measure: str, theirs: np.ndarray, ours: np.ndarray) -> Row:
    n = len(theirs)
    if n < 2:
        return _row(measure, None, None, None, n)
    difference = ours.astype(float) - theirs.astype(float)
    value, half = float(difference.mean()), _Z * float(difference.std(ddof=1)) / math.sqrt(n)
    return _row(measure, value, value - half, value + half, n)


def _median_difference(measure: str, theirs: np.ndarray, ours: np.ndarray) -> Row:
    from scipy.stats import binom

    n = len(theirs)
    if not n:
        return _row(measure, None, None, None, 0)
    difference = np.sort(ours.astype(float) - theirs.astype(float))
    at = int(binom.ppf(0.025, n, 0.5))
    low, high = (difference[at - 1], difference[n - at]) if at else (None, None)
    return _row(measure, float(np.median(difference)), low, high, n)
