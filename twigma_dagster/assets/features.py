"""What the models see in each picture: vectors, captions, scores. Steps marked for the GPU lane are here."""

from __future__ import annotations

import dagster as dg
import polars as pl

from twigma_core import features
from twigma_core.lake import ArrayTable
from twigma_dagster.declare import Metadata, table
from twigma_dagster.resources import LakeResource, Models

GROUP = "features"


@table(
    "embeddings",
    group=GROUP,
    gpu=True,
    kinds=("pytorch",),
    in_pieces=True,
)
def embeddings(
    context: dg.AssetExecutionContext, lake: LakeResource, models: Models, images: pl.DataFrame
) -> tuple[ArrayTable, Metadata]:
    """CLIP's image tower over every picture that opened (paper, Section 3)."""
    made, effort = features.embed_pictures(models.work(context, lake), images, models.encoder())
    return made, effort.metadata()


@table(
    "captions",
    group=GROUP,
    gpu=True,
    kinds=("pytorch", "huggingface"),
    in_pieces=True,
)
def captions(
    context: dg.AssetExecutionContext, lake: LakeResource, models: Models, images: pl.DataFrame
) -> tuple[pl.DataFrame, Metadata]:
    """BLIP's caption of every picture that opened (paper, Section 3)."""
    made, effort = features.caption_pictures(models.work(context, lake), images, models.captioner())
    return made, effort.metadata()


@table("nsfw_scores", group=GROUP, in_pieces=True)
def nsfw_scores(
    context: dg.AssetExecutionContext, lake: LakeResource, models: Models, embeddings: ArrayTable
) -> tuple[pl.DataFrame, Metadata]:
    """LAION's detector over the vectors (paper reference [4]); refused for vectors of another model."""
    made, effort = features.score_pictures(models.work(context, lake), embeddings, models.scorer())
    return made, effort.metadata()
