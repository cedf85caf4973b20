"""A part of the sample world behind its server, in which time passes: posts come and go, likes settle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from tests.dagster.small_world import lay_out_references
from twigma_core.lake import Lake
from twigma_core.sample.server import Running, ServerOptions, serve_in_thread
from twigma_core.sample.world import World, load
from twigma_dagster.settings import Settings


@dataclass
class Living:
    """The world, and what a test may change in it while it runs.

    Attributes:
        world: its posts and pictures.
        settings: of a platform that collects from it.
        lake: where that collects to.
        running: the server.
        gone: posts that are deleted by now, with X's reason.
        accounts: accounts that are protected or suspended by now.
        now: the time of day in it.
    """

    world: World
    settings: Settings
    lake: Lake
    running: Running
    gone: dict[str, str]
    accounts: dict[str, str]
    now: list[datetime] = field(default_factory=lambda: [datetime(2030, 1, 1, tzinfo=UTC)])


def part_of(posts_a_month: int, months: Sequence[str] | None = None) -> World:
    """Return the sample world with this many posts with pictures of each month, and nothing else."""
    whole = load()
    wanted = months or whole.months
    usable = whole.posts.filter(pl.col("media_ids").list.len() > 0, pl.col("retweet_of") == "")
    posts = pl.concat([usable.filter(pl.col("month") == month).head(posts_a_month) for month in wanted])
    media = whole.media.filter(pl.col("media_id").is_in(posts["media_ids"].explode().implode()))
    return World(whole.users, posts, media, whole.references, whole.texts)


@contextmanager
def living(folder: Path, world: World, compliance: bool = True, settle_days: float = 0) -> Iterator[Living]:
    """Run a world's server and give it with the settings of a platform that collects from it."""
    gone: dict[str, str] = {}
    accounts: dict[str, str] = {}
    now = [datetime(2030, 1, 1, tzinfo=UTC)]
    options = ServerOptions(
        gone=gone,
        accounts=accounts,
        compliance=compliance,
        clock=lambda: now[0],
        settle_days=settle_days,
        empty_pages=False,
    )
    lay_out_references(folder / "references", 12)
    with serve_in_thread(world, options) as running:
        settings = Settings(
            home=folder / "home",
            source="sample",
            x_api=running.url,
            media_base=f"{running.url}",
            references=str(folder / "references"),
        )
        yield Living(world, settings, Lake(settings.lake_root), running, gone, accounts, now)
