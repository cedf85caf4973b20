"""Engagement numbers over time: likes settle, so a month's posts are looked up again, and each time is kept.

What belongs here: the table `snapshots`, and which of its numbers an analysis uses. What does not: asking for
ids and what became of them (`hydrate`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from twigma_core import tables
from twigma_core.collect import replies
from twigma_core.collect.budget import Budget
from twigma_core.collect.compliance import FOLDERS, gone_lines
from twigma_core.collect.hydrate import hydrate, outcomes
from twigma_core.collect.ids import Asked
from twigma_core.collect.pacing import Say
from twigma_core.collect.parse import parse_pages
from twigma_core.collect.tombstones import POST
from twigma_core.collect.x_api import XClient
from twigma_core.lake import Lake

COUNTS = ("like_count", "reply_count", "quote_count", "retweet_count")


def refreshed(
    client: XClient, lake: Lake, month: str, tweets: pl.DataFrame, budget: Budget, say: Say
) -> pl.DataFrame:
    """Look a month's posts up and return them as they are now: table `tweets`, without those that are gone.

    A refresh of one day is one purchase: a run that was stopped goes on behind its last call. What X says is
    gone is put into the inbox, where `tombstones` reads it.

    Raises:
        Stopped, XApiError, RuntimeError: as `hydrate.hydrate`.
    """
    ids = tweets["tweet_id"].to_list()
    day = datetime.now(UTC).strftime("%Y%m%d")
    name = f"refresh-{month}-{day}"
    while _finished(lake, client, name, ids):  # another refresh on the same day is another snapshot
        name += "a"
    cost = f"at most ${len(ids) * budget.prices.post:,.2f}"
    say(f"snapshots/{month}: looking {len(ids):,} posts up, {cost}")
    hydrate(client, lake, name, ids, budget)
    found = outcomes(lake, name, client.source, Asked(ids))
    lines = list(gone_lines(found))
    if lines:
        lake.write_bytes(f"{FOLDERS[POST]}/{name}.ndjson", b"\n".join(lines) + b"\n")
    bodies = (body for _, body in replies.stored(lake, replies.folder_of(name, client.source)) if body)
    return parse_pages(bodies, month).tweets.filter(pl.col("tweet_id").is_in(ids))


def _finished(lake: Lake, client: XClient, name: str, ids: list[str]) -> bool:
    if not ids:
        return False
    bodies = (body for _, body in replies.stored(lake, replies.folder_of(name, client.source)) if body)
    return {one for body in bodies for one in replies.asked_for(body)} >= set(ids)


def keep_snapshots(
    tweets: pl.DataFrame, before: pl.DataFrame | None = None, now: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Return table `snapshots`: the collection's own numbers as number 0, those there are, and those of now.

    Posts that are not in `tweets` are left out.

    Args:
        tweets: table `tweets` of a month.
        before: its table `snapshots` so far.
        now: the posts as they are now, as table `tweets`; None takes no new snapshot.
    """
    known = tables.empty("snapshots") if before is None else before
    known = known.filter(pl.col("snapshot") > 0).join(tweets, on="tweet_id", how="semi")
    parts = [_of(tweets, 0), known]
    if now is not None:
        number = 1 + max(0, *known["snapshot"]) if known.height else 1
        parts.append(_of(now.join(tweets, on="tweet_id", how="semi"), number))
    return tables.conform("snapshots", pl.concat(parts).sort("snapshot", "tweet_id"))


def _of(tweets: pl.DataFrame, number: int) -> pl.DataFrame:
    columns = tables.empty("snapshots")
    return tweets.select(
        "tweet_id",
        pl.lit(number, pl.Int64).alias("snapshot"),
        "month",
        pl.col("collected_at").alias("taken_at"),
        *COUNTS,
    ).cast(columns.schema)


def settled(tweets: pl.DataFrame, snapshots: pl.DataFrame) -> pl.DataFrame:
    """Return table `tweets` with the numbers of each post's latest snapshot that has any."""
    latest = (
        snapshots.filter(pl.col("like_count").is_not_null())
        .sort("snapshot")
        .unique("tweet_id", keep="last", maintain_order=True)
        .select("tweet_id", *COUNTS)
    )
    return tweets.update(latest, on="tweet_id", how="left")


def changes(snapshots: pl.DataFrame) -> dict[str, float]:
    """Return the sum of the likes in each snapshot, over the posts that are in all of them."""
    whole = snapshots["snapshot"].n_unique()
    in_all = snapshots.filter(pl.len().over("tweet_id") == whole)
    sums = in_all.group_by("snapshot").agg(pl.sum("like_count")).sort("snapshot")
    return {f"likes in snapshot {number}": likes for number, likes in sums.iter_rows()}
