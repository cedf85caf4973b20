"""What goes out: the paper's numbers beside ours, the release, the report, and SQL over it all."""

import hashlib

import dagster as dg
import polars as pl

from twigma_core import __version__
from twigma_core.analysis import paper
from twigma_core.catalog import write_catalog
from twigma_core.collect.tombstones import Gone
from twigma_core.figures import FIGURES
from twigma_core.lake import Lake
from twigma_core.provenance import Provenance, Upstream
from twigma_core.release.gather import gather_figures, gather_lineage
from twigma_core.release.package import write_release
from twigma_core.release.report import build_report
from twigma_core.tables import SCHEMAS
from twigma_dagster.declare import (
    COMPUTE,
    CPU,
    OWNERS,
    RELEASE_POOL,
    Metadata,
    partition_mapping,
    provenance_of,
    table,
    upstream_in_lake,
)
from twigma_dagster.graph import record, record_path
from twigma_dagster.resources import LakeResource, Study

GROUP = "release"
REPORT_TABLES = (
    *("raw_tweets", "tweets", "tweet_media", "tweet_counts", "images", "dataset", "drops"),
    *("divergence_matrix", "divergence_robustness", "variation_table", "engagement"),
    *("cluster_trends", "cluster_themes", "cluster_sensitivity", "cluster_model"),
    "annotation_concordance",
)


@table("paper_comparison", group=GROUP, reads=tuple(paper.needed_assets()))
def paper_comparison(lake: LakeResource, study: Study) -> pl.DataFrame:
    """Every number that the paper states, with ours, its interval and a verdict."""
    store = lake.open()
    found = {name: store.scan(name).collect() for name in paper.needed_assets()}
    return paper.paper_comparison(found, synthetic=study.synthetic or bool(study.notice))


@table("release", group=GROUP, reads=("tombstones",), pool=RELEASE_POOL, kinds=("csv",))
def release(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    study: Study,
    dataset: pl.DataFrame,
    clusters: pl.DataFrame,
    projection: pl.DataFrame,
) -> tuple[pl.DataFrame, Metadata]:
    """Parquet, CSV, checksums, card, dictionary, Croissant, changelog: a folder that appears as a whole.

    A finished release never changes: other data give a new version, the same data none.
    """
    store = lake.open()
    made = write_release(
        store,
        dataset,
        clusters,
        projection,
        provenance_of(context, store, "release", ["dataset", "clusters", "projection"]),
        profile=study.release_profile,
        version=study.release_version,
        publication=study.publication,
        withdrawn=Gone.of(store).posts,
    )
    return made.files, {"folder": dg.MetadataValue.path(str(store.path(made.folder))), **made.summary()}


def _page(
    context: dg.AssetExecutionContext,
    lake: Lake,
    name: str,
    path: str,
    data: bytes,
    upstream: tuple[Upstream, ...],
    models: dict[str, str],
) -> dg.MaterializeResult:
    """Write a file that is an asset, with its record beside it."""
    version = hashlib.sha256(data).hexdigest()[:32]
    made = Provenance(
        name,
        run_id=context.run_id,
        models=models,
        upstream=upstream,
        data_version=version,
    )
    written = lake.write_bytes(path, data)
    lake.write_bytes(record_path(name), made.to_json().encode())
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={"file": dg.MetadataValue.path(str(written)), "bytes": len(data)},
    )


@dg.asset(
    group_name=GROUP,
    op_tags={COMPUTE: CPU},
    deps=[
        *FIGURES,
        *(dg.AssetDep(name, partition_mapping=partition_mapping(name)) for name in REPORT_TABLES),
        "paper_comparison",
        "release",
    ],
    owners=OWNERS,
    kinds={"html"},
    code_version=__version__,
)
def report(context: dg.AssetExecutionContext, lake: LakeResource, study: Study) -> dg.MaterializeResult:
    """One self-contained page: figures, tables, the paper beside ours, each with its lineage."""
    store = lake.open()
    page = build_report(
        gather_figures(store),
        {name: store.scan(name) for name in REPORT_TABLES},
        store.read("paper_comparison"),
        gather_lineage(store),
        notices=study.notices,
        ui=study.ui,
    )
    figures = [made for name in FIGURES if (made := record(store, name, None))]
    upstream = tuple(Upstream(made.asset, None, made.data_version) for made in figures)
    upstream += upstream_in_lake(store, (*REPORT_TABLES, "paper_comparison", "release"))
    models = {name: sha for made in figures for name, sha in made.models.items()}
    return _page(context, store, "report", "report/index.html", page.encode(), upstream, models)


@dg.asset(
    group_name=GROUP,
    op_tags={COMPUTE: CPU},
    deps=[dg.AssetDep(name, partition_mapping=partition_mapping(name)) for name in SCHEMAS],
    owners=OWNERS,
    kinds={"duckdb"},
    code_version=__version__,
)
def catalog(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
    """`twigma.duckdb`: a view of each table of the lake, by name. A remote lake has `twigma sql` instead."""
    store = lake.open()
    path = write_catalog(store) if store.local else "a remote lake has no catalog file; use `twigma sql`"
    names = [name for name in SCHEMAS if store.has(name) or store.partitions(name)]
    made = Provenance(
        "catalog",
        run_id=context.run_id,
        upstream=upstream_in_lake(store, tuple(names)),
        data_version=__version__,
    )
    store.write_bytes(record_path("catalog"), made.to_json().encode())
    return dg.MaterializeResult(metadata={"file": str(path), "views": len(names)})
