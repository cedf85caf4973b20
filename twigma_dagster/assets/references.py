"""What the posts' pictures and texts are compared with: three picture corpora and six text sources."""

from __future__ import annotations

from itertools import islice

import dagster as dg
import polars as pl

from twigma_core import features
from twigma_core.analysis.codebook import Codebook
from twigma_core.analysis.summary import EmbeddingSummary, summary_row
from twigma_core.images.shards import prune
from twigma_core.lake import ArrayTable, Lake
from twigma_core.references.importer import import_corpus, load_corpus, shard_folder
from twigma_core.references.texts import read_texts
from twigma_dagster.declare import Metadata, table
from twigma_dagster.resources import LakeResource, Models, References

GROUP = "references"


def _prune(lake: Lake, corpus: str | None) -> None:
    """Remove the shards that the corpus's new ledger no longer names."""
    prune(lake, shard_folder(str(corpus)), set(lake.read("reference_images", corpus)["shard"]))


@table("reference_images", group=GROUP, afterwards=_prune)
def reference_images(
    context: dg.AssetExecutionContext, lake: LakeResource, references: References
) -> tuple[pl.DataFrame, Metadata]:
    """Imported from a folder of pictures with its table; one that does not open is counted, not used."""
    corpus = context.partition_key
    rows = islice(load_corpus(corpus, references.corpus(corpus)), references.limit)
    ledger = import_corpus(lake.open(), corpus, rows)
    return ledger, {
        row["status"]: row["len"] for row in ledger.group_by("status").len().iter_rows(named=True)
    }


@table(
    "reference_embeddings",
    group=GROUP,
    gpu=True,
    kinds=("pytorch",),
    in_pieces=True,
)
def reference_embeddings(
    context: dg.AssetExecutionContext, lake: LakeResource, models: Models, reference_images: pl.DataFrame
) -> tuple[ArrayTable, Metadata]:
    """The same CLIP tower and the same NSFW head as for the posts' pictures."""
    made, effort = features.embed_references(
        models.work(context, lake), reference_images, models.encoder(), models.scorer()
    )
    return made, effort.metadata()


@table("reference_summaries", group=GROUP)
def reference_summaries(
    context: dg.AssetExecutionContext, reference_embeddings: ArrayTable, codebook: ArrayTable
) -> ArrayTable:
    """The corpus's vectors, reduced as a month's are."""
    ids = reference_embeddings.table["image_id"].to_list()
    summary = EmbeddingSummary.from_embeddings(
        reference_embeddings.vectors, ids, Codebook.from_arrays(dict(codebook.arrays))
    )
    return ArrayTable(summary_row(summary, corpus=context.partition_key), summary.to_arrays())


@table("texts", group=GROUP)
def texts(context: dg.AssetExecutionContext, references: References) -> pl.DataFrame:
    """Read from the source's file; links and hashtags are removed (paper, Section 4.1)."""
    return read_texts(context.partition_key, references.texts_folder())


@table(
    "text_embeddings",
    group=GROUP,
    gpu=True,
    kinds=("pytorch",),
    in_pieces=True,
)
def text_embeddings(
    context: dg.AssetExecutionContext, lake: LakeResource, models: Models, texts: pl.DataFrame
) -> tuple[ArrayTable, Metadata]:
    """CLIP's text tower."""
    made, effort = features.embed_texts(models.work(context, lake), texts, models.encoder())
    return made, effort.metadata()
