"""Figure 3(d): how far apart the texts of each source are, matched in words to the prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from twigma_core.figures.inputs import count, need, need_columns, number
from twigma_core.figures.ridges import draw_ridges, ridge_table
from twigma_core.figures.style import COLUMN_WIDTH, finish, in_style, label, new_page
from twigma_core.tables import TEXT_SOURCES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Distance between texts of each source"
ABOUT = (
    "Distribution of the Euclidean distance between two texts' unit-length CLIP embeddings, for prompts and "
    "for texts of similar length from five other sources; sources in order of their mean."
)
TABLES: dict[str, tuple[str, ...]] = {
    "pair_distances": ("source", "left", "right", "pairs", "density"),
    "text_variation": ("source", "value", "low", "high", "n", "mean_words"),
}


def table(pair_distances: pl.DataFrame, text_variation: pl.DataFrame) -> pl.DataFrame:
    """Return source, left, right, pairs, density, mean, low, high, n: one row a bin, largest mean first."""
    for name, frame in (("pair_distances", pair_distances), ("text_variation", text_variation)):
        need_columns("figure_3d", name, frame, TABLES[name])
    rows = pair_distances.filter(pl.col("source").is_in(TEXT_SOURCES))
    need("figure_3d", "pair_distances", rows, "rows of text sources")
    means = {s: v for s, v in text_variation.select("source", "value").rows() if v is not None}
    found = rows["source"].unique().to_list()
    return ridge_table(rows, text_variation, sorted(found, key=lambda s: (-means.get(s, -1.0), s)))


@in_style
def draw(pair_distances: pl.DataFrame, text_variation: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return one ridge a text source, with mean and 95 % interval.

    Raises:
        ValueError: there are no distances between texts.
    """
    rows = table(pair_distances, text_variation)
    sources = rows["source"].unique(maintain_order=True).to_list()
    figure = new_page(COLUMN_WIDTH, 0.55 + 0.34 * len(sources))
    axes = figure.subplots()
    draw_ridges(axes, rows)
    axes.set_xlabel("Euclidean distance of two unit-length embeddings")
    details = {row["source"]: row for row in text_variation.to_dicts()}
    sizes = ", ".join(
        f"{label(s)} {count(details[s]['n'])} ({number(details[s]['mean_words'], 2)})"
        for s in sources
        if s in details
    )
    caption = "Heights are densities on one scale; dots are means, bars their 95 % intervals."
    if sizes:
        caption += f" Texts, and their mean number of words: {sizes}."
    return finish(figure, _title(text_variation), caption, synthetic=synthetic)


def _title(text_variation: pl.DataFrame) -> str:
    """Return where prompts stand, where intervals bear it out against every other source."""
    rows = {row["source"]: row for row in text_variation.drop_nulls(["low", "high"]).to_dicts()}
    prompts = rows.pop("prompts", None)
    if prompts is None or not rows:
        return TITLE
    below = [s for s, row in rows.items() if row["high"] < prompts["low"]]
    above = [s for s, row in rows.items() if row["low"] > prompts["high"]]
    if len(below) == len(rows):
        return "Prompts vary more than all other texts"
    if len(above) == len(rows):
        return "Prompts vary less than all other texts"
    if len(below) + len(above) == len(rows):
        return f"Prompts vary more than {len(below)} of {len(rows)} other kinds of text"
    return TITLE
