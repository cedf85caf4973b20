"""The kernel distance of two sets of embeddings: an unbiased maximum mean discrepancy, with its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from twigma_core.analysis.distances import Interval, check_rows, undefined

if TYPE_CHECKING:
    from twigma_core.analysis.summary import EmbeddingSummary

_ROWS = 2000
_Z = 1.959963984540054


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
        return undefined(f"a kernel distance needs 2 pictures of each, here {min(p.count, q.count)}")
    value, variance = _kernel_interval(p.sample[:_ROWS], q.sample[:_ROWS], 3, 1.0, 1.0)
    half = _Z * float(np.sqrt(variance))
    return Interval(value, value - half, value + half)


def _kernel_interval(
    x: np.ndarray, y: np.ndarray, degree: int, gamma: float | None, coef0: float
) -> tuple[float, float]:
    """Return the unbiased estimate and its variance, from the first-order effect of each row.

    The spread of these effects holds that of second order twice over, so the variance is too large where sets
    are alike. Taking that part off makes it unbiased, but then an interval of few rows holds the truth less
    often than it says: in 88 to 95 of 100 draws instead of 90 to 96 (`benchmarks/coverage.py`).
    """
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
    return value, float(4 * (x_own - x_other).var(ddof=1) / n + 4 * (y_own - y_other).var(ddof=1) / m)
