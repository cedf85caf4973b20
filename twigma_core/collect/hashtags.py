"""The reviewed hashtags that a collection searches for, and candidates to review next.

The list is `hashtags.csv` beside this module: accepting a candidate is an edit to that file, with its
source and the day of the review. The six that the paper's text names are in it; the rest of the paper's
nineteen stand only in its Figure 1(a). Nothing is fetched here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from twigma_core import tables

REVIEWED = Path(__file__).with_name("hashtags.csv")
FIRST_POSTS = 20
"""Posts of a candidate that a reviewer looks at (paper, Section 3)."""
_COLUMNS = ("hashtag", "source", "reviewed", "note")


def reviewed(path: str | Path | None = None) -> pl.DataFrame:
    """Return the reviewed hashtags: table `hashtags`, sorted.

    Args:
        path: a CSV file with the columns hashtag, source, reviewed (YYYY-MM-DD) and note; the project's
            own list by default.

    Raises:
        ValueError: a column is missing, an entry is empty, repeated, has '#', white space or upper case,
            lacks its source, or has no valid day of review. The message names the entry.
    """
    path = Path(path or REVIEWED)
    frame = pl.read_csv(path, infer_schema=False)
    missing = [column for column in _COLUMNS if column not in frame.columns]
    if missing:
        raise ValueError(
            f"{path.name}: no column {', '.join(missing)}; its columns are {', '.join(_COLUMNS)}"
        )
    names = frame["hashtag"].fill_null("").to_list()
    if not names:
        raise ValueError(f"{path.name}: no hashtag; a collection needs at least one")
    for name in names:
        check(name, path.name)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{path.name}: {', '.join(repeated)} stands more than once; keep one row each")
    bare = frame.filter(pl.col("source").fill_null("").str.strip_chars() == "")["hashtag"].to_list()
    if bare:
        raise ValueError(f"{path.name}: {', '.join(bare)} has no source; say where each entry comes from")
    days = frame["reviewed"].str.to_date("%Y-%m-%d", strict=False)
    undated = frame.filter(days.is_null())["hashtag"].to_list()
    if undated:
        raise ValueError(f"{path.name}: {', '.join(undated)} has no day of review; write it as YYYY-MM-DD")
    return tables.conform("hashtags", frame.with_columns(days).sort("hashtag"))


def check(hashtag: str, where: str = "hashtags") -> None:
    """Refuse a hashtag that is not bare, lower case and one word.

    Raises:
        ValueError: the message names the hashtag and how to write it.
    """
    if not hashtag or hashtag != hashtag.lower() or any(c in "#＃" or c.isspace() for c in hashtag):
        bare = hashtag.strip().strip("#＃").lower()
        raise ValueError(
            f"{where}: hashtag {hashtag!r} must be one word in lower case, without #"
            + (f"; write {bare!r}" if bare and not any(c.isspace() for c in bare) else "")
        )


def candidates(
    tweets: pl.DataFrame | pl.LazyFrame, reviewed: Sequence[str], min_posts: int = 1
) -> pl.DataFrame:
    """Rank the hashtags that occur in collected posts and are not reviewed yet (paper, Section 3).

    The score is the number of posts times the growth of their share: between the earlier and the later half
    of the months, with one post added to each, so that a hashtag that is new has a finite growth. With one
    month alone it is the number of posts.

    Args:
        tweets: table `tweets`, of one month or many.
        reviewed: hashtags that need no review any more.
        min_posts: leave out those on fewer posts.

    Returns:
        Table `hashtag_candidates`, highest score first, then by name. `growth` is posts in the last month
        of `tweets` over posts in its first; null where the first month has none or there is only one
        month. `first_posts` are the 20 earliest.
    """
    frame = tweets.lazy().select("tweet_id", "author_id", "month", "created_at", "hashtags").collect()
    total, months = frame.height, frame["month"].unique().sort().to_list() or [""]
    in_first = (pl.col("month") == months[0]).sum()
    in_last = (pl.col("month") == months[-1]).sum()
    earlier = pl.col("month").is_in(months[: len(months) // 2])
    before = frame.select(earlier.sum()).item() + 1
    since = total + 2 - before
    rise = ((~earlier).sum() + 1) / since / ((earlier.sum() + 1) / before)
    alone = len(months) == 1
    ranked = (
        frame.lazy()
        .with_columns(pl.col("hashtags").list.unique())
        .explode("hashtags")
        .rename({"hashtags": "hashtag"})
        .filter(pl.col("hashtag").is_not_null() & ~pl.col("hashtag").is_in(list(reviewed)))
        .filter(pl.col("hashtag").str.contains(r"^[^#\s]+$"))
        .sort("created_at", "tweet_id")
        .group_by("hashtag", maintain_order=True)
        .agg(
            posts=pl.len().cast(pl.Int64),
            authors=pl.col("author_id").n_unique().cast(pl.Int64),
            share=pl.len() / max(total, 1),
            growth=pl.when((in_first == 0) | alone).then(None).otherwise(in_last / in_first),
            score=pl.len() * (pl.lit(1.0) if alone else rise),
            first_posts=pl.col("tweet_id").head(FIRST_POSTS),
        )
        .filter(pl.col("posts") >= min_posts)
        .sort(["score", "hashtag"], descending=[True, False])
    )
    return tables.conform("hashtag_candidates", ranked.collect())
