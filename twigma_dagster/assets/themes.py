"""What the pictures show and how that changes: frozen clusters, their words and trends, the map.

The models here are fitted on demand and then frozen, so that labels and places last: a new month is
assigned, it never moves an old one. Materialize `cluster_model` or `projection_model` to fit anew.
"""

from __future__ import annotations

import dagster as dg
import numpy as np
import polars as pl

from twigma_core.analysis import cluster_model as frozen
from twigma_core.analysis import cluster_sensitivity as sensitivity
from twigma_core.analysis import projection as maps
from twigma_core.analysis import themes
from twigma_core.analysis.clusters import fit_kmeans
from twigma_core.lake import ArrayTable
from twigma_core.stacked import StackedRows, StackedTable
from twigma_dagster.declare import Metadata, table
from twigma_dagster.resources import LakeResource, Study

GROUP = "themes"
MAP_SAMPLE = 5_000
"""Most pictures of each source that the map is fitted on."""


@table("cluster_model", group=GROUP, kinds=("faiss",))
def cluster_model(
    lake: LakeResource, study: Study, dataset: pl.LazyFrame, embeddings: StackedTable
) -> tuple[ArrayTable, Metadata]:
    """k-means over the vectors of the whole dataset (paper, Section 4.2), the best of several starts.

    Fitted anew, clusters keep the labels of the previous model that they continue, and every version's
    centroids stay in the lake's folder `models`.
    """
    store = lake.open()
    previous = store.read_arrays("cluster_model") if store.has("cluster_model") else None
    vectors = embeddings.take(dataset.select("image_id").collect()["image_id"]).vectors.read()
    model = frozen.freeze(fit_kmeans(vectors, study.clusters, study.seed), vectors, previous)
    path = dg.MetadataValue.path(frozen.keep(store, model))
    return model, {"version": model.table["version"][0], "centroids": path}


@table("clusters", group=GROUP)
def clusters(
    context: dg.AssetExecutionContext,
    dataset: pl.DataFrame,
    embeddings: ArrayTable,
    cluster_model: ArrayTable,
) -> pl.DataFrame:
    """The nearest frozen centroid of each picture."""
    ids = dataset["image_id"]
    return frozen.assign_month(
        ids.to_list(),
        embeddings.take(ids).vectors,
        cluster_model.table,
        cluster_model.arrays["centroids"],
        context.partition_key,
    )


@table("cluster_themes", group=GROUP)
def cluster_themes(dataset: pl.LazyFrame, clusters: pl.DataFrame) -> pl.DataFrame:
    """Words of the captions by how much commoner they are in the cluster than overall."""
    captions = dataset.select("image_id", "caption").collect()
    return themes.cluster_themes(captions, clusters)


@table("cluster_nsfw", group=GROUP)
def cluster_nsfw(study: Study, dataset: pl.LazyFrame, clusters: pl.DataFrame) -> pl.DataFrame:
    """Quantiles and histogram of each cluster's scores, and the share of 0.5 or more with its interval."""
    return themes.cluster_nsfw(dataset.select("image_id", "nsfw_score").collect(), clusters, study.clusters)


@table("cluster_trends", group=GROUP, kinds=("statsmodels",))
def cluster_trends(study: Study, clusters: pl.DataFrame) -> tuple[pl.DataFrame, Metadata]:
    """Shares with Wilson intervals; slopes from an overdispersed binomial model, Holm over clusters."""
    result = themes.cluster_trends(clusters, study.clusters)
    return result, {"in words": themes.trends_in_words(result)}


@table("cluster_sensitivity", group=GROUP, kinds=("faiss", "statsmodels"))
def cluster_sensitivity(
    dataset: pl.LazyFrame, embeddings: StackedTable, cluster_model: ArrayTable
) -> tuple[pl.DataFrame, Metadata]:
    """Fits of a sample with three seeds for each of several k, beside the model in force."""
    pictures = dataset.select("image_id", "month").collect()
    vectors = embeddings.take(pictures["image_id"]).vectors.read()
    centroids = cluster_model.arrays["centroids"]
    result = sensitivity.cluster_sensitivity(vectors, pictures["month"], centroids)
    return result, {"in words": sensitivity.explain(result, len(centroids))}


@table("projection_model", group=GROUP, kinds=("umap",))
def projection_model(
    study: Study,
    dataset: pl.LazyFrame,
    embeddings: StackedTable,
    reference_embeddings: dict[str, ArrayTable],
) -> ArrayTable:
    """UMAP on equal samples of the dataset and each corpus (paper, Figures 2a and 4a), then frozen."""
    ids = dataset.select("image_id").collect()["image_id"]
    sources: dict[str, tuple[list[str], np.ndarray | StackedRows]] = {
        corpus: (stored.table["image_id"].to_list(), stored.vectors)
        for corpus, stored in reference_embeddings.items()
    }
    sources["twigma"] = (ids.to_list(), embeddings.take(ids).vectors)
    table, arrays = maps.fit_projection(sources, MAP_SAMPLE, study.seed)
    return ArrayTable(table, arrays)


@table("projection", group=GROUP)
def projection(
    context: dg.AssetExecutionContext,
    dataset: pl.DataFrame,
    embeddings: ArrayTable,
    projection_model: ArrayTable,
) -> pl.DataFrame:
    """The place of each picture on the frozen map."""
    ids = dataset["image_id"]
    return maps.projection_table(
        context.partition_key,
        ids.to_list(),
        embeddings.take(ids).vectors,
        projection_model.table,
        projection_model.arrays,
    )
