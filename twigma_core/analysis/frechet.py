"""The Fréchet distance of two sets of embeddings, and its extrapolation to very many pictures.

Here: the distance of moments, its sampling error, and the removal of its bias. Not here: measures on cells
(`histograms`), or without assumptions of shape (`kernel`, `manifolds`).

The distance of sample moments is too large by about b/n, since an estimated covariance has a spectrum wider
than
the true one: it compares sources at equal n only. The correction takes b/n off, after Chong and Forsyth
(2020), with b from halves of the samples, whose bias is twice as large.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from twigma_core.analysis.distances import Interval, undefined

if TYPE_CHECKING:
    from twigma_core.analysis.summary import EmbeddingSummary

NAMES = ("frechet", "frechet_corrected")
PICTURES_A_DIMENSION = 2
_Z = 1.959963984540054


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
    return _Normal(m1, c1).distance(_Normal(m2, c2))


@dataclass(frozen=True)
class _Normal:
    """Moments of a source, with powers of their covariance; directions without variance stay without."""

    mean: np.ndarray
    covariance: np.ndarray

    @cached_property
    def _spectrum(self) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = np.linalg.eigh((self.covariance + self.covariance.T) / 2)
        kept = values > max(values[-1], 0.0) * 1e-12
        return values[kept], vectors[:, kept]

    def power(self, exponent: float) -> np.ndarray:
        """Return the covariance to a power."""
        values, vectors = self._spectrum
        return (vectors * values**exponent) @ vectors.T

    @cached_property
    def root(self) -> np.ndarray:
        """Square root of the covariance."""
        return self.power(0.5)

    def distance(self, other: _Normal) -> float:
        """Return the squared Fréchet distance."""
        cross = np.linalg.svd(self.root @ other.root, compute_uv=False).sum()
        gap = np.square(self.mean - other.mean).sum()
        return max(0.0, float(gap + np.trace(self.covariance) + np.trace(other.covariance) - 2 * cross))


def frechet_intervals(p: EmbeddingSummary, q: EmbeddingSummary) -> dict[str, Interval]:
    """Return `frechet`, of two summaries at their n, and `frechet_corrected`, extrapolated to infinite n.

    The effect of a row on the distance is, to first order, the gap between its squared length and the
    potential of the optimal map between the two normal distributions; its spread over the sample gives the
    standard error of both.

    `frechet` is exact from the moments, and its interval is of what so many pictures give: the bias of small
    n is in it. Undefined below two pictures. `frechet_corrected` is T − b_p/n_p − b_q/n_q, where b_p/m is the
    mean rise of the distance when p's sample of m pictures is replaced by either half of it. Where sources
    are alike it may be below 0. It is withheld below two pictures a dimension in either sample.
    """
    fewest, needed = min(p.count, q.count), max(4, PICTURES_A_DIMENSION * p.dim)
    if fewest < 2:
        return dict.fromkeys(NAMES, undefined(f"a covariance needs 2 pictures of each, here {fewest}"))
    a, b = (_Normal(s.mean(), s.covariance()) for s in (p, q))
    value, half, reason = a.distance(b), None, None
    if fewest < 3:
        reason = f"an interval needs 3 pictures of each, here {fewest}"
    else:
        half = _Z * float(np.sqrt(_variance(p, a, b) + _variance(q, b, a)))
    plain = Interval(
        value,
        None if half is None else max(0.0, value - half),
        None if half is None else value + half,
        reason,
    )
    sampled = min(len(p.sample), len(q.sample))
    if half is None or sampled < needed:
        corrected = undefined(
            f"needs {needed} pictures of each, {PICTURES_A_DIMENSION} a dimension, here {sampled}; "
            "compare at equal n, or read kernel"
        )
    else:
        value -= _bias(p, a, b) + _bias(q, b, a)
        corrected = Interval(value, value - half, value + half)
    return dict(zip(NAMES, (plain, corrected), strict=True))


def _normal(rows: np.ndarray) -> _Normal:
    return _Normal(rows.mean(axis=0), np.atleast_2d(np.cov(rows.T)))


def _bias(p: EmbeddingSummary, own: _Normal, other: _Normal) -> float:
    """Return the part of the distance's bias that comes from p's pictures, at p's count."""
    rows = p.sample.astype(np.float64)
    m = len(rows)
    whole = own if m == p.count else _normal(rows)
    halves = [_normal(part) for part in (rows[: m // 2], rows[m // 2 :])]
    rise = np.mean([half.distance(other) for half in halves]) - whole.distance(other)
    return float(rise) * m / p.count


def _variance(p: EmbeddingSummary, own: _Normal, other: _Normal) -> float:
    """Return the variance of the distance that comes from p's pictures."""
    inverse = own.power(-0.5)
    middle = _Normal(own.mean, own.root @ other.covariance @ own.root)
    slope = np.eye(p.dim) - inverse @ middle.root @ inverse
    rows = p.sample.astype(np.float64) - own.mean
    effect = np.einsum("ij,ij->i", rows @ slope, rows) + 2 * rows @ (own.mean - other.mean)
    return float(effect.var(ddof=1)) / p.count
