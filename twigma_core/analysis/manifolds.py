"""Precision, recall, density and coverage: how two sets of pictures lie within each other's neighbourhoods.

Here: the four measures (Kynkäänniemi et al. 2019; Naeem et al. 2020) and their intervals. Not here: other
measures of distance between sources (`histograms`, `frechet`, `kernel`).

Around each picture of a set lies a ball that reaches to its k-th nearest neighbour in the set; the balls are
the set's manifold. Of an ordered pair of sets (p, q):

- precision: share of q's pictures within any ball of p's.
- recall: share of p's pictures within any ball of q's.
- density: balls of p's that a picture of q's lies in, on average, divided by k; may exceed 1.
- coverage: share of p's balls that hold a picture of q's.
All are near 1 where the sets are alike (coverage as n grows) and 0 where they are apart. All depend on k and
on n, so the two sets are taken at equal n, which the tables name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import stdtrit

from twigma_core.analysis.distances import Interval, check_rows, undefined

if TYPE_CHECKING:
    from twigma_core.analysis.summary import EmbeddingSummary

NEIGHBOURS = 5
MEASURES = ("precision", "recall", "density", "coverage")
_ROWS = 2000
_GROUPS = 20


@dataclass(frozen=True)
class Manifolds:
    """The four measures of an ordered pair of sets."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_measures(x: np.ndarray, y: np.ndarray, k: int = NEIGHBOURS) -> Manifolds:
    """Return precision, recall, density and coverage of x (n, d) as p and y (m, d) as q.

    Raises:
        ValueError: a set has no more than k rows, widths differ, or a value is not finite.
    """
    x, y = check_rows(x, "x").astype(np.float64), check_rows(y, "y").astype(np.float64)
    if min(len(x), len(y)) <= k or x.shape[1] != y.shape[1]:
        raise ValueError(f"shapes {x.shape} and {y.shape}: both need more than k={k} rows and the same width")
    every = np.zeros(1, dtype=np.int64)
    return _Pair(x, y, k, every[[0] * len(x)], every[[0] * len(y)]).without(1)


class _Pair:
    """Distances between two sets, from which groups of rows may be left out."""

    def __init__(
        self, x: np.ndarray, y: np.ndarray, k: int, x_group: np.ndarray, y_group: np.ndarray
    ) -> None:
        self.k, self.x_group, self.y_group = k, x_group, y_group
        self.between = _squares(x, y)
        self.x_near, self.y_near = (_nearest(rows, k, group) for rows, group in ((x, x_group), (y, y_group)))

    def without(self, group: int) -> Manifolds:
        """Return the measures without the rows of a group."""
        x_radius, y_radius = (_radius(near, group, self.k) for near in (self.x_near, self.y_near))
        rows, columns = self.x_group != group, self.y_group != group
        between = self.between[np.ix_(rows, columns)]
        in_x = between < x_radius[rows, None]
        in_y = between < y_radius[None, columns]
        return Manifolds(
            precision=float(in_x.any(axis=0).mean()),
            recall=float(in_y.any(axis=1).mean()),
            density=float(in_x.sum(axis=0).mean()) / self.k,
            coverage=float(in_x.any(axis=1).mean()),
        )


def _squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return squared distances, (n, m)."""
    centre = x.mean(axis=0)
    x, y = x - centre, y - centre
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1) - 2 * x @ y.T
    return np.maximum(squares, 0.0)


def _nearest(x: np.ndarray, k: int, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return squared distances and groups of each row's nearest others, enough for k without any group."""
    squares = _squares(x, x)
    np.fill_diagonal(squares, np.inf)
    enough = min(len(x) - 1, k + int(np.bincount(group).max()))
    nearest = np.argpartition(squares, enough - 1, axis=1)[:, :enough]
    found = np.take_along_axis(squares, nearest, axis=1)
    order = np.argsort(found, axis=1)
    return np.take_along_axis(found, order, axis=1), group[np.take_along_axis(nearest, order, axis=1)]


def _radius(near: tuple[np.ndarray, np.ndarray], group: int, k: int) -> np.ndarray:
    """Return each row's squared distance to its k-th nearest that is not of the group."""
    squares, groups = near
    kth = (np.cumsum(groups != group, axis=1) == k).argmax(axis=1)
    return np.take_along_axis(squares, kth[:, None], axis=1)[:, 0]


def manifold_intervals(p: EmbeddingSummary, q: EmbeddingSummary) -> tuple[dict[str, Interval], int]:
    """Return the four measures of two summaries' samples, by name, and the equal number of pictures used.

    At most 2,000 pictures of each. The intervals are of the values at this number: a jackknife that leaves
    out a twentieth of both sets at a time, with Student's t on 19 degrees of freedom.
    """
    n = min(len(p.sample), len(q.sample), _ROWS)
    if n <= NEIGHBOURS:
        none = undefined(f"needs {NEIGHBOURS + 1} pictures of each, here {n}")
        return dict.fromkeys(MEASURES, none), n
    x, y = (s.sample[:n].astype(np.float64) for s in (p, q))
    group = np.arange(n) % _GROUPS
    pair = _Pair(x, y, NEIGHBOURS, group, group)
    whole = pair.without(-1)
    if n < _GROUPS + NEIGHBOURS:
        reason = f"an interval needs {_GROUPS + NEIGHBOURS} pictures of each, here {n}"
        return {name: Interval(getattr(whole, name), None, None, reason) for name in MEASURES}, n
    parts = [pair.without(g) for g in range(_GROUPS)]
    return {name: _interval(name, whole, parts) for name in MEASURES}, n


def _interval(name: str, whole: Manifolds, parts: list[Manifolds]) -> Interval:
    value = float(getattr(whole, name))
    without = np.array([getattr(part, name) for part in parts])
    half = float(np.sqrt((_GROUPS - 1) * without.var()) * stdtrit(_GROUPS - 1, 0.975))
    top = np.inf if name == "density" else 1.0
    return Interval(value, max(0.0, value - half), min(top, value + half))
