"""The picture table that all analysis reads, and the mergeable summary of each month's vectors."""

from __future__ import annotations

import dagster as dg
import polars as pl

from twigma_core import contact
from twigma_core.analysis.codebook import Codebook
from twigma_core.analysis.summary import EmbeddingSummary, summary_row
from twigma_core.collect.snapshots import settled
from twigma_core.dataset import build_dataset
from twigma_core.images.lookalikes import find_lookalikes, fingerprint
from twigma_core.lake import ArrayTable
from twigma_dagster.declare import Metadata, picture, table
from twigma_dagster.resources import LakeResource, Study

GROUP = "dataset"


@table("fingerprints", group=GROUP)
def fingerprints(embeddings: ArrayTable) -> ArrayTable:
    """Twelve numbers a picture, so that a new month need not read the vectors of all older ones."""
    return fingerprint(embeddings)


@table("lookalikes", group=GROUP, earlier_months=("fingerprints",))
def lookalikes(
    context: dg.AssetExecutionContext, lake: LakeResource, fingerprints: ArrayTable, embeddings: ArrayTable
) -> tuple[pl.DataFrame, Metadata]:
    """Identical means a cosine of 1 - 1e-6 or more. Near duplicates are reported here, not removed."""
    month, store = context.partition_key, lake.open()
    found = find_lookalikes(
        month,
        fingerprints,
        lambda key, rows: (
            embeddings.vectors[rows] if key == month else store.read_rows("embeddings", key, rows)
        ),
    )
    return found.pairs, {"identical pairs": found.pairs["identical"].sum(), "near duplicates": found.near}


@table("dataset", "drops", group=GROUP, earlier_months=("tweet_media", "images", "lookalikes"))
def dataset(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    study: Study,
    tweets: pl.DataFrame,
    snapshots: pl.DataFrame,
    tweet_media: pl.LazyFrame,
    images: pl.LazyFrame,
    lookalikes: pl.DataFrame,
    captions: pl.DataFrame,
    nsfw_scores: pl.DataFrame,
) -> tuple[dict[str, pl.DataFrame], Metadata]:
    """Duplicates go by media id, file, pixels, then embedding; the first posting of all months wins.

    Likes are those of the collection, or with TWIGMA_LIKES=settled those of the latest snapshot.
    """
    if study.likes == "settled":
        tweets = settled(tweets, snapshots)
    kept, dropped = build_dataset(
        context.partition_key, tweets, tweet_media, images, lookalikes, captions, nsfw_scores
    )
    reasons = dropped.group_by("reason").len().sort("reason").iter_rows(named=True)
    shown = {f"dropped: {row['reason']}": row["len"] for row in reasons}
    pictures = picture(contact.sheet(lake.open(), kept), "jpeg", "some of the pictures")
    return {"dataset": kept, "drops": dropped}, {"pictures": pictures, "kept": kept.height, **shown}


@table("summaries", group=GROUP)
def summaries(
    context: dg.AssetExecutionContext, dataset: pl.DataFrame, embeddings: ArrayTable, codebook: ArrayTable
) -> ArrayTable:
    """Count, sum, second moments, codebook histogram and a bottom-k sample: months add up exactly."""
    ids = dataset["image_id"]
    summary = EmbeddingSummary.from_embeddings(
        embeddings.take(ids).vectors, ids.to_list(), Codebook.from_arrays(dict(codebook.arrays))
    )
    return ArrayTable(summary_row(summary, month=context.partition_key), summary.to_arrays())
