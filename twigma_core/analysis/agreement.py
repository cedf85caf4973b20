"""How far two ways of grouping the same things agree: Rand and mutual information, corrected for chance.

Here: the measures, as scikit-learn defines them, fast enough for a bootstrap (its functions check their input
at each call, which takes some thirty times as long as the sum itself). Not here: what is compared.

All take two (n,) arrays of integer labels from 0 and need at least one thing.
"""

from __future__ import annotations

import numpy as np

_TINY = float(np.finfo(np.float64).eps)


def adjusted_rand(a: np.ndarray, b: np.ndarray) -> float:
    """Return the adjusted Rand index (Hubert and Arabie, 1985): 1 for the same grouping, 0 by chance.

    Raises:
        ValueError: the labels do not match, or there are none.
    """
    table = _contingency(a, b)
    together = _pairs(table).sum()
    in_a, in_b = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    every = _pairs(table.sum())
    if together == in_a == in_b:  # no pair is together in one and apart in the other
        return 1.0
    expected = in_a * in_b / every
    return float((together - expected) / ((in_a + in_b) / 2 - expected))


def normalized_mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mutual information over the mean of the entropies, in [0, 1]; above 0 by chance.

    Raises:
        ValueError: the labels do not match, or there are none.
    """
    table = _contingency(a, b)
    if table.shape == (1, 1):
        return 1.0
    shared = _mutual_information(table)
    return 0.0 if shared == 0 else shared / _mean_entropy(table)


def adjusted_mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mutual information above its expectation, 1 for the same grouping (Vinh et al., 2010).

    The expectation is over all groupings with the same sizes, the normaliser the mean of the entropies.

    Raises:
        ValueError: the labels do not match, or there are none.
    """
    table = _contingency(a, b)
    if 1 in table.shape:
        return 1.0 if table.shape == (1, 1) else 0.0
    expected = _expected_information(table.sum(axis=1), table.sum(axis=0))
    return _away_from_zero(_mutual_information(table) - expected) / _away_from_zero(
        _mean_entropy(table) - expected
    )


def _contingency(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return how many things carry each pair of labels, without labels that none carries."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(
            f"labels of shapes {a.shape} and {b.shape}: two groupings of the same things are needed, of one "
            "thing at least"
        )
    _, rows = np.unique(a, return_inverse=True)
    _, columns = np.unique(b, return_inverse=True)
    shape = rows.max() + 1, columns.max() + 1
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)


def _pairs(n: np.ndarray) -> np.ndarray:
    return n * (n - 1) // 2


def _mutual_information(table: np.ndarray) -> float:
    n = table.sum()
    at = np.nonzero(table)
    outer = table.sum(axis=1)[at[0]].astype(np.float64) * table.sum(axis=0)[at[1]]
    terms = table[at] / n * (np.log(table[at]) + np.log(n) - np.log(outer))
    return max(0.0, float(np.where(np.abs(terms) < _TINY, 0.0, terms).sum()))


def _mean_entropy(table: np.ndarray) -> float:
    sides = [table.sum(axis=axis) / table.sum() for axis in (0, 1)]
    return float(np.mean([-(p * np.log(p)).sum() for p in sides]))


def _expected_information(rows: np.ndarray, columns: np.ndarray) -> float:
    """Return the mean mutual information of random groupings of these sizes (hypergeometric)."""
    from scipy.special import gammaln

    n = int(rows.sum())
    a, b = rows[:, None, None], columns[None, :, None]
    shared = np.arange(1, min(rows.max(), columns.max()) + 1)[None, None, :]
    possible = (shared >= a + b - n) & (shared <= np.minimum(a, b))
    shared, a, b = (np.broadcast_to(part, possible.shape)[possible] for part in (shared, a, b))
    log_chance = (
        gammaln(a + 1) + gammaln(b + 1) + gammaln(n - a + 1) + gammaln(n - b + 1)
        - gammaln(n + 1) - gammaln(shared + 1) - gammaln(a - shared + 1) - gammaln(b - shared + 1)
        - gammaln(n - a - b + shared + 1)
    )  # fmt: skip
    information = shared / n * (np.log(n) + np.log(shared) - np.log(a) - np.log(b))
    return float((information * np.exp(log_chance)).sum())


def _away_from_zero(value: float) -> float:
    return min(value, -_TINY) if value < 0 else max(value, _TINY)
