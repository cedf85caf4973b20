"""Pictures fetched from the lake to be shown: examples of clusters, look-alikes, annotators' pictures."""

from __future__ import annotations

import io
from typing import Any

import polars as pl
from PIL import Image

from twigma_core.figures.figure_4e import MOST_PAIRS
from twigma_core.figures.pictures import is_veiled, veil
from twigma_core.images.decode import open_picture
from twigma_core.images.shards import read_picture
from twigma_core.lake import Lake

PIXELS = 160
PER_CLUSTER = 4
TASK_PIXELS = 512


def thumbnail(lake: Lake, row: dict[str, Any], pixels: int = PIXELS) -> Image.Image:
    """Return a small RGB copy of the picture whose shard, offset and bytes a ledger's row gives."""
    image = open_picture(read_picture(lake, row["shard"], row["offset"], row["bytes"]))
    image.thumbnail((pixels, pixels))
    return image


def sheet(lake: Lake, dataset: pl.DataFrame, count: int = 12, pixels: int = 96) -> bytes:
    """Return a contact sheet (JPEG) of pictures spread evenly over a dataset; empty for an empty one.

    A picture that is probably not safe for work, or has no score, is veiled.
    """
    if dataset.is_empty():
        return b""
    step = max(1, dataset.height // count)
    chosen = dataset.sort("image_id").gather_every(step).head(count)
    page = Image.new("RGB", (min(count, chosen.height) * pixels, pixels), "white")
    for place, row in enumerate(chosen.iter_rows(named=True)):
        image = thumbnail(lake, row, pixels)
        if is_veiled(row["nsfw_score"]):
            image = veil(image).resize((pixels, pixels))
        page.paste(image, (place * pixels, 0))
    buffer = io.BytesIO()
    page.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def of_clusters(lake: Lake, *_: pl.DataFrame, per_cluster: int = PER_CLUSTER) -> dict[int, list[Image.Image]]:
    """Return pictures of each cluster: those nearest to the centroid, most typical first.

    One that is probably not safe for work, or has no score, is veiled.
    """
    place = lake.scan("dataset").select("image_id", "shard", "offset", "bytes", "nsfw_score")
    nearest = (
        lake.scan("clusters")
        .sort("distance", "image_id")
        .group_by("cluster", maintain_order=True)
        .head(per_cluster)
        .join(place, on="image_id")
        .sort("cluster", "distance", "image_id")
        .collect()
    )
    shown: dict[int, list[Image.Image]] = {}
    for row in nearest.iter_rows(named=True):
        image = thumbnail(lake, row)
        shown.setdefault(row["cluster"], []).append(veil(image) if is_veiled(row["nsfw_score"]) else image)
    return shown


def of_inspirations(
    lake: Lake, inspirations: pl.DataFrame, *_: pl.DataFrame, most: int = MOST_PAIRS
) -> dict[int, tuple[Image.Image, Image.Image]]:
    """Return (picture, human picture) of the first pairs, by rank; one whose file is gone is left out."""
    place = ("shard", "offset", "bytes")
    ours = lake.scan("dataset").select("image_id", *place)
    theirs = lake.scan("reference_images").select(pl.col("image_id").alias("neighbor_id"), "corpus", *place)
    pairs = (
        inspirations.lazy()
        .filter(pl.col("rank") <= most)
        .join(ours, on="image_id")
        .join(theirs, on=["corpus", "neighbor_id"], suffix="_theirs")
        .drop_nulls(["shard", "shard_theirs"])
        .sort("rank")
        .collect()
    )
    return {
        row["rank"]: (thumbnail(lake, row), thumbnail(lake, {key: row[f"{key}_theirs"] for key in place}))
        for row in pairs.iter_rows(named=True)
    }


def of_tasks(lake: Lake, tasks: pl.DataFrame, pixels: int = TASK_PIXELS) -> tuple[dict[str, bytes], int]:
    """Return the picture of each annotation task as JPEG, by image id, and how many are probably unsafe.

    Pictures are not veiled, since annotators must see them, and are encoded anew: nothing of the posted file
    but its pixels goes out.
    """
    place = lake.scan("dataset").select("image_id", "shard", "offset", "bytes", "nsfw_score").collect()
    shown = tasks.select("image_id").join(place, on="image_id", how="inner", maintain_order="left")
    found = {}
    for row in shown.iter_rows(named=True):
        buffer = io.BytesIO()
        thumbnail(lake, row, pixels).save(buffer, "JPEG", quality=88)
        found[row["image_id"]] = buffer.getvalue()
    return found, sum(is_veiled(score) for score in shown["nsfw_score"].drop_nulls())
