"""Euclidean distances between all pairs of rows, in blocks of bounded memory.

Here: the check of an (n, d) array, the mean distance of each row to the others, the standard error that
follows from it, and histograms of distances. Not here: distances within groups (`groups`), and what the
distances say about a source (`variation`, `prompts`).

A block of squared distances is one matrix product of rows moved to their mean. Up to 4,096 rows it is made in
float64. Beyond, it is made in float32, twice as fast, and pairs so near that float32 would lose them (it
leaves 1e-3 between identical rows) are computed again: means of the two agree to 1e-7, and identical rows
are at distance 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import starmap
from typing import Any, TypeVar

import numpy as np
from scipy.special import stdtrit
from threadpoolctl import ThreadpoolController

_BLOCK = 1024
_EXACT_ROWS = 4096
_NEAR = 1e-3

T = TypeVar("T")


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; None where it is undefined.

    Attributes:
        value: the estimate.
        low, high: ends of the interval; `high` is infinite where nothing bounds the value from above.
        reason: why a value or an end is missing or infinite, and what would mend it; None where all is well.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    def columns(self) -> dict[str, float | str | None]:
        """Return the interval as the columns value, low, high and reason of a table."""
        return {"value": self.value, "low": self.low, "high": self.high, "reason": self.reason}


def interval_of_log(log: float, half: float) -> Interval:
    """Return the interval exp(log ± half) about exp(log)."""
    low, value, high = (float(np.exp(log + sign * half)) for sign in (-1, 0, 1))
    return Interval(value, low, high)


def undefined(reason: str) -> Interval:
    """Return the interval of a value that does not exist."""
    return Interval(None, None, None, reason)


def check_rows(x: Any, name: str = "x", allow_zero: bool = True) -> np.ndarray:
    """Return `x` as a float array of shape (n, d), float32 and float64 as they are.

    Raises:
        ValueError: `x` is not two-dimensional or has no columns, or a row holds NaN or infinity, or a row is
            all zero and `allow_zero` is false; the message names the first such row.
    """
    x = np.asarray(x)
    if x.ndim != 2 or x.shape[1] == 0:
        raise ValueError(f"{name} has shape {x.shape}; expected (rows, dimensions)")
    if x.dtype not in (np.float32, np.float64):
        x = x.astype(np.float64)
    for start in range(0, len(x), _BLOCK * 8):
        block = x[start : start + _BLOCK * 8]
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            row = start + int(np.argmax(bad))
            raise ValueError(f"row {row} of {name} holds NaN or infinity; leave it out or embed it again")
        if not allow_zero:
            zero = ~block.any(axis=1)
            if zero.any():
                row = start + int(np.argmax(zero))
                raise ValueError(f"row {row} of {name} is all zero: no embedding; embed that picture again")
    return x


def _of_blocks(x: np.ndarray, work: Callable[[slice, slice, np.ndarray], T]) -> Iterator[T]:
    """Yield what `work` makes of the blocks of the distance matrix on and above its diagonal, in their order.

    Beyond `_EXACT_ROWS` a thread takes a block: square roots and sums, a quarter of it, run on all cores too.
    """
    x = x.astype(np.float64)  # a copy: the rows are moved
    x -= x.mean(axis=0)
    exact = len(x) <= _EXACT_ROWS
    near = 0.0 if exact else _NEAR * float(np.einsum("ij,ij->i", x, x).max())
    left, right = _factors(x, np.float64 if exact else np.float32)

    def block_of(i: int, j: int) -> T:
        rows, columns = slice(i, min(i + _BLOCK, len(x))), slice(j, min(j + _BLOCK, len(x)))
        block = left[rows] @ right[columns].T
        if i == j:
            np.fill_diagonal(block, np.inf)
        if near and block.min() < near:
            block = _repaired(block, near, x[rows], x[columns])
        np.maximum(block, 0.0, out=block)
        np.sqrt(block, out=block)
        if i == j:
            np.fill_diagonal(block, 0.0)
        return work(rows, columns, block)

    places = [(i, j) for i in range(0, len(x), _BLOCK) for j in range(i, len(x), _BLOCK)]
    if exact:
        yield from starmap(block_of, places)
        return
    blas = ThreadpoolController().select(user_api="blas")
    threads = max((library["num_threads"] for library in blas.info()), default=1)
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        yield from pool.map(block_of, *zip(*places, strict=True))


def _factors(x: np.ndarray, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays whose product is ‖xᵢ‖² + ‖xⱼ‖² − 2xᵢ·xⱼ, without another pass over the result."""
    n, d = x.shape
    left, right = np.ones((n, d + 2), dtype), np.ones((n, d + 2), dtype)
    left[:, :d], right[:, :d] = x, x
    left[:, :d] *= -2
    left[:, d] = right[:, d + 1] = np.einsum("ij,ij->i", x, x)
    return left, right


def _repaired(block: np.ndarray, near: float, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a block of squared distances, those below `near` computed again; all, where they are many."""
    i, j = np.nonzero(block < near)
    if len(i) > block.size // 50:
        left, right = _factors(a, np.float64)[0], _factors(b, np.float64)[1]
        return np.where(np.isinf(block), np.inf, left @ right.T)
    block[i, j] = np.square(a[i] - b[j]).sum(axis=1)
    return block


def row_mean_distances(x: np.ndarray) -> np.ndarray:
    """Return the mean distance of each row to the other rows, (n,) float64.

    Raises:
        ValueError: fewer than two rows, or a value that is not finite.
    """
    x = check_rows(x)
    if len(x) < 2:
        raise ValueError(f"a pairwise distance needs at least 2 rows; x has {len(x)}")

    def sums_of(
        rows: slice, columns: slice, block: np.ndarray
    ) -> tuple[slice, slice, np.ndarray, np.ndarray]:
        return rows, columns, block.sum(axis=1, dtype=np.float64), block.sum(axis=0, dtype=np.float64)

    sums = np.zeros(len(x))
    for rows, columns, of_rows, of_columns in _of_blocks(x, sums_of):
        sums[rows] += of_rows
        if rows != columns:
            sums[columns] += of_columns
    return sums / (len(x) - 1)


def mean_distance_interval(x: np.ndarray) -> Interval:
    """Return the mean pairwise distance with its interval; undefined below two rows.

    The standard error is the jackknife's of a U-statistic of order two, 2·sd(row means)/√n·(n−1)/(n−2).
    Pairs share rows: counting them as independent makes it some ten times too small (Hoeffding 1948).
    """
    if len(x) < 2:
        return undefined(f"a pairwise distance needs 2 rows, here {len(x)}")
    means = row_mean_distances(x)
    n, value = len(means), float(means.mean())
    if n < 3:
        return Interval(value, None, None, "an interval needs 3 rows, here 2")
    error = 2 * float(means.std(ddof=1)) / n**0.5 * (n - 1) / (n - 2)
    half = error * float(stdtrit(n - 1, 0.975))
    return Interval(value, max(0.0, value - half), value + half)


def distance_histogram(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return how many pairs of rows lie in each bin, (len(edges) − 1,) int64; fewer than two rows give zeros.

    Args:
        x: (n, d) float.
        edges: evenly spaced bin edges; the last bin is closed on the right.

    Raises:
        ValueError: a distance lies outside of the edges.
    """
    x = check_rows(x)
    if len(x) < 2:
        return np.zeros(len(edges) - 1, dtype=np.int64)

    def counts_of(rows: slice, columns: slice, block: np.ndarray) -> np.ndarray:
        return bin_distances(
            block[np.triu_indices(len(block), 1)] if rows == columns else block.ravel(), edges
        )

    return np.sum(list(_of_blocks(x, counts_of)), axis=0)


def bin_distances(distances: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return how many of some distances lie in each bin, as `distance_histogram` does of rows."""
    width = (edges[-1] - edges[0]) / (len(edges) - 1)
    if len(distances) and (
        distances.max() > edges[-1] + 1e-4 * width or distances.min() < edges[0] - 1e-4 * width
    ):
        raise ValueError(
            f"a distance of {distances.max():.4g} lies outside of {edges[0]:g} to {edges[-1]:g}; "
            "normalise the rows to length 1 or widen the edges"
        )
    index = np.clip(((distances - edges[0]) / width).astype(np.int64), 0, len(edges) - 2)
    return np.bincount(index, minlength=len(edges) - 1)
