"""How an asset is declared here: what all assets share, said once.

`@table` makes an asset of a function that returns the table of the same name. The function stays thin: it
reads its inputs, calls one function of `twigma_core`, returns a frame. Schema, owners, kinds, previews,
row counts, models, upstream data versions and the data version from content are added here.
"""

from __future__ import annotations

import base64
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import dagster as dg
import polars as pl

from twigma_core import __version__
from twigma_core.journal import clear
from twigma_core.lake import ArrayTable, Lake, data_version
from twigma_core.provenance import Provenance, Upstream, in_words
from twigma_core.tables import SCHEMAS, conform
from twigma_dagster.io import EARLIER, Frame, LakeIO, Made, existing, up_to
from twigma_dagster.partitions import EVERY, PARTITIONS

OWNERS = ["team:twigma"]
COMPUTE = "twigma/compute"
"""Tag of a step that says which lane it takes."""
CPU, GPU = "cpu", "gpu"
GPU_POOL, X_POOL, DOWNLOAD_POOL, RELEASE_POOL = "gpu", "x_api", "download", "release"
"""Pools over all runs: GPU steps; one client of X, one month of downloads, one writer of releases."""
Metadata = Mapping[str, Any]
EARLIER_MONTHS: dict[str, tuple[str, ...]] = {}
"""Of each table that reads them, the inputs of which all months up to its own are read."""
TOGETHER: dict[str, frozenset[str]] = {}
"""Of each table that a step makes beside others, all tables of that step: it runs whole."""
IN_PIECES: set[str] = set()
"""Tables of which a run keeps pieces until they are written."""


def table(
    *names: str,
    group: str,
    earlier_months: tuple[str, ...] = (),
    reads: tuple[str, ...] = (),
    gpu: bool = False,
    kinds: tuple[str, ...] = (),
    pool: str | None = None,
    in_pieces: bool = False,
    afterwards: Callable[[Lake, str | None], object] | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Make an asset of a function that returns the tables `names`.

    The function returns a frame or `ArrayTable` (a dict of them for several names), a pair of that and
    metadata to show, or both and an exception: then what there is is stored, and the step fails with it,
    so that nothing is built on a table that is not whole unless someone chooses to. A parameter named as
    an asset is an input; its annotation says in what form.

    Args:
        names: tables of `twigma_core.tables` that the function returns.
        group: group in the UI.
        earlier_months: inputs of which all months up to this one are read. Dagster is told of this month's
            only: told of all, it would take a backfill of three months to be one of all that follow too.
        reads: tables that the function reads from the lake itself, all partitions that are there.
        gpu: the step runs on the GPU lane.
        kinds: technologies that the UI shows.
        pool: concurrency pool, e.g. for X's API.
        in_pieces: a run keeps pieces of it in the journal; they are removed once the table is written.
        afterwards: called with the lake and the partition once the table is written.
    """

    def declare(function: Callable[..., Any]) -> dg.AssetsDefinition:
        inputs = [name for name in inspect.signature(function).parameters if name in SCHEMAS]
        cut = PARTITIONS.get(names[0])
        EARLIER_MONTHS.update(dict.fromkeys(names, earlier_months))
        common: dict[str, Any] = {
            "partitions_def": cut,
            "ins": {
                name: dg.AssetIn(
                    partition_mapping=partition_mapping(name, cut),
                    metadata={EARLIER: name in earlier_months},
                )
                for name in inputs
            },
            "deps": [dg.AssetDep(name, partition_mapping=partition_mapping(name, cut)) for name in reads],
            "group_name": group,
            "op_tags": {COMPUTE: GPU if gpu else CPU},
            "pool": GPU_POOL if gpu else pool,
        }
        described: dict[str, dict[str, Any]] = {
            name: {
                "description": describe(name, function),
                "metadata": {"dagster/column_schema": column_schema(name)},
                "owners": OWNERS,
                "kinds": {"parquet", "polars", *kinds},
                "io_manager_key": "lake_io",
                "code_version": __version__,
            }
            for name in names
        }
        if in_pieces:
            IN_PIECES.update(names)
        body = _body(function, names, inputs, reads, afterwards)
        if len(names) == 1:
            return dg.asset(name=names[0], **described[names[0]], **common)(body)
        TOGETHER.update(dict.fromkeys(names, frozenset(names)))
        outs = {name: dg.AssetOut(**described[name]) for name in names}
        return dg.multi_asset(name="_and_".join(names), outs=outs, **common)(body)

    return declare


def partition_mapping(name: str, cut: dg.PartitionsDefinition | None = None) -> dg.PartitionMapping | None:
    """Return how an asset that is cut like `cut` reads table `name`: like for like, or all partitions."""
    upstream = PARTITIONS.get(name)
    return EVERY if upstream and upstream != cut else None


def describe(name: str, function: Callable[..., Any]) -> str:
    """Return an asset's description: what its table holds, then how it is made."""
    how = inspect.getdoc(function) or ""
    return f"{inspect.getdoc(SCHEMAS[name])}\n\n{how}".strip()


def column_schema(name: str) -> dg.TableSchema:
    """Return the columns of a table as the UI shows them."""
    keys = set(SCHEMAS[name].primary_key())
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column,
                type=str(spec.dtype),
                description=spec.description,
                constraints=dg.TableColumnConstraints(nullable=spec.nullable, unique=keys == {column}),
            )
            for column, spec in SCHEMAS[name].columns().items()
        ]
    )


def _body(
    function: Callable[..., Any],
    names: tuple[str, ...],
    inputs: list[str],
    reads: tuple[str, ...],
    afterwards: Callable[[Lake, str | None], object] | None,
) -> Callable[..., Any]:
    signature = inspect.signature(function, eval_str=True)

    @functools.wraps(function)
    def body(context: dg.AssetExecutionContext, **arguments: Any) -> Iterator[dg.MaterializeResult]:
        lake: Lake = _lake_of(context)
        if "context" in signature.parameters:
            arguments["context"] = context
        result = function(**arguments)
        value, shown, *unfinished = result if isinstance(result, tuple) else (result, {})
        values: dict[str, Frame] = value if isinstance(value, dict) else {names[0]: value}
        for name in names:
            made = provenance_of(context, lake, name, inputs, reads)
            yield _materialize(name, values[name], made, shown)
        # Dagster has stored what was yielded before it comes back here.
        partition = context.partition_key if context.has_partition_key else None
        for name in IN_PIECES.intersection(names):
            clear(lake, name, partition)
        if afterwards:
            afterwards(lake, partition)
        for error in unfinished:
            if error:
                raise error

    parameters = [p for p in signature.parameters.values() if p.name != "context"]
    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    # Dagster reads inputs and resources from the signature; the yielded results are typed by the IO manager.
    vars(body)["__signature__"] = inspect.Signature([first, *parameters])
    body.__annotations__ = {
        **{k: v for k, v in inspect.get_annotations(function, eval_str=True).items() if k != "return"},
        "context": dg.AssetExecutionContext,
    }
    return body


def _lake_of(context: dg.AssetExecutionContext) -> Lake:
    io: LakeIO = context.resources.lake_io
    return io.lake.open()


def _materialize(name: str, value: Frame, made: Provenance, shown: Metadata) -> dg.MaterializeResult:
    arrays = value.arrays if isinstance(value, ArrayTable) else {}
    frame = conform(name, value.table if isinstance(value, ArrayTable) else value)
    made = replace(made, models=made.models | own_models(frame))
    return dg.MaterializeResult(
        asset_key=name,
        value=Made(ArrayTable(frame, arrays) if arrays else frame, made),
        data_version=dg.DataVersion(data_version(name, frame, arrays)),
        metadata={
            "dagster/row_count": frame.height,
            "preview": dg.MetadataValue.md(preview(frame)),
            "made by": dg.MetadataValue.md(made_by(made)),
            "read": read_in_words(made.upstream),
            **shown,
        },
    )


def provenance_of(
    context: dg.AssetExecutionContext,
    lake: Lake,
    name: str,
    inputs: list[str],
    reads: tuple[str, ...] = (),
) -> Provenance:
    """Return how this step makes asset `name` of its inputs, and of what it reads from the lake itself."""
    upstream = upstream_of(context, lake, name, inputs) + upstream_in_lake(lake, reads)
    partition = context.partition_key if context.has_partition_key else None
    return Provenance(name, partition, context.run_id, models=models_of(lake, upstream), upstream=upstream)


def upstream_of(
    context: dg.AssetExecutionContext, lake: Lake, name: str, inputs: list[str]
) -> tuple[Upstream, ...]:
    """Return every upstream partition that the step of asset `name` read, with its data version."""
    found = []
    for read in inputs:
        keys: list[str | None] = [None]
        if read in PARTITIONS:
            keys = list(context.asset_partition_keys_for_input(read))
        if read in EARLIER_MONTHS.get(name, ()):
            keys = up_to(lake, read, context.partition_key)
        for key in existing(lake, read, keys):
            found.append(Upstream(read, key, lake.provenance(read, key).data_version))
    return tuple(found)


def upstream_in_lake(lake: Lake, inputs: tuple[str, ...]) -> tuple[Upstream, ...]:
    """Return every partition of these tables that is in the lake, with its data version."""
    found = []
    for name in inputs:
        keys: list[str | None] = [None] if lake.has(name) else list(lake.partitions(name))
        found += [Upstream(name, key, lake.provenance(name, key).data_version) for key in keys]
    return tuple(found)


def models_of(lake: Lake, upstream: tuple[Upstream, ...]) -> dict[str, str]:
    """Return the models that the upstream partitions rest on."""
    models: dict[str, str] = {}
    for up in upstream:
        models |= lake.provenance(up.asset, up.partition).models
    return models


def own_models(frame: pl.DataFrame) -> dict[str, str]:
    """Return the models named in a table's own columns."""
    if not {"model", "weights_sha256"} <= set(frame.columns):
        return {}
    return dict(frame.select("model", "weights_sha256").unique().iter_rows())


def preview(frame: pl.DataFrame, rows: int = 5, width: int = 48) -> str:
    """Return the first rows as a Markdown table."""
    if frame.is_empty():
        return "*no rows*"

    def cell(value: Any) -> str:
        text = f"{value:.4g}" if isinstance(value, float) else str("" if value is None else value)
        text = " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
        return text if len(text) <= width else text[: width - 1] + "…"

    head = frame.head(rows)
    lines = [head.columns, ["---"] * head.width, *([cell(v) for v in row] for row in head.iter_rows())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def picture(data: bytes, kind: str, text: str) -> dg.MarkdownMetadataValue:
    """Return a picture of at most 100 kB as metadata that the UI shows; `kind` is png or jpeg."""
    if not data:
        return dg.MetadataValue.md("*no pictures*")
    return dg.MetadataValue.md(f"![{text}](data:image/{kind};base64,{base64.b64encode(data).decode()})")


def made_by(record: Provenance) -> str:
    """Return the code version and models as Markdown."""
    models = [f"{name} `sha256:{sha[:12]}`" for name, sha in sorted(record.models.items())]
    return f"code `{record.code_version}`; models: {', '.join(models) or 'none'}"


def read_in_words(upstream: tuple[Upstream, ...]) -> str:
    """Return which partitions were read, in words: "dataset 2021-01 … 2021-06 (6); codebook"."""
    parts = [
        f"{asset} {in_words(up.partition for up in upstream if up.asset == asset)}".strip()
        for asset in dict.fromkeys(up.asset for up in upstream)
    ]
    return "; ".join(parts) or "nothing"
