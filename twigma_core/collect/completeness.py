"""Is a collection complete? What X counts per day, and what explains its difference to what was collected.

Counts come from `search.count_month`, posts from the pages and from table `tweets`. Whether a month may be
used is decided by the asset check that calls `explain`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import polars as pl

from twigma_core import tables
from twigma_core.collect import fields
from twigma_core.collect.pages import Page

_RECEIVED = {"query": pl.String, "tweet_id": pl.String, "day": pl.Date}


def received(pages: Iterable[Page]) -> pl.DataFrame:
    """Return the posts on pages, in order, repetitions included: columns query, tweet_id and day (UTC)."""
    rows = [
        (page.query, fields.identifier(post.get("id")), when.date())
        for page in pages
        if page.body is not None
        for post in fields.posts(page.body)
        if (when := fields.post_time(post, page.fetched_at))
    ]
    return pl.DataFrame(rows, schema=_RECEIVED, orient="row").drop_nulls()


def compare(
    counts: pl.DataFrame, on_pages: pl.DataFrame, tweets: pl.DataFrame, tolerance: float = 0.02
) -> pl.DataFrame:
    """Set what was collected beside what X counts, and share out the difference.

    Args:
        counts: columns query, day, counted, as `search.count_month` gives them.
        on_pages: as `received` gives it.
        tweets: table `tweets` of the same time: what was collected.
        tolerance: share of the counted posts that may be missing because X no longer delivers them.

    Returns:
        Table `tweet_counts`, one row a query and day, sorted, where
        counted = collected + unavailable + unexplained. A post that several queries brought counts for
        each, as X counts it. A day with posts that X does not count has `counted` 0.
    """
    queries = counts["query"].unique()
    kept = on_pages.filter(pl.col("query").is_in(queries.implode())).join(
        tweets.select("tweet_id"), on="tweet_id", how="semi", maintain_order="left"
    )
    own = kept.unique(["query", "tweet_id"], keep="first", maintain_order=True)
    collected = own.with_columns(other=~pl.col("tweet_id").is_first_distinct()).group_by("query", "day")
    per_day = (
        collected.agg(collected=pl.len(), shared=pl.col("other").sum())
        .join(kept.group_by("query", "day").agg(on_pages=pl.len()), on=["query", "day"])
        .with_columns(duplicates=pl.col("on_pages") - pl.col("collected"))
    )
    numbers = ("counted", "collected", "duplicates", "shared")
    missing = pl.col("counted") - pl.col("collected")
    frame = (
        counts.join(per_day, on=["query", "day"], how="full", coalesce=True)
        .with_columns(pl.col(*numbers).fill_null(0).cast(pl.Int64))
        .with_columns(
            month=pl.col("day").dt.strftime("%Y-%m"),
            tolerance=pl.lit(tolerance),
            unavailable=pl.min_horizontal(
                missing.clip(0),
                pl.col("counted").map_elements(lambda n: allowance(n, tolerance), pl.Int64),
            ),
        )
        .with_columns(unexplained=missing - pl.col("unavailable"))
    )
    return tables.conform("tweet_counts", frame.sort("query", "day"))


def allowance(counted: int, tolerance: float) -> int:
    """Return how many of `counted` posts may be missing, or be too many, without anything being wrong.

    Counts are not filtered for compliance and search is, so a share `tolerance` is gone by right. It is
    gone at random: on a day of few posts, three standard deviations of a Poisson count come on top.
    """
    expected = tolerance * counted
    return max(1, math.floor(expected + 3.0 * math.sqrt(expected)))


def explain(frame: pl.DataFrame) -> tuple[bool, str]:
    """Judge table `tweet_counts`, and say in words where the difference comes from.

    Returns:
        True if each query's total and each of its days is within `allowance`, and a text: the totals, then
        one line for each day that is off.
    """
    if frame.is_empty():
        return True, "X gave no counts, so there is nothing to compare with"
    lines, passed = [], True
    for (query,), days in frame.sort("day").group_by("query", maintain_order=True):
        tolerance = float(days["tolerance"].max() or 0.0)  # type: ignore[arg-type]
        total, collected = int(days["counted"].sum()), int(days["collected"].sum())
        share = f" ({collected / total:.1%})" if total else ""
        lines.append(
            f"{collected:,} of {total:,} counted posts collected{share} for {query}: "
            f"{int(days['unavailable'].sum()):,} missing within the tolerance (deleted, protected or "
            f"suspended since), {int(days['unexplained'].sum()):,} unexplained; "
            f"{int(days['duplicates'].sum()):,} came twice, {int(days['shared'].sum()):,} by two queries"
        )
        if abs(total - collected) > allowance(total, tolerance):
            passed = False
            lines.append(f"  in all {_off(total, collected)}, beyond {tolerance:.1%}")
        for row in days.filter(pl.col("unexplained") != 0).iter_rows(named=True):
            if row["unexplained"] > 0 or -row["unexplained"] > allowance(row["counted"], tolerance):
                passed = False
                lines.append(f"  {row['day']}: {_off(row['counted'], row['collected'])}")
    return passed, "\n".join(lines)


def _off(counted: int, collected: int) -> str:
    if collected < counted:
        return f"{counted - collected:,} of {counted:,} missing"
    return f"{collected - counted:,} more than the {counted:,} counted"
