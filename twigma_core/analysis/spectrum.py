"""What singular values say of the variation of embeddings, and what they would say without each picture.

Here: Σσᵢ/σ₁ and the Vendi score of a spectrum, and the exact value of both after leaving out any one row, for
all rows from one eigendecomposition. Not here: intervals (`intervals`), and the metrics of arrays
(`variation`).

Leaving out row x turns A = XᵀX into A − xxᵀ. With g(s) = 1 − xᵀ(A + s)⁻¹x, the matrix determinant lemma gives
det(A − xxᵀ + s) = g(s)·det(A + s), and the integral representations of √a and of a·log a turn this into

    Δ tr √A = 1/(2π) ∫ log g(s) s^(−½) ds
    Δ tr A log A = −∫ (log g(s) + |x|²/(c + s)) ds − |x|²(1 + log c)

over s from 0 to ∞, for any c > 0. With s = eᵗ both integrands are analytic in a strip of half-width π and
vanish at both ends, so the trapezoid rule with step 1 is right to 1e-8. The largest eigenvalue of A − xxᵀ is
the root of 1 = Σ zₖ/(λₖ − μ) between λ₂ and λ₁ (Golub 1973). A row costs O(d) this way and O(d³) directly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

ROUNDING = 1e-13
_ALL = 1e-6
_REACH = 40.0
_HALVINGS = 60


@dataclass(frozen=True)
class Change:
    """What becomes of the logarithm of a metric when a picture is left out, for each of some pictures.

    Attributes:
        exact: (m,) float64.
        slope: (m,) float64, its first-order part; over all pictures of the metric this sums to 0.
    """

    exact: np.ndarray
    slope: np.ndarray


def positive(eigenvalues: np.ndarray) -> np.ndarray:
    """Return eigenvalues (d,) with those that are rounding (below 1e-13 of the largest) set to 0."""
    return np.where(eigenvalues > eigenvalues.max(initial=0.0) * ROUNDING, eigenvalues, 0.0)


def explained_by_largest(eigenvalues: np.ndarray) -> float | None:
    """Return Σσᵢ/σ₁ of eigenvalues σᵢ² (d,) of XᵀX in any order; None where all are 0."""
    largest = float(eigenvalues.max(initial=0.0))
    return float(np.sqrt(eigenvalues / largest).sum()) if largest > 0 else None


def vendi(eigenvalues: np.ndarray) -> float | None:
    """Return exp(−Σp log p), p the eigenvalues (d,) of XᵀX divided by their sum; None where all are 0."""
    total = float(eigenvalues.sum())
    return float(np.exp(-xlogy(eigenvalues / total, eigenvalues / total).sum())) if total > 0 else None


def without_each(eigenvalues: np.ndarray, squares: np.ndarray) -> tuple[Change, Change]:
    """Return what leaving out each row of X makes of Σσᵢ/σ₁ and of the Vendi score (see the module).

    Args:
        eigenvalues: (r,) positive eigenvalues λ of XᵀX, descending.
        squares: (n, r) squared coordinates (xᵢ·vₖ)² of rows of X along their eigenvectors; all of X or some.

    Raises:
        ValueError: shapes do not fit, or a row is all there is.
    """
    if squares.ndim != 2 or squares.shape[1] != len(eigenvalues):
        raise ValueError(f"squares of shape {squares.shape} do not fit {len(eigenvalues)} eigenvalues")
    lam, z = eigenvalues, squares
    length, total = z.sum(axis=1), float(lam.sum())
    if (length > total * (1 - _ALL)).any():
        raise ValueError("one row outweighs all others; give at least two rows, of length 1")
    root, entropy = _traces(lam, z, length)
    roots, logs = float(np.sqrt(lam).sum()), float(xlogy(lam, lam).sum())
    rest = total - length
    explained = Change(
        exact=np.log1p(root / roots) - np.log(_largest(lam, z) / lam[0]) / 2,
        slope=z[:, 0] / (2 * lam[0]) - (z / np.sqrt(lam)).sum(axis=1) / (2 * roots),
    )
    score = Change(
        exact=np.log(rest / total) - (logs - entropy) / rest + logs / total,
        slope=(z @ np.log(lam)) / total - length * logs / total**2,
    )
    return explained, score


def _traces(lam: np.ndarray, z: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the changes of tr √A and of −tr A log A, (n,) each."""
    t = np.arange(np.log(lam[-1]) - _REACH, np.log(lam[0]) + _REACH)
    s = np.exp(t)
    weights = 1 / (lam[:, None] + s)
    taken = z @ weights
    # 1 − taken, without cancellation where a row is independent of all others and g(0) = 0
    left = 1 - z @ (1 / lam)
    g = np.where(left < 1e-9, 0.0, left)[:, None] + (z / lam) @ (s * weights)
    log_g = np.where(taken < 0.5, np.log1p(-np.minimum(taken, 0.5)), np.log(g))
    root = log_g @ np.exp(t / 2) / (2 * np.pi)
    scale = lam[0]
    entropy = (log_g * s + length[:, None] * (s / (scale + s))).sum(axis=1) + length * (1 + np.log(scale))
    return root, entropy


def _largest(lam: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the largest eigenvalue without each row, (n,), by bisection between λ₂ and λ₁."""
    low, high = np.full(len(z), lam[1] if len(lam) > 1 else 0.0), np.full(len(z), lam[0])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            below = 1 - (z / (lam - middle[:, None])).sum(axis=1) > 0
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high
