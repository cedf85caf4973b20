"""Figure 3(a): how far apart the pictures of each source are, and those of one artist or one prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from twigma_core.figures.inputs import count, need, need_columns
from twigma_core.figures.ridges import draw_ridges, ridge_table
from twigma_core.figures.style import COLUMN_WIDTH, finish, in_style, label, new_page, ordered
from twigma_core.tables import TEXT_SOURCES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Distance between pictures of each source"
ABOUT = (
    "Distribution of the Euclidean distance between two pictures' unit-length embeddings, for each source "
    "and for pairs of one artist (ArtBench) or one prompt (DiffusionDB)."
)
TABLES: dict[str, tuple[str, ...]] = {
    "pair_distances": ("source", "left", "right", "pairs", "density"),
    "variation_table": ("source", "metric", "value", "low", "high", "n"),
}
_CONDITIONS = {
    "artbench_same_artist": ("artbench", "by one artist"),
    "diffusiondb_same_prompt": ("diffusiondb", "of one prompt"),
}


def table(pair_distances: pl.DataFrame, variation_table: pl.DataFrame) -> pl.DataFrame:
    """Return source, left, right, pairs, density, mean, low, high, n: one row a bin."""
    for name, frame in (("pair_distances", pair_distances), ("variation_table", variation_table)):
        need_columns("figure_3a", name, frame, TABLES[name])
    rows = pair_distances.filter(~pl.col("source").is_in(TEXT_SOURCES))
    need("figure_3a", "pair_distances", rows, "rows of picture sources")
    means = variation_table.filter(pl.col("metric") == "mean_pairwise_distance")
    return ridge_table(rows, means, ordered(rows["source"].to_list()))


@in_style
def draw(pair_distances: pl.DataFrame, variation_table: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return one ridge a source and condition, with mean and 95 % interval.

    Raises:
        ValueError: there are no distances between pictures.
    """
    rows = table(pair_distances, variation_table)
    sources = rows["source"].unique(maintain_order=True).to_list()
    figure = new_page(COLUMN_WIDTH, 0.55 + 0.34 * len(sources))
    axes = figure.subplots()
    draw_ridges(axes, rows)
    axes.set_xlabel("Euclidean distance of two unit-length embeddings")
    firsts = rows.group_by("source", maintain_order=True).first()
    sizes = "; ".join(
        f"{label(s)} {count(n)}" for s, n in firsts.select("source", "n").rows() if n is not None
    )
    caption = "Heights are densities on one scale; dots are means, bars their 95 % intervals." + (
        f" Pictures: {sizes}." if sizes else ""
    )
    return finish(figure, _title(firsts), caption, synthetic=synthetic)


def _title(firsts: pl.DataFrame) -> str:
    """Return which conditions bring pictures closer, where intervals do not overlap."""
    rows = {row["source"]: row for row in firsts.to_dicts()}
    closer = []
    for condition, (source, words) in _CONDITIONS.items():
        inside, whole = rows.get(condition), rows.get(source)
        if inside is None or whole is None or inside["high"] is None or whole["low"] is None:
            continue
        if inside["high"] < whole["low"]:
            closer.append(words)
    return f"Pictures {' or '.join(closer)} are closer together" if closer else TITLE
