"""What the report's tables show: frames in, rows of text out.

Each function makes one block of the page. Nothing here is HTML: the template escapes every cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import polars as pl

from twigma_core.provenance import Provenance

NONE = "–"
Tables = Mapping[str, pl.DataFrame | pl.LazyFrame]


@dataclass(frozen=True)
class Cell:
    """A cell: its text, whether it is a number, and the asset whose lineage it links to."""

    text: str
    number: bool = False
    asset: str | None = None


@dataclass(frozen=True)
class TableView:
    """A table as it is shown.

    Attributes:
        caption: what it holds, in a few words.
        headers: one a column.
        rows: cells, as many a row as there are headers.
        total: rows of the whole table; more than `rows` where only the first are shown.
    """

    caption: str
    headers: list[Cell]
    rows: list[list[Cell]]
    total: int


@dataclass(frozen=True)
class ClusterView:
    """A cluster as it is shown: `points` are its shares over the months as "x,y" of an 120 × 32 drawing."""

    label: int
    words: list[str]
    pictures: int
    share: str
    trend: str
    slope: str
    months: str
    points: str


@dataclass(frozen=True)
class LineageView:
    """Where an asset comes from: its record in words, or a table with one row a partition."""

    asset: str
    text: str
    partitions: TableView | None = None


@dataclass(frozen=True)
class Models:
    """Models and code versions that stand behind a page."""

    table: TableView | None
    code: list[str] = field(default_factory=list)


def number(value: float | int | None) -> str:
    """Return a number as people read it: thousands separated, four significant digits."""
    if value is None or value != value:
        return NONE
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:.3g}"


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return an estimate with its 95 % interval, where it has one."""
    if value is None or low is None or high is None:
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def cell(value: Any) -> Cell:
    """Return any value of a frame as a cell."""
    if value is None:
        return Cell(NONE)
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int | float):
        return Cell(number(value), number=True)
    if isinstance(value, datetime | date):
        return Cell(
            value.isoformat(sep=" ", timespec="minutes") if isinstance(value, datetime) else str(value)
        )
    if isinstance(value, list):
        return Cell(", ".join(number(v) if isinstance(v, float) else str(v) for v in value))
    return Cell(str(value))


def table_view(frame: pl.DataFrame, caption: str, rows: int = 20) -> TableView:
    """Return the first `rows` rows of a frame with its column names as headers.

    A column `id` or `…_id` is text even where a reader of CSV took it for a number.
    """
    ids = [name for name in frame.columns if name == "id" or name.endswith("_id")]
    shown = frame.head(rows).with_columns(pl.col(ids).cast(pl.String))
    headers = [Cell(name, number=shown.schema[name].is_numeric()) for name in shown.columns]
    return TableView(caption, headers, [[cell(value) for value in row] for row in shown.rows()], frame.height)


def month_counts(tables: Tables) -> pl.DataFrame | None:
    """Return posts, pictures posted, kept and dropped per month, and the share kept; None without a dataset.

    `posted` counts a picture once for each post that shows it, as `kept + dropped` does.
    """
    if "dataset" not in tables:
        return None
    counts: pl.LazyFrame | None = None
    sources = {"posts": "tweets", "posted": "tweet_media", "kept": "dataset", "dropped": "drops"}
    for column, name in sources.items():
        if name in tables:
            found = tables[name].lazy().group_by("month").agg(pl.len().cast(pl.Int64).alias(column))
            counts = found if counts is None else counts.join(found, on="month", how="full", coalesce=True)
    if counts is None:
        return None
    result = counts.sort("month").collect()
    return result.with_columns(pl.col(column).fill_null(0) for column in result.columns if column != "month")


def by_reason(tables: Tables) -> pl.DataFrame | None:
    """Return the pictures dropped by reason, most first; None without `drops`."""
    if "drops" not in tables:
        return None
    reasons = tables["drops"].lazy().group_by(pl.col("reason").cast(pl.String)).agg(pictures=pl.len())
    return reasons.sort(["pictures", "reason"], descending=[True, False]).collect()


def statuses(tables: Tables) -> TableView | None:
    """Return the fetch ledger: pictures by month and status."""
    if "images" not in tables:
        return None
    counted = tables["images"].lazy().group_by("month", pl.col("status").cast(pl.String)).len().collect()
    if counted.is_empty():
        return table_view(counted, "Pictures asked for, by month and outcome")
    wide = counted.sort("status").pivot("status", index="month", values="len").fill_null(0).sort("month")
    return table_view(wide, "Pictures asked for, by month and outcome", rows=wide.height)


def completeness(tables: Tables) -> TableView | None:
    """Return what X counts beside what was collected, by month."""
    if "tweet_counts" not in tables:
        return None
    counted = (
        tables["tweet_counts"].lazy().group_by("month").agg(pl.sum("counted", "collected")).sort("month")
    )
    frame = counted.with_columns(
        share_collected=pl.when(pl.col("counted") > 0).then(pl.col("collected") / pl.col("counted"))
    ).collect()
    return table_view(frame, "Posts that X counts, and posts collected", rows=frame.height)


def bad_pages(tables: Tables) -> TableView | None:
    """Return the collected pages that could not be read, with the reason; None where all could."""
    if "raw_tweets" not in tables:
        return None
    bad = (
        tables["raw_tweets"]
        .lazy()
        .filter(pl.col("status") != "ok")
        .select("month", "query", "page", "reason")
    )
    frame = bad.sort("month", "query", "page").collect()
    return table_view(frame, "Pages that could not be read") if frame.height else None


def divergence_matrices(tables: Tables) -> list[TableView]:
    """Return one matrix a measure: rows from, columns to."""
    if "divergence_matrix" not in tables:
        return []
    frame = tables["divergence_matrix"].lazy().collect()
    views = []
    for (measure, cells), part in frame.group_by("measure", "cells", maintain_order=True):
        sources = list(dict.fromkeys([*part["source_p"], *part["source_q"]]))
        texts = {
            (row["source_p"], row["source_q"]): interval(row["value"], row["low"], row["high"])
            for row in part.iter_rows(named=True)
        }
        caption = str(measure) if cells is None else f"{measure}, {number(cells)} cells"
        rows = [[Cell(p), *(Cell(texts.get((p, q), NONE), number=True) for q in sources)] for p in sources]
        headers = [Cell("from ↓ to →"), *(Cell(q, number=True) for q in sources)]
        views.append(TableView(caption, headers, rows, len(rows)))
    return views


def variation(tables: Tables) -> TableView | None:
    """Return every source's variation by metric, with intervals."""
    if "variation_table" not in tables:
        return None
    frame = tables["variation_table"].lazy().collect()
    metrics, sources = (list(dict.fromkeys(frame[key])) for key in ("metric", "source"))
    found = {(row["source"], row["metric"]): row for row in frame.iter_rows(named=True)}

    def shown(source: str, metric: str) -> Cell:
        row = found.get((source, metric))
        return Cell(interval(row["value"], row["low"], row["high"]) if row else NONE, number=True)

    rows = [[Cell(source), *(shown(source, metric) for metric in metrics)] for source in sources]
    headers = [Cell("source"), *(Cell(metric, number=True) for metric in metrics)]
    return TableView("Variation by source and metric, with 95 % intervals", headers, rows, len(rows))


def clusters(tables: Tables, words: int = 8) -> list[ClusterView]:
    """Return each cluster with its first words and its share over the months."""
    if "cluster_trends" not in tables:
        return []
    trends = tables["cluster_trends"].lazy().with_columns(pl.col("trend").cast(pl.String)).collect()
    themes: dict[int, list[str]] = {}
    if "cluster_themes" in tables:
        ranked = tables["cluster_themes"].lazy().filter(pl.col("rank") <= words).sort("cluster", "rank")
        for label, word in ranked.select("cluster", "word").collect().iter_rows():
            themes.setdefault(label, []).append(word)
    views = []
    for (label,), part in trends.sort("cluster", "month").group_by("cluster", maintain_order=True):
        first, last = part.row(0, named=True), part.row(-1, named=True)
        pictures, total = int(part["pictures"].sum()), int(part["total"].sum())
        views.append(
            ClusterView(
                label=int(str(label)),
                words=themes.get(int(str(label)), []),
                pictures=pictures,
                share=f"{pictures / total:.1%}" if total else NONE,
                trend=last["trend"],
                slope=interval(last["slope"], last["slope_low"], last["slope_high"]),
                months=", ".join(f"{row['share']:.1%} in {row['month']}" for row in (first, last)),
                points=sparkline(part["share"].to_list()),
            )
        )
    return views


def sparkline(values: Sequence[float], width: float = 120, height: float = 32) -> str:
    """Return the points of a polyline from zero at the bottom to the greatest value at the top."""
    top = max([*values, 1e-12])
    step = width / max(len(values) - 1, 1)
    margin = 3.0
    return " ".join(
        f"{i * step:.1f},{height - margin - (height - 2 * margin) * value / top:.1f}"
        for i, value in enumerate(values)
    )


def comparison_view(comparison: pl.DataFrame, lineages: Iterable[str]) -> TableView:
    """Return the paper's numbers beside ours; an asset with a record on the page is linked to it."""
    known = set(lineages)
    rows = [
        [
            Cell(row["number"]),
            Cell(row["place"]),
            Cell(row["paper"]),
            Cell(interval(row["value"], row["low"], row["high"]), number=True),
            Cell(str(row["verdict"])),
            Cell(row["because"] or ""),
            Cell(row["asset"], asset=row["asset"] if row["asset"] in known else None),
        ]
        for row in comparison.iter_rows(named=True)
    ]
    names = ("number", "where", "paper", "here", "verdict", "because", "asset")
    headers = [Cell(name, number=name == "here") for name in names]
    return TableView("Numbers of the paper beside ours", headers, rows, len(rows))


def lineage_views(records: Mapping[str, Sequence[Provenance]]) -> list[LineageView]:
    """Return a block an asset: the record of a whole-dataset asset, or a row for each partition."""
    views = []
    for asset, parts in sorted(records.items()):
        if len(parts) == 1 and parts[0].partition is None:
            views.append(LineageView(asset, parts[0].describe()))
            continue
        rows = [
            [Cell(p.partition or "all"), Cell(p.data_version), Cell(p.run_id), Cell(p.code_version)]
            for p in sorted(parts, key=lambda p: p.partition or "")
        ]
        headers = [Cell(name) for name in ("partition", "data version", "run", "code")]
        text = "\n".join(
            dict.fromkeys(f"{name} sha256:{sha}" for p in parts for name, sha in p.models.items())
        )
        views.append(LineageView(asset, text, TableView(f"Partitions of {asset}", headers, rows, len(rows))))
    return views


def models(records: Iterable[Provenance]) -> Models:
    """Return the models and code versions of all records, each once."""
    found = list(records)
    pairs = sorted({pair for record in found for pair in record.models.items()})
    rows = [[Cell(name), Cell(sha)] for name, sha in pairs]
    view = TableView("Models", [Cell("model"), Cell("sha256 of its weights")], rows, len(rows))
    return Models(view if pairs else None, sorted({record.code_version for record in found}))
