"""Nearness to human pictures and what it goes with: likes (Figure 2d, equation 1) and look-alikes (4e)."""

from __future__ import annotations

import dagster as dg
import polars as pl

from twigma_core.analysis import engagement as likes
from twigma_core.analysis import neighbors as nearest
from twigma_core.lake import ArrayTable
from twigma_dagster.declare import Metadata, preview, table

GROUP = "engagement"
HUMAN = ("laion", "artbench")


@table("neighbors", group=GROUP)
def neighbors(
    context: dg.AssetExecutionContext,
    dataset: pl.DataFrame,
    embeddings: ArrayTable,
    reference_embeddings: dict[str, ArrayTable],
) -> pl.DataFrame:
    """The five nearest pictures of each human corpus and their mean cosine similarity."""
    ids = dataset["image_id"]
    corpora = {
        corpus: (stored.table["image_id"].to_list(), stored.vectors)
        for corpus, stored in reference_embeddings.items()
        if corpus in HUMAN
    }
    return nearest.neighbors_table(
        context.partition_key, ids.to_list(), embeddings.take(ids).vectors, corpora
    )


@table("engagement", group=GROUP, kinds=("statsmodels",))
def engagement(dataset: pl.DataFrame, neighbors: pl.DataFrame) -> tuple[pl.DataFrame, Metadata]:
    """As in the paper, and robust: likes by quintile and the regression, with two sensitivity analyses."""
    result = likes.engagement_table(dataset, neighbors)
    beside = likes.side_by_side(result)
    return result, {
        "in words": likes.explain(result),
        "left out": likes.left_out(dataset, neighbors),
        "side by side": dg.MetadataValue.md(preview(beside, rows=beside.height)),
    }


@table("inspirations", group=GROUP)
def inspirations(
    dataset: pl.DataFrame, neighbors: pl.DataFrame, reference_embeddings: pl.DataFrame
) -> pl.DataFrame:
    """The pairs of picture and human picture that are most alike."""
    return nearest.inspirations(neighbors, dataset, reference_embeddings)
