"""People's view of the clusters: sheets go out to the lake's outbox, labels come back through its inbox."""

import dagster as dg
import polars as pl

from twigma_core import contact
from twigma_core.analysis import annotation as sheets
from twigma_core.analysis import concordance as agreement
from twigma_core.analysis.annotation_sheets import read_sheets
from twigma_dagster.declare import Metadata, table
from twigma_dagster.resources import LakeResource, Study, Volunteers

GROUP = "annotation"
OUTBOX = "outbox/annotations"
INBOX = "inbox/annotations"


@table("annotation_tasks", group=GROUP, reads=("dataset",), kinds=("csv",))
def annotation_tasks(
    lake: LakeResource, study: Study, clusters: pl.DataFrame
) -> tuple[pl.DataFrame, Metadata]:
    """Ten random pictures of each cluster, shuffled, as a CSV sheet and a Label Studio project.

    Neither shows the clusters. What was handed out stays on the sheet; another seed draws it anew.
    """
    store = lake.open()
    before = store.read("annotation_tasks") if store.has("annotation_tasks") else None
    tasks = sheets.make_tasks(clusters, seed=study.seed, previous=before)
    pictures, unsafe = contact.of_tasks(store, tasks)
    files = sheets.project_files(tasks, pictures, INBOX, unsafe)
    for name, data in files.items():
        store.write_bytes(f"{OUTBOX}/{name}", data)
    for old in store.list_files(f"{OUTBOX}/pictures"):
        if old.removeprefix(f"{OUTBOX}/") not in files:
            store.remove(old)
    return tasks, {
        "hand out": dg.MetadataValue.path(str(store.path(OUTBOX))),
        "return labels to": dg.MetadataValue.path(str(store.path(INBOX))),
        "probably not safe for work": unsafe,
    }


@table("annotations", group=GROUP, kinds=("csv",))
def annotations(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    volunteers: Volunteers,
    annotation_tasks: pl.DataFrame,
) -> tuple[pl.DataFrame, Metadata]:
    """Every CSV or Label Studio export in the lake's inbox; what cannot be read is reported."""
    store = lake.open()
    volunteers.answer(store, annotation_tasks, INBOX)
    files = [name for name in store.list_files(INBOX) if name.endswith((".csv", ".json"))]
    frame, problems = read_sheets(((name, store.read_bytes(name)) for name in files), annotation_tasks)
    for problem in problems:
        context.log.warning(problem)
    listed = dg.MetadataValue.md("\n".join(f"- {problem}" for problem in problems[:50]) or "*none*")
    return frame, {"files": len(files), "problems": len(problems), "first problems": listed}


@table("annotation_concordance", group=GROUP)
def annotation_concordance(
    annotation_tasks: pl.DataFrame, annotations: pl.DataFrame, cluster_themes: pl.DataFrame
) -> pl.DataFrame:
    """Keywords against the clusters' words, people's groups against the clusters, people against people."""
    return agreement.concordance(annotation_tasks, annotations, cluster_themes)
