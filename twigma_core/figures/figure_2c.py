"""Figure 2(c): the Kullback–Leibler divergence of every source from every other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twigma_core.figures.inputs import count, interval, need, need_columns, number
from twigma_core.figures.style import (
    COLUMN_WIDTH,
    INK,
    MACHINE_MADE,
    MUTED,
    finish,
    in_style,
    ink_on,
    label,
    new_page,
    ordered,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "KL divergence of each source (row) from each other (column)"
ABOUT = "KL divergence of the row's distribution from the column's, over the cells of one joint quantizer."
TABLES: dict[str, tuple[str, ...]] = {
    "divergence_matrix": (
        *("source_p", "source_q", "measure", "cells", "value", "low", "high", "n_p", "n_q", "smoothing"),
    )
}

MEASURE, CELLS = "kl", 10
RAMP = ["#F4F7FA", "#9DBAD3", "#3B6E9C", "#0B2F52"]


def table(divergence_matrix: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of the matrix that are drawn, in the figure's order: measure kl over 10 cells, nats."""
    need_columns("figure_2c", "divergence_matrix", divergence_matrix, TABLES["divergence_matrix"])
    rows = divergence_matrix.filter(pl.col("measure") == MEASURE, pl.col("cells") == CELLS)
    need(
        "figure_2c",
        "divergence_matrix",
        rows,
        f"rows with measure {MEASURE!r} and {CELLS} cells",
        cure=f"materialize divergence_matrix with {CELLS} among the codebook's sizes",
    )
    places = {s: i for i, s in enumerate(ordered([*rows["source_p"], *rows["source_q"]]))}
    by_place = [pl.col(c).replace_strict(places, return_dtype=pl.Int32) for c in ("source_p", "source_q")]
    return rows.select(TABLES["divergence_matrix"]).sort(by_place)


@in_style
def draw(divergence_matrix: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return the matrix as a heat map with each value and its 95 % interval in its cell.

    Raises:
        ValueError: the matrix has no KL divergence over 10 cells.
    """
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    rows = table(divergence_matrix)
    sources = ordered([*rows["source_p"], *rows["source_q"]])
    cells = {(row["source_p"], row["source_q"]): row for row in rows.to_dicts()}
    grid = np.full((len(sources), len(sources)), np.nan)
    for (p, q), row in cells.items():
        if p != q and row["value"] is not None:
            grid[sources.index(p), sources.index(q)] = row["value"]
    figure = new_page(COLUMN_WIDTH, 2.3)
    axes = figure.subplots()
    ramp = LinearSegmentedColormap.from_list("ink", RAMP).with_extremes(bad="#EFEFEF")
    finite = grid[np.isfinite(grid)]
    top = max(float(finite.max()), 1e-9) if len(finite) else 1.0
    axes.imshow(np.where(np.isfinite(grid), grid, np.nan), cmap=ramp, vmin=0, vmax=top, aspect="auto")
    for i, p in enumerate(sources):
        for j, q in enumerate(sources):
            cell = cells.get((p, q))
            if p == q or cell is None:
                axes.text(j, i, "0" if p == q else "–", ha="center", va="center", color=MUTED)
                continue
            ink = ink_on(to_hex(ramp(grid[i, j] / top))) if math.isfinite(grid[i, j]) else INK
            bounds = interval(cell["low"], cell["high"], 2)
            axes.text(
                j,
                i - (0.13 if bounds else 0),
                number(cell["value"]),
                ha="center",
                va="center",
                color=ink,
                size=7.5,
                weight="bold",
            )
            axes.text(j, i + 0.2, bounds, ha="center", va="center", color=ink, size=6)
    axes.set_xticks(range(len(sources)), [label(s) for s in sources])
    axes.set_yticks(range(len(sources)), [label(s) for s in sources], rotation=90, va="center")
    axes.tick_params(length=0)
    axes.set_xlabel("to: q")
    axes.set_ylabel("from: p")
    axes.set_xticks(np.arange(1, len(sources)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(sources)) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    used = rows.filter(pl.col("source_p") != pl.col("source_q"))
    ns = sorted({*used["n_p"], *used["n_q"]})
    sizes = (count(ns[0]) if ns[0] == ns[-1] else f"{count(ns[0])} to {count(ns[-1])}") if ns else "0"
    smoothing = used["smoothing"].drop_nulls().unique().to_list()
    caption = (
        f"KL(p‖q) = Σ p log(p/q) in nats over {CELLS} cells of a joint quantizer, darker is farther; {sizes} "
        "pictures a source; "
        + (f"{' or '.join(number(s, 2) for s in smoothing)} added to each cell; " if smoothing else "")
        + "95 % intervals in brackets."
    )
    return finish(figure, _title(used), caption, synthetic=synthetic)


def _title(rows: pl.DataFrame) -> str:
    """Return the finding where intervals bear it out: the two AI sources nearer than any AI–human pair."""
    p_machine, q_machine = (pl.col(c).is_in(MACHINE_MADE) for c in ("source_p", "source_q"))
    within, across = rows.filter(p_machine & q_machine), rows.filter(p_machine ^ q_machine)
    if within.is_empty() or across.is_empty():
        return TITLE
    widest, nearest = within["high"].max(), across["low"].min()
    sources = set(rows["source_p"]) | set(rows["source_q"])
    pairs = 2 * len(sources & set(MACHINE_MADE)) * len(sources - set(MACHINE_MADE))
    whole = across.height == pairs and within["high"].null_count() + across["low"].null_count() == 0
    if whole and widest is not None and nearest is not None and widest < nearest:  # type: ignore[operator]
        return "AI sources are nearer to one another than to human pictures"
    return TITLE
