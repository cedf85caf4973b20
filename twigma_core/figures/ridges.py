"""Distributions of pairwise distance drawn one above the other, as Figures 3(a) and 3(d) show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twigma_core.figures.inputs import interval, number
from twigma_core.figures.style import INK, MUTED, colour, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OVERLAP = 1.15  # height of the tallest ridge, in rows


def ridge_table(histograms: pl.DataFrame, means: pl.DataFrame, order: list[str]) -> pl.DataFrame:
    """Return the histograms of `order`'s sources with each source's mean and its interval beside them.

    Args:
        histograms: table pair_distances.
        means: source, value, low, high, n: the mean pairwise distance and the rows it is computed from.
        order: the sources to draw, first on top.

    Returns:
        source, left, right, pairs, density, mean, low, high, n; one row a bin.
    """
    places = pl.DataFrame(
        {"source": order, "place": range(len(order))}, schema_overrides={"source": pl.String}
    )
    named = means.select("source", pl.col("value").alias("mean"), "low", "high", "n")
    return (
        histograms.select("source", "left", "right", "pairs", "density")
        .join(places, on="source")
        .join(named, on="source", how="left")
        .sort("place", "left")
        .drop("place")
    )


def draw_ridges(axes: Axes, rows: pl.DataFrame) -> None:
    """Draw the rows of `ridge_table`: a ridge a source, its mean as a dot with a bar for the interval.

    Conditions ("…_same_artist", "…_same_prompt") are hatched in the colour of their source. The name, the
    mean and its interval stand beside each ridge; the bars' x unit is that of the distances.
    """
    sources = rows["source"].unique(maintain_order=True).to_list()
    tallest = max(float(rows["density"].max() or 0), 1e-9)  # type: ignore[arg-type]
    seen = rows.filter(pl.col("pairs") > 0)
    seen = rows if seen.is_empty() else seen
    low, high = float(seen["left"].min()), float(seen["right"].max())  # type: ignore[arg-type]
    margin = 0.03 * (high - low)
    for row, source in enumerate(sources):
        part = rows.filter(source=source)
        base = float(len(sources) - 1 - row)
        heights = base + _OVERLAP * part["density"].to_numpy() / tallest
        edges = np.array([*part["left"], part["right"][-1]])
        condition = "_same_" in source
        fill = axes.stairs(heights, edges, baseline=base, fill=True, zorder=2 * row + 2)
        fill.set_facecolor("white" if condition else colour(source))
        fill.set_edgecolor(colour(source))
        fill.set_linewidth(0.0)
        fill.set_alpha(0.85)
        if condition:
            fill.set_hatch("//////")
        axes.stairs(heights, edges, baseline=base, color=colour(source), linewidth=0.9, zorder=2 * row + 2.5)
        axes.plot(
            [low - margin, high + margin], [base, base], color="#BBBBBB", linewidth=0.4, zorder=2 * row + 2.2
        )
        mean, ends = part["mean"][0], (part["low"][0], part["high"][0])
        if mean is not None:
            if None not in ends:
                axes.plot(ends, [base, base], color=INK, linewidth=2.2, zorder=100, solid_capstyle="butt")
            axes.plot([mean], [base], marker="o", color=INK, markersize=2.8, zorder=101)
        beside = axes.get_yaxis_transform()
        axes.text(1.02, base + 0.28, number(mean), transform=beside, size=7, weight="bold", va="center")
        axes.text(1.02, base - 0.06, interval(*ends), transform=beside, size=6, color=MUTED, va="center")
    axes.set_yticks(
        [len(sources) - 1 - row + 0.12 for row in range(len(sources))],
        [label(source).replace(", ", ",\n") for source in sources],
    )
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.35, len(sources) - 1 + _OVERLAP * 1.04)
    axes.set_xlim(low - margin, high + margin)
    axes.spines["left"].set_visible(False)
    axes.text(1.02, len(sources) - 0.28, "mean", transform=axes.get_yaxis_transform(), size=6, color=MUTED)
