"""Euclidean distances between all pairs of rows, in blocks of bounded memory.

Here: the check of an (n, d) array, the mean distance of each row to the others, the standard error that
follows from it, histograms of distances, and the same within groups. Not here: what the distances say
about a source (`variation`, `prompts`).

All is computed in float64 on rows moved to their mean, so that identical rows are at distance 0 and not at
the 1e-3 that a float32 matrix product leaves. 20,000 rows of width 768 take about ten
seconds on two cores, and 0.3 GB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

_BLOCK = 1024


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None


UNDEFINED = Interval(None, None, None)


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


def _blocks(x: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yield the blocks of the distance matrix on and above its diagonal; each is valid until the next."""
    x = x.astype(np.float64)  # a copy: the rows are moved
    x -= x.mean(axis=0)
    squares = np.einsum("ij,ij->i", x, x)
    for i in range(0, len(x), _BLOCK):
        rows = slice(i, min(i + _BLOCK, len(x)))
        for j in range(i, len(x), _BLOCK):
            columns = slice(j, min(j + _BLOCK, len(x)))
            block = x[rows] @ x[columns].T
            block *= -2.0
            block += squares[rows, None]
            block += squares[None, columns]
            np.maximum(block, 0.0, out=block)
            np.sqrt(block, out=block)
            if i == j:
                np.fill_diagonal(block, 0.0)
            yield rows, columns, block


def row_mean_distances(x: np.ndarray) -> np.ndarray:
    """Return the mean distance of each row to the other rows, (n,) float64.

    Raises:
        ValueError: fewer than two rows, or a value that is not finite.
    """
    x = check_rows(x)
    if len(x) < 2:
        raise ValueError(f"a pairwise distance needs at least 2 rows; x has {len(x)}")
    sums = np.zeros(len(x))
    for rows, columns, block in _blocks(x):
        sums[rows] += block.sum(axis=1)
        if rows != columns:
            sums[columns] += block.sum(axis=0)
    return sums / (len(x) - 1)


def mean_distance_interval(x: np.ndarray) -> Interval:
    """Return the mean pairwise distance with its interval; undefined below two rows.

    The standard error is the jackknife's of a U-statistic of order two, 2·sd(row means)/√n·(n−1)/(n−2).
    Pairs share rows: counting them as independent makes it some ten times too small (Hoeffding 1948).
    """
    if len(x) < 2:
        return UNDEFINED
    means = row_mean_distances(x)
    n, value = len(means), float(means.mean())
    if n < 3:
        return Interval(value, None, None)
    half = 2 * means.std(ddof=1) / np.sqrt(n) * (n - 1) / (n - 2) * float(stdtrit(n - 1, 0.975))
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
    counts = np.zeros(len(edges) - 1, dtype=np.int64)
    if len(x) < 2:
        return counts
    for rows, columns, block in _blocks(x):
        pairs = block[np.triu_indices(len(block), 1)] if rows == columns else block.ravel()
        counts += _bin(pairs, edges)
    return counts


def _bin(distances: np.ndarray, edges: np.ndarray) -> np.ndarray:
    width = (edges[-1] - edges[0]) / (len(edges) - 1)
    if len(distances) and (
        distances.max() > edges[-1] + 1e-5 * width or distances.min() < edges[0] - 1e-5 * width
    ):
        raise ValueError(
            f"a distance of {distances.max():.4g} lies outside of {edges[0]:g} to {edges[-1]:g}; "
            "normalise the rows to length 1 or widen the edges"
        )
    index = np.clip(((distances - edges[0]) / width).astype(np.int64), 0, len(edges) - 2)
    return np.bincount(index, minlength=len(edges) - 1)


@dataclass(frozen=True)
class GroupDistances:
    """Distances between rows of the same group.

    Attributes:
        names: groups with at least two rows, sorted.
        rows: rows used of each, (g,) int64.
        pairs: pairs of rows of each, (g,) int64.
        sums: sum of their distances, (g,) float64.
        histogram: pairs in each bin over all groups, int64; empty without edges.
    """

    names: list[str]
    rows: np.ndarray
    pairs: np.ndarray
    sums: np.ndarray
    histogram: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """Mean pairwise distance within each group, (g,) float64."""
        return self.sums / self.pairs

    def interval(self) -> Interval:
        """Return the mean over all within-group pairs; the interval treats groups as the independent units.

        A ratio of sums over groups, linearised (Cochran 1977, chapter 6), with Student's t on g − 1 degrees
        of freedom. Undefined without a group; without interval for a single one.
        """
        g = len(self.names)
        if g == 0:
            return UNDEFINED
        total = float(self.pairs.sum())
        value = float(self.sums.sum()) / total
        if g < 2:
            return Interval(value, None, None)
        residuals = self.sums - value * self.pairs
        half = np.sqrt(g / (g - 1) * np.square(residuals).sum()) / total * float(stdtrit(g - 1, 0.975))
        return Interval(value, max(0.0, value - half), value + half)


def group_distances(
    x: np.ndarray,
    groups: Sequence[str | None],
    edges: np.ndarray | None = None,
    per_group: int = 100,
    seed: int = 0,
) -> GroupDistances:
    """Return the distances within groups: pictures of one artist, or of one prompt (paper, Figure 3a).

    Args:
        x: (n, d) float.
        groups: name of each row's group; rows with None belong to no group.
        edges: bin edges of the histogram.
        per_group: rows used of a group at most, chosen at random: pairs grow with the square, and one
            prolific artist would otherwise outweigh all others.
        seed: seed of that choice.

    Raises:
        ValueError: `x` and `groups` differ in length, or a value is not finite.
    """
    x = check_rows(x)
    if len(x) != len(groups):
        raise ValueError(f"{len(x)} rows but {len(groups)} groups; give one group, or None, for each row")
    members: dict[str, list[int]] = {}
    for row, name in enumerate(groups):
        if name is not None:
            members.setdefault(name, []).append(row)
    rng = np.random.default_rng(seed)
    names, sizes, sums = [], [], []
    histogram = np.zeros(0 if edges is None else len(edges) - 1, dtype=np.int64)
    for name in sorted(members):
        rows = np.array(members[name])
        if len(rows) > per_group:
            rows = np.sort(rng.choice(rows, size=per_group, replace=False))
        if len(rows) < 2:
            continue
        part = np.asarray(x[rows], dtype=np.float64)
        distances = np.concatenate(
            [np.linalg.norm(part[i + 1 :] - part[i], axis=1) for i in range(len(part) - 1)]
        )
        names.append(name)
        sizes.append(len(rows))
        sums.append(float(distances.sum()))
        if edges is not None:
            histogram += _bin(distances, edges)
    n = np.array(sizes, dtype=np.int64)
    return GroupDistances(names, n, n * (n - 1) // 2, np.array(sums, dtype=np.float64), histogram)
