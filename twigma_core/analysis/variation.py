"""How variable a set of pictures is: the paper's four metrics, with intervals, and the tables of them.

Here: the metrics on arrays and counts, their standard errors from a summary, tables `variation_metrics`,
`variation_table` and `pair_distances`. Not here: what sets a summary up (`summary`), text sources and prompt
lengths (`prompts`), distance between sources (`divergence`).

A higher value means more variable (paper, Section 3). Intervals are of 95 % and treat pictures as
independent draws, or artists and prompts where the metric is within them:

- mean pairwise distance: U-statistic of order two, so 2·sd(row means)/√n, not sd(distances)/√pairs.
- inverse explained variance, product of marginal variances: the delta method over the rows, that is the
  spread of each row's first-order influence on the value, on the log scale. A bootstrap would not do: a
  resample has fewer distinct rows, which alone lowers both values.
- entropy: the jackknife. The plug-in is biased low, by about (k − 1)/2n; its interval is of the plug-in at
  this n. `quantized_entropy_corrected` (Grassberger 2003) estimates the entropy itself.
The raw inverse explained variance, too, grows with n: compare sources by the metrics named `_equal_n`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from scipy.special import digamma, gammaln, xlogy

from twigma_core import tables
from twigma_core.analysis.distances import (
    UNDEFINED,
    GroupDistances,
    Interval,
    check_rows,
    distance_histogram,
    group_distances,
    mean_distance_interval,
    row_mean_distances,
)

if TYPE_CHECKING:
    from twigma_core.analysis.summary import EmbeddingSummary
    from twigma_core.lake import ArrayTable

Groups = Mapping[str, tuple[np.ndarray, Sequence[str | None]]]

EDGES = np.linspace(0.0, 2.0, 101)
CONDITIONS = {
    "artbench_same_artist": ("artbench", "artist"),
    "diffusiondb_same_prompt": ("diffusiondb", "prompt_id"),
}
_Z = 1.959963984540054
_ROUNDING = 1e-13

# ---------------------------------------------------------------- metrics


def mean_pairwise_distance(x: np.ndarray) -> float:
    """Return the mean Euclidean distance between two different rows of x, (n, d) (paper, Section 3, i).

    Raises:
        ValueError: fewer than two rows, or a value that is not finite.
    """
    return float(row_mean_distances(x).mean())


def inverse_explained_variance(x: np.ndarray, centred: bool = False) -> float:
    """Return Σσᵢ/σ₁ over the singular values of x, (n, d): from 1 (rank one) to d (paper, Section 3, ii).

    The paper's is of the embedding matrix as it is; `centred` takes the column means off first, which gives
    values several times as large. Singular values below 3e-7·σ₁ count as 0. The value grows with n.

    Raises:
        ValueError: no row, rows that are all zero (or, centred, all equal), or a value that is not finite.
    """
    x = check_rows(x).astype(np.float64)
    if len(x) == 0:
        raise ValueError("the inverse explained variance needs at least 1 row; x has none")
    if centred:
        x -= x.mean(axis=0)
    gram = x.T @ x if len(x) >= x.shape[1] else x @ x.T
    values = np.linalg.eigvalsh(gram)
    value = explained_by_largest(np.sqrt(np.where(values > values[-1] * _ROUNDING, values, 0.0)))
    if value is None:
        raise ValueError("the inverse explained variance is undefined: all rows are zero or, centred, equal")
    return value


def explained_by_largest(singular_values: np.ndarray) -> float | None:
    """Return Σσᵢ/σ₁ of singular values in any order; None where all are 0."""
    largest = float(singular_values.max(initial=0.0))
    return float(singular_values.sum()) / largest if largest > 0 else None


def product_of_marginal_variances(x: np.ndarray) -> float:
    """Return (Πσ̂ᵢ)^(1/d), σ̂ᵢ the sample standard deviation of column i of x, (n, d) (paper, Section 3, iii).

    A column without variance makes it 0.

    Raises:
        ValueError: fewer than two rows, or a value that is not finite.
    """
    x = check_rows(x)
    if len(x) < 2:
        raise ValueError(f"a standard deviation needs at least 2 rows; x has {len(x)}")
    constant = (x == x[0]).all(axis=0)
    return geometric_mean_deviation(np.where(constant, 0.0, x.var(axis=0, ddof=1, dtype=np.float64)))


def geometric_mean_deviation(variances: np.ndarray) -> float:
    """Return the geometric mean of the roots of variances, (d,); by logs, for the product underflows."""
    if (variances <= 0).any():
        return 0.0
    return float(np.exp(np.log(variances).mean() / 2))


def quantized_entropy(counts: np.ndarray) -> float:
    """Return −Σp log p of a histogram (k,), in nats, from 0 to log k (paper, Section 3, iv).

    Raises:
        ValueError: a count is negative or not finite, or all are 0.
    """
    p = _checked(counts)
    p = p / p.sum()
    return float(-xlogy(p, p).sum()) + 0.0


def corrected_entropy(counts: np.ndarray) -> float:
    """Return Grassberger's estimate of the entropy behind a histogram (k,) of whole counts, in nats.

    It takes off most of the plug-in's bias where cells hold few pictures, where Miller and Madow's correction
    falls short: 0.05 against 0.25 nats low at 500 pictures in 500 cells (Grassberger 2003,
    arXiv:physics/0307138).

    Raises:
        ValueError: as `quantized_entropy`.
    """
    counts = _checked(counts)
    n, c = counts.sum(), counts[counts > 0]
    sign = np.where(c % 2 == 0, 1.0, -1.0)
    g = digamma(c) + sign / 2 * (digamma((c + 1) / 2) - digamma(c / 2))
    return float(np.clip(np.log(n) - (c * g).sum() / n, 0.0, np.log(len(counts))))


def expected_entropy(counts: np.ndarray, n: int) -> float:
    """Return the plug-in entropy expected of `n` pictures drawn from a histogram (k,) without replacement.

    Exact, by the hypergeometric distribution of each cell (rarefaction), so that sources of different size
    compare at equal n without a draw.

    Raises:
        ValueError: as `quantized_entropy`, or n is not between 1 and the number of pictures.
    """
    counts = _checked(counts).astype(np.int64)
    total = int(counts.sum())
    if not 1 <= n <= total:
        raise ValueError(f"cannot draw {n} of {total} pictures; choose n between 1 and {total}")
    entropy = 0.0
    for c in counts[counts > 0]:
        mean = n * c / total
        spread = 12 * np.sqrt(mean + 1) + 12  # beyond twelve standard deviations lies less than 1e-20
        j = np.arange(max(0, n - (total - c), int(mean - spread)), min(c, n, int(mean + spread)) + 1)
        log_p = _log_choose(c, j) + _log_choose(total - c, n - j) - _log_choose(total, np.array(n))
        entropy -= float((np.exp(log_p) * xlogy(j / n, j / n)).sum())
    return entropy + 0.0


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _checked(counts: np.ndarray) -> np.ndarray:
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("counts must be one row of finite numbers, none below 0")
    if counts.sum() == 0:
        raise ValueError("the histogram is empty: no picture was counted")
    return counts


# ---------------------------------------------------------------- intervals


def _log_interval(value: float | None, influence: np.ndarray | None, n: int) -> Interval:
    """Return exp(log value ± z·se), `influence` being each row's first-order effect on n·log value."""
    if value is None or influence is None or len(influence) < 3 or value <= 0:
        return Interval(value, None, None)
    error = float(influence.std(ddof=1)) / np.sqrt(n)
    return Interval(value, value * float(np.exp(-_Z * error)), value * float(np.exp(_Z * error)))


def explained_variance_interval(summary: EmbeddingSummary) -> Interval:
    """Return the inverse explained variance of a summary, exact, with its interval."""
    value = summary.inverse_explained_variance()
    if value is None or len(summary.sample) < 3:
        return Interval(value, None, None)
    sigma, vectors = summary.spectrum
    kept = sigma > 0
    s = sigma[kept] / np.sqrt(summary.count)
    squares = np.square(summary.sample.astype(np.float64) @ vectors[:, kept])
    shift = (squares - s**2) / (2 * s)  # first-order change of each singular value
    return _log_interval(value, shift.sum(axis=1) / s.sum() - shift[:, 0] / s[0], summary.count)


def marginal_variances_interval(summary: EmbeddingSummary) -> Interval:
    """Return the product of marginal variances of a summary, exact, with its interval."""
    value = summary.product_of_marginal_variances()
    if not value or len(summary.sample) < 3:
        return Interval(value, None, None)
    variances = np.diag(summary.covariance())
    squares = np.square(summary.sample.astype(np.float64) - summary.mean())
    return _log_interval(value, (squares / variances - 1).mean(axis=1) / 2, summary.count)


def entropy_interval(counts: np.ndarray | None, corrected: bool = False) -> Interval:
    """Return the entropy of a histogram, plug-in or corrected, with its interval within [0, log k].

    The standard error of both is the jackknife's of the plug-in, at least the √((m − 1)/2)/n of m equally
    full cells, where first-order effects cancel (Basharin 1959).
    """
    if counts is None or np.sum(counts) == 0:
        return UNDEFINED
    counts = _checked(counts)
    value = corrected_entropy(counts) if corrected else quantized_entropy(counts)
    n = counts.sum()
    if n < 3:
        return Interval(value, None, None)
    full = np.flatnonzero(counts)
    without = np.array([quantized_entropy(counts - (np.arange(len(counts)) == cell)) for cell in full])
    weights = counts[full]  # leaving out any picture of a cell has the same effect
    centre = (weights * without).sum() / n
    variance = (n - 1) / n * (weights * np.square(without - centre)).sum()
    half = _Z * float(np.sqrt(max(variance, (len(full) - 1) / (2 * n**2))))
    return Interval(value, max(0.0, value - half), min(float(np.log(len(counts))), value + half))


def metric_intervals(summary: EmbeddingSummary) -> dict[str, Interval]:
    """Return every metric of a summary by name, undefined where it has too few pictures.

    Entropies are of the codebook's largest size; a summary without a codebook has none.
    """
    counts = summary.counts()
    return {
        "mean_pairwise_distance": mean_distance_interval(summary.sample),
        "inverse_explained_variance": explained_variance_interval(summary),
        "product_of_marginal_variances": marginal_variances_interval(summary),
        "quantized_entropy": entropy_interval(counts),
        "quantized_entropy_corrected": entropy_interval(counts, corrected=True),
    }


# ---------------------------------------------------------------- tables


def variation_metrics(summary: EmbeddingSummary, month: str) -> pl.DataFrame:
    """Return table `variation_metrics` of one month; without pictures, each metric is null."""
    rows = [
        {"month": month, **_row(name, interval, summary.count)}
        for name, interval in metric_intervals(summary).items()
    ]
    return _table("variation_metrics", rows)


def variation_table(summaries: Mapping[str, EmbeddingSummary], groups: Groups | None = None) -> pl.DataFrame:
    """Return table `variation_table`: every metric of each source, and distances within groups.

    Metrics that depend on n come again as `<metric>_equal_n`, all at the size of the smallest source: the
    entropy as `expected_entropy`, the two from moments on that many rows of each sample.

    Args:
        summaries: twigma and the reference corpora.
        groups: for sources such as artbench_same_artist, embeddings (n, d) and the group of each row.
    """
    rows = []
    for source, summary in summaries.items():
        rows += [
            {"source": source, **_row(name, interval, summary.count)}
            for name, interval in metric_intervals(summary).items()
        ]
    rows += _equal_n_rows(summaries)
    for source, (x, names) in (groups or {}).items():
        within = group_distances(x, names)
        rows.append(
            {"source": source, **_row("mean_pairwise_distance", within.interval(), int(within.rows.sum()))}
        )
    return _table("variation_table", rows)


def _equal_n_rows(summaries: Mapping[str, EmbeddingSummary]) -> list[dict[str, Any]]:
    names = ("inverse_explained_variance", "product_of_marginal_variances", "quantized_entropy")
    usable = {source: summary for source, summary in summaries.items() if summary.count >= 2}
    n_rows = min((len(summary.sample) for summary in usable.values()), default=0)
    n_counts = min((summary.count for summary in usable.values()), default=0)
    rows = []
    for source, summary in summaries.items():
        found = dict.fromkeys(names, (UNDEFINED, summary.count))
        if source in usable:
            part = summary.subsample(n_rows)
            found = {
                names[0]: (explained_variance_interval(part), n_rows),
                names[1]: (marginal_variances_interval(part), n_rows),
                names[2]: (_rarefied(summary.counts(), n_counts), n_counts),
            }
        rows += [{"source": source, **_row(f"{name}_equal_n", *found[name])} for name in names]
    return rows


def _rarefied(counts: np.ndarray | None, n: int) -> Interval:
    """Return the expected entropy at n; its interval has the width of the whole histogram's."""
    whole = entropy_interval(counts)
    if counts is None or whole.value is None:
        return UNDEFINED
    value = expected_entropy(counts, n)
    if whole.low is None or whole.high is None:
        return Interval(value, None, None)
    return Interval(value, max(0.0, value + whole.low - whole.value), value + whole.high - whole.value)


def groups_of(reference_embeddings: Mapping[str, ArrayTable]) -> Groups:
    """Return the conditions of Figure 3a: ArtBench by artist, DiffusionDB by prompt, of the corpora given."""
    return {
        source: (reference_embeddings[corpus].vectors, reference_embeddings[corpus].table[column].to_list())
        for source, (corpus, column) in CONDITIONS.items()
        if corpus in reference_embeddings
    }


def pair_distances(
    summaries: Mapping[str, EmbeddingSummary],
    groups: Groups | None = None,
    texts: Mapping[str, ArrayTable] | None = None,
) -> pl.DataFrame:
    """Return table `pair_distances`: histograms over 0 to 2 of unit vectors' distances (Figures 3a, 3d).

    Args:
        summaries: sources of pictures; all pairs of the sample count.
        groups: conditions; all pairs within a group count, see `distances.group_distances`.
        texts: `text_embeddings` by source; matched in words to the prompts as in `prompts.text_variation`.

    A source without two pictures or texts has no row.

    Raises:
        ValueError: a distance above 2: the embeddings are not of length 1.
    """
    from twigma_core.analysis.prompts import matched_texts

    histograms = {source: distance_histogram(summary.sample, EDGES) for source, summary in summaries.items()}
    for source, (x, names) in (groups or {}).items():
        within: GroupDistances = group_distances(x, names, EDGES)
        histograms[source] = within.histogram
    for source, (x, _) in matched_texts(texts or {}).items():
        histograms[source] = distance_histogram(x, EDGES)
    width = EDGES[1] - EDGES[0]
    rows = [
        {
            "source": source,
            "left": float(EDGES[i]),
            "right": float(EDGES[i + 1]),
            "pairs": int(pairs),
            "density": float(pairs / counts.sum() / width),
        }
        for source, counts in histograms.items()
        if counts.sum() > 0
        for i, pairs in enumerate(counts)
    ]
    return _table("pair_distances", rows)


def _row(metric: str, interval: Interval, n: int) -> dict[str, Any]:
    return {"metric": metric, "value": interval.value, "low": interval.low, "high": interval.high, "n": n}


def _table(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    if not rows:
        return tables.empty(name)
    return tables.conform(name, pl.DataFrame(rows, infer_schema_length=None))
