"""How variable a set of pictures is: the paper's four metrics, and the Vendi score, of arrays and of counts.

Here: the metrics themselves. Not here: the same from a summary (`summary`), their intervals (`intervals`),
the tables of them (`variation_tables`), distance between sources (`divergence`).

A higher value means more variable (paper, Section 3). All but the mean pairwise distance depend on the number
of pictures: compare sources at equal n, or by the corrected estimates of `intervals`.
"""

from __future__ import annotations

import numpy as np
from scipy.special import digamma, gammaln, xlogy

from twigma_core.analysis.distances import check_rows, row_mean_distances
from twigma_core.analysis.spectrum import ROUNDING, explained_by_largest, positive, vendi


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
    if centred and len(x):
        size = np.square(x).sum()
        x -= x.mean(axis=0)
        if np.square(x).sum() <= ROUNDING * size:  # what centring leaves of equal rows
            x[:] = 0.0
    value = explained_by_largest(_eigenvalues(x))
    if value is None:
        raise ValueError(
            "the inverse explained variance is undefined: no row, or rows all zero or, centred, equal"
        )
    return value


def vendi_score(x: np.ndarray) -> float:
    """Return exp(−Σp log p), p the eigenvalues of XᵀX divided by their sum: from 1 to d.

    It is the number of different pictures that would vary as much (Friedman and Dieng 2023, with the cosine
    kernel where rows have length 1). It is no metric of the paper's; XᵀX gives it exactly.

    Raises:
        ValueError: no row, rows that are all zero, or a value that is not finite.
    """
    value = vendi(_eigenvalues(check_rows(x).astype(np.float64)))
    if value is None:
        raise ValueError("the Vendi score is undefined: x has no row, or all its rows are zero")
    return value


def _eigenvalues(x: np.ndarray) -> np.ndarray:
    """Return the eigenvalues of XᵀX, from the smaller of XᵀX and XXᵀ."""
    if len(x) == 0:
        return np.zeros(1)
    return positive(np.linalg.eigvalsh(x.T @ x if len(x) >= x.shape[1] else x @ x.T))


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
    p = checked_counts(counts)
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
    counts = checked_counts(counts)
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
    counts = checked_counts(counts).astype(np.int64)
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


def checked_counts(counts: np.ndarray) -> np.ndarray:
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 1 or not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("counts must be one row of finite numbers, none below 0")
    if counts.sum() == 0:
        raise ValueError("the histogram is empty: no picture was counted")
    return counts
