"""Figure 2(a): where each source's pictures lie on the joint UMAP map."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twigma_core.figures.density import grid_density, mass_levels, overlap
from twigma_core.figures.inputs import count, need, need_columns
from twigma_core.figures.style import (
    COLUMN_WIDTH,
    FAINT,
    colour,
    finish,
    in_style,
    label,
    letter,
    new_page,
    ordered,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Where each source lies on the joint map"
ABOUT = (
    "Kernel density of each source on a UMAP map fitted on equal numbers of pictures of all sources; "
    "grey marks where the other sources' pictures lie."
)
TABLES: dict[str, tuple[str, ...]] = {"projection_model": ("source", "image_id", "x", "y")}

CELLS = 72
MASSES = (0.95, 0.75, 0.5, 0.25)


def table(projection_model: pl.DataFrame) -> pl.DataFrame:
    """Return the density of each source at each point of the grid: source, x, y, density, pictures.

    The density is per unit of map area and sums to 1 over the grid; `pictures` is the source's sample.
    """
    need_columns("figure_2a", "projection_model", projection_model, TABLES["projection_model"])
    need("figure_2a", "projection_model", projection_model)
    points = projection_model.select("source", "x", "y")
    xs, ys = _edges(points["x"]), _edges(points["y"])
    x_mid, y_mid = (xs[:-1] + xs[1:]) / 2, (ys[:-1] + ys[1:]) / 2
    frames = []
    for source in ordered(points["source"].to_list()):
        own = points.filter(source=source)
        density = grid_density(own["x"].to_numpy(), own["y"].to_numpy(), xs, ys)
        frames.append(
            pl.DataFrame(
                {
                    "source": source,
                    "x": np.repeat(x_mid, len(y_mid)),
                    "y": np.tile(y_mid, len(x_mid)),
                    "density": density.ravel(),
                    "pictures": own.height,
                }
            )
        )
    return pl.concat(frames)


@in_style
def draw(projection_model: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return one panel a source: filled contours that hold 25, 50, 75 and 95 % of its pictures.

    Raises:
        ValueError: the map has no pictures.
    """
    from matplotlib.colors import to_rgb

    rows = table(projection_model)
    sources = rows["source"].unique(maintain_order=True).to_list()
    columns = min(2, len(sources))
    lines = -(-len(sources) // columns)
    figure = new_page(COLUMN_WIDTH, 0.15 + 1.4 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    xs, ys = rows["x"].unique().sort().to_numpy(), rows["y"].unique().sort().to_numpy()
    grids = {
        source: part["density"].to_numpy().reshape(len(xs), len(ys))
        for (source,), part in rows.group_by("source", maintain_order=True)
    }
    for panel, source in zip(panels.flat, sources, strict=False):
        others = projection_model.filter(pl.col("source") != source)
        panel.scatter(others["x"], others["y"], s=1.2, color=FAINT, linewidths=0, rasterized=True)
        base = np.array(to_rgb(colour(source)))
        levels = [*mass_levels(grids[source], MASSES), float(grids[source].max()) * 1.001]
        shades = [(*base, alpha) for alpha in np.linspace(0.25, 0.9, len(levels) - 1)]
        if all(a < b for a, b in pairwise(levels)):
            panel.contourf(xs, ys, grids[source].T, levels=levels, colors=shades)
            panel.contour(xs, ys, grids[source].T, levels=levels[:1], colors=[colour(source)], linewidths=0.6)
        n = int(rows.filter(source=source)["pictures"][0])
        letter(panel, f"{label(source)}  ")
        panel.set_title(f"n = {count(n)}", size=6, loc="right", color="#666666")
        panel.set_xticks([])
        panel.set_yticks([])
        for side in panel.spines.values():
            side.set_visible(True)
    for panel in list(panels.flat)[len(sources) :]:
        panel.set_axis_off()
    for panel in panels[:, 0]:
        panel.set_ylabel("UMAP 2")
    for panel in panels[-1, :]:
        panel.set_xlabel("UMAP 1")
    shared = (
        {s: overlap(grids["twigma"], grids[s]) for s in sources if s != "twigma"} if "twigma" in grids else {}
    )
    caption = "Shades hold 25, 50, 75 and 95 % of a source's pictures; grey dots are the other sources'."
    if shared:
        listed = ", ".join(f"{label(s)} {value:.2f}" for s, value in shared.items())
        caption += f" Overlap of TWIGMA's density with {listed} (0 none, 1 the same)."
    return finish(figure, _title(shared), caption, synthetic=synthetic)


def _edges(values: pl.Series) -> np.ndarray:
    """Return the edges of the grid along one coordinate, with a margin that smoothing needs."""
    low, high = float(values.min()), float(values.max())  # type: ignore[arg-type]
    margin = 0.15 * (high - low) or 1.0
    return np.linspace(low - margin, high + margin, CELLS + 1)


def _title(shared: dict[str, float]) -> str:
    if len(shared) < 2:
        return TITLE
    first, second = sorted(shared, key=lambda s: -shared[s])[:2]
    if shared[first] < 1.2 * shared[second]:
        return TITLE
    return f"On the map, TWIGMA overlaps most with {label(first)}"
