"""People's view of the clusters: sheets go out to the lake's outbox, labels come back through its inbox."""

import dagster as dg
import polars as pl

from twigma_core.analysis import annotation as sheets
from twigma_dagster.declare import Metadata, table
from twigma_dagster.resources import LakeResource, Study, Volunteers

GROUP = "annotation"
INBOX = "inbox/annotations"


@table("annotation_tasks", group=GROUP, kinds=("csv",))
def annotation_tasks(
    lake: LakeResource, study: Study, clusters: pl.DataFrame
) -> tuple[pl.DataFrame, Metadata]:
    """Ten random pictures of each cluster, shuffled; the sheet for annotators does not show the clusters."""
    tasks = sheets.make_tasks(clusters, seed=study.seed)
    path = lake.open().write_bytes("outbox/annotations/sheet.csv", sheets.sheet_csv(tasks).encode())
    return tasks, {"sheet": dg.MetadataValue.path(str(path)), "return labels to": INBOX}


@table("annotations", group=GROUP, kinds=("csv",))
def annotations(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    volunteers: Volunteers,
    annotation_tasks: pl.DataFrame,
) -> tuple[pl.DataFrame, Metadata]:
    """Every CSV or Label Studio export in the lake's inbox; rows that cannot be read are reported."""
    store = lake.open()
    volunteers.answer(store, annotation_tasks, INBOX)
    files = [name for name in store.list_files(INBOX) if name.endswith((".csv", ".json"))]
    frame, problems = sheets.read_sheets((name, store.read_bytes(name).decode("utf-8-sig")) for name in files)
    for problem in problems:
        context.log.warning(problem)
    unknown = frame.filter(~pl.col("image_id").is_in(annotation_tasks["image_id"].to_list()))
    kept = frame.join(annotation_tasks.select("image_id"), on="image_id", how="semi")
    return kept, {"files": len(files), "unreadable rows": len(problems), "unknown pictures": unknown.height}


@table("annotation_concordance", group=GROUP)
def annotation_concordance(
    annotation_tasks: pl.DataFrame, annotations: pl.DataFrame, cluster_themes: pl.DataFrame
) -> pl.DataFrame:
    """Keywords against the clusters' words, people's groups against the clusters, people against people."""
    return sheets.concordance(annotation_tasks, annotations, cluster_themes)
