"""Ids to posts, on the command line: what it will cost, the asking, and what became of each id."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from twigma_core.collect.budget import Budget, Spend, dollars
from twigma_core.collect.hydrate import PACE_S, STATUSES, Plan, hydrate, outcomes, plan, unclear_authors
from twigma_core.collect.ids import Asked, read_ids
from twigma_core.collect.replies import ACCOUNTS, REPLIES, folder_of
from twigma_core.images.progress import in_words as duration
from twigma_core.lake import Lake
from twigma_dagster.resources import Posts
from twigma_dagster.settings import SettingsError

Say = Callable[[str], object]
_SUFFIXES = re.compile(r"(\.(txt|csv|parquet|gz|zst))+$")
_WHAT = {REPLIES: "posts", ACCOUNTS: "accounts"}


def hydrate_file(
    posts: Posts, lake: Lake, file: Path, console: Console, *, accounts: bool = False, yes: bool = False
) -> bool:
    """Ask X for the ids of a file, say what became of them, and return whether each has an answer.

    Args:
        posts: where to ask, and what it may cost.
        lake: where replies are kept.
        file: the ids; see `ids.read_ids`.
        console: where to say what happens.
        accounts: ask for the accounts, too, whose posts X does not show without saying why.
        yes: spend without asking.

    Raises:
        SettingsError: nobody is there to be asked, or the answer was no.
        NoIds: as `read_ids`.
        XApiError: as `hydrate.hydrate`; what became of the ids so far is said before.
    """

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    asked, budget = read_ids(file), posts.spending(lake)
    name = name_of(file)
    client = posts.client(say)
    _say_ids(asked, file, say)
    say("asking X" if client.source == "x" else "asking the sample world's server, which costs nothing")
    try:
        for kind in (REPLIES, ACCOUNTS)[: 1 + accounts]:
            client = posts.client(say, pace_s=PACE_S[kind])
            ids = asked.ids
            if kind == ACCOUNTS:
                ids = unclear_authors(outcomes(lake, name, client.source, asked))
            left = plan(lake, folder_of(name, client.source, kind), ids)
            _agree(left, kind, budget, client.pace_s, yes, say)
            with Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
            ) as progress:
                task = progress.add_task(_WHAT[kind], total=len(left.todo))
                advance = lambda number, task=task, progress=progress: progress.advance(task, number)  # noqa: E731
                hydrate(client, lake, name, ids, budget, kind, on_reply=advance)
    finally:
        found = outcomes(lake, name, client.source, asked)
        folder = folder_of(name, client.source)
        _write(found, lake, folder)
        _say_outcomes(found, asked, lake, folder, console)
    return not (found["status"] == "pending").any()


def name_of(file: Path) -> str:
    """Return the name under which replies to a file are kept; a release's table goes by its folder."""
    named = file.parent.parent if file.parent.name == "data" and file.stem == "twigma" else file
    return re.sub(r"[^A-Za-z0-9._-]", "_", _SUFFIXES.sub("", named.resolve().name)) or "ids"


def _say_ids(asked: Asked, file: Path, say: Say) -> None:
    authors = f", {len(asked.authors):,} of them with their author" if asked.authors else ""
    say(
        f"{file}: {len(asked.ids):,} ids{authors}; {asked.repeated:,} rows repeat one; "
        f"{len(asked.refused):,} are no ids and are not asked for"
    )
    for remark, number in sorted(asked.remarks.items()):
        say(f"  {number:,} {remark}")
    for text, reason in list(asked.refused.items())[:3]:
        say(f"  for example {text!r} {reason}")


def _agree(left: Plan, kind: str, budget: Budget, pace_s: float, yes: bool, say: Say) -> None:
    """Say what is left to ask for and what it may cost, and get a person's consent to spend it."""
    what = _WHAT[kind]
    for name in left.damaged:
        say(f"{name} cannot be read: its ids are asked for again")
    cost = Spend(**{what: len(left.todo)}).dollars(budget.prices)
    time = duration(left.calls * pace_s)
    say(f"{left.answered:,} {what} are answered for already; {len(left.todo):,} to ask for")
    say(f"{left.calls:,} calls, at least {time}, at most {dollars(cost)}: X charges for what it gives")
    if budget.left is not None and cost > budget.left:
        say(f"{dollars(budget.left)} of the budget is left, which may end it before that: see TWIGMA_BUDGET")
    if not left.todo or not cost or yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError(f"nobody is there to agree to spend {dollars(cost)}; say --yes")
    if not typer.confirm("Ask X?"):
        raise SettingsError("nothing was asked")


def _write(found: pl.DataFrame, lake: Lake, folder: str) -> None:
    """Write what became of each id beside the replies, for people and for programs."""
    top = folder.rpartition("/")[0]
    buffer = io.BytesIO()
    found.write_parquet(buffer)
    lake.write_bytes(f"{top}/outcomes.parquet", buffer.getvalue())
    lake.write_bytes(f"{top}/outcomes.csv", found.write_csv().encode())


def _say_outcomes(found: pl.DataFrame, asked: Asked, lake: Lake, folder: str, console: Console) -> None:
    counts = dict(found.group_by("status").len().iter_rows())
    shown = Table(title="What became of the ids", title_justify="left")
    for column in ("status", "ids"):
        shown.add_column(column, justify="left" if column == "status" else "right")
    for status in STATUSES:
        if status in counts:
            shown.add_row(status, f"{counts[status]:,}")
    shown.add_section()
    shown.add_row("in all", f"{len(asked.ids) + len(asked.refused):,}")
    console.print(shown)
    top = folder.rpartition("/")[0]
    console.print(
        f"  each id   {lake.path(top, 'outcomes.csv')}\n"
        f"  build     TWIGMA_SOURCE=archive TWIGMA_ARCHIVE={lake.path(folder)} twigma build",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
