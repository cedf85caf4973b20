"""An archive into the lake: what it holds, of which months it is, and the import of one month.

An archive is read through once; what was found in each of its pieces is kept in the lake (`pages/index/`), so
that a month's import reads the pieces of that month only and a file that did not change is not read again.
What an archive's files are is told in `archives`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import xxhash
from upath import UPath

from twigma_core import __version__, tables
from twigma_core.collect import fields
from twigma_core.collect.archives import (
    BATCH,
    SUFFIXES,
    NotAnArchive,
    Source,
    corrupt,
    is_read,
    months_of,
    pages_of,
    pieces,
    sources,
)
from twigma_core.collect.documents import dumps
from twigma_core.collect.pages import Page, PageStore
from twigma_core.lake import Lake

MAX_STORED = 20
"""Broken pieces of a file that are stored as found; of more, their number is."""
_VERSION = 1  # of the index's columns and of how files are read
_CHUNK = 50_000
_INDEX: dict[str, Any] = {
    "file": pl.String,
    "written": pl.Datetime("us", "UTC"),
    "size": pl.Int64,
    "digest": pl.String,
    "number": pl.Int64,
    "months": pl.List(pl.String),
    "pages": pl.Int64,
    "posts": pl.Int64,
    "media": pl.Int64,
    "users": pl.Int64,
    "errors": pl.Int64,
    "remarks": pl.String,
    "reason": pl.String,
}
_COUNTS = ("pages", "posts", "media", "users", "errors")


def inventory(path: str | Path, lake: Lake | None = None) -> pl.DataFrame:
    """Return table `archive_files`: what an archive holds, one row a file, those that are not read included.

    Args:
        path: as for `archives.read_archive`.
        lake: where the index of the archive is kept, so that it is read once; None keeps none.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    index = _index(path, lake)
    rows = [_file_row(entries) for _, entries in index.group_by("file", maintain_order=True)]
    schema = tables.empty("archive_files").schema
    return tables.conform("archive_files", pl.DataFrame(rows, schema=schema, orient="row"))


def months(path: str | Path, lake: Lake | None = None) -> list[str]:
    """Return the months that an archive's posts are of, sorted, such as ["2021-04", "2022-10"].

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    return _index(path, lake)["months"].explode().drop_nulls().unique().sort().to_list()


def import_month(lake: Lake, path: str | Path, month: str) -> pl.DataFrame:
    """Store an archive's pages that hold posts of a month, and return the month's table `raw_tweets`.

    Whole replies are stored as they are, posts of other months included; flattened posts of the month are
    gathered to pages of 500. Broken pieces are stored with every month that is imported: of each file the
    first 20 as found (of each the first MiB), of the others the number. What is stored already is not
    stored again, so importing twice changes nothing.

    Args:
        lake: where pages are kept.
        path: as for `archives.read_archive`.
        month: such as "2021-01".

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: `month` is not a month.
    """
    store = PageStore(lake, month)
    chosen = _index(path, lake).filter(pl.col("reason").is_not_null() | pl.col("months").list.contains(month))
    files = {source.name: source for source in sources(path)}
    for (name,), entries in chosen.group_by("file", maintain_order=True):
        _import_file(_Keeper(store, str(name)), files[str(name)], entries)
    return store.table()


def _import_file(keeper: _Keeper, source: Source, entries: pl.DataFrame) -> None:
    """Store the pieces that the index names, and what it says of those that are not stored one by one."""
    broken = entries.filter(pl.col("reason").is_not_null())
    single = broken.filter(pl.col("number") > 0)["number"]
    wanted = {*entries.filter(pl.col("reason").is_null())["number"], *single[:MAX_STORED]}
    if wanted:
        for piece in pieces(source):
            for page in piece.read() if piece.number in wanted else []:
                keeper.take(page)
            if piece.number == max(wanted):
                break
    keeper.close()
    said = broken.filter(pl.col("number") == 0)["reason"].to_list()
    if len(single) > MAX_STORED:
        said.append(f"{source.name}: {len(single) - MAX_STORED:,} more broken pieces of this file")
    for reason in said:
        page = corrupt(source, source.name, reason, reason.encode())
        keeper.take(replace(page, reason=reason))


@dataclass
class _Keeper:
    """Puts the pages of a file into a store once, and flattened posts into pages of their own."""

    store: PageStore
    name: str
    batch: list[dict[str, Any]] = field(default_factory=list)
    received: datetime | None = None

    def take(self, page: Page) -> None:
        if page.body is None:
            if (page.sha256, page.reason) not in self.store.known(self.name):
                self.store.append_corrupt(page)
        elif self.store.month in months_of(page):
            if page.body.get("data") is None and fields.is_post(page.body):
                self._gather(page)
            else:
                self._keep(page.body, page.fetched_at)

    def _gather(self, page: Page) -> None:
        # Posts received at different moments stay on different pages: a page has one moment.
        if self.batch and (len(self.batch) == BATCH or page.fetched_at != self.received):
            self.close()
        self.batch.append(page.body or {})
        self.received = page.fetched_at

    def _keep(self, body: dict[str, Any], received: datetime | None) -> None:
        if (hashlib.sha256(dumps(body)).hexdigest(), None) not in self.store.known(self.name):
            self.store.append(self.name, body, source="archive", fetched_at=received)

    def close(self) -> None:
        """Store the posts that were gathered."""
        if self.batch:
            self._keep({"data": self.batch}, self.received)
        self.batch = []


# ---------------------------------------------------------------- the index


def _index(path: str | Path, lake: Lake | None) -> pl.DataFrame:
    """Return a row for each piece of each file; what is known of files that did not change is kept."""
    place = str(UPath(path).resolve())
    key = hashlib.sha256(f"{place} {__version__} {_VERSION}".encode()).hexdigest()[:16]
    stored = f"pages/index/{key}.parquet"
    before = pl.DataFrame(schema=_INDEX)
    if lake and lake.path(stored).exists():
        before = pl.read_parquet(io.BytesIO(lake.read_bytes(stored)))
    known = set(before.select("file", "written", "size").unique().iter_rows())
    folder, frames, fresh = UPath(path).is_dir(), [], False
    for source in sources(path):
        identity = (source.name, source.written, source.file.stat().st_size)
        if identity in known:
            frames.append(before.filter(pl.col("file") == source.name, pl.col("written") == source.written))
        else:
            frames.append(_index_file(source, identity[2], read=not folder or is_read(source.name)))
            fresh = True
    index = pl.concat([pl.DataFrame(schema=_INDEX), *frames])
    if lake and (fresh or index.height != before.height):
        buffer = io.BytesIO()
        index.write_parquet(buffer)
        lake.write_bytes(stored, buffer.getvalue())
    return index


def _index_file(source: Source, size: int, read: bool) -> pl.DataFrame:
    """Read a file through and return a row for each of its pieces; one row where there is none."""
    frames, rows = [], []
    common = (source.name, source.written, size, _digest(source))
    try:
        if not read:
            raise NotAnArchive(f"not one of {', '.join(SUFFIXES)}")
        for number, pages in pages_of(source):
            rows.append((*common, *_entry(number, pages)))
            if len(rows) == _CHUNK:
                frames.append(pl.DataFrame(rows, schema=_INDEX, orient="row"))
                rows = []
    except NotAnArchive as error:
        why = str(error).removeprefix(f"{source.name}: ")
        frames, rows = [], [(*common, 0, [], 0, 0, 0, 0, 0, json.dumps({f"not read: {why}": 1}), None)]
    if not frames and not rows:
        rows = [(*common, 0, [], 0, 0, 0, 0, 0, json.dumps({"empty": 1}), None)]
    return pl.concat([*frames, pl.DataFrame(rows, schema=_INDEX, orient="row")])


def _entry(number: int, pages: list[Page]) -> tuple[Any, ...]:
    """Return what the index says of a piece: all columns from `number` on."""
    good = [page for page in pages if page.body is not None]
    counts = [sum(column) for column in zip(*(_counts(page) for page in good), strict=True)] or [0] * 5
    remarks: Counter[str] = Counter()
    for page in good:
        for what, count in _remarks(page.body or {}):
            remarks[what] += count
    reason = next((page.reason for page in pages if page.body is None), None)
    held = sorted({month for page in good for month in months_of(page)})
    return number, held, *counts, json.dumps(remarks) if remarks else None, reason


def _counts(page: Page) -> tuple[int, int, int, int, int]:
    """Return the pages (one), posts, media objects, user objects and errors on a page."""
    body = page.body or {}
    includes = fields.mapping(body.get("includes"))
    media, users = len(fields.items(includes.get("media"))), len(fields.items(includes.get("users")))
    for value in fields.data(body):
        one = fields.mapping(value)
        media += len(fields.items(fields.mapping(one.get("attachments")).get("media")))
        users += "username" in one or bool(fields.mapping(one.get("author")))
    return 1, page.posts, media, users, len(fields.items(body.get("errors")))


def _remarks(body: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield what a person should know of a page beside its counts, each with a number."""
    for value in fields.data(body):
        if not fields.is_post(value):
            yield f"holds {fields.kind(value)}", 1
        else:
            yield from fields.noted(value).items()
    if not fields.is_post(body):
        yield from fields.noted(body).items()


def _file_row(entries: pl.DataFrame) -> dict[str, Any]:
    remarks: Counter[str] = Counter()
    for text in entries["remarks"].drop_nulls():
        remarks.update(json.loads(text))
    counts = {name: int(entries[name].sum()) for name in _COUNTS}
    notes = [what if number == 1 else f"{what} ({number:,})" for what, number in sorted(remarks.items())]
    # What ended the reading of the file stands first.
    reasons = entries.sort("number", maintain_order=True)["reason"].drop_nulls()
    notes += reasons[:MAX_STORED].to_list()
    if reasons.len() > MAX_STORED:
        notes.append(f"and {reasons.len() - MAX_STORED:,} more broken pieces")
    if not counts["posts"] and not notes:
        notes = ["no posts"]
    held = entries["months"].explode().drop_nulls()
    return {
        "file": entries["file"][0],
        "digest": entries["digest"][0],
        **counts,
        "first_month": held.min(),
        "last_month": held.max(),
        "broken": reasons.len(),
        "note": "; ".join(notes) or None,
    }


def _digest(source: Source) -> str:
    digest = xxhash.xxh3_128()
    with source.file.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
