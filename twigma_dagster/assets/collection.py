"""From hashtags to posts: what is searched for, the pages as received, and the tables parsed from them.

What does not belong here: the files of the pictures (`images`) and anything computed from them.
"""

from __future__ import annotations

import dagster as dg
import polars as pl

from twigma_core.collect import completeness, parse
from twigma_core.collect import hashtags as hashtag_list
from twigma_core.collect.pages import PageStore
from twigma_dagster.declare import Metadata, table
from twigma_dagster.resources import LakeResource, Posts

GROUP = "collection"
ONE_CLIENT = "x_api"


@table("hashtags", group=GROUP, kinds=("csv",))
def hashtags() -> pl.DataFrame:
    """Read from the reviewed file under version control; accepting a candidate is an edit to that file."""
    return hashtag_list.reviewed()


@table("raw_tweets", group=GROUP, pool=ONE_CLIENT, kinds=("json",))
def raw_tweets(
    context: dg.AssetExecutionContext, lake: LakeResource, posts: Posts, hashtags: pl.DataFrame
) -> tuple[pl.DataFrame, Metadata]:
    """Every page is on disk before the next is asked for; a run that is repeated resumes at the next page."""
    month = context.partition_key
    pages = posts.collect(lake.open(), month, hashtags["hashtag"].to_list(), context.log.info)
    corrupt = pages.filter(pl.col("status") != "ok")
    for row in corrupt.iter_rows(named=True):
        context.log.warning(f"raw_tweets/{month}: corrupt page {row['query']} {row['page']}: {row['reason']}")
    return pages, {"posts on pages": int(pages["posts"].sum()), "corrupt pages": corrupt.height}


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


@table("tweet_counts", group=GROUP, pool=ONE_CLIENT)
def tweet_counts(
    context: dg.AssetExecutionContext, posts: Posts, hashtags: pl.DataFrame, tweets: pl.DataFrame
) -> tuple[pl.DataFrame, Metadata]:
    """Asked of the counts endpoint and set beside what was collected; an archive has no counts."""
    counted = posts.count(context.partition_key, hashtags["hashtag"].to_list())
    compared = completeness.compare(counted, tweets)
    return compared, {"in words": completeness.explain(compared)[1]}


@table("hashtag_candidates", group=GROUP)
def hashtag_candidates(tweets: pl.LazyFrame, hashtags: pl.DataFrame) -> pl.DataFrame:
    """Ranked by co-occurrence and growth over all collected months."""
    return hashtag_list.candidates(tweets, hashtags["hashtag"].to_list())
