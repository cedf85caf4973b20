"""Figure 4(a): the map of all pictures, coloured by month."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twigma_core.figures.inputs import count, count_of, need, need_columns
from twigma_core.figures.style import COLUMN_WIDTH, finish, in_style, new_page
from twigma_core.figures.timeline import month_index_expr, month_ticks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "TWIGMA's pictures on the map, by month"
ABOUT = "UMAP map of TWIGMA's pictures, coloured by the month in which each was first posted."
TABLES: dict[str, tuple[str, ...]] = {"projection": ("image_id", "month", "x", "y")}

MOST_POINTS = 30_000
SEED = 0


def table(projection: pl.DataFrame) -> pl.DataFrame:
    """Return image_id, month, x, y of the pictures that are drawn, in drawing order.

    The order is random with a fixed seed, so that late months do not hide early ones; beyond
    `MOST_POINTS` pictures the first that many in that order are drawn.
    """
    need_columns("figure_4a", "projection", projection, TABLES["projection"])
    need("figure_4a", "projection", projection, cure="materialize projection for at least one month")
    rows = projection.select(TABLES["projection"]).sort("image_id")
    order = np.random.default_rng(SEED).permutation(rows.height)[:MOST_POINTS]
    return rows[order.tolist()]


@in_style
def draw(projection: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return a dot a picture, dark for early months and bright for late ones.

    Raises:
        ValueError: no picture is on the map.
    """
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm

    rows = table(projection)
    at = rows.select(month_index_expr()).to_series().to_numpy()
    first, last = int(at.min()), int(at.max())
    months = last - first + 1
    ramp = colormaps["viridis"]
    norm = BoundaryNorm(np.arange(first - 0.5, last + 1), ramp.N) if months > 1 else None
    figure = new_page(COLUMN_WIDTH, 2.4)
    axes = figure.subplots()
    dots = axes.scatter(
        rows["x"],
        rows["y"],
        c=at,
        cmap=ramp,
        norm=norm,
        s=float(np.clip(9_000 / rows.height, 0.5, 6)),
        linewidths=0,
        alpha=0.8,
        rasterized=True,
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("UMAP 1")
    axes.set_ylabel("UMAP 2")
    for side in axes.spines.values():
        side.set_visible(True)
    if months > 1:
        bar = figure.colorbar(dots, ax=axes, fraction=0.05, pad=0.02, aspect=28)
        ticks, labels = month_ticks(first, last, 8)
        bar.set_ticks(ticks, labels=[text.replace("\n", " ") for text in labels])
        bar.ax.minorticks_off()
        bar.ax.tick_params(length=0)
        bar.outline.set_visible(False)  # type: ignore[operator]
        bar.solids.set_alpha(1)  # type: ignore[union-attr]
    total = projection.height
    shown = (
        f"{count(rows.height)} of {count(total)} pictures, chosen at random," if rows.height < total else ""
    )
    span = sorted(projection["month"].unique())
    caption = (
        f"{shown or count_of(total, 'picture')} of {count_of(len(span), 'month')}, "
        f"{span[0]}{f' to {span[-1]}' if len(span) > 1 else ''}, drawn in random order. "
        "The axes of a UMAP map have no unit."
    )
    return finish(figure, TITLE, caption, synthetic=synthetic)
