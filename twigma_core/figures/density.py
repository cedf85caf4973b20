"""Densities as figures draw them: smoothed on a grid, cut where they hold a given mass, and compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def grid_density(x: ArrayLike, y: ArrayLike, x_edges: Floats, y_edges: Floats) -> Floats:
    """Return the density of n points on a grid, (len(x_edges) − 1, len(y_edges) − 1), per unit of area.

    A histogram smoothed by a Gaussian of Scott's bandwidth per coordinate: as a kernel density estimate on
    the grid's points, but in time linear in n. It integrates to 1 over the grid.
    """
    from scipy.ndimage import gaussian_filter

    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    counts, _, _ = np.histogram2d(x, y, bins=[x_edges, y_edges])
    scott = len(x) ** (-1 / 6)
    steps = (x_edges[1] - x_edges[0], y_edges[1] - y_edges[0])
    # Robust spread: a map with far-off islands would otherwise be smeared.
    sigmas = [max(scott * _spread(values) / step, 0.6) for values, step in zip((x, y), steps, strict=True)]
    smooth = gaussian_filter(counts, sigmas, mode="constant")
    return smooth / (smooth.sum() * steps[0] * steps[1])


def _spread(values: Floats) -> float:
    """Return the smaller of the standard deviation and the normal-consistent interquartile range, halved.

    Halved because a map of clusters is far from normal, for which Scott's rule is meant.
    """
    quarter, three = np.quantile(values, [0.25, 0.75])
    candidates = [s for s in (float(np.std(values)), float(three - quarter) / 1.349) if s > 0]
    return 0.5 * min(candidates, default=0.0)


def mass_levels(density: Floats, masses: Sequence[float]) -> list[float]:
    """Return the densities above which the given shares of the total lie, in the order of `masses`.

    Falling masses give rising levels, as contours need them.
    """
    falling = np.sort(density.ravel())[::-1]
    held = np.cumsum(falling) / falling.sum()
    return [float(falling[min(int(np.searchsorted(held, mass)), len(falling) - 1)]) for mass in masses]


def overlap(p: Floats, q: Floats) -> float:
    """Return the shared mass of two densities on one grid: 0 where apart, 1 where the same."""
    return float(np.minimum(p / p.sum(), q / q.sum()).sum())


def bin_edges(values: Floats, low: float | None = None, high: float | None = None, most: int = 60) -> Floats:
    """Return edges of equal bins over `values`, from 12 to `most` of them by the Freedman–Diaconis rule."""
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    if high <= low:
        low, high = low - 0.005, high + 0.005
    quarter, three = np.quantile(values, [0.25, 0.75])
    width = 2 * float(three - quarter) / len(values) ** (1 / 3)
    bins = int(np.clip((high - low) / width if width > 0 else 12, 12, most))
    return np.linspace(low, high, bins + 1)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share; (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    z, share = 1.959963984540054, successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))
