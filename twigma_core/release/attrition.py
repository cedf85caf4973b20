"""What is left of a release on another machine: each of its pictures, here or gone, and why.

What became of the posts is asked elsewhere (`twigma_core.collect.hydrate`); pictures are fetched as any
collection's are. Here the two are set beside the release.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
from upath import UPath

from twigma_core.collect.documents import opened, rows
from twigma_core.collect.hydrate import FOUND, WITHHELD
from twigma_core.collect.ids import file_of_ids, refusing_ids
from twigma_core.collect.release_2023 import is_release, picture_named, read_release
from twigma_core.parquet import read_columns

HERE, GONE, NOT_IN_POST, NOT_FETCHED = "here", "picture gone", "not in the post", "not fetched"
SCHEMA = {"id": pl.String, "image_id": pl.String}


def released_pictures(path: str | Path) -> pl.DataFrame:
    """Return the pictures that a release names: columns id and image_id, each picture once.

    Args:
        path: its CSV, Parquet or folder, of this platform in either profile or of 2023; a file of ids alone
            names no pictures.

    A row whose post or picture has no exact id is not here; `ids.read_ids` and `release_2023` count those.

    Raises:
        NoIds: there is nothing at `path`, or it cannot be read.
    """
    file = file_of_ids(path)
    with refusing_ids(file):
        return _pictures(file).drop_nulls().unique("image_id", keep="first", maintain_order=True)


def _pictures(file: UPath) -> pl.DataFrame:
    """Return the id and image_id of each row of a file; null where it is not exactly known."""
    if file.name.endswith(".parquet"):
        wanted = ("id", "image_id", "image_name")
        named = read_columns(file, lambda names: {one: one for one in wanted if one in names})
        if "image_id" in named and "id" in named:
            return named.select("id", "image_id")
        if "image_name" in named and "id" in named:
            pictures = [picture_named(name or "")[0] for name in named["image_name"]]
            return named.select("id", image_id=pl.Series(pictures, dtype=pl.String))
        return pl.DataFrame(schema=SCHEMA)
    with opened(file) as stream:
        lines = rows(stream)
        header = next(lines, None)
        names = [name.strip() for name in header.cells] if header else []
        if is_release(names):
            return read_release(names, lines).table.select(id="tweet_id", image_id="image_id")
        if {"id", "image_id"} <= set(names):
            at, of = names.index("id"), names.index("image_id")
            cells = [(row.cells[at].strip(), row.cells[of].strip()) for row in lines if not row.reason]
            return pl.DataFrame(cells, schema=SCHEMA, orient="row")
    return pl.DataFrame(schema=SCHEMA)


def attrition(
    pictures: pl.DataFrame, outcomes: pl.DataFrame, media: pl.DataFrame, images: pl.DataFrame
) -> pl.DataFrame:
    """Return what became of each picture of a release: columns id, image_id, status, reason.

    Args:
        pictures: from `released_pictures`.
        outcomes: of the posts, from `hydrate.outcomes`.
        media: table `tweet_media` of what X gave.
        images: table `images`, the ledger of what was fetched.

    The status is "here", or what keeps the picture away: the post's (deleted, protected, suspended, ...);
    "not in the post", which shows other pictures now; "picture gone" where X's media host has it no more;
    "picture refused", "picture undecodable", "picture failed" as in the ledger; "not fetched". A post that
    is withheld in some countries counts as withheld if it came without the picture, else by the picture.
    One row a picture, in the release's order: the numbers by status add up.
    """
    posts = outcomes.select("id", post="status", _why="reason").unique("id", keep="first")
    shown = media.select("image_id").unique().with_columns(_shown=True)
    ledger = images.select("image_id", picture=pl.col("status").cast(pl.String), _said="reason")
    ledger = ledger.unique("image_id", keep="first")
    joined = (
        pictures.join(posts, on="id", how="left", maintain_order="left")
        .join(shown, on="image_id", how="left", maintain_order="left")
        .join(ledger, on="image_id", how="left", maintain_order="left")
    )
    post, picture = pl.col("post").fill_null("pending"), pl.col("picture")
    there = post.is_in([FOUND, WITHHELD])
    given = pl.col("_shown").is_not_null()
    return joined.select(
        "id",
        "image_id",
        status=pl.when(~there)
        .then(post)
        .when(~given & (post == WITHHELD))
        .then(post)
        .when(~given)
        .then(pl.lit(NOT_IN_POST))
        .when(picture.is_null())
        .then(pl.lit(NOT_FETCHED))
        .when(picture == "ok")
        .then(pl.lit(HERE))
        .when(picture == "unavailable")
        .then(pl.lit(GONE))
        .otherwise(pl.format("picture {}", picture)),
        reason=pl.when(there & given).then("_said").otherwise("_why"),
    )
