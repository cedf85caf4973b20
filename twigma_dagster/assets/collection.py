"""From hashtags to posts: what is searched for, the pages as received, and the tables parsed from them.

What does not belong here: the files of the pictures (`images`) and anything computed from them.
"""

from __future__ import annotations

import dagster as dg
import polars as pl
from pydantic import Field

from twigma_core.collect import completeness, parse
from twigma_core.collect import hashtags as hashtag_list
from twigma_core.collect.budget import spent
from twigma_core.collect.pages import PageStore
from twigma_core.collect.review import lay_out
from twigma_core.collect.search import Collected
from twigma_core.collect.snapshots import changes, keep_snapshots
from twigma_core.lake import Lake
from twigma_dagster.declare import X_POOL, Metadata, picture, preview, table
from twigma_dagster.resources import LakeResource, Posts, Study

GROUP = "collection"


@table("hashtags", group=GROUP, kinds=("csv",))
def hashtags() -> pl.DataFrame:
    """Read from the reviewed file under version control; accepting a candidate is an edit to that file."""
    return hashtag_list.reviewed()


@table("archive_files", group=GROUP, kinds=("json", "csv"))
def archive_files(lake: LakeResource, posts: Posts) -> tuple[pl.DataFrame, Metadata]:
    """Read through once and indexed; no rows where posts come from X. What cannot be read is named."""
    found = posts.files(lake.open())
    trouble = found.filter(pl.col("note").is_not_null()).select("file", "posts", "broken", "note")
    shown = dg.MetadataValue.md(preview(trouble, rows=50, width=200))
    return found, {"posts": int(found["posts"].sum()), "broken or not read": shown}


@table("release_2023", group=GROUP, reads=("archive_files",), kinds=("csv",))
def release_2023(posts: Posts) -> tuple[pl.DataFrame, Metadata]:
    """Read from the CSV that the settings name or the archive holds; no rows where there is none."""
    found, counted = posts.release()
    return found, {f"rows: {what}": number for what, number in sorted(counted.items())}


@table("raw_tweets", group=GROUP, reads=("archive_files",), pool=X_POOL, kinds=("json",))
def raw_tweets(
    context: dg.AssetExecutionContext, lake: LakeResource, posts: Posts, hashtags: pl.DataFrame
) -> tuple[pl.DataFrame, Metadata, Exception | None]:
    """Says first what it will cost. Every page is on disk before the next is asked for; a run goes on there.

    Where the budget or X's cap ends it early, the pages so far are the table and the step fails: nothing
    is built on part of a month unless someone materializes `tweets` on purpose.
    """
    month = context.partition_key
    found = posts.collect(lake.open(), month, hashtags["hashtag"].to_list(), context.log.info)
    corrupt = found.pages.filter(pl.col("status") != "ok")
    for row in corrupt.iter_rows(named=True):
        context.log.warning(f"raw_tweets/{month}: corrupt page {row['query']} {row['page']}: {row['reason']}")
    for gap in found.gaps:
        context.log.warning(f"raw_tweets/{month}: recent search did not reach {gap}")
    return found.pages, _facts(found, lake.open(), month, posts), found.stopped


def _facts(found: Collected, lake: Lake, month: str, posts: Posts) -> Metadata:
    """Return what a person wants to see of a collection: what there is, what it cost, what is missing."""
    spending = posts.spending(lake)
    facts: dict[str, object] = {
        "pages": found.pages.height,
        "posts": int(found.pages["posts"].sum()),
        "corrupt pages": found.pages.filter(pl.col("status") != "ok").height,
        "pages bought by this run": found.bought.pages,
        "posts bought by this run": found.bought.posts,
        "dollars this month": round(spent(lake, month).dollars(spending.prices), 3),
        "dollars in all": round(spending.spend.dollars(spending.prices), 3),
    }
    if found.estimate and not found.estimate.complete:
        facts["posts that X counts"] = found.estimate.counted
    if found.resumed_at is not None:
        facts["resumed at page"] = found.resumed_at
    if found.gaps:
        facts["not reached by recent search"] = "; ".join(found.gaps)
    if found.stopped:
        facts["stopped"] = str(found.stopped)
    return facts


@table("tweets", "tweet_media", group=GROUP)
def tweets(
    context: dg.AssetExecutionContext,
    lake: LakeResource,
    raw_tweets: pl.DataFrame,
    hashtags: pl.DataFrame,
) -> tuple[dict[str, pl.DataFrame], Metadata]:
    """Parsed from the month's pages, both spellings of the API's fields; what does not fit is counted."""
    month = context.partition_key
    pages = PageStore(lake.open(), month).pages()
    parsed = parse.parse_pages(pages, month, hashtags["hashtag"].to_list())
    problems = {f"problem: {row['what']}": row["count"] for row in parsed.problems.iter_rows(named=True)}
    return {"tweets": parsed.tweets, "tweet_media": parsed.media}, problems


class Refresh(dg.Config):
    """Whether X is asked for the numbers of today."""

    refresh: bool = Field(False, description="Look the month's posts up and keep their numbers of today too")


@table("snapshots", group=GROUP, pool=X_POOL)
def snapshots(
    context: dg.AssetExecutionContext,
    config: Refresh,
    lake: LakeResource,
    posts: Posts,
    tweets: pl.DataFrame,
) -> tuple[pl.DataFrame, Metadata]:
    """Number 0 is what the collection brought, for nothing; a refresh looks every post up again.

    `ops: {snapshots: {config: {refresh: true}}}` in the Launchpad, or the schedule `refresh`. X charges for a
    lookup as for a post. What it says is gone goes to the inbox, for `tombstones`.
    """
    store, month = lake.open(), context.partition_key
    before = store.read("snapshots", month) if store.has("snapshots", month) else None
    now = posts.look_up(store, month, tweets, context.log.info) if config.refresh else None
    found = keep_snapshots(tweets, before, now)
    return found, {"snapshots": found["snapshot"].n_unique(), **changes(found)}


@table("tweet_counts", group=GROUP, pool=X_POOL)
def tweet_counts(
    context: dg.AssetExecutionContext, lake: LakeResource, posts: Posts, tweets: pl.DataFrame
) -> tuple[pl.DataFrame, Metadata]:
    """Asked of the counts endpoint and set beside what was collected; an archive has no counts."""
    compared = posts.count(lake.open(), context.partition_key, tweets, context.log.info)
    return compared, {
        "in words": dg.MetadataValue.md(completeness.explain(compared)[1].replace("\n", "\n\n"))
    }


@table("hashtag_candidates", group=GROUP, reads=("tweet_media", "images", "nsfw_scores"))
def hashtag_candidates(
    lake: LakeResource, study: Study, tweets: pl.LazyFrame, hashtags: pl.DataFrame
) -> tuple[pl.DataFrame, Metadata]:
    """Ranked by co-occurrence and growth over all months, the first posts of each laid out for review."""
    store, reviewed = lake.open(), hashtags["hashtag"].to_list()
    ranked = hashtag_list.candidates(tweets, reviewed)
    review = lay_out(store, ranked, reviewed, study.notices)
    page = store.write_bytes("review/hashtag_candidates.html", review.page.encode())
    sheets = {
        f"{place}. #{tag[:60]}": picture(sheet, "jpeg", "first posts")
        for place, (tag, sheet) in enumerate(review.sheets.items(), 1)
    }
    return ranked, {"page to review": dg.MetadataValue.path(str(page)), **sheets}
