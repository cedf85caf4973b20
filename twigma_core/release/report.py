"""The report: one HTML page with every result, that opens from disk and asks nobody for anything.

The page holds its style and pictures; a content security policy forbids all else, scripts included. All
text of posts and models is escaped by the template. Every number links to the block that says where its
asset comes from. What the tables show is decided in `report_views`, those blocks in `report_lineage`, what
the page looks like in `templates/report.html`.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from twigma_core.provenance import Provenance
from twigma_core.release import report_views as views
from twigma_core.release.report_lineage import lineage_views, merged, models
from twigma_core.web_page import render

LARGEST_SVG = 600_000
"""A drawing with more bytes than this is shown as a raster picture."""
_TEMPLATE = Path(__file__).parent / "templates" / "report.html"


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report.

    Attributes:
        name: its asset, e.g. "figure_2c".
        title: heading.
        caption: what it shows, plain text; an empty line parts paragraphs.
        svg: the drawing.
        png: the drawing as raster, shown (as WebP) where the SVG is larger than `LARGEST_SVG`.
        table: what it draws.
        provenance: where it comes from.
    """

    name: str
    title: str
    caption: str
    svg: bytes
    png: bytes
    table: pl.DataFrame
    provenance: Provenance


@dataclass(frozen=True)
class _FigureView:
    name: str
    title: str
    paragraphs: list[str]
    source: str
    table: views.TableView
    wide: bool


def build_report(
    figures: Sequence[ReportFigure],
    tables: views.Tables,
    comparison: pl.DataFrame,
    lineage: Mapping[str, Sequence[Provenance]],
    title: str = "AI-generated pictures posted on X",
    notices: Sequence[str] = (),
    ui: str = "",
) -> str:
    """Return the report as one HTML page.

    Args:
        figures: in the order in which they are shown.
        tables: tables of the lake by name, whole; those that are missing are named on the page. Read are
            `dataset`, `tweets`, `tweet_media`, `drops`, `images`, `tweet_counts`, `raw_tweets`,
            `divergence_matrix`, `divergence_robustness`, `variation_table`, `engagement`, `cluster_trends`,
            `cluster_themes`, `cluster_sensitivity`, `cluster_model` and `annotation_concordance`; of a
            lazy frame only the columns that are needed.
        comparison: the `paper_comparison` table.
        lineage: the records of each asset, one a partition; figures bring their own.
        title: of the page.
        notices: what a reader must be told first, such as `card.SYNTHETIC`.
        ui: address of the Dagster UI, such as "http://127.0.0.1:3000", whose asset and run pages are linked
            to; without one there are no such links.
    """
    records = merged(lineage, (figure.provenance for figure in figures))
    counts = views.month_counts(tables)
    reasons = views.by_reason(tables)
    quality = [views.statuses(tables), views.completeness(tables), views.bad_pages(tables)]
    return render(
        _TEMPLATE,
        title=title,
        notices=notices,
        ui=ui.rstrip("/"),
        known=set(records),
        totals=_totals(counts),
        months=None
        if counts is None
        else views.table_view(counts, "Pictures by month", views.COUNTED, rows=counts.height),
        reasons=None
        if reasons is None
        else views.table_view(reasons, "Not in the dataset, by reason", "drops"),
        comparison=views.comparison_views(comparison),
        verdicts=views.verdicts(comparison),
        figures=[_figure_view(figure) for figure in figures],
        matrices=views.divergence_matrices(tables),
        robustness=views.robustness(tables),
        variation=views.variation(tables),
        likes=views.likes(tables),
        clusters=views.clusters(tables),
        stability=views.stability(tables),
        annotation=views.annotation(tables),
        quality=[view for view in quality if view],
        models=models(records),
        lineages=lineage_views(records),
    )


def _figure_view(figure: ReportFigure) -> _FigureView:
    vector = 0 < len(figure.svg) <= LARGEST_SVG
    data, kind = (figure.svg, "image/svg+xml") if vector else (_webp(figure.png), "image/webp")
    return _FigureView(
        name=figure.name,
        title=figure.title,
        paragraphs=[text.strip() for text in figure.caption.split("\n\n") if text.strip()],
        source=f"data:{kind};base64,{base64.b64encode(data).decode()}",
        table=views.table_view(figure.table, f"Table of {figure.name}", figure.name),
        wide=_inches(figure.png) > 4,
    )


def _inches(png: bytes) -> float:
    """Return the width of a picture by its own resolution; at 100 dots per inch where it states none."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png))
    return float(picture.width / picture.info.get("dpi", (100, 100))[0])


def _webp(png: bytes) -> bytes:
    """Return a picture at the same size in about a tenth of the bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "WEBP", quality=88, method=4)
    return buffer.getvalue()


def _totals(counts: pl.DataFrame | None) -> list[tuple[str, views.Cell]]:
    """Return the sums of the counts, and whether every posted picture is accounted for."""
    if counts is None:
        return []
    sums = {column: int(counts[column].sum()) for column in counts.columns if column != "month"}
    names = {"posts": "posts", "posted": "pictures posted", "kept": "in the dataset", "dropped": "left out"}
    totals = [("months", views.cell(counts.height, "dataset"))]
    totals += [(names[column], views.cell(total, views.COUNTED[column])) for column, total in sums.items()]
    if {"posted", "kept", "dropped"} <= set(sums):
        open_ = sums["posted"] - sums["kept"] - sums["dropped"]
        totals.append(("not accounted for", views.cell(open_, "drops")))
    return totals
