"""A small dataset in the tables' schemas, with hostile texts and one picture without a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from twigma_core import tables
from twigma_core.provenance import Provenance, Upstream

HOSTILE = (
    "<script>alert(1)</script>",
    '=HYPERLINK("http://evil.example","x")',
    "javascript:alert(1)",
    "@SUM(A1)",
    "</td></table><img src=x onerror=alert(1)>",
)
ROWS = 60


@dataclass(frozen=True)
class World:
    """The three tables that a release is made from, its lineage, and the captions that mean harm."""

    dataset: pl.DataFrame
    clusters: pl.DataFrame
    projection: pl.DataFrame
    provenance: Provenance
    hostile: tuple[str, ...]


@pytest.fixture(scope="session")
def world() -> World:
    random = np.random.default_rng(7)
    ids = [str(1_500_000_000_000_000_001 + i) for i in range(ROWS)]
    start = datetime(2022, 1, 3, tzinfo=UTC)
    times = [start + timedelta(days=3 * i) for i in range(ROWS)]
    captions = [HOSTILE[i] if i < len(HOSTILE) else f"a castle number {i}" for i in range(ROWS)]
    dataset = tables.conform(
        "dataset",
        pl.DataFrame(
            {
                "image_id": [f"{key}9" for key in ids],
                "tweet_id": ids,
                "month": [f"{time:%Y-%m}" for time in times],
                "author_id": [f"author-{i % 7}" for i in range(ROWS)],
                "created_at": times,
                "text": [f"{caption} by secret text" for caption in captions],
                "hashtags": [["midjourney"]] * ROWS,
                "image_name": [f"F{i}abc.jpg" for i in range(ROWS)],
                "like_count": [None if i == 3 else i for i in range(ROWS)],
                "reply_count": [1] * ROWS,
                "quote_count": [2] * ROWS,
                "retweet_count": [3] * ROWS,
                "followers": [4] * ROWS,
                "possibly_sensitive": [i % 9 == 0 for i in range(ROWS)],
                "width": [64] * ROWS,
                "height": [64] * ROWS,
                "sha256": [f"{i:064x}" for i in range(ROWS)],
                "shard": ["shards/a.tar"] * ROWS,
                "offset": list(range(ROWS)),
                "bytes": [10] * ROWS,
                "caption": captions,
                "nsfw_score": random.random(ROWS),
            }
        ).sample(fraction=1, shuffle=True, seed=1),
    )
    pictures = dataset.select("image_id", "month")
    clusters = pictures.with_columns(
        cluster=pl.Series(random.integers(1, 11, ROWS)), distance=pl.lit(0.5), version=pl.lit("v")
    )
    projection = pictures.with_columns(
        x=pl.Series(random.normal(size=ROWS)), y=pl.Series(random.normal(size=ROWS)), version=pl.lit("v")
    )
    without = clusters["image_id"] != f"{ids[9]}9"
    upstream = tuple(Upstream("dataset", month, "ab12") for month in sorted(set(dataset["month"])))
    return World(
        dataset,
        tables.conform("clusters", clusters.filter(without)),
        tables.conform("projection", projection),
        Provenance("release", None, "run-1", "0.1.0+abc", {"clip": "00ff"}, upstream),
        HOSTILE,
    )
