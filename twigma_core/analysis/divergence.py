"""How far apart two sets of pictures are: measures on histograms and on embeddings, with intervals.

Here: the measures, and tables `divergences` (each month against each corpus) and `divergence_matrix` (every
source against every other; paper, Figure 2c). Not here: the cells themselves (`codebook`).

Measures of the tables, each from two summaries (docs/methods.md):

- `kl`: Kullback–Leibler divergence of the ordered pair, nats, ½ added to each cell; `kl_reverse` that of
  the pair turned round.
- `js`: Jensen–Shannon divergence, nats, 0 to log 2.
- `mauve`: area under the divergence curve of the histograms, 1 the same, 0 disjoint.
- `frechet`: Fréchet distance of the two normal distributions with the sources' moments; biased upwards by
  about d²/n, so that it compares only at equal n.
- `kernel`: unbiased squared maximum mean discrepancy under (x·y + 1)³, from at most 2,000 pictures of each
  sample; may fall below 0 where the sources are alike.
The first four are of the paper's quantizer of 10 cells; `kl_50` is `kl` of 50 cells, and so on.

Intervals are of 95 %. Histograms: `histogram_interval`. Embeddings: first- and, for the kernel, second-order
variance over the rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.special import xlogy

from twigma_core import tables
from twigma_core.analysis.distances import UNDEFINED, Interval, check_rows

if TYPE_CHECKING:
    from twigma_core.analysis.summary import EmbeddingSummary

SMOOTHING = 0.5
CELLS = 10
HISTOGRAM_MEASURES = ("kl", "kl_reverse", "js", "mauve")
MOMENT_MEASURES = ("frechet", "kernel")
MEASURES = (*HISTOGRAM_MEASURES, *MOMENT_MEASURES)
_MAUVE_SCALE = 5.0
_MAUVE_WEIGHTS = 100
_REPLICATES = 400
_KERNEL_ROWS = 2000
_Z = 1.959963984540054

# ---------------------------------------------------------------- histograms


def kl_divergence(p_counts: ArrayLike, q_counts: ArrayLike, smoothing: float = SMOOTHING) -> float:
    """Return Σ p log(p/q) of two histograms (k,), in nats, with `smoothing` added to every cell.

    The default ½ is Krichevsky and Trofimov's. It bounds the value where q has empty cells: disjoint
    histograms over 10 cells give 7.6, 9.9 and 11.7 at 1,000, 10,000 and 60,000 pictures. With 0 the value is
    infinite there, and the histograms may be probabilities. The paper states no smoothing (Figure 2c).

    Raises:
        ValueError: shapes differ, a count is negative or not finite, a histogram is empty, smoothing is below
            0, or probabilities are given with smoothing.
    """
    p, q = _checked(p_counts, q_counts, smoothing)
    return float(_kl(_shares(p, smoothing), _shares(q, smoothing)))


def js_divergence(p_counts: ArrayLike, q_counts: ArrayLike, smoothing: float = 0.0) -> float:
    """Return the Jensen–Shannon divergence of two histograms (k,), in nats, from 0 to log 2 (Lin 1991).

    Raises:
        ValueError: as `kl_divergence`.
    """
    p, q = _checked(p_counts, q_counts, smoothing)
    return float(_js(_shares(p, smoothing), _shares(q, smoothing)))


def mauve_score(
    p_counts: ArrayLike,
    q_counts: ArrayLike,
    scale: float = _MAUVE_SCALE,
    smoothing: float = 0.0,
) -> float:
    """Return the area under the divergence curve of two histograms (k,): 1 the same, towards 0 disjoint.

    The curve is (exp(−c·KL(q‖r)), exp(−c·KL(p‖r))) over mixtures r of p and q, c being `scale` (Pillutla et
    al. 2021, equations 1 to 3). The paper's histograms are of one joint quantizer; the authors' own software
    fits one for each pair on reduced embeddings, so its values differ from these.

    Raises:
        ValueError: as `kl_divergence`, or a scale that is not above 0.
    """
    if scale <= 0:
        raise ValueError(f"scale={scale} must be above 0; Pillutla et al. use 5")
    p, q = _checked(p_counts, q_counts, smoothing)
    return float(_mauve(_shares(p, smoothing), _shares(q, smoothing), scale))


def _checked(p_counts: ArrayLike, q_counts: ArrayLike, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
    p, q = np.asarray(p_counts, dtype=np.float64), np.asarray(q_counts, dtype=np.float64)
    if p.ndim != 1 or p.shape != q.shape or p.size == 0:
        raise ValueError(f"histograms of shape {p.shape} and {q.shape} do not compare; use the same codebook")
    if smoothing < 0:
        raise ValueError(f"smoothing={smoothing} must be at least 0")
    for name, counts in (("p", p), ("q", q)):
        if not np.isfinite(counts).all() or (counts < 0).any():
            raise ValueError(f"histogram {name} holds a value below 0 or one that is not finite")
        if counts.sum() == 0:
            raise ValueError(f"histogram {name} is empty: no picture was counted")
        if smoothing > 0 and counts.sum() <= 1 + 1e-9 and (counts != np.floor(counts)).any():
            raise ValueError(f"histogram {name} holds probabilities; give counts, or smoothing=0")
    return p, q


def _shares(counts: np.ndarray, smoothing: float) -> np.ndarray:
    smoothed = counts + smoothing
    return smoothed / smoothed.sum(axis=-1, keepdims=True)


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / q), 0.0)
    return np.maximum(terms.sum(axis=-1), 0.0)


def _js(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    middle = (p + q) / 2
    value = (xlogy(p, p) + xlogy(q, q)).sum(axis=-1) / 2 - xlogy(middle, middle).sum(axis=-1)
    return np.clip(value, 0.0, np.log(2))


def _mauve(p: np.ndarray, q: np.ndarray, scale: float = _MAUVE_SCALE) -> np.ndarray:
    weights = np.linspace(0.0, 1.0, _MAUVE_WEIGHTS + 2)[1:-1].reshape(-1, *([1] * p.ndim))
    mixtures = weights * p + (1 - weights) * q
    # from r near q, where the first coordinate is 1, to r near p, where the second is
    first = np.exp(-scale * _kl(q, mixtures))
    second = np.exp(-scale * _kl(p, mixtures))
    one, zero = np.ones_like(first[:1]), np.zeros_like(first[:1])
    x = np.concatenate([one, first, zero])
    y = np.concatenate([zero, second, one])
    # the trapezoid rule along x and along y, which differ where the curve is steep
    along_x = ((x[:-1] - x[1:]) * (y[:-1] + y[1:])).sum(axis=0) / 2
    along_y = ((y[1:] - y[:-1]) * (x[:-1] + x[1:])).sum(axis=0) / 2
    return np.clip((along_x + along_y) / 2, 0.0, 1.0)


_Functional = Callable[[np.ndarray, np.ndarray], np.ndarray]
_HISTOGRAMS: dict[str, tuple[_Functional, float, float]] = {
    "kl": (_kl, SMOOTHING, np.inf),
    "kl_reverse": (lambda p, q: _kl(q, p), SMOOTHING, np.inf),
    "js": (_js, 0.0, float(np.log(2))),
    "mauve": (_mauve, 0.0, 1.0),
}


def histogram_interval(measure: str, p_counts: np.ndarray, q_counts: np.ndarray, seed: int = 0) -> Interval:
    """Return a measure of two histograms (k,) of whole counts with its bootstrap interval.

    Pictures are drawn anew from the histograms with ½ added to each cell (an empty cell is not impossible),
    and the spread of the measure about its value there is laid off around the estimate the other way (basic
    bootstrap; Davison and Hinkley 1997, section 5.2). The interval also holds the estimate, and the value of
    equal distributions where the two cannot be told apart. Undefined where a histogram is empty.

    Coverage in simulation is 93 to 100 % where every cell holds several pictures of both, and falls where
    rare cells stay empty, all on the low side: KL of 60 pictures in 10 cells 80 %, of 60 in 50 about half.

    Raises:
        KeyError: `measure` is not one of `HISTOGRAM_MEASURES`.
    """
    functional, smoothing, top = _HISTOGRAMS[measure]
    if np.sum(p_counts) == 0 or np.sum(q_counts) == 0:
        return UNDEFINED
    p, q = _checked(p_counts, q_counts, smoothing)
    value = float(functional(_shares(p, smoothing), _shares(q, smoothing)))
    rng = np.random.default_rng(seed)
    p_world, q_world = _shares(p, SMOOTHING), _shares(q, SMOOTHING)
    drawn = functional(
        _shares(rng.multinomial(int(p.sum()), p_world, _REPLICATES), smoothing),
        _shares(rng.multinomial(int(q.sum()), q_world, _REPLICATES), smoothing),
    )
    below, above = np.quantile(drawn - functional(p_world, q_world), [0.025, 0.975])
    bounds = [value, *np.clip([value - above, value - below], 0.0, top)]
    pooled = _shares(p + q, SMOOTHING)
    alike = functional(
        _shares(rng.multinomial(int(p.sum()), pooled, _REPLICATES), smoothing),
        _shares(rng.multinomial(int(q.sum()), pooled, _REPLICATES), smoothing),
    )
    if np.quantile(alike, 0.025) <= value <= np.quantile(alike, 0.975):
        bounds.append(float(functional(pooled, pooled)))
    return Interval(value, float(min(bounds)), float(max(bounds)))


# ---------------------------------------------------------------- embeddings


def frechet_distance(
    mean1: np.ndarray | EmbeddingSummary,
    cov1: np.ndarray | EmbeddingSummary,
    mean2: np.ndarray | None = None,
    cov2: np.ndarray | None = None,
) -> float:
    """Return the squared Fréchet distance of two normal distributions (Dowson and Landau 1982; Heusel 2017).

    ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½), the trace of the root as the sum of the singular values of Σ₁^½Σ₂^½:
    real and defined for singular covariances too.

    Args:
        mean1, cov1, mean2, cov2: (d,) means and (d, d) covariances; or two summaries as the first two.

    Raises:
        ValueError: shapes do not fit, a value is not finite, or a summary has fewer than two pictures.
    """
    from twigma_core.analysis.summary import EmbeddingSummary

    if isinstance(mean1, EmbeddingSummary) and isinstance(cov1, EmbeddingSummary):
        return frechet_distance(mean1.mean(), mean1.covariance(), cov1.mean(), cov1.covariance())
    if mean2 is None or cov2 is None:
        raise ValueError("frechet_distance takes two summaries, or mean1, cov1, mean2, cov2")
    m1, c1, m2, c2 = (np.asarray(part, dtype=np.float64) for part in (mean1, cov1, mean2, cov2))
    d = len(m1)
    if m1.shape != (d,) or m2.shape != (d,) or c1.shape != (d, d) or c2.shape != (d, d):
        raise ValueError(f"moments of shapes {m1.shape}, {c1.shape}, {m2.shape}, {c2.shape} do not fit")
    if not all(np.isfinite(part).all() for part in (m1, c1, m2, c2)):
        raise ValueError("a mean or covariance holds NaN or infinity")
    cross = np.linalg.svd(_root(c1) @ _root(c2), compute_uv=False).sum()
    return max(0.0, float(np.square(m1 - m2).sum() + np.trace(c1) + np.trace(c2) - 2 * cross))


def _root(matrix: np.ndarray, power: float = 0.5) -> np.ndarray:
    """Return the power of a positive semidefinite matrix; directions without variance stay without."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    kept = values > max(values[-1], 0.0) * 1e-12
    return (vectors[:, kept] * values[kept] ** power) @ vectors[:, kept].T


def frechet_interval(p: EmbeddingSummary, q: EmbeddingSummary) -> Interval:
    """Return the Fréchet distance of two summaries with the interval of its sampling variation at their n.

    The effect of a row on the distance is, to first order, the gap between its squared length and the
    potential of the optimal map between the two normal distributions; its spread over the sample gives the
    standard error. The upward bias of small n is not taken off. Undefined below two pictures.
    """
    if min(p.count, q.count) < 2:
        return UNDEFINED
    value = frechet_distance(p, q)
    if min(len(p.sample), len(q.sample)) < 3:
        return Interval(value, None, None)
    variance = _frechet_variance(p, q) + _frechet_variance(q, p)
    half = _Z * float(np.sqrt(variance))
    return Interval(value, max(0.0, value - half), value + half)


def _frechet_variance(p: EmbeddingSummary, q: EmbeddingSummary) -> float:
    """Return the variance of the distance that comes from p's pictures."""
    root, inverse, other = _root(p.covariance()), _root(p.covariance(), -0.5), q.covariance()
    slope = np.eye(p.dim) - inverse @ _root(root @ other @ root) @ inverse
    rows = p.sample.astype(np.float64) - p.mean()
    effect = np.einsum("ij,ij->i", rows @ slope, rows) + 2 * rows @ (p.mean() - q.mean())
    return float(effect.var(ddof=1)) / p.count


def kernel_distance(
    x: np.ndarray, y: np.ndarray, degree: int = 3, gamma: float | None = None, coef0: float = 1.0
) -> float:
    """Return the unbiased squared maximum mean discrepancy of x (n, d) and y (m, d).

    The kernel is (γ·x·y + c)^degree; with the default γ = 1/d it is the kernel inception distance's
    (Bińkowski et al. 2018). The tables use γ = 1, for unit vectors. It may be below 0 where sets are alike.

    Raises:
        ValueError: fewer than two rows, different widths, or a value that is not finite.
    """
    return _kernel_interval(x, y, degree, gamma, coef0)[0]


def kernel_interval(p: EmbeddingSummary, q: EmbeddingSummary) -> Interval:
    """Return the kernel distance of two summaries' samples (γ = 1) with its interval; undefined below two."""
    if min(p.count, q.count) < 2:
        return UNDEFINED
    value, variance = _kernel_interval(p.sample[:_KERNEL_ROWS], q.sample[:_KERNEL_ROWS], 3, 1.0, 1.0)
    half = _Z * float(np.sqrt(variance))
    return Interval(value, value - half, value + half)


def _kernel_interval(
    x: np.ndarray, y: np.ndarray, degree: int, gamma: float | None, coef0: float
) -> tuple[float, float]:
    """Return the unbiased estimate and its variance, of first and second order (Serfling 1980)."""
    x, y = check_rows(x, "x").astype(np.float64), check_rows(y, "y").astype(np.float64)
    n, m = len(x), len(y)
    if min(n, m) < 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"shapes {x.shape} and {y.shape}: both need two rows or more and the same width")
    g = 1 / x.shape[1] if gamma is None else gamma

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (g * (a @ b.T) + coef0) ** degree

    xx, yy, xy = kernel(x, x), kernel(y, y), kernel(x, y)
    np.fill_diagonal(xx, 0.0)
    np.fill_diagonal(yy, 0.0)
    x_own, y_own = xx.sum(axis=1) / (n - 1), yy.sum(axis=1) / (m - 1)
    x_other, y_other = xy.mean(axis=1), xy.mean(axis=0)
    value = float(x_own.mean() + y_own.mean() - 2 * xy.mean())
    first = 4 * (x_own - x_other).var() / n + 4 * (y_own - y_other).var() / m
    second = 2 * _double_centred(xx, x_own) / n**2 + 2 * _double_centred(yy, y_own) / m**2
    rest = xy - x_other[:, None] - y_other[None, :] + xy.mean()
    second += 4 * float(np.square(rest).mean()) / (n * m)
    # row means spread by first-order effects and, a second time over, by second-order ones
    return value, float(max(first - second, second))


def _double_centred(kernel: np.ndarray, own: np.ndarray) -> float:
    """Return the mean square, off the diagonal, of a kernel less its row and column means."""
    rest = kernel - own[:, None] - own[None, :] + own.mean()
    np.fill_diagonal(rest, 0.0)
    return float(np.square(rest).sum() / (len(own) * (len(own) - 1)))


# ---------------------------------------------------------------- tables


def divergence_matrix(
    summaries: Mapping[str, EmbeddingSummary],
    measure: str | Sequence[str] = "kl",
    seed: int = 0,
) -> pl.DataFrame:
    """Return a measure, or several, of every ordered pair of different sources (Figure 2c).

    Args:
        summaries: twigma and the reference corpora. One of no picture gives null values.
        measure: one or several of `MEASURES`; those on histograms come for each size of the codebook.
        seed: seed of the bootstrap.

    Returns:
        Table `divergence_matrix`.

    Raises:
        ValueError: an unknown measure, widths or codebooks that differ, or no codebook where a measure needs
            one; the message names the sources.
    """
    pairs = itertools.permutations(summaries, 2)
    rows = []
    done: dict[tuple[str, str, str], Interval] = {}
    for p, q in pairs:
        for name, cells, interval in _measure(summaries, p, q, measure, seed, done):
            smoothing = _HISTOGRAMS[name.split("_")[0]][1] if cells else None
            row = {"source_p": p, "source_q": q, "measure": name, "cells": cells, **_bounds(interval)}
            rows.append(row | {"n_p": summaries[p].count, "n_q": summaries[q].count, "smoothing": smoothing})
    return _table("divergence_matrix", rows)


def divergence_table(summaries: Mapping[str, EmbeddingSummary], seed: int = 0) -> pl.DataFrame:
    """Return table `divergence_matrix` with all measures; `kl_reverse` is the other of each two rows."""
    return divergence_matrix(summaries, [name for name in MEASURES if name != "kl_reverse"], seed)


def month_divergences(
    month: str, summary: EmbeddingSummary, references: Mapping[str, EmbeddingSummary], seed: int = 0
) -> pl.DataFrame:
    """Return table `divergences`: how far one month is from each corpus, by every measure.

    `kl` is KL(month‖corpus), `kl_reverse` KL(corpus‖month). A month of no picture has null values.

    Raises:
        ValueError: as `divergence_matrix`.
    """
    sources = {month: summary, **references}
    rows = [
        {"month": month, "corpus": corpus, "measure": name, "cells": cells, **_bounds(interval)}
        | {"n_month": summary.count, "n_corpus": references[corpus].count}
        for corpus in references
        for name, cells, interval in _measure(sources, month, corpus, MEASURES, seed, {})
    ]
    return _table("divergences", rows)


def _measure(
    summaries: Mapping[str, EmbeddingSummary],
    p: str,
    q: str,
    measure: str | Sequence[str],
    seed: int,
    done: dict[tuple[str, str, str], Interval],
) -> list[tuple[str, int | None, Interval]]:
    """Return name, cells and interval of each measure of a pair; symmetric ones are taken from `done`."""
    a, b = summaries[p], summaries[q]
    if a.dim != b.dim:
        raise ValueError(f"{p} and {q} differ in width ({a.dim}, {b.dim}); embed both with the same model")
    found: list[tuple[str, int | None, Interval]] = []
    for name in [measure] if isinstance(measure, str) else measure:
        if name in HISTOGRAM_MEASURES:
            _same_codebook(p, a, q, b)
            for cells in sorted(a.histogram):
                interval = histogram_interval(name, a.histogram[cells], b.histogram[cells], seed)
                found.append((name if cells == CELLS else f"{name}_{cells}", cells, interval))
        elif name in MOMENT_MEASURES:
            key = (name, min(p, q), max(p, q))
            if key not in done:
                done[key] = (frechet_interval if name == "frechet" else kernel_interval)(a, b)
            found.append((name, None, done[key]))
        else:
            raise ValueError(f"no measure named {name!r}; choose from {', '.join(MEASURES)}")
    return found


def _same_codebook(p: str, a: EmbeddingSummary, q: str, b: EmbeddingSummary) -> None:
    if not a.codebook_version or a.codebook_version != b.codebook_version:
        raise ValueError(
            f"{p} and {q} are summarised with codebooks {a.codebook_version or 'none'} and "
            f"{b.codebook_version or 'none'}; summarise both with the same codebook"
        )


def _bounds(interval: Interval) -> dict[str, Any]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _table(name: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    if not rows:
        return tables.empty(name)
    return tables.conform(name, pl.DataFrame(rows, infer_schema_length=None))
