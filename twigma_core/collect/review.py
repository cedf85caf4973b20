"""Candidates for the list of hashtags, laid out for a person to review: their first posts with pictures.

A page of HTML holds text and pictures; a contact sheet a candidate shows the pictures alone. What a post
says is hostile text: the page escapes it, runs no script and loads nothing.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image

from twigma_core.collect.hashtags import FIRST_POSTS
from twigma_core.contact import thumbnail
from twigma_core.figures.pictures import is_veiled, square, veil
from twigma_core.images.decode import BadPicture
from twigma_core.lake import Lake
from twigma_core.web_page import render

PIXELS = 96
ON_PAGE = 30
"""Candidates on the page."""
AS_SHEETS = 10
"""Candidates with a contact sheet."""
SHEET_BYTES = 72_000
"""Largest contact sheet: as base64 it stays below 100 kB."""
_COLUMNS = 5
_TEMPLATE = Path(__file__).with_name("review.html")
_BLANK = (224, 224, 224)


@dataclass(frozen=True)
class Review:
    """What a reviewer looks at.

    Attributes:
        page: HTML with the first posts of the highest candidates.
        sheets: JPEG of their pictures by hashtag, for the highest of them.
    """

    page: str
    sheets: dict[str, bytes]


def lay_out(
    lake: Lake, candidates: pl.DataFrame, reviewed: Sequence[str], notices: Sequence[str] = ()
) -> Review:
    """Lay out the highest candidates.

    Args:
        lake: posts, their media, the pictures fetched so far and their scores.
        candidates: table `hashtag_candidates`.
        reviewed: the hashtags on the list.
        notices: what a reader must be told first.
    """
    top = candidates.head(ON_PAGE)
    posts = _posts(lake, top)
    pictures = {tweet_id: _picture(lake, post) for tweet_id, post in posts.items()}
    months = lake.partitions("tweets")
    span = f"{months[0]} to {months[-1]}" if months else "no month"
    views = [
        {
            "hashtag": row["hashtag"],
            "numbers": _numbers(row),
            "line": _line(row, span),
            "posts": [
                {
                    "tweet_id": tweet_id,
                    "when": f"{posts[tweet_id]['created_at']:%Y-%m-%d %H:%M} UTC",
                    "text": posts[tweet_id]["text"],
                    "picture": _data(pictures[tweet_id]),
                }
                for tweet_id in row["first_posts"]
                if tweet_id in posts
            ],
        }
        for row in top.iter_rows(named=True)
    ]
    page = render(
        _TEMPLATE,
        candidates=views,
        reviewed=", ".join(f"#{tag}" for tag in sorted(reviewed)),
        span=span,
        notices=list(notices),
    )
    sheets = {
        row["hashtag"]: _sheet([pictures.get(tweet_id) for tweet_id in row["first_posts"]])
        for row in top.head(AS_SHEETS).iter_rows(named=True)
    }
    return Review(page, sheets)


def _posts(lake: Lake, candidates: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the first posts of candidates by id, each with its first picture that was fetched, if any."""
    ids = candidates["first_posts"].explode().drop_nulls().unique().implode()
    fetched = (
        lake.scan("images").filter(pl.col("status") == "ok").select("image_id", "shard", "offset", "bytes")
    )
    scores = lake.scan("nsfw_scores").select("image_id", "nsfw_score")
    shown = (
        lake.scan("tweet_media")
        .filter(pl.col("tweet_id").is_in(ids))
        .sort("tweet_id", "position")
        .select("tweet_id", "image_id")
        .join(fetched.unique("image_id"), on="image_id", maintain_order="left")
        .unique("tweet_id", keep="first", maintain_order=True)
        .join(scores.unique("image_id"), on="image_id", how="left")
    )
    posts = lake.scan("tweets").filter(pl.col("tweet_id").is_in(ids)).select("tweet_id", "created_at", "text")
    rows = posts.join(shown, on="tweet_id", how="left").collect().iter_rows(named=True)
    return {row["tweet_id"]: row for row in rows}


def _picture(lake: Lake, post: Mapping[str, Any]) -> Image.Image | None:
    if post["shard"] is None:
        return None
    try:
        image = thumbnail(lake, dict(post), 2 * PIXELS)
    except (BadPicture, OSError):
        return None
    return square(veil(image) if is_veiled(post["nsfw_score"]) else image, PIXELS)


def _data(picture: Image.Image | None) -> str:
    if picture is None:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(_jpeg(picture, 70)).decode()}"


def _jpeg(picture: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _sheet(pictures: Sequence[Image.Image | None]) -> bytes:
    """Return a contact sheet of at most `SHEET_BYTES`; posts without a picture are grey."""
    lines = -(-min(len(pictures), FIRST_POSTS) // _COLUMNS) or 1
    sheet = Image.new("RGB", (_COLUMNS * PIXELS, lines * PIXELS), "white")
    for place, picture in enumerate(pictures[:FIRST_POSTS]):
        tile = picture or Image.new("RGB", (PIXELS, PIXELS), _BLANK)
        sheet.paste(tile, (place % _COLUMNS * PIXELS, place // _COLUMNS * PIXELS))
    sizes = (data for quality in (75, 50, 30, 10) if len(data := _jpeg(sheet, quality)) <= SHEET_BYTES)
    return next(sizes, b"")


def _numbers(row: Mapping[str, Any]) -> str:
    growth = "none in the first month, or one month alone"
    if row["growth"] is not None:
        growth = f"{row['growth']:.1f} times as many in the last month as in the first"
    return (
        f"{row['posts']:,} posts ({row['share']:.1%} of all) by {row['authors']:,} authors; {growth}; score "
        f"{row['score']:,.1f}"
    )


def _line(row: Mapping[str, Any], span: str) -> str:
    """Return the line that puts a candidate on the list, but for the day of the review."""
    buffer = io.StringIO()
    source = f"co-occurrence in {span}: {row['posts']} posts by {row['authors']} authors"
    csv.writer(buffer, lineterminator="").writerow([row["hashtag"], source, "YYYY-MM-DD", ""])
    return buffer.getvalue()
