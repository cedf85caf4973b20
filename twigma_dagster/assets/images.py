"""The pictures of the posts: fetched once, checked, packed into shards, with a ledger row each."""

from __future__ import annotations

import dagster as dg
import polars as pl

from twigma_core.images.download import download, tidy
from twigma_core.lake import Lake
from twigma_dagster.declare import Metadata, table
from twigma_dagster.resources import LakeResource, Pictures


def _tidy(lake: Lake, month: str | None) -> None:
    """Remove the shards that the month's new ledger no longer names."""
    tidy(lake, str(month), lake.read("images", month))


@table("images", group="images", pool="download", kinds=("http",), afterwards=_tidy)
def images(
    context: dg.AssetExecutionContext, lake: LakeResource, pictures: Pictures, tweet_media: pl.DataFrame
) -> tuple[pl.DataFrame, Metadata]:
    """What an earlier run fetched is not fetched again; what failed for a passing reason is tried again."""
    store, month = lake.open(), context.partition_key
    before = store.read("images", month) if store.has("images", month) else None
    ledger = download(tweet_media, before, store, month, policy=pictures.policy())
    return ledger, {
        row["status"]: row["len"] for row in ledger.group_by("status").len().iter_rows(named=True)
    }
