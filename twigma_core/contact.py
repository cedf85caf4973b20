"""Pictures fetched from the lake to be shown: examples of clusters, pairs of look-alikes, thumbnails."""

from __future__ import annotations

from typing import Any

import polars as pl
from PIL import Image

from twigma_core.images.decode import open_picture
from twigma_core.images.shards import read_picture
from twigma_core.lake import Lake

PIXELS = 160
PER_CLUSTER = 4


def thumbnail(lake: Lake, row: dict[str, Any], pixels: int = PIXELS) -> Image.Image:
    """Return a small RGB copy of the picture whose shard, offset and bytes a ledger's row gives."""
    image = open_picture(read_picture(lake, row["shard"], row["offset"], row["bytes"]))
    image.thumbnail((pixels, pixels))
    return image


def of_clusters(lake: Lake, *_: pl.DataFrame, per_cluster: int = PER_CLUSTER) -> dict[int, list[Image.Image]]:
    """Return pictures of each cluster: those nearest to the centroid, most typical first."""
    nearest = (
        lake.scan("clusters")
        .sort("distance", "image_id")
        .group_by("cluster", maintain_order=True)
        .head(per_cluster)
        .join(lake.scan("dataset").select("image_id", "shard", "offset", "bytes"), on="image_id")
        .sort("cluster", "distance", "image_id")
        .collect()
    )
    shown: dict[int, list[Image.Image]] = {}
    for row in nearest.iter_rows(named=True):
        shown.setdefault(row["cluster"], []).append(thumbnail(lake, row))
    return shown


def of_inspirations(
    lake: Lake, inspirations: pl.DataFrame, *_: pl.DataFrame
) -> dict[int, tuple[Image.Image, Image.Image]]:
    """Return (picture, human picture) of each pair, by its rank."""
    place = ["shard", "offset", "bytes"]
    ours = lake.scan("dataset").select("image_id", *place).collect()
    theirs = lake.scan("reference_images").select("corpus", neighbor_id="image_id", *place).collect()
    left = inspirations.join(ours, on="image_id", how="left").sort("rank")
    right = inspirations.join(theirs, on=["corpus", "neighbor_id"], how="left").sort("rank")
    return {
        row["rank"]: (thumbnail(lake, row), thumbnail(lake, other))
        for row, other in zip(left.iter_rows(named=True), right.iter_rows(named=True), strict=True)
    }
