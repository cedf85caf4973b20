"""Is a collection complete? What X counts per day beside what was collected.

Counts come from `x_api.count_month`, posts from table `tweets`. Whether a month may be used is decided by
the asset check that calls `explain`.
"""

from __future__ import annotations

import math
import re

import polars as pl

from twigma_core import tables

_HASHTAG = re.compile(r"#([^\s#()]+)")


def compare(counts: pl.DataFrame, tweets: pl.DataFrame) -> pl.DataFrame:
    """Set what was collected beside what X counts.

    Args:
        counts: columns query, day, counted, as `x_api.count_month` gives them.
        tweets: table `tweets` of the same time.

    Returns:
        Table `tweet_counts`, one row a query and day, sorted. With one query, all posts are its own;
        with several, a post counts for each whose hashtags it carries, as X counts it. A day with posts
        that X does not count has `counted` 0.
    """
    queries = counts["query"].unique().sort().to_list()
    posts = tweets.select("hashtags", day=pl.col("created_at").dt.date())
    frames = []
    for query in queries:
        wanted = [tag.lower() for tag in _HASHTAG.findall(query)] if len(queries) > 1 else []
        own = (
            posts.filter(pl.col("hashtags").list.set_intersection(wanted).list.len() > 0) if wanted else posts
        )
        collected = own.group_by("day").agg(collected=pl.len().cast(pl.Int64))
        counted = counts.filter(pl.col("query") == query).select("day", "counted")
        frames.append(
            counted.join(collected, on="day", how="full", coalesce=True)
            .with_columns(pl.col("counted", "collected").fill_null(0), query=pl.lit(query))
            .with_columns(month=pl.col("day").dt.strftime("%Y-%m"))
        )
    frame = pl.concat(frames) if frames else tables.empty("tweet_counts")
    return tables.conform("tweet_counts", frame.sort("query", "day"))


def allowance(counted: int, tolerance: float) -> int:
    """Return how many of `counted` posts may be missing, or be too many, without anything being wrong.

    Counts are not filtered for compliance and search is, so a share `tolerance` is gone by right. It is
    gone at random: on a day of few posts, three standard deviations of a Poisson count come on top.
    """
    expected = tolerance * counted
    return max(1, math.floor(expected + 3.0 * math.sqrt(expected)))


def explain(frame: pl.DataFrame, tolerance: float = 0.02) -> tuple[bool, str]:
    """Judge table `tweet_counts`, and say in words where and by how much it is off.

    Args:
        frame: as `compare` gives it.
        tolerance: share of the counted posts that may be missing.

    Returns:
        True if each query's total and each of its days is within `allowance`, and a text: the totals, then
        one line for each day that is off.
    """
    if frame.is_empty():
        return True, "X gave no counts, so there is nothing to compare with"
    lines, passed = [], True
    for (query,), days in frame.sort("day").group_by("query", maintain_order=True):
        total, collected = int(days["counted"].sum()), int(days["collected"].sum())
        share = f" ({collected / total:.1%})" if total else ""
        lines.append(f"{collected:,} of {total:,} counted posts collected{share} for {query}")
        if abs(total - collected) > allowance(total, tolerance):
            passed = False
            lines.append(f"  in all {_off(total, collected)}, beyond {tolerance:.1%}")
        for row in days.iter_rows(named=True):
            if abs(row["counted"] - row["collected"]) > allowance(row["counted"], tolerance):
                passed = False
                lines.append(f"  {row['day']}: {_off(row['counted'], row['collected'])}")
    return passed, "\n".join(lines)


def _off(counted: int, collected: int) -> str:
    if collected < counted:
        return f"{counted - collected:,} of {counted:,} missing"
    return f"{collected - counted:,} more than the {counted:,} counted"
