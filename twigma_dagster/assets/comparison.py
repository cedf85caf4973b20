"""How far apart the sources are and how variable each is (paper, Section 4.1), from mergeable summaries."""

from __future__ import annotations

import dagster as dg
import numpy as np
import polars as pl

from twigma_core.analysis import codebook as quantizer
from twigma_core.analysis import divergence, prompts, robustness, variation_tables
from twigma_core.analysis import release_2023 as then_and_now
from twigma_core.analysis.summary import EmbeddingSummary, add_up
from twigma_core.lake import ArrayTable
from twigma_core.stacked import StackedRows
from twigma_dagster.declare import Metadata, table
from twigma_dagster.resources import LakeResource, Study

GROUP = "comparison"


@table("codebook", group=GROUP, reads=("dataset", "embeddings"), kinds=("faiss",))
def codebook(
    study: Study, lake: LakeResource, reference_embeddings: dict[str, ArrayTable]
) -> tuple[ArrayTable, Metadata]:
    """k-means cells over equal numbers of each source, of several sizes; frozen until materialized anew.

    Without posts it is fitted to the corpora alone.
    """
    store = lake.open()
    sources: dict[str, np.ndarray | StackedRows] = {
        corpus: stored.vectors for corpus, stored in reference_embeddings.items()
    }
    if store.partitions("dataset"):
        ids = store.scan("dataset").select("image_id").collect()["image_id"]
        sources = {"twigma": store.stack("embeddings").take(ids).vectors, **sources}
    sizes = quantizer.fitting_sizes(sources)
    book, table = quantizer.fit_codebook(sources, sizes, seed=study.seed)
    too_large = [size for size in quantizer.SIZES if size not in sizes]
    return ArrayTable(table, book.to_arrays()), {"sizes left out, for want of pictures": str(too_large)}


def _read(stored: dict[str, ArrayTable]) -> dict[str, EmbeddingSummary]:
    return {key: EmbeddingSummary.from_arrays(dict(value.arrays)) for key, value in stored.items()}


def _sources(lake: LakeResource, reference_summaries: dict[str, ArrayTable]) -> dict[str, EmbeddingSummary]:
    """Return the summary of each source: the posts, where there are any, and the corpora."""
    store = lake.open()
    months = {key: store.read_arrays("summaries", key) for key in store.partitions("summaries")}
    posts = {"twigma": add_up(_read(months).values())} if months else {}
    return {**posts, **_read(reference_summaries)}


@table("release_2023_comparison", group=GROUP)
def release_2023_comparison(
    study: Study, release_2023: pl.DataFrame, dataset: pl.DataFrame, clusters: pl.DataFrame
) -> pl.DataFrame:
    """Joined by media id: which pictures are in both, and how far clusters, scores and likes agree."""
    return then_and_now.compare(release_2023, dataset, clusters, seed=study.seed)


@table("divergences", group=GROUP)
def divergences(
    context: dg.AssetExecutionContext, summaries: ArrayTable, reference_summaries: dict[str, ArrayTable]
) -> pl.DataFrame:
    """Each month against each corpus, from their summaries alone."""
    month = EmbeddingSummary.from_arrays(dict(summaries.arrays))
    return divergence.month_divergences(context.partition_key, month, _read(reference_summaries))


@table("divergence_matrix", group=GROUP, reads=("summaries",))
def divergence_matrix(lake: LakeResource, reference_summaries: dict[str, ArrayTable]) -> pl.DataFrame:
    """Every source against every other (Figure 2c), over the sum of all months."""
    return divergence.divergence_table(_sources(lake, reference_summaries))


@table("divergence_robustness", group=GROUP, reads=("summaries",), kinds=("faiss",))
def divergence_robustness(
    lake: LakeResource, divergence_matrix: pl.DataFrame, reference_summaries: dict[str, ArrayTable]
) -> tuple[pl.DataFrame, Metadata]:
    """The matrix again over quantizers of 4 to 500 cells, each from several seeds: does the order hold?"""
    rows = robustness.divergence_robustness(_sources(lake, reference_summaries), divergence_matrix)
    return rows, robustness.in_words(rows)


@table("variation_metrics", group=GROUP)
def variation_metrics(context: dg.AssetExecutionContext, summaries: ArrayTable) -> pl.DataFrame:
    """The paper's four metrics of the month, from its summary alone."""
    return variation_tables.variation_metrics(
        EmbeddingSummary.from_arrays(dict(summaries.arrays)), context.partition_key
    )


@table("variation_table", "pair_distances", group=GROUP, reads=("summaries",))
def variation_table(
    lake: LakeResource,
    reference_summaries: dict[str, ArrayTable],
    reference_embeddings: dict[str, ArrayTable],
    text_embeddings: dict[str, ArrayTable],
) -> dict[str, pl.DataFrame]:
    """Each source, and pairs of one artist or one prompt (Figures 3a and 3b)."""
    sources = _sources(lake, reference_summaries)
    groups = variation_tables.groups_of(reference_embeddings)
    return {
        "variation_table": variation_tables.variation_table(sources, groups),
        "pair_distances": variation_tables.pair_distances(sources, groups, text_embeddings),
    }


@table("prompt_variation", group=GROUP)
def prompt_variation(
    reference_images: pl.LazyFrame, reference_embeddings: dict[str, ArrayTable]
) -> pl.DataFrame:
    """Distance within a prompt against its length, with Kendall's tau (Figure 3c)."""
    return prompts.prompt_variation(reference_images.collect(), reference_embeddings)


@table("text_variation", group=GROUP)
def text_variation(text_embeddings: dict[str, ArrayTable]) -> pl.DataFrame:
    """Each text source, matched in words to the prompts (Figure 3d)."""
    return prompts.text_variation(text_embeddings)
