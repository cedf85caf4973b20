"""Figure 2(b): which sources the four joint clusters are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from twigma_core.figures.inputs import count, count_of, need, need_columns
from twigma_core.figures.style import (
    COLUMN_WIDTH,
    MACHINE_MADE,
    MUTED,
    colour,
    finish,
    in_style,
    ink_on,
    label,
    new_page,
    ordered,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Sources of the pictures in each joint cluster"
ABOUT = "Sources of the pictures in four k-means clusters of equal numbers of pictures of all sources."
TABLES: dict[str, tuple[str, ...]] = {"codebook": ("cells", "cell", "source", "pictures")}

CELLS = 4


def table(codebook: pl.DataFrame) -> pl.DataFrame:
    """Return cluster (from 1), source, pictures, share_of_cluster, share_of_source of the 4-cell codebook."""
    need_columns("figure_2b", "codebook", codebook, TABLES["codebook"])
    rows = codebook.filter(pl.col("cells") == CELLS)
    need(
        "figure_2b",
        "codebook",
        rows,
        f"quantizer with {CELLS} cells",
        cure=f"fit codebook with {CELLS} among its sizes",
    )
    places = {source: i for i, source in enumerate(ordered(rows["source"].to_list()))}
    return (
        rows.select((pl.col("cell") + 1).alias("cluster"), "source", "pictures")
        .with_columns(
            _share("cluster").alias("share_of_cluster"),
            _share("source").alias("share_of_source"),
            pl.col("source").replace_strict(places, return_dtype=pl.Int32).alias("place"),
        )
        .sort("cluster", "place")
        .drop("place")
    )


@in_style
def draw(codebook: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return one stacked bar a cluster, its parts the sources' shares.

    Raises:
        ValueError: the codebook has no quantizer with 4 cells.
    """
    rows = table(codebook)
    machine = (
        rows.group_by("cluster")
        .agg(pl.col("share_of_cluster").filter(pl.col("source").is_in(MACHINE_MADE)).sum().alias("machine"))
        .sort("machine", "cluster")
    )
    order = machine["cluster"].to_list()
    sources = ordered(rows["source"].to_list())
    figure = new_page(COLUMN_WIDTH, 0.5 + 0.27 * len(order))
    axes = figure.subplots()
    left = dict.fromkeys(order, 0.0)
    for source in sources:
        shares = dict(rows.filter(source=source).select("cluster", "share_of_cluster").rows())
        widths = [100 * (shares.get(cluster) or 0.0) for cluster in order]
        axes.barh(
            range(len(order)),
            widths,
            left=[left[cluster] for cluster in order],
            height=0.74,
            color=colour(source),
            edgecolor="white",
            label=label(source),
        )
        for place, (cluster, width) in enumerate(zip(order, widths, strict=True)):
            if width >= 9:
                axes.text(
                    left[cluster] + width / 2,
                    place,
                    f"{width:.0f}",
                    ha="center",
                    va="center",
                    size=6,
                    color=ink_on(colour(source)),
                )
            left[cluster] += width
    sizes = dict(rows.group_by("cluster").agg(pl.col("pictures").sum()).rows())
    for place, cluster in enumerate(order):
        axes.text(101.5, place, f"n = {count(sizes[cluster])}", va="center", size=6, color=MUTED)
    axes.set_yticks(range(len(order)), [f"cluster {cluster}" for cluster in order])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("share of the cluster's pictures, %")
    axes.spines["left"].set_visible(False)
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=4,
        columnspacing=0.9,
        handlelength=0.9,
    )
    per_source = {
        n for (n,) in rows.group_by("source").agg(pl.col("pictures").sum()).select("pictures").rows()
    }
    each = count(per_source.pop()) if len(per_source) == 1 else "equal numbers of"
    caption = (
        f"k-means, k = {CELLS}, on {each} pictures of each of {count_of(len(sources), 'source')}. "
        "Clusters are in order of their share of AI-generated pictures (TWIGMA and DiffusionDB)."
    )
    return finish(figure, _title(machine["machine"].to_list(), sources), caption, synthetic=synthetic)


def _share(over: str) -> pl.Expr:
    """Return pictures as a share of all those of the same `over`; 0 where there are none."""
    return (pl.col("pictures") / pl.col("pictures").sum().over(over)).fill_nan(0.0)


def _title(machine: list[float], sources: list[str]) -> str:
    kinds = {source in MACHINE_MADE for source in sources}
    apart = all(share <= 0.25 or share >= 0.75 for share in machine)
    if len(kinds) == 2 and apart and min(machine) <= 0.25 and max(machine) >= 0.75:
        return "Each cluster is mostly human-made or mostly AI-generated"
    return TITLE
