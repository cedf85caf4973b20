"""Figure 4(b): the share of each cluster over the months."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twigma_core.figures.inputs import count_of, need, need_columns
from twigma_core.figures.style import (
    PAGE_WIDTH,
    TREND_COLOURS,
    TREND_MARKS,
    finish,
    in_style,
    letter,
    new_page,
)
from twigma_core.figures.timeline import month_axis, month_index_expr

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Share of each cluster over time"
ABOUT = (
    "Share of the month's pictures in each k-means cluster with its 95 % interval, and the fitted trend: "
    "rising, falling, or steady at the 5 % level corrected for all clusters."
)
TABLES: dict[str, tuple[str, ...]] = {
    "cluster_trends": (
        *("cluster", "month", "pictures", "total", "share", "low", "high"),
        *("slope", "slope_low", "slope_high", "p_value", "p_holm", "trend"),
    )
}


def table(cluster_trends: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of cluster_trends in order, with `fitted`: the share on the trend line, or null.

    The line is the logistic curve of the table's slope whose expected number of pictures over all months
    is the observed one, which is the maximum-likelihood intercept given that slope.
    """
    need_columns("figure_4b", "cluster_trends", cluster_trends, TABLES["cluster_trends"])
    need("figure_4b", "cluster_trends", cluster_trends, cure="materialize clusters for at least one month")
    rows = (
        cluster_trends.select(TABLES["cluster_trends"])
        .with_columns(pl.col("trend").cast(pl.String))
        .sort("cluster", "month")
    )
    parts = [part.with_columns(_fitted(part)) for _, part in rows.group_by("cluster", maintain_order=True)]
    return pl.concat(parts)


def _fitted(part: pl.DataFrame) -> pl.Series:
    from scipy.optimize import brentq
    from scipy.special import expit

    slope, seen = part["slope"][0], int(part["pictures"].sum())
    total = part["total"].to_numpy().astype(float)
    if slope is None or not math.isfinite(slope) or part.height < 2 or not 0 < seen < total.sum():
        return pl.Series("fitted", [None] * part.height, dtype=pl.Float64)
    t = part.select(month_index_expr()).to_series().to_numpy().astype(float)
    t -= t.mean()
    reach = 40 + abs(slope) * float(np.abs(t).max())
    intercept = brentq(lambda a: float((total * expit(a + slope * t)).sum()) - seen, -reach, reach)
    return pl.Series("fitted", expit(intercept + slope * t))


@in_style
def draw(cluster_trends: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return one small panel a cluster: monthly shares with intervals, and the trend line in its colour.

    Raises:
        ValueError: there are no clusters.
    """
    rows = table(cluster_trends)
    clusters = rows["cluster"].unique(maintain_order=True).to_list()
    columns = min(5, len(clusters))
    lines = -(-len(clusters) // columns)
    at = rows.select(month_index_expr()).to_series()
    rows = rows.with_columns(at)
    first, last = min(at.to_list()), max(at.to_list())
    figure = new_page(PAGE_WIDTH, 0.25 + 0.95 * lines)
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for panel, cluster in zip(panels.flat, clusters, strict=False):
        part = rows.filter(cluster=cluster)
        trend = part["trend"][0]
        tint = TREND_COLOURS[trend]
        panel.grid(axis="y")
        x, share = part["month_index"].to_numpy(), 100 * part["share"].to_numpy()
        low, high = (100 * part[end].fill_null(part["share"]).to_numpy() for end in ("low", "high"))
        if part["fitted"].null_count() == 0:
            panel.plot(x, 100 * part["fitted"].to_numpy(), color=tint, linewidth=1.4, zorder=2)
        errors = np.vstack([np.maximum(share - low, 0), np.maximum(high - share, 0)])
        panel.errorbar(
            x, share, yerr=errors, fmt="o", color="#333333", ecolor="#999999", markersize=1.8, elinewidth=0.8
        )
        letter(panel, f"{cluster}  ")
        panel.set_title(f"{TREND_MARKS[trend]} {trend}", size=6, loc="right", color=tint)
    for panel in list(panels.flat)[len(clusters) :]:
        panel.set_axis_off()
    month_axis(panels[0, 0], first, last, 3)
    for panel in list(panels.flat)[max(len(clusters) - columns, 0) : len(clusters)]:
        panel.tick_params(labelbottom=True)
    panels[0, 0].set_ylim(0, None)
    for panel in panels[:, 0]:
        panel.set_ylabel("share, %")
    months = rows.select("month", "total").unique()
    caption = (
        f"{count_of(int(months['total'].sum()), 'picture')}, {count_of(months.height, 'month')}. "
        "Dots are monthly shares with 95 % intervals; lines are fitted log-odds trends; ▲ rising and "
        "▼ falling are significant at 5 % after Holm's correction for all clusters."
    )
    return finish(figure, _title(rows), caption, synthetic=synthetic)


def _title(rows: pl.DataFrame) -> str:
    trends = rows.unique("cluster").sort("cluster")
    named = {
        direction: ", ".join(map(str, trends.filter(trend=direction)["cluster"]))
        for direction in ("rising", "falling")
    }
    parts = [f"{direction}: {clusters}" for direction, clusters in named.items() if clusters]
    return f"{TITLE}: {'; '.join(part.replace(':', '') for part in parts)}" if parts else TITLE
