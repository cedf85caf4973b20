"""What the report shows, read from a lake: the figures' files and the records of all tables."""

from __future__ import annotations

import io

import polars as pl

from twigma_core.figures import FIGURES
from twigma_core.figures.files import read_provenance
from twigma_core.lake import Lake
from twigma_core.provenance import Provenance
from twigma_core.release.report import ReportFigure
from twigma_core.tables import SCHEMAS


def gather_figures(lake: Lake) -> list[ReportFigure]:
    """Return the figures that are in the lake, in the paper's order."""
    found = []
    for name, module in FIGURES.items():
        if not lake.exists(f"figures/{name}.svg"):
            continue
        svg = lake.read_bytes(f"figures/{name}.svg")
        found.append(
            ReportFigure(
                name=name,
                title=module.TITLE,
                caption=module.ABOUT,
                svg=svg,
                png=lake.read_bytes(f"figures/{name}.png"),
                table=pl.read_csv(
                    io.BytesIO(lake.read_bytes(f"figures/{name}.csv")), infer_schema_length=None
                ),
                provenance=read_provenance(svg),
            )
        )
    return found


def gather_lineage(lake: Lake) -> dict[str, list[Provenance]]:
    """Return the record of every partition of every table in the lake, by table."""
    records: dict[str, list[Provenance]] = {}
    for name in SCHEMAS:
        keys: list[str | None] = [None] if lake.has(name) else list(lake.partitions(name))
        if keys:
            records[name] = [lake.provenance(name, key) for key in keys]
    return records
