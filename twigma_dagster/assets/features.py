"""What the models see in each picture: vectors, captions, scores. Steps marked for the GPU lane are here."""

from __future__ import annotations

import dagster as dg
import polars as pl

from twigma_core import features
from twigma_core.lake import ArrayTable
from twigma_dagster.declare import table
from twigma_dagster.resources import LakeResource, Models

GROUP = "features"


@table("embeddings", group=GROUP, gpu=True, kinds=("pytorch",))
def embeddings(
    context: dg.AssetExecutionContext, lake: LakeResource, models: Models, images: pl.DataFrame
) -> ArrayTable:
    """CLIP's image tower over every picture that opened (paper, Section 3)."""
    return features.embed_pictures(lake.open(), images, models.encoder(), context.partition_key)


@table("captions", group=GROUP, gpu=True, kinds=("pytorch", "huggingface"))
def captions(
    context: dg.AssetExecutionContext, lake: LakeResource, models: Models, images: pl.DataFrame
) -> pl.DataFrame:
    """BLIP's caption of every picture that opened (paper, Section 3)."""
    return features.caption_pictures(lake.open(), images, models.captioner(), context.partition_key)


@table("nsfw_scores", group=GROUP)
def nsfw_scores(models: Models, embeddings: ArrayTable) -> pl.DataFrame:
    """LAION's detector over the vectors (paper reference [4]); refused for vectors of another model."""
    return features.score_pictures(embeddings, models.scorer())
