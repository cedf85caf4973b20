"""The pictures of the posts: fetched once, checked, packed into shards, with a ledger row each."""

from __future__ import annotations

import dagster as dg
import polars as pl
from pydantic import Field

from twigma_core.images.download import download, failed, tidy
from twigma_core.images.progress import say_progress
from twigma_core.lake import Lake
from twigma_dagster.declare import DOWNLOAD_POOL, Metadata, table
from twigma_dagster.resources import LakeResource, Pictures


class Retry(dg.Config):
    """Pictures to try again alone."""

    only: list[str] = Field(
        [], description="Media ids to fetch again and no others, also where they failed for good"
    )
    every_failed: bool = Field(False, description="Fetch again every picture that was not had, and no others")


def _tidy(lake: Lake, month: str | None) -> None:
    """Remove the shards that the month's new ledger no longer names."""
    tidy(lake, str(month), lake.read("images", month))


@table("images", group="images", pool=DOWNLOAD_POOL, kinds=("http",), afterwards=_tidy)
def images(
    context: dg.AssetExecutionContext,
    config: Retry,
    lake: LakeResource,
    pictures: Pictures,
    tweet_media: pl.DataFrame,
) -> tuple[pl.DataFrame, Metadata]:
    """What an earlier run fetched is not fetched again; what failed for a passing reason is tried again.

    To try pictures again alone, open the Launchpad (the arrow beside Materialize) and name them:
    `ops: {images: {config: {only: ["1354143047324299264"]}}}`, or `every_failed: true`; on the command line
    `twigma retry MONTH ID …`. The column `reason` says why a picture was not had.
    """
    store, month = lake.open(), context.partition_key
    before = store.read("images", month) if store.has("images", month) else None
    again = config.only or (failed(before) if config.every_failed and before is not None else None)
    progress = say_progress(context.log.info, f"images/{month}")
    ledger = download(
        tweet_media,
        before,
        store,
        month,
        policy=pictures.policy(),
        only=again,
        progress=progress,
        say=context.log.info,
    )
    return ledger, dict(ledger.group_by("status").len().sort("status").iter_rows())
