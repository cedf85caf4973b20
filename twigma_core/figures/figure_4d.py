"""Figure 4(d): how the NSFW scores of TWIGMA and of LAION are distributed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twigma_core.figures.density import wilson
from twigma_core.figures.inputs import count, interval, need, need_columns, percent
from twigma_core.figures.pictures import BLUR_FROM
from twigma_core.figures.style import COLUMN_WIDTH, MUTED, colour, finish, in_style, label, new_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "NSFW scores of TWIGMA's and LAION's pictures"
ABOUT = (
    "Share of pictures by the score of a CLIP-based detector, from 0 (safe) to 1 (not safe for work), on a "
    "logarithmic axis."
)
TABLES: dict[str, tuple[str, ...]] = {
    "dataset": ("image_id", "nsfw_score"),
    "reference_embeddings": ("image_id", "corpus", "nsfw_score"),
}

BINS = 20


def table(dataset: pl.DataFrame, reference_embeddings: pl.DataFrame) -> pl.DataFrame:
    """Return source, left, right, pictures, share, unscored: one row a bin of 0.05 of twigma and laion.

    `share` is of the source's scored pictures; `unscored` counts those without a score, in every row.
    LAION is left out where it has no scores.
    """
    for name, frame in (("dataset", dataset), ("reference_embeddings", reference_embeddings)):
        need_columns("figure_4d", name, frame, TABLES[name])
    scores = {
        "twigma": dataset["nsfw_score"],
        "laion": reference_embeddings.filter(pl.col("corpus") == "laion")["nsfw_score"],
    }
    need(
        "figure_4d",
        "dataset",
        dataset.drop_nulls("nsfw_score"),
        "scored pictures",
        cure="materialize nsfw_scores and then dataset",
    )
    edges = np.linspace(0, 1, BINS + 1)
    frames = []
    for source, column in scores.items():
        known = column.drop_nulls().to_numpy()
        if len(known):
            pictures = np.histogram(known, edges)[0].astype(np.int64)
            frames.append(
                pl.DataFrame(
                    {
                        "source": source,
                        "left": edges[:-1],
                        "right": edges[1:],
                        "pictures": pictures,
                        "share": pictures / len(known),
                        "unscored": column.null_count(),
                    }
                )
            )
    return pl.concat(frames)


@in_style
def draw(dataset: pl.DataFrame, reference_embeddings: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return the two distributions as steps, with the share of pictures above 0.5 and its interval.

    Raises:
        ValueError: no picture of the dataset has a score.
    """
    from matplotlib.ticker import FuncFormatter

    rows = table(dataset, reference_embeddings)
    sources = rows["source"].unique(maintain_order=True).to_list()
    figure = new_page(COLUMN_WIDTH, 1.85)
    axes = figure.subplots()
    axes.grid(axis="y")
    totals = {source: int(rows.filter(source=source)["pictures"].sum()) for source in sources}
    floor = 100 * 0.5 / max(totals.values())
    high = {
        source: int(rows.filter(pl.col("left") >= BLUR_FROM - 1e-9, source=source)["pictures"].sum())
        for source in sources
    }
    for source in sources:
        part = rows.filter(source=source)
        share = np.maximum(100 * part["share"].to_numpy(), floor)
        edges = [*part["left"], part["right"][-1]]
        low, up = wilson(high[source], totals[source])
        above = (
            f"{percent(high[source] / totals[source])} {interval(100 * low, 100 * up, 2)} "
            f"score {BLUR_FROM} or more"
        )
        if source == "twigma":  # LAION is a line over it: two fills would mix into a third colour
            axes.stairs(share, edges, baseline=floor, fill=True, color=colour(source), alpha=0.25)
        axes.stairs(
            share,
            edges,
            baseline=floor,
            color=colour(source),
            linewidth=1.2,
            label=f"{label(source)}: {above}",
        )
    axes.set_yscale("log")
    axes.set_ylim(floor, 900)
    axes.set_yticks([t for t in (0.0001, 0.001, 0.01, 0.1, 1, 10, 100) if t >= floor])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()
    axes.plot([BLUR_FROM, BLUR_FROM], [floor, 120], color=MUTED, linewidth=0.6, linestyle=(0, (3, 2)))
    axes.set_xlim(-0.005, 1.005)  # the outermost steps keep their full line
    axes.set_xlabel("NSFW score")
    axes.set_ylabel(f"pictures per {1 / BINS:g} of score, %")
    axes.legend(loc="upper left")
    sizes = ", ".join(f"{label(source)} {count(n)}" for source, n in totals.items())
    unscored = rows.group_by("source").first().select(pl.col("unscored").sum()).item()
    caption = (
        f"Scored pictures: {sizes}. Brackets are 95 % intervals, in %. "
        "The axis ends where half a picture would be."
        + (f" {count(unscored)} pictures have no score." if unscored else "")
        + ("" if "laion" in sources else " LAION has no scores yet.")
    )
    return finish(
        figure,
        TITLE if "laion" in sources else "NSFW scores of TWIGMA's pictures",
        caption,
        synthetic=synthetic,
    )
