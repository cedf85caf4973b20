"""What the report's tables show: frames in, rows of text out.

Each function makes one block of the page. Nothing here is HTML: the template escapes every cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from twigma_core.analysis import cluster_sensitivity as sensitivity
from twigma_core.analysis import engagement

NONE = "–"
PAPERS = "kl, 10 cells"
"""Caption of the paper's divergence matrix."""
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
        assets: those that it is read from.
    """

    caption: str
    headers: list[Cell]
    rows: list[list[Cell]]
    total: int
    assets: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaperView:
    """A number of the paper as it is shown beside ours; `here` has the interval, where there is one."""

    number: str
    place: str
    paper: str
    here: str
    asset: str
    selection: str
    verdict: str
    because: str


@dataclass(frozen=True)
class ClusterView:
    """A cluster as it is shown: `points` are its shares over the months as "x,y" of an 120 × 32 drawing."""

    label: int
    words: list[str]
    pictures: Cell
    share: Cell
    trend: str
    slope: Cell
    months: Cell
    points: str


def number(value: float | int | None) -> str:
    """Return a number as people read it: thousands separated, four significant digits."""
    if value is None or value != value:
        return NONE
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) == float("inf"):
        return "∞" if value > 0 else "−∞"
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    return f"{value:.3g}"


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """Return an estimate with its 95 % interval, where it has one."""
    if value is None or low is None or high is None:
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"


def cell(value: Any, asset: str | None = None) -> Cell:
    """Return any value of a frame as a cell; a number is linked to the asset that it comes from."""
    if value is None:
        return Cell(NONE)
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, int | float):
        return Cell(number(value), True, asset)
    if isinstance(value, datetime | date):
        return Cell(
            value.isoformat(sep=" ", timespec="minutes") if isinstance(value, datetime) else str(value)
        )
    if isinstance(value, list):
        return Cell(", ".join(number(v) if isinstance(v, float) else str(v) for v in value))
    return Cell(str(value))


def table_view(
    frame: pl.DataFrame, caption: str, asset: str | Mapping[str, str], rows: int = 20
) -> TableView:
    """Return the first `rows` rows of a frame with its column names as headers.

    A column `id` or `…_id` is text even where a reader of CSV took it for a number. `asset` is the one that
    the frame's numbers come from, or one for each column of numbers.
    """
    ids = [name for name in frame.columns if name == "id" or name.endswith("_id")]
    shown = frame.head(rows).with_columns(pl.col(ids).cast(pl.String))
    headers = [Cell(name, number=shown.schema[name].is_numeric()) for name in shown.columns]
    of = [asset if isinstance(asset, str) else asset.get(name) for name in shown.columns]
    cells = [[cell(value, source) for value, source in zip(row, of, strict=True)] for row in shown.rows()]
    return TableView(caption, headers, cells, frame.height, tuple(dict.fromkeys(name for name in of if name)))


COUNTED = {"posts": "tweets", "posted": "tweet_media", "kept": "dataset", "dropped": "drops"}
"""Table whose rows each column of `month_counts` counts."""


def month_counts(tables: Tables) -> pl.DataFrame | None:
    """Return posts, pictures posted, kept and dropped per month, and the share kept; None without a dataset.

    `posted` counts a picture once for each post that shows it, as `kept + dropped` does.
    """
    if "dataset" not in tables:
        return None
    counts: pl.LazyFrame | None = None
    for column, name in COUNTED.items():
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
        return table_view(counted, "Pictures asked for, by month and outcome", "images")
    wide = counted.sort("status").pivot("status", index="month", values="len").fill_null(0).sort("month")
    return table_view(wide, "Pictures asked for, by month and outcome", "images", rows=wide.height)


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
    return table_view(frame, "Posts that X counts, and posts collected", "tweet_counts", rows=frame.height)


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
    return table_view(frame, "Pages that could not be read", "raw_tweets") if frame.height else None


def divergence_matrices(tables: Tables) -> list[TableView]:
    """Return one matrix a measure, that of the paper first: rows from, columns to."""
    name = "divergence_matrix"
    if name not in tables:
        return []
    frame = tables[name].lazy().collect()
    views = []
    for (measure, cells), part in frame.group_by("measure", "cells", maintain_order=True):
        sources = list(dict.fromkeys([*part["source_p"], *part["source_q"]]))
        texts = {
            (row["source_p"], row["source_q"]): interval(row["value"], row["low"], row["high"])
            for row in part.iter_rows(named=True)
        }
        bare = str(measure).removesuffix(f"_{cells}")
        caption = bare if cells is None else f"{bare}, {number(cells)} cells"
        rows = [
            [
                Cell(p),
                *(Cell(texts.get((p, q), NONE), True, name if (p, q) in texts else None) for q in sources),
            ]
            for p in sources
        ]
        headers = [Cell("from ↓ to →"), *(Cell(q, number=True) for q in sources)]
        views.append(TableView(caption, headers, rows, len(rows), (name,)))
    return sorted(views, key=lambda view: view.caption != PAPERS)


def robustness(tables: Tables) -> TableView | None:
    """Return of each variant of measure and quantizer whether the paper's order of the sources holds."""
    name = "divergence_robustness"
    if name not in tables:
        return None
    variants = tables[name].lazy().unique("variant", maintain_order=True).collect()
    shown = variants.select("variant", "kendall_tau", "claim_holds", "reason")
    caption = "Whether the order of the sources rests on the measure or the quantizer"
    return table_view(shown, caption, name, rows=shown.height)


def variation(tables: Tables) -> TableView | None:
    """Return every source's variation by metric, with intervals."""
    name = "variation_table"
    if name not in tables:
        return None
    frame = tables[name].lazy().collect()
    metrics, sources = (list(dict.fromkeys(frame[key])) for key in ("metric", "source"))
    found = {(row["source"], row["metric"]): row for row in frame.iter_rows(named=True)}

    def shown(source: str, metric: str) -> Cell:
        row = found.get((source, metric))
        if row is None:
            return Cell(NONE, True)
        return Cell(interval(row["value"], row["low"], row["high"]), True, name)

    rows = [[Cell(source), *(shown(source, metric) for metric in metrics)] for source in sources]
    headers = [Cell("source"), *(Cell(metric, number=True) for metric in metrics)]
    caption = "Variation by source and metric, with 95 % intervals"
    return TableView(caption, headers, rows, len(rows), (name,))


def likes(tables: Tables) -> tuple[TableView, str] | None:
    """Return the likes, each number in four columns with the reason where one is missing, and in words."""
    name = "engagement"
    if name not in tables:
        return None
    texts = pl.col("column", "quantity").cast(pl.String)
    frame = tables[name].lazy().with_columns(texts).collect()
    rows: list[list[Cell]] = []

    def add(labels: Sequence[object], held: Mapping[str, str], note: str = "") -> None:
        numbers = [Cell(held.get(c, NONE), True, name if c in held else None) for c in engagement.COLUMNS]
        rows.append([*(Cell(str(label)) for label in labels), *numbers, Cell(note)])

    for (corpus,), of in frame.group_by("corpus", maintain_order=True):
        for (quantity, term), part in of.group_by("quantity", "term", maintain_order=True):
            found = {row["column"]: row for row in part.iter_rows(named=True)}
            notes = [f"{column}: {row['note']}" for column, row in found.items() if row["note"]]
            ends = {c: interval(row["estimate"], row["low"], row["high"]) for c, row in found.items()}
            add([corpus, quantity, term], ends, "; ".join(notes))
        fits = of.filter(quantity="dispersion").rows(named=True)
        for key, words in _LIKES_COUNTS.items():
            add([corpus, words, "all"], {row["column"]: number(row[key]) for row in fits})
    headers = [Cell(text) for text in ("corpus", "quantity", "term")]
    headers += [Cell(column, number=True) for column in engagement.COLUMNS] + [Cell("note")]
    caption = "Likes by similarity to human pictures, as in the paper and in three other ways"
    return TableView(caption, headers, rows, len(rows), (name,)), engagement.explain(frame)


_LIKES_COUNTS = {
    "n": "pictures, or posts in column posts",
    "groups": "authors",
    "without_likes": "left out for want of likes",
}
"""What the counts of table `engagement` are called."""


def stability(tables: Tables) -> tuple[TableView, str] | None:
    """Return how much the clusters hang on the seed and on k, and in words."""
    name = "cluster_sensitivity"
    if name not in tables:
        return None
    frame = tables[name].lazy().collect()
    model = tables["cluster_model"].lazy().collect() if "cluster_model" in tables else None
    caption = "Clusters by k and seed: how tight, how alike, and how many rise and fall"
    view = table_view(frame, caption, name, rows=frame.height)
    return view, "" if model is None or frame.is_empty() else sensitivity.explain(frame, model.height)


def annotation(tables: Tables) -> TableView | None:
    """Return how people's words and groups agree with the clusters, a row a measure and scope."""
    name = "annotation_concordance"
    if name not in tables:
        return None
    rows = [
        [
            Cell(row["measure"]),
            Cell(row["scope"]),
            Cell(interval(row["value"], row["low"], row["high"]), True, name),
            cell(row["n"], name),
        ]
        for row in tables[name].lazy().collect().iter_rows(named=True)
    ]
    headers = [Cell("measure"), Cell("of"), Cell("value", number=True), Cell("pictures", number=True)]
    caption = "Annotators' words and groups beside the clusters, with 95 % intervals"
    return TableView(caption, headers, rows, len(rows), (name,))


def clusters(tables: Tables, words: int = 8) -> list[ClusterView]:
    """Return each cluster with its first words and its share over the months."""
    name = "cluster_trends"
    if name not in tables:
        return []
    trends = tables[name].lazy().with_columns(pl.col("trend").cast(pl.String)).collect()
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
                pictures=cell(pictures, name),
                share=Cell(f"{pictures / total:.1%}" if total else NONE, True, name),
                trend=last["trend"],
                slope=Cell(interval(last["slope"], last["slope_low"], last["slope_high"]), True, name),
                months=Cell(
                    ", ".join(f"{row['share']:.1%} in {row['month']}" for row in (first, last)), True, name
                ),
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


def comparison_views(comparison: pl.DataFrame) -> list[PaperView]:
    """Return the paper's numbers beside ours."""
    return [
        PaperView(
            row["number"],
            row["place"],
            row["paper"],
            interval(row["value"], row["low"], row["high"]),
            row["asset"],
            row["selection"] or "",
            str(row["verdict"]),
            row["because"],
        )
        for row in comparison.iter_rows(named=True)
    ]


def verdicts(comparison: pl.DataFrame) -> list[tuple[str, Cell]]:
    """Return how many numbers have each verdict."""
    counted = dict(comparison.group_by(pl.col("verdict").cast(pl.String)).len().iter_rows())
    of = "paper_comparison"
    return [(v, cell(counted.get(v, 0), of)) for v in ("reproduced", "differs", "not comparable")]
