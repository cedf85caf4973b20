"""The deduplicated picture table of a month, and what is not in it and why.

What belongs here: joining posts, pictures, captions and scores, and accounting for every posted picture.
What does not: what makes two pictures one (`twigma_core.images.dedupe`).
"""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import urlsplit

import polars as pl

from twigma_core import tables
from twigma_core.images.addresses import name_others
from twigma_core.images.dedupe import ORDER, unique_images

_POSTED = ["tweet_id", "image_id", "month", "position", "created_at", "url"]
_PICTURE = ["sha256", "pixel_sha256", "bytes", "width", "height", "shard", "offset"]


def build_dataset(
    month: str,
    tweets: pl.DataFrame,
    media: pl.DataFrame | pl.LazyFrame,
    images: pl.DataFrame | pl.LazyFrame,
    lookalikes: pl.DataFrame | None,
    captions: pl.DataFrame,
    scores: pl.DataFrame | None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the month's pictures, each once with its first post, and all other posted pictures.

    Every row of the month's `media` is in exactly one of the two. The first posting wins over all months
    up to this one; later months play no part, so a new month never changes an older one. A picture that
    could not be had is dropped with its status in the ledger as reason, unless an earlier post shows it.
    A media id is believed only where the file name does not encode another: such a posting is "refused".

    Args:
        month: such as "2021-01".
        tweets: table tweets of the month.
        media: table tweet_media of all months up to and including this one (later rows are ignored).
        images: table images of the same months.
        lookalikes: table lookalikes of the same months; None compares no embeddings.
        captions: table captions of the month.
        scores: table nsfw_scores of the month, or None where there are none.

    Returns:
        Tables dataset and drops, sorted by the time of the post.

    Raises:
        ValueError: a posted picture has no row in `images`, no post, or, being kept, no caption; the
            message names the table, the number and an example.
    """
    pictures = images.lazy().select("image_id", "month", "status", *_PICTURE)
    so_far = media.lazy().filter(pl.col("month") <= month).select(_POSTED)
    posted = _believed(so_far.join(pictures, on=["image_id", "month"], how="left").collect())
    ours = posted.filter(pl.col("month") == month)
    _require(month, ours.filter(pl.col("status").is_null()), "images", "no row in images")
    orphans = ours.join(tweets, on="tweet_id", how="anti")
    _require(month, orphans, "tweets", "a post that is not in tweets")

    identical = None if lookalikes is None else lookalikes.filter("identical")
    marked = unique_images(posted.filter(pl.col("status") == "ok"), identical)
    dropped = pl.concat(
        [
            marked.filter(~pl.col("keep")).select(
                *ORDER, pl.col("reason"), pl.col("survivor_id"), pl.col("survivor_tweet_id")
            ),
            _not_had(posted.filter(pl.col("status") != "ok"), marked),
        ]
    )
    drops = dropped.filter(pl.col("month") == month).sort(*ORDER)
    kept = marked.filter(pl.col("keep") & (pl.col("month") == month))
    kept = (
        kept.select(*_POSTED, *_PICTURE)
        .join(tweets.drop("month", "created_at"), on="tweet_id", how="left", validate="m:1")
        .join(captions.select("image_id", "caption"), on="image_id", how="left", validate="1:1")
    )
    _require(month, kept.filter(pl.col("caption").is_null()), "captions", "no caption")
    if scores is None:
        kept = kept.with_columns(nsfw_score=pl.lit(None, dtype=pl.Float32))
    else:
        kept = kept.join(scores.select("image_id", "nsfw_score"), on="image_id", how="left", validate="1:1")
    kept = kept.with_columns(
        image_name=pl.col("url").map_elements(_file_name, return_dtype=pl.String, skip_nulls=True)
    ).sort(*ORDER)
    if kept.height + drops.height != ours.height:
        raise AssertionError(
            f"dataset/{month}: {ours.height} pictures posted, {kept.height} kept, {drops.height} dropped"
        )
    return (
        tables.conform("dataset", kept.select(tables.empty("dataset").columns)),
        tables.conform("drops", drops.select(tables.empty("drops").columns)),
    )


def _believed(posted: pl.DataFrame) -> pl.DataFrame:
    """Return the postings with `other`, and those refused whose address is another picture's by its name."""
    posted = posted.with_columns(other=name_others(posted["image_id"], posted["url"]))
    refused = pl.col("other") & pl.col("status").is_not_null()
    return posted.with_columns(
        status=pl.when(refused).then(pl.lit("refused")).otherwise(pl.col("status").cast(pl.String))
    )


def _not_had(missing: pl.DataFrame, marked: pl.DataFrame) -> pl.DataFrame:
    """Return the drops of postings whose picture could not be had: a repeat, or its status.

    A picture that was had in an earlier month and is gone in a later one is a repeat there, as it would be
    had it stayed.
    """
    firsts = marked.unique("image_id", keep="first", maintain_order=True).select(
        "image_id", "survivor_id", "survivor_tweet_id", first_month="month"
    )
    # A status is one for the whole month, so an earlier post that had the picture is of an earlier month.
    repeat = (pl.col("first_month") < pl.col("month")).fill_null(False) & ~pl.col("other")
    reason = pl.when(repeat).then(pl.lit("same media id")).otherwise("status")
    return missing.join(firsts, on="image_id", how="left").select(
        *ORDER,
        reason.alias("reason"),
        pl.when(repeat).then("survivor_id").alias("survivor_id"),
        pl.when(repeat).then("survivor_tweet_id").alias("survivor_tweet_id"),
    )


def _require(month: str, bad: pl.DataFrame, table: str, what: str) -> None:
    if bad.height:
        example = bad.sort(*ORDER).row(0, named=True)
        raise ValueError(
            f"dataset/{month}: {bad.height} posted pictures have {what}, such as picture "
            f"{example['image_id']} of post {example['tweet_id']}; materialize {table}/{month} again"
        )


def _file_name(url: str) -> str | None:
    try:
        return PurePosixPath(urlsplit(url).path).name or None
    except ValueError:
        return None
