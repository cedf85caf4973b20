"""Distances between pictures of one group and of different ones: artists, prompts (paper, Figure 3a).

Here: the mean distance within groups, across groups, their ratio, and intervals that take groups, not
pictures, as the independent draws. Not here: which groups there are (`variation_tables`, `prompts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from twigma_core.analysis.distances import (
    Interval,
    bin_distances,
    check_rows,
    interval_of_log,
    row_mean_distances,
    undefined,
)

PER_GROUP = 100
_ACROSS_ROWS = 4096


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
            return undefined("no group has 2 pictures")
        value = float(self.sums.sum() / self.pairs.sum())
        if g < 2:
            return Interval(value, None, None, "an interval needs 2 groups, here 1")
        half = _half_width(self.influence())
        return Interval(value, max(0.0, value - half), value + half)

    def influence(self) -> np.ndarray:
        """First-order effect of each group on the mean, (g,) float64; they sum to 0."""
        total = self.pairs.sum()
        return (self.sums - self.sums.sum() / total * self.pairs) / total


@dataclass(frozen=True)
class Contrast:
    """Distances within groups beside those across groups, over the same rows.

    Attributes:
        within: rows of the same group.
        across: rows of different groups.
        ratio: within divided by across: 1 where groups do not matter.
        rows: rows used for `within`.
        rows_across: rows used for `across` and `ratio`.
    """

    within: Interval
    across: Interval
    ratio: Interval
    rows: int
    rows_across: int


def group_distances(
    x: np.ndarray,
    groups: Sequence[str | None],
    edges: np.ndarray | None = None,
    per_group: int = PER_GROUP,
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
    return _within(x, _members(len(x), groups, per_group, seed), edges)


def _within(x: np.ndarray, members: dict[str, np.ndarray], edges: np.ndarray | None = None) -> GroupDistances:
    sums, histogram = [], np.zeros(0 if edges is None else len(edges) - 1, dtype=np.int64)
    for rows in members.values():
        part = np.asarray(x[rows], dtype=np.float64)
        distances = np.concatenate(
            [np.linalg.norm(part[i + 1 :] - part[i], axis=1) for i in range(len(part) - 1)]
        )
        sums.append(float(distances.sum()))
        if edges is not None:
            histogram += bin_distances(distances, edges)
    n = np.array([len(rows) for rows in members.values()], dtype=np.int64)
    return GroupDistances(list(members), n, n * (n - 1) // 2, np.array(sums, dtype=np.float64), histogram)


def contrast(
    x: np.ndarray, groups: Sequence[str | None], per_group: int = PER_GROUP, seed: int = 0
) -> Contrast:
    """Return distances within groups beside those across groups, and their ratio (paper, Section 4.1).

    Across: pairs of rows that `group_distances` uses, of different groups; where these are many, whole groups
    are drawn until 4,096 rows are reached. Intervals take groups as the independent draws: each is the spread
    of the groups' first-order effects, that of the ratio on its logarithm, so that what moves both distances
    alike cancels.

    Args:
        x, groups, per_group, seed: as for `group_distances`.

    Raises:
        ValueError: as `group_distances`.
    """
    x = check_rows(x)
    members = _members(len(x), groups, per_group, seed)
    whole = _within(x, members)
    g, rows = len(members), int(whole.rows.sum())
    if g < 2:
        none = undefined(f"distances across groups need 2 groups of 2 pictures, here {g}")
        return Contrast(whole.interval(), none, none, rows, rows)
    members = _some(members, seed)
    inside = _within(x, members)
    used = np.concatenate(list(members.values()))
    n = len(used)
    starts = np.cumsum(inside.rows) - inside.rows
    to_all = np.add.reduceat(row_mean_distances(x[used]) * (n - 1), starts)
    sums = to_all - 2 * inside.sums  # of each group's distances to all other groups
    pairs = inside.rows * (n - inside.rows)
    across = float(sums.sum() / pairs.sum())
    influence = 2 * (sums - across * pairs) / pairs.sum()  # a pair is lost with either of its groups
    half = _half_width(influence)
    mean = float(inside.sums.sum() / inside.pairs.sum())
    if min(mean, across) <= 0:
        ratio = undefined("all distances within groups, or across them, are 0")
    else:
        half_log = _half_width(inside.influence() / mean - influence / across)
        ratio = interval_of_log(float(np.log(mean / across)), half_log)
    outside = Interval(across, max(0.0, across - half), across + half)
    return Contrast(whole.interval(), outside, ratio, rows, n)


def _some(members: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Return groups drawn at random until they hold `_ACROSS_ROWS` rows, in their order; at least two."""
    names = list(members)
    order = np.random.default_rng(seed).permutation(len(names))
    reached = np.cumsum([len(members[names[g]]) for g in order])
    count = max(2, int(np.searchsorted(reached, _ACROSS_ROWS)) + 1)
    return {names[g]: members[names[g]] for g in sorted(order[:count])}


def _half_width(influence: np.ndarray) -> float:
    g = len(influence)
    return float(np.sqrt(g / (g - 1) * np.square(influence).sum()) * stdtrit(g - 1, 0.975))


def _members(n: int, groups: Sequence[str | None], per_group: int, seed: int) -> dict[str, np.ndarray]:
    """Return the rows used of each group of at least two, groups sorted by name."""
    if n != len(groups):
        raise ValueError(f"{n} rows but {len(groups)} groups; give one group, or None, for each row")
    found: dict[str, list[int]] = {}
    for row, name in enumerate(groups):
        if name is not None:
            found.setdefault(name, []).append(row)
    rng = np.random.default_rng(seed)
    members = {}
    for name in sorted(found):
        rows = np.array(found[name])
        if len(rows) > per_group:
            rows = np.sort(rng.choice(rows, size=per_group, replace=False))
        if len(rows) >= 2:
            members[name] = rows
    return members
