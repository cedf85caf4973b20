"""Figure 3(b): the variation metrics of each source, as a table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import polars as pl

from twigma_core.figures.inputs import count, interval, need, need_columns, number
from twigma_core.figures.style import (
    INK,
    MUTED,
    PAGE_WIDTH,
    colour,
    finish,
    in_style,
    label,
    new_sheet,
    ordered,
    sheet_width,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "How variable each source is, by metric"
ABOUT = "Variation metrics with 95 % intervals; the most variable source is bold, the least italic."
TABLES: dict[str, tuple[str, ...]] = {"variation_table": ("source", "metric", "value", "low", "high", "n")}

_METRICS = {
    "mean_pairwise_distance": "Mean pairwise distance",
    "mean_pairwise_distance_across": "Mean distance to other groups",
    "within_across_ratio": "Within / to other groups",
    "inverse_explained_variance": "Inverse explained variance",
    "product_of_marginal_variances": "Product of marginal deviations",
    "quantized_entropy": "Quantized entropy, nats",
    "quantized_entropy_corrected": "Quantized entropy, bias-corrected",
    "vendi_score": "Vendi score",
}


def table(variation_table: pl.DataFrame) -> pl.DataFrame:
    """Return metric, label, source, value, low, high, n, rank: in the figure's order.

    `rank` is "largest", "smallest" or null, among the sources of the metric; none where all are equal or
    only one source has a value.
    """
    need_columns("figure_3b", "variation_table", variation_table, TABLES["variation_table"])
    need("figure_3b", "variation_table", variation_table)
    sources = {s: i for i, s in enumerate(ordered(variation_table["source"].to_list()))}
    found = variation_table["metric"].unique().to_list()
    metrics = {m: i for i, m in enumerate(sorted(found, key=_metric_order))}
    value = pl.col("value").fill_nan(None)
    largest, smallest = value.max().over("metric"), value.min().over("metric")
    rank = (
        pl.when(largest == smallest)
        .then(None)
        .when(value == largest)
        .then(pl.lit("largest"))
        .when(value == smallest)
        .then(pl.lit("smallest"))
    )
    return (
        variation_table.select(
            "metric",
            pl.col("metric").map_elements(metric_label, return_dtype=pl.String).alias("label"),
            *("source", "value", "low", "high", "n"),
            rank.alias("rank"),
        )
        .sort(
            pl.col("metric").replace_strict(metrics, return_dtype=pl.Int32),
            pl.col("source").replace_strict(sources, return_dtype=pl.Int32),
        )
        .select("metric", "label", "source", "value", "low", "high", "n", "rank")
    )


def metric_label(metric: str) -> str:
    """Return the words that a metric is shown by, such as "Quantized entropy, nats, equal n"."""
    for name in sorted(_METRICS, key=len, reverse=True):
        if metric.startswith(name):
            rest = metric.removeprefix(name).strip("_").replace("_", " ")
            return f"{_METRICS[name]}, {rest}" if rest else _METRICS[name]
    return metric.replace("_", " ").capitalize()


def _metric_order(metric: str) -> tuple[int, str]:
    names = list(_METRICS)
    base = max((name for name in names if metric.startswith(name)), key=len, default=None)
    return (names.index(base) if base else len(names), metric)


@in_style
def draw(variation_table: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return the table, metrics down and sources across, with intervals beneath the values.

    Raises:
        ValueError: the table has no rows.
    """
    rows = table(variation_table)
    metrics = rows["metric"].unique(maintain_order=True).to_list()
    sources = ordered(rows["source"].to_list())
    cells = {(row["metric"], row["source"]): row for row in rows.to_dicts()}
    line, head = 0.33, 0.36
    height = head + line * len(metrics)
    figure, axes = new_sheet(PAGE_WIDTH, height)
    room = sheet_width(PAGE_WIDTH)
    first = 1.85
    step = min((room - first) / len(sources), 1.1)
    for column, source in enumerate(sources):
        x = first + (column + 1) * step - 0.04
        words = label(source).replace(", ", "\n")
        axes.text(x, head - 0.1, words, ha="right", va="bottom", weight="bold", size=6.5, linespacing=1.05)
        axes.plot([x - step + 0.12, x], [head - 0.04] * 2, color=colour(source), linewidth=2)
    for row, metric in enumerate(metrics):
        y = head + row * line
        axes.text(0, y + 0.13, metric_label(metric), va="center", size=6.5)
        for column, source in enumerate(sources):
            cell = cells.get((metric, source))
            x = first + (column + 1) * step - 0.04
            axes.text(
                x,
                y + 0.11,
                "–" if cell is None else number(cell["value"]),
                ha="right",
                va="center",
                size=7,
                weight="bold" if cell and cell["rank"] == "largest" else "normal",
                style="italic" if cell and cell["rank"] == "smallest" else "normal",
                color=INK,
            )
            bounds = "" if cell is None else interval(cell["low"], cell["high"])
            axes.text(x, y + 0.235, bounds, ha="right", va="center", size=6, color=MUTED)
        if row:
            axes.plot([0, room], [y, y], color="#E3E3E3", linewidth=0.5)
    axes.plot([0, room], [height, height], color="#888888", linewidth=0.7)
    sizes = [
        f"{label(source)} {count(max(n for n in ns if n is not None))}"
        for source in sources
        if (ns := rows.filter(source=source)["n"].to_list()) and any(n is not None for n in ns)
    ]
    undefined = sum(1 for row in rows.to_dicts() if row["value"] is None or math.isnan(row["value"]))
    caption = (
        "The largest value of each metric is bold, the smallest italic; larger is more variable. "
        "95 % intervals in brackets. Within an artist or a prompt only distances are taken. "
        f"Pictures: {'; '.join(sizes)}." + (f" {undefined} values are undefined." if undefined else "")
    )
    return finish(figure, TITLE, caption, synthetic=synthetic)
