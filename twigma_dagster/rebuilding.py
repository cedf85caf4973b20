"""From a release and X's answers to its ids back to posts and pictures, and what is left of it."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from twigma_core.collect.hydrate import NOT_AUTHORIZED
from twigma_core.collect.imports import months
from twigma_core.collect.replies import folder_of
from twigma_core.lake import Lake
from twigma_core.release.attrition import HERE, attrition, released_pictures
from twigma_dagster import headless
from twigma_dagster.hydrating import name_of
from twigma_dagster.partitions import MONTHS
from twigma_dagster.resources import sample_address
from twigma_dagster.settings import Settings

TABLES = ("hashtags", "archive_files", "raw_tweets", "tweets", "tweet_media", "images")
"""What is rebuilt: posts as tables, pictures in shards with their ledger."""

_IN_WORDS = {NOT_AUTHORIZED: "not authorized: protected or suspended"}


def rebuild(settings: Settings, lake: Lake, file: Path, source: str, console: Console) -> bool:
    """Rebuild a release's posts and pictures, say what is left of it, and return whether all went well.

    A file of ids alone names no pictures: nothing is rebuilt then, and that is well. Months that hold posts
    from elsewhere are left alone.

    Args:
        settings: of the platform; its source is not looked at.
        lake: with the replies to the ids.
        file: the release.
        source: who was asked: "x" or "sample".
        console: where to say what happens.
    """
    pictures = released_pictures(file)
    if pictures.is_empty():
        return True
    folder = folder_of(name_of(file), source)
    top = folder.rpartition("/")[0]
    held = [key for key in months(str(lake.path(folder)), lake) if key in MONTHS.get_partition_keys()]
    foreign = [key for key in held if _from_elsewhere(lake, key)]
    if foreign:
        console.print(f"left alone, as they hold posts from elsewhere: {', '.join(foreign)}", highlight=False)
    wanted = [key for key in held if key not in foreign]
    outcome = headless.Outcome()
    if wanted:
        base = settings.media_base or (sample_address() if source == "sample" else "")
        archive = {"source": "archive", "archive": str(lake.path(folder)), "media_base": base}
        from twigma_dagster.definitions import build_defs

        with headless.dagsters_storage() as instance:
            chosen = build_defs(settings.model_copy(update=archive))
            outcome = headless.build(chosen, instance, lake, wanted, console, only=TABLES)
        headless.show_failures(outcome, console)
    outcomes = pl.read_parquet(io.BytesIO(lake.read_bytes(f"{top}/outcomes.parquet")))
    media, images = (lake.scan(name, None).collect() for name in ("tweet_media", "images"))
    left = attrition(pictures, outcomes, media, images)
    buffer = io.BytesIO()
    left.write_parquet(buffer)
    lake.write_bytes(f"{top}/attrition.parquet", buffer.getvalue())
    lake.write_bytes(f"{top}/attrition.csv", left.write_csv().encode())
    _say(left, lake, top, console)
    return not outcome.failed


def _from_elsewhere(lake: Lake, month: str) -> bool:
    """Say whether a month has pages that are not from an archive."""
    return lake.has("raw_tweets", month) and bool(
        (lake.read("raw_tweets", month)["source"] != "archive").any()
    )


def _say(left: pl.DataFrame, lake: Lake, top: str, console: Console) -> None:
    counts = dict(left.group_by("status").len().sort("len", descending=True).iter_rows())
    shown = Table(title="What is left of the release", title_justify="left")
    shown.add_column("pictures")
    shown.add_column("number", justify="right")
    for status in sorted(counts, key=lambda one: (one != HERE, -counts[one])):
        shown.add_row(_IN_WORDS.get(status, status), f"{counts[status]:,}")
    shown.add_section()
    shown.add_row("in all", f"{left.height:,}")
    console.print(shown)
    here = counts.get(HERE, 0)
    console.print(
        f"{here:,} of {left.height:,} pictures are here ({here / left.height:.1%}); the others, one by one: "
        f"{lake.path(top, 'attrition.csv')}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
