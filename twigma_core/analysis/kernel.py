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
