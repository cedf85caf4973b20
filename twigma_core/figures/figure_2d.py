"""Figure 2(d): similarity to human pictures, and likes by quintile of that similarity."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twigma_core.figures.density import bin_edges
from twigma_core.figures.inputs import count, interval, need, need_columns, number
from twigma_core.figures.style import (
    PAGE_WIDTH,
    colour,
    finish,
    in_style,
    label,
    letter,
    new_page,
    ordered,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Similarity to human pictures, and likes by its quintile"
ABOUT = (
    "Left: mean cosine similarity of each picture's five nearest human pictures. Right: mean likes by "
    "quintile of that similarity (1 least, 5 most similar), as the paper computes it and robustly."
)
TABLES: dict[str, tuple[str, ...]] = {
    "neighbors": ("image_id", "corpus", "similarity"),
    "engagement": ("corpus", "column", "quantity", "term", "estimate", "low", "high", "n", "without_likes"),
}
_NAMES = {"paper": "as in the paper", "robust": "robust"}


def table(neighbors: pl.DataFrame, engagement: pl.DataFrame) -> pl.DataFrame:
    """Return what both sides draw, told apart by `panel`.

    Columns: panel, corpus, column, term, left, right, value, low, high, n, without_likes. Panel
    "similarity" has one row a bin, its value the share of pictures per unit of similarity; "mean_likes"
    one row a quintile; "rate_ratio" the regression's ratios against quintile 5 that the title goes by.
    """
    for name, frame in (("neighbors", neighbors), ("engagement", engagement)):
        need_columns("figure_2d", name, frame, TABLES[name])
    need("figure_2d", "neighbors", neighbors)
    edges = bin_edges(neighbors["similarity"].to_numpy())
    frames = []
    for corpus in ordered(neighbors["corpus"].to_list()):
        values = neighbors.filter(corpus=corpus)["similarity"].to_numpy()
        counts, _ = np.histogram(values, edges)
        frames.append(
            pl.DataFrame(
                {
                    "panel": "similarity",
                    "corpus": corpus,
                    "left": edges[:-1],
                    "right": edges[1:],
                    "value": counts / (len(values) * np.diff(edges)),
                    "n": counts.astype(np.int64),
                }
            )
        )
    likes = (
        engagement.with_columns(pl.col("column", "quantity").cast(pl.String))
        .filter(pl.col("quantity").is_in(["mean_likes", "rate_ratio"]), pl.col("column").is_in(list(_NAMES)))
        .sort("quantity", "corpus", "column", "term")
        .select(
            pl.col("quantity").alias("panel"),
            "corpus",
            "column",
            "term",
            pl.col("estimate").alias("value"),
            *("low", "high", "n", "without_likes"),
        )
    )
    columns = (
        "panel",
        "corpus",
        "column",
        "term",
        "left",
        "right",
        "value",
        "low",
        "high",
        "n",
        "without_likes",
    )
    return pl.concat([*frames, likes], how="diagonal_relaxed").select(columns)


@in_style
def draw(neighbors: pl.DataFrame, engagement: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return the densities of similarity and the mean likes with 95 % intervals, a panel a corpus.

    Raises:
        ValueError: there are no neighbours. Likes that could not be computed leave their panel empty, with
            a word on why.
    """
    rows = table(neighbors, engagement)
    rows = rows.filter(pl.col("corpus").is_in(neighbors["corpus"].unique().to_list()))
    corpora = ordered(rows.filter(panel="similarity")["corpus"].to_list())
    figure = new_page(PAGE_WIDTH, 1.9)
    widths = [1.5] + [1.0] * len(corpora)
    panels = figure.subplots(1, 1 + len(corpora), width_ratios=widths)
    _draw_similarity(panels[0], rows.filter(panel="similarity"), corpora)
    likes = rows.filter(panel="mean_likes")
    bottom, top = _likes_range(likes)
    for axes, corpus in zip(panels[1:], corpora, strict=True):
        _draw_likes(axes, likes.filter(corpus=corpus), corpus)
        axes.set_ylim(bottom, top)
        if axes is not panels[1]:
            axes.tick_params(labelleft=False)
    panels[1].set_ylabel("mean likes")
    n = max(int(rows.filter(panel="similarity", corpus=corpus)["n"].sum()) for corpus in corpora)
    return finish(figure, _title(rows), _caption(rows, n), synthetic=synthetic)


def _draw_similarity(axes: Axes, rows: pl.DataFrame, corpora: list[str]) -> None:
    axes.grid(axis="x")
    tallest = max(float(rows["value"].max() or 0), 1e-9)  # type: ignore[arg-type]
    for corpus in corpora:
        part = rows.filter(corpus=corpus)
        edges = [*part["left"], part["right"][-1]]
        axes.stairs(part["value"], edges, fill=True, color=colour(corpus), alpha=0.25)
        axes.stairs(part["value"], edges, color=colour(corpus), linewidth=1.2, label=f"to {label(corpus)}")
    axes.set_ylim(0, 1.22 * tallest)
    axes.set_xlabel("mean cosine similarity of the 5 nearest")
    axes.set_ylabel("density")
    axes.legend(loc="upper left", ncols=2)
    letter(axes, "Similarity of TWIGMA pictures")


def _draw_likes(axes: Axes, rows: pl.DataFrame, corpus: str) -> None:
    letter(axes, f"By similarity to {label(corpus)}")
    axes.grid(axis="y")
    axes.set_xticks(range(1, 6), ["1\nleast", "2", "3", "4", "5\nmost"])
    axes.set_xlim(0.5, 5.5)
    axes.set_xlabel("quintile of similarity")
    drawn = rows.drop_nulls("value")
    if drawn.is_empty():
        axes.text(3, 0.5, "no likes data", ha="center", color="#666666")
        return
    for column, shift, face in (("paper", -0.13, colour(corpus)), ("robust", 0.13, "white")):
        part = drawn.filter(column=column)
        if part.is_empty():
            continue
        x = [quintile(term) + shift for term in part["term"]]
        value = part["value"].to_numpy()
        low, high = (part[end].fill_null(part["value"]).to_numpy() for end in ("low", "high"))
        axes.errorbar(
            x,
            value,
            yerr=np.vstack([np.maximum(value - low, 0), np.maximum(high - value, 0)]),
            fmt="o" if column == "paper" else "s",
            color=colour(corpus),
            markerfacecolor=face,
            markersize=3.5,
            elinewidth=1.0,
            label=_NAMES[column],
        )
    axes.legend(loc="upper right", ncols=2, columnspacing=0.8, handletextpad=0.2)


def _likes_range(likes: pl.DataFrame) -> tuple[float, float]:
    """Return limits that hold all intervals, with room for the legend; not from 0, as these are not bars."""
    low = likes.select(pl.min_horizontal("value", "low").min()).item()
    high = likes.select(pl.max_horizontal("value", "high").max()).item()
    if low is None or high is None:
        return 0.0, 1.0
    span = max(high - low, 0.1 * abs(high), 1e-3)
    return max(0.0, low - 0.3 * span), high + 0.4 * span


def quintile(term: str) -> int:
    """Return the quintile that a term names, such as "1" or "quintile 1".

    Raises:
        ValueError: the term names none.
    """
    found = re.search(r"([1-5])\s*$", term)
    if found is None:
        raise ValueError(
            f"figure_2d: table engagement: {term!r} names no quintile 1 to 5; materialize engagement again"
        )
    return int(found.group(1))


def _ratios(rows: pl.DataFrame, column: str) -> dict[str, dict[str, float]]:
    part = rows.filter(panel="rate_ratio", column=column).drop_nulls(["value", "low", "high"])
    return {row["corpus"]: row for row in part.to_dicts() if quintile(row["term"]) == 1}


def _caption(rows: pl.DataFrame, n: int) -> str:
    left_out = max(rows.filter(panel="mean_likes")["without_likes"].drop_nulls(), default=0)
    text = f"n = {count(n)} pictures; {count(left_out)} without likes data are left out on the right. "
    text += "Bars are 95 % intervals. "
    ratios = {name: _ratios(rows, column) for column, name in _NAMES.items()}
    parts = [
        f"{label(corpus)} "
        + ", ".join(
            f"{number(found[corpus]['value'])} {interval(found[corpus]['low'], found[corpus]['high'])} {name}"
            for name, found in ratios.items()
            if corpus in found
        )
        for corpus in ordered([corpus for found in ratios.values() for corpus in found])
    ]
    if parts:
        text += f"Likes of quintile 1 over those of quintile 5, followers held fixed: {'; '.join(parts)}."
    return text.strip()


def _title(rows: pl.DataFrame) -> str:
    """Return the finding where every robust interval bears it out."""
    ratios = list(_ratios(rows, "robust").values())
    if ratios and all(row["low"] > 1 for row in ratios):
        return "Pictures least similar to human ones receive more likes"
    if ratios and all(row["high"] < 1 for row in ratios):
        return "Pictures least similar to human ones receive fewer likes"
    return TITLE
