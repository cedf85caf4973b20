"""Pictures for contact sheets and annotators, out of real shards."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from PIL import Image

from twigma_core import contact
from twigma_core.images.shards import write_shards
from twigma_core.lake import Lake

SCORES = [0.1, 0.9, None, 0.2]


def jpeg(seed: int) -> bytes:
    """Return a wide picture of noise with a comment in its header."""
    pixels = np.random.default_rng(seed).integers(0, 255, (300, 900, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", comment=b"taken by someone", quality=95)
    return buffer.getvalue()


@pytest.fixture
def filled(lake: Lake) -> Lake:
    """A lake with four pictures of one month, two clusters, and two human pictures."""
    places = write_shards(lake, "shards/images/2021-01", [(f"{i}.jpg", jpeg(i)) for i in range(6)])
    located = {
        "image_id": [str(i) for i in range(4)],
        "shard": [place.shard for place in places[:4]],
        "offset": [place.offset for place in places[:4]],
        "bytes": [place.bytes for place in places[:4]],
    }
    dataset = pl.DataFrame({**located, "nsfw_score": SCORES}).with_columns(
        *(pl.lit(name).alias(name) for name in ("tweet_id", "author_id", "text", "caption")),
        month=pl.lit("2021-01"),
        created_at=pl.lit(datetime(2021, 1, 1, tzinfo=UTC)),
        hashtags=pl.lit([], pl.List(pl.String)),
        image_name=pl.lit(None, pl.String),
        possibly_sensitive=pl.lit(None, pl.Boolean),
        **{f"{kind}_count": pl.lit(1) for kind in ("like", "reply", "quote", "retweet")},
        followers=pl.lit(1),
        width=pl.lit(900),
        height=pl.lit(300),
        sha256=pl.lit("0" * 64),
    )
    lake.write("dataset", dataset, "2021-01")
    clusters = pl.DataFrame({"image_id": ["0", "1", "2", "3"], "cluster": [1, 1, 2, 2]})
    of_month = clusters.with_columns(month=pl.lit("2021-01"), distance=pl.lit(0.1), version=pl.lit("v"))
    lake.write("clusters", of_month, "2021-01")
    return lake


def tasks(ids: list[str]) -> pl.DataFrame:
    return pl.DataFrame({"task": range(1, len(ids) + 1), "image_id": ids})


def test_annotators_get_small_clean_pictures_and_unsafe_ones_are_counted(filled: Lake) -> None:
    pictures, unsafe = contact.of_tasks(filled, tasks(["3", "1", "2"]))
    assert list(pictures) == ["3", "1", "2"] and unsafe == 1
    for data in pictures.values():
        image = Image.open(io.BytesIO(data))
        assert image.size == (512, 171) and b"taken by someone" not in data
    original = np.asarray(Image.open(io.BytesIO(jpeg(1))).resize((512, 171)), dtype=float)
    sent = np.asarray(Image.open(io.BytesIO(pictures["1"])), dtype=float)
    assert np.corrcoef(original.ravel(), sent.ravel())[0, 1] > 0.8, "not veiled: they must see it"


def test_a_picture_that_left_the_dataset_is_left_out(filled: Lake) -> None:
    pictures, _ = contact.of_tasks(filled, tasks(["0", "gone"]))
    assert list(pictures) == ["0"]


def test_sheets_veil_what_is_unsafe_or_not_scored(filled: Lake) -> None:
    page = np.asarray(Image.open(io.BytesIO(contact.sheet(filled, filled.read("dataset", "2021-01")))), int)
    edges = [np.abs(np.diff(page[4:28, 96 * i + 4 : 96 * i + 90], axis=1)).mean() for i in range(4)]
    assert min(edges[0], edges[3]) > 4 * max(edges[1], edges[2])
    assert (page[40:, 3 * 96 :] > 250).all(), "a veil stays within its own place"
    shown = contact.of_clusters(filled)
    assert {label: len(images) for label, images in shown.items()} == {1: 2, 2: 2}
    assert shown[1][1].size == (256, 256), "a veiled picture is a square of few colours"
    assert contact.sheet(filled, filled.read("dataset", "2021-01").clear()) == b""
