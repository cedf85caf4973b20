"""How far apart two histograms over the same cells are: measures and intervals.

Here: Kullback–Leibler and Jensen–Shannon divergence and a MAUVE-style score, and their intervals. Not here:
the cells (`codebook`), and measures that need no cells (`frechet`, `kernel`, `manifolds`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import digamma, xlogy

from twigma_core.analysis.distances import Interval, undefined

SMOOTHING = 0.5
PICTURES_A_CELL = 8
UNSEEN_SHARE = 0.05
_MAUVE_SCALE = 5.0
_MAUVE_WEIGHTS = 100
_MAUVE_WEIGHTS_OF_DRAWS = 25
_DRAWS = 400


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


def _mauve(
    p: np.ndarray, q: np.ndarray, scale: float = _MAUVE_SCALE, mixtures_tried: int = _MAUVE_WEIGHTS
) -> np.ndarray:
    weights = np.linspace(0.0, 1.0, mixtures_tried + 2)[1:-1].reshape(-1, *([1] * p.ndim))
    mixtures = weights * p + (1 - weights) * q
    # from r near q, where the first coordinate is 1, to r near p, where the second is
    first = np.exp(-scale * _kl(q, mixtures))
    second = np.exp(-scale * _kl(p, mixtures))
    one, zero = np.ones_like(first[:1]), np.zeros_like(first[:1])
    x = np.concatenate([one, first, zero])
    y = np.concatenate([zero, second, one])
    # the trapezoid rule; from (1, 0) to (0, 1) it gives the same along x as along y
    return np.clip(((x[:-1] - x[1:]) * (y[:-1] + y[1:])).sum(axis=0) / 2, 0.0, 1.0)


# ---------------------------------------------------------------- intervals


_Functional = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class _Measure:
    """A measure of histograms: its functional of shares, of many draws at once, and its smoothing and top."""

    of_shares: _Functional
    of_draws: _Functional
    smoothing: float
    top: float


def _mauve_of_draws(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return _mauve(p, q, mixtures_tried=_MAUVE_WEIGHTS_OF_DRAWS)


_MEASURES = {
    "kl": _Measure(_kl, _kl, SMOOTHING, np.inf),
    "js": _Measure(_js, _js, 0.0, float(np.log(2))),
    "mauve": _Measure(_mauve, _mauve_of_draws, 0.0, 1.0),
}


def smoothing_of(measure: str) -> float:
    """Return the pseudo-count that a measure of the tables adds to each cell.

    Raises:
        KeyError: `measure` is not kl, kl_reverse, js or mauve.
    """
    return _MEASURES[measure.removesuffix("_reverse")].smoothing


def histogram_interval(measure: str, p_counts: np.ndarray, q_counts: np.ndarray, seed: int = 0) -> Interval:
    """Return a measure of two histograms (k,) of whole counts with its bootstrap interval.

    The bootstrap is Bayesian: shares are drawn from Dirichlet(counts + ½), with the ½ of the smoothing, and
    the spread of the draws is laid about an estimate without first-order bias: for KL that of Zhang and
    Grabchak (2014), Σ p̂ (ψ(n_q + 1) − ψ(c_q + 1) − ψ(n_p) + ψ(c_p)); for the others, the jackknife's. The
    interval is of the divergence of the sources themselves; where bias has carried the plug-in out of it, it
    is widened to hold the plug-in.

    Below eight pictures a cell the interval is withheld. Where cells without a picture of q hold more than 5
    % of p's pictures, KL(p‖q) has no upper end: q's share there may be as small as one likes.

    Args:
        measure: kl, kl_reverse (KL of q from p), js or mauve.
        p_counts, q_counts: (k,) whole counts.
        seed: seed of the draws.

    Raises:
        KeyError: no such measure.
        ValueError: as `kl_divergence`.
    """
    if measure == "kl_reverse":
        return histogram_interval("kl", q_counts, p_counts, seed)
    of = _MEASURES[measure]
    if np.sum(p_counts) == 0 or np.sum(q_counts) == 0:
        return undefined("no picture in one of the two")
    p, q = _checked(p_counts, q_counts, of.smoothing)
    value = float(of.of_shares(_shares(p, of.smoothing), _shares(q, of.smoothing)))
    needed, n = PICTURES_A_CELL * len(p), int(min(p.sum(), q.sum()))
    if n < needed:
        reason = f"an interval needs {needed} pictures of each, {PICTURES_A_CELL} a cell, here {n}"
        return Interval(value, None, None, reason)
    rng = np.random.default_rng(seed)
    draws = of.of_draws(rng.dirichlet(p + SMOOTHING, _DRAWS), rng.dirichlet(q + SMOOTHING, _DRAWS))
    unseen = float(p[q == 0].sum() / p.sum())
    if measure == "kl":
        # of cells without a picture of q the draws' mean is too high by prior and not by chance: it stays
        centre = _unbiased_kl(p, q) + unseen * float(digamma(1.0) - digamma(SMOOTHING))
    else:
        centre = value - _bias(of.of_draws, p, q)
    ends = np.clip(np.quantile(draws, [0.025, 0.975]) - draws.mean() + centre, 0.0, of.top)
    low, high = min(value, float(ends[0])), max(value, float(ends[1]))
    if measure == "kl" and unseen > UNSEEN_SHARE:
        reason = f"no upper end: cells without any picture of the second hold {unseen:.0%} of the first"
        return Interval(value, low, np.inf, reason)
    return Interval(value, low, high)


def _bias(of_draws: _Functional, p: np.ndarray, q: np.ndarray) -> float:
    """Return the jackknife's estimate of a measure's bias; any picture of a cell may be the one left out."""
    p_share, q_share = p / p.sum(), q / q.sum()
    whole = float(of_draws(p_share, q_share))
    bias = 0.0
    for counts, first in ((p, True), (q, False)):
        full, n = np.flatnonzero(counts), counts.sum()
        without = (counts - np.eye(len(counts))[full]) / (n - 1)
        left = of_draws(without, q_share[None]) if first else of_draws(p_share[None], without)
        bias += (n - 1) * float((counts[full] * (left - whole)).sum() / n)
    return bias


def _unbiased_kl(p: np.ndarray, q: np.ndarray) -> float:
    """Return Zhang and Grabchak's estimate of KL(p‖q) from counts; it may be below 0."""
    full = p > 0
    n, m, c, e = p.sum(), q.sum(), p[full], q[full]
    return float((c / n * (digamma(m + 1) - digamma(e + 1) - digamma(n) + digamma(c))).sum())
