"""Every figure of the paper: SVG and PNG with their lineage inside, and the table that they draw.

What is drawn, and from which tables, is each module's own affair in `twigma_core.figures`; here the tables
are read from the lake, the files written to it, and a preview put in the UI.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import dagster as dg
import polars as pl

from twigma_core import __version__, contact
from twigma_core.figures import FIGURES
from twigma_core.figures.files import render
from twigma_core.lake import Lake, frame_version
from twigma_core.provenance import Provenance
from twigma_dagster.declare import (
    COMPUTE,
    CPU,
    OWNERS,
    made_by,
    models_of,
    partition_mapping,
    picture,
    preview,
    read_in_words,
    upstream_in_lake,
)
from twigma_dagster.io import existing
from twigma_dagster.resources import LakeResource, Study

PICTURES: dict[str, dict[str, Callable[..., Any]]] = {
    "figure_4c": {"thumbnails": contact.of_clusters},
    "figure_4e": {"pictures": contact.of_inspirations},
}
"""Figures that show pictures of the lake beside their tables: as which argument, and what fetches them."""
ALSO_READ = {
    "figure_4c": ("clusters", "dataset"),
    "figure_4e": ("dataset", "reference_images"),
}
"""Tables that those pictures are found by."""


def figure(name: str) -> dg.AssetsDefinition:
    """Return the asset of a figure."""
    module = FIGURES[name]
    inputs = tuple(dict.fromkeys((*module.TABLES, *ALSO_READ.get(name, ()))))

    @dg.asset(
        name=name,
        deps=[dg.AssetDep(table, partition_mapping=partition_mapping(table)) for table in inputs],
        group_name="figures",
        op_tags={COMPUTE: CPU},
        description=f"**{module.TITLE}**\n\n{module.ABOUT}",
        owners=OWNERS,
        kinds={"matplotlib", "svg", "png"},
        code_version=__version__,
    )
    def draw(context: dg.AssetExecutionContext, lake: LakeResource, study: Study) -> dg.MaterializeResult:
        return _draw(context, lake.open(), study, name, module, inputs)

    return draw


def _draw(
    context: dg.AssetExecutionContext,
    lake: Lake,
    study: Study,
    name: str,
    module: ModuleType,
    inputs: tuple[str, ...],
) -> dg.MaterializeResult:
    frames = [_columns(lake, table, columns) for table, columns in module.TABLES.items()]
    drawn = module.table(*frames)
    pictures = {key: fetch(lake, *frames) for key, fetch in PICTURES.get(name, {}).items()}
    upstream = upstream_in_lake(lake, inputs)
    version = frame_version(drawn)
    record = Provenance(
        name, None, context.run_id, models=models_of(lake, upstream), upstream=upstream, data_version=version
    )
    files = render(module.draw(*frames, **pictures, synthetic=study.synthetic), record)
    written = {"csv": drawn.write_csv().encode(), "png": files.png, "svg": files.svg}
    paths = {kind: lake.write_bytes(f"figures/{name}.{kind}", data) for kind, data in written.items()}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            "figure": picture(files.thumbnail, "png", module.TITLE),
            "table": dg.MetadataValue.md(preview(drawn, rows=12)),
            "dagster/row_count": drawn.height,
            "read": read_in_words(upstream),
            "made by": dg.MetadataValue.md(made_by(record)),
            **{kind: dg.MetadataValue.path(str(path)) for kind, path in paths.items()},
        },
    )


def _columns(lake: Lake, table: str, columns: tuple[str, ...]) -> pl.DataFrame:
    existing(lake, table, list(lake.partitions(table)) or [None])
    return lake.scan(table).select(columns).collect()


FIGURE_ASSETS: list[Any] = [figure(name) for name in FIGURES]
