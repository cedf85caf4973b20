"""Intervals of the variation metrics, from summaries.

Here: the jackknife of each metric, and what it gives: an interval of the value at this number of pictures,
and an estimate of the value behind it, with its own. Not here: the metrics (`variation`), and how the
spectral ones change without a picture (`spectrum`).

All metrics but the mean pairwise distance depend on the number of pictures n. So there are two questions, and
two rows for each such metric:

- the plug-in, as in the paper: what n pictures of this source give. Its interval holds the mean over all
  draws of n pictures. Sources compare by it at equal n only.
- `_corrected`: the value of the source itself, as if from very many pictures. The jackknife takes off the
  bias of order 1/n (the entropy has an estimator of its own). Where n is too small for that, value and
  interval are withheld, with the reason.

A bootstrap would not do: a resample has fewer distinct pictures, which alone lowers every metric. The
jackknife leaves pictures out one by one, exactly, and its variance errs upwards (Efron and Stein 1981).
Pictures count as independent draws. Coverage in simulation: docs/methods.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from twigma_core.analysis.distances import Interval, interval_of_log, mean_distance_interval, undefined
from twigma_core.analysis.spectrum import Change, without_each
from twigma_core.analysis.variation import (
    checked_counts,
    corrected_entropy,
    expected_entropy,
    quantized_entropy,
)

if TYPE_CHECKING:
    from twigma_core.analysis.summary import EmbeddingSummary

PICTURES_A_DIMENSION = 4
PICTURES_A_CELL = 4
MOMENT_METRICS = ("inverse_explained_variance", "product_of_marginal_variances", "vendi_score")
_BLOCKS = 10
_Z = 1.959963984540054


@dataclass(frozen=True)
class Jackknife:
    """What leaving out each picture tells of the logarithm of a metric.

    Attributes:
        log: logarithm of the plug-in.
        bias: what the plug-in's logarithm is too high by, on average, of order 1/n.
        variance: of the plug-in's logarithm.
        n: pictures.
    """

    log: float
    bias: float
    variance: float
    n: int

    def at_n(self) -> Interval:
        """Return the plug-in, with the interval of its mean over draws of n pictures."""
        return interval_of_log(self.log, self._half)

    def corrected(self) -> Interval:
        """Return the plug-in less its bias, with the interval of the source's own value."""
        return interval_of_log(self.log - self.bias, self._half)

    @property
    def _half(self) -> float:
        return float(np.sqrt(self.variance) * stdtrit(self.n - 1, 0.975))


def jackknife(change: Change, log: float, n: int) -> Jackknife:
    """Return the jackknife of a metric of `n` pictures from some or all of them.

    First-order parts, whose mean over all pictures is 0, are taken off the mean change: what is left, the
    bias of second order, is known well also where only some of the pictures are at hand.
    """
    bias = (n - 1) * float((change.exact - change.slope).mean())
    return Jackknife(log, bias, (n - 1) * float(change.exact.var()), n)


def jackknives(summary: EmbeddingSummary) -> dict[str, Jackknife | Interval]:
    """Return the jackknife of each metric from moments; an `Interval` without ends where there is none.

    Each holds for the whole summary; where it has more pictures than its sample, the sample's stand for all.
    """
    values = (
        summary.inverse_explained_variance(),
        summary.product_of_marginal_variances(),
        summary.vendi_score(),
    )
    if summary.count < 3 or len(summary.sample) < 3:
        reason = f"an interval needs 3 pictures, here {summary.count}"
        return {
            name: Interval(value, None, None, reason)
            for name, value in zip(MOMENT_METRICS, values, strict=True)
        }
    explained, product, vendi = values
    eigenvalues, vectors = summary.spectrum
    squares = np.square(summary.sample.astype(np.float64) @ vectors)
    spectral: list[Jackknife | Interval]
    try:
        spectral = [
            jackknife(change, float(np.log(value or 1)), summary.count)
            for change, value in zip(without_each(eigenvalues, squares), (explained, vendi), strict=True)
        ]
    except ValueError as error:
        spectral = [Interval(value, None, None, str(error)) for value in (explained, vendi)]
    return dict(zip(MOMENT_METRICS, (spectral[0], _marginals(summary, product), spectral[1]), strict=True))


def _marginals(summary: EmbeddingSummary, value: float | None) -> Jackknife | Interval:
    """Return the jackknife of the product of marginal variances; each variance without a picture is exact."""
    if not value:
        return Interval(value, None, None, "a dimension does not vary")
    n, variances = summary.count, np.diag(summary.covariance())
    taken = np.square(summary.sample.astype(np.float64) - summary.mean())
    taken *= n / (n - 1) ** 2 / variances
    if taken.max() > 1 - 1e-12:
        return Interval(value, None, None, "a dimension varies in one picture only")
    exact = (np.log((n - 1) / (n - 2)) + np.log1p(-taken).mean(axis=1)) / 2
    slope = (1 / (n - 1) - taken.mean(axis=1)) / 2
    return jackknife(Change(exact, slope), float(np.log(value)), n)


def entropy_interval(counts: np.ndarray | None, corrected: bool = False) -> Interval:
    """Return the entropy of a histogram, plug-in or corrected, with its interval within [0, log k].

    The standard error of both is the jackknife's of the plug-in, at least the √((m − 1)/2)/n of m equally
    full cells, where first-order effects cancel (Basharin 1959). The corrected entropy is Grassberger's;
    below four pictures a cell it has no interval.
    """
    if counts is None:
        return undefined("no histogram: summarise with a codebook")
    if np.sum(counts) == 0:
        return undefined("no picture")
    counts = checked_counts(counts)
    value = corrected_entropy(counts) if corrected else quantized_entropy(counts)
    n, needed = int(counts.sum()), PICTURES_A_CELL * len(counts) if corrected else 3
    if n < needed:
        per_cell = f", {PICTURES_A_CELL} a cell" if corrected else ""
        return Interval(value, None, None, f"an interval needs {needed} pictures{per_cell}, here {n}")
    full = np.flatnonzero(counts)
    without = np.array([quantized_entropy(counts - (np.arange(len(counts)) == cell)) for cell in full])
    weights = counts[full]  # leaving out any picture of a cell has the same effect
    centre = (weights * without).sum() / n
    variance = (n - 1) / n * (weights * np.square(without - centre)).sum()
    half = _Z * float(np.sqrt(max(variance, (len(full) - 1) / (2 * n**2))))
    return Interval(value, max(0.0, value - half), min(float(np.log(len(counts))), value + half))


def metric_intervals(summary: EmbeddingSummary) -> dict[str, tuple[Interval, int]]:
    """Return every metric of a summary by name, with its interval and the pictures that it is computed from.

    The mean pairwise distance is of the sample; all else is exact for the whole summary. Entropies are of the
    codebook's largest size.
    """
    n, counts = summary.count, summary.counts()
    found = {"mean_pairwise_distance": (mean_distance_interval(summary.sample), len(summary.sample))}
    for name, of_metric in jackknives(summary).items():
        if isinstance(of_metric, Interval):
            found[name] = (of_metric, n)
            found[f"{name}_corrected"] = (undefined(of_metric.reason or ""), n)
        else:
            found[name] = (of_metric.at_n(), n)
            found[f"{name}_corrected"] = (_corrected(name, of_metric, summary.dim), n)
    found["quantized_entropy"] = (entropy_interval(counts), n)
    found["quantized_entropy_corrected"] = (entropy_interval(counts, corrected=True), n)
    return found


def _corrected(name: str, of_metric: Jackknife, dim: int) -> Interval:
    a_dimension = {MOMENT_METRICS[0]: PICTURES_A_DIMENSION, MOMENT_METRICS[2]: 1}.get(name, 0)
    if of_metric.n < a_dimension * dim:
        return undefined(
            f"needs {a_dimension * dim} pictures, {a_dimension} a dimension, here {of_metric.n}; "
            "compare sources at equal n"
        )
    return of_metric.corrected()


def equal_n_intervals(
    summaries: Mapping[str, EmbeddingSummary],
) -> dict[str, dict[str, tuple[Interval, int]]]:
    """Return the metrics that depend on n, of each source, at the size of the smallest (of two or more).

    Those from moments are means over up to ten disjoint subsamples; the entropy is the exact mean over all
    subsets (`expected_entropy`), with the width of the whole histogram's interval.
    """
    usable = {source: summary for source, summary in summaries.items() if summary.count >= 2}
    n_rows = min((len(summary.sample) for summary in usable.values()), default=0)
    n_counts = min((summary.count for summary in usable.values()), default=0)
    found = {}
    for source, summary in summaries.items():
        if source not in usable:
            few = (undefined(f"needs 2 pictures, here {summary.count}"), summary.count)
            found[source] = dict.fromkeys((*MOMENT_METRICS, "quantized_entropy"), few)
            continue
        parts = [jackknives(part) for part in summary.subsamples(n_rows, _BLOCKS)]
        found[source] = {name: (_mean([part[name] for part in parts]), n_rows) for name in MOMENT_METRICS}
        found[source]["quantized_entropy"] = (_rarefied(summary.counts(), n_counts), n_counts)
    return found


def _mean(parts: Sequence[Jackknife | Interval]) -> Interval:
    """Return the mean of a metric over disjoint subsamples of equal size."""
    known = [part for part in parts if isinstance(part, Jackknife)]
    if len(known) < len(parts):
        return next(part for part in parts if isinstance(part, Interval))
    log = float(np.log(np.mean([np.exp(part.log) for part in known])))
    variance = float(np.mean([part.variance for part in known])) / len(known)
    return Jackknife(log, 0.0, variance, known[0].n).at_n()


def _rarefied(counts: np.ndarray | None, n: int) -> Interval:
    whole = entropy_interval(counts)
    if counts is None or whole.value is None:
        return whole
    value = expected_entropy(counts, n)
    if whole.low is None or whole.high is None:
        return Interval(value, None, None, whole.reason)
    return Interval(value, max(0.0, value + whole.low - whole.value), value + whole.high - whole.value)
