"""Posts that someone collected before, as pages of X's API.

Read are twarc2's JSON lines, flattened or not, API replies in files or folders, snscrape's dumps, and the
2023 release of TWIGMA. A broken piece is a page with status "corrupt", the reason, and its bytes: nothing
stops the reading and nothing is lost. How files are opened is told in `documents`, what pages hold in
`parse`, how an archive comes into the lake in `imports`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from upath import UPath

from twigma_core.collect import fields, release_2023, snscrape
from twigma_core.collect.documents import (
    MANY_BROKEN,
    MAX_KEPT,
    READ_ERRORS,
    Document,
    NotAnArchive,
    Row,
    documents,
    dumps,
    index_of,
    loads,
    opened,
    rows,
)
from twigma_core.collect.pages import Page, describe
from twigma_core.collect.parse import retrieved_at

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv")
COMPRESSED = (".gz", ".zst")
BATCH = 500
"""Posts on a page that is made of a table's rows or of flattened posts."""


class Piece(NamedTuple):
    """A part of a file that can be skipped unread: its place in the file, and what reads its pages."""

    number: int
    read: Callable[[], list[Page]]


class Source(NamedTuple):
    """A file of an archive, its name within it, and when it was written."""

    file: UPath
    name: str
    written: datetime


def read_archive(path: str | Path) -> Iterator[Page]:
    """Yield the pages of an archive, in the order of its files and lines.

    Args:
        path: a file, read as what its name ends in, else as JSON lines; or a folder, of which the files
            named .json, .jsonl, .ndjson or .csv (.gz, .zst) are read, in their sorted order;
            `imports.inventory` tells of the others.

    Yields:
        A page for each reply or flattened post, `path` being the file and the line. What cannot be read
        is a page with status "corrupt".

    Raises:
        FileNotFoundError: there is nothing at `path`.
        NotAnArchive: it is a single file that holds no posts in a form that is read here.
    """
    folder = UPath(path).is_dir()
    for source in sources(path):
        if folder and not is_read(source.name):
            continue
        try:
            index = 0
            for _, pages in pages_of(source):
                for page in pages:
                    yield replace(page, index=index)
                    index += 1
        except NotAnArchive:
            if not folder:
                raise


def sources(path: str | Path) -> list[Source]:
    """Return all files of an archive, hidden ones left out, sorted by name.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    top = UPath(path)
    if not top.exists():
        raise FileNotFoundError(
            f"no archive at {path}; give a JSON, JSONL or CSV file, or a folder of them, as TWIGMA_ARCHIVE"
        )
    if not top.is_dir():
        return [Source(top, top.name, _written(top))]
    start = len(str(top.path).rstrip("/")) + 1
    found = [(file, str(file.path)[start:]) for file in top.rglob("*") if file.is_file()]
    return [
        Source(file, name, _written(file))
        for file, name in sorted(found, key=lambda pair: pair[1])
        if not any(part.startswith(".") for part in PurePosixPath(name).parts)
    ]


def is_read(name: str) -> bool:
    """Say whether a file of a folder is read, by its name."""
    return _suffix(name) in SUFFIXES


def months_of(page: Page) -> set[str]:
    """Return the months that a page's posts are of."""
    times = (fields.post_time(post, page.fetched_at) for post in fields.posts(page.body or {}))
    return {fields.month_of(when) for when in times if when}


def pages_of(source: Source) -> Iterator[tuple[int, list[Page]]]:
    """Yield the pages of each piece of a file with the piece's number, from 1; 0 is what ends the reading.

    Raises:
        NotAnArchive: the file is of another kind; the message names it.
    """
    broken = good = 0
    for piece in pieces(source):
        pages = piece.read()
        yield piece.number, pages
        broken += sum(page.status == "corrupt" for page in pages)
        good += sum(page.status != "corrupt" for page in pages)
        if broken > MANY_BROKEN and broken > good:
            reason = f"gave up after {broken:,} broken pieces: the rest of the file is not read"
            yield 0, [corrupt(source, source.name, reason, reason.encode())]
            return


def pieces(source: Source) -> Iterator[Piece]:
    """Yield the pieces of a file; where it breaks off, a last one with number 0 says so.

    Raises:
        NotAnArchive: the file is of another kind; the message names it.
    """
    number = 0
    try:
        with opened(source.file) as stream:
            for number, read in enumerate(_readers(stream, source), 1):
                yield Piece(number, read)
    except NotAnArchive as error:
        raise NotAnArchive(f"{source.name}: {error}") from None
    except READ_ERRORS as error:
        reason = f"the file breaks off after {number} documents ({type(error).__name__}: {error})"
        yield Piece(0, partial(list, [corrupt(source, source.name, reason, reason.encode())]))


# ---------------------------------------------------------------- kinds of files


def _readers(stream: BinaryIO, source: Source) -> Iterator[Callable[[], list[Page]]]:
    """Yield, for each piece of a file, the function that reads its pages."""
    if _suffix(source.name) == ".csv":
        yield from _csv_readers(stream, source)
        return
    for document in documents(stream, whole=_suffix(source.name) == ".json"):
        yield partial(_pages, document, source)


def _pages(document: Document, source: Source) -> list[Page]:
    """Return the pages of a JSON document: one reply, one post, or a list of them."""
    where = f"{source.name}:{document.line}"
    value, reason = (None, document.reason) if document.reason else loads(document.content)
    if reason:
        return [corrupt(source, where, reason, document.content)]
    size, sha256 = len(document.content), hashlib.sha256(document.content).hexdigest()
    pages = []
    for body in value if isinstance(value, list) else [value]:
        if not isinstance(body, dict):
            piece = dumps(body)
            pages.append(corrupt(source, where, f"a JSON {type(body).__name__}, not an object", piece))
            continue
        if not fields.is_post(body) and snscrape.is_dump(body):
            body = snscrape.to_post(body)
        pages.append(_page(source, where, body, size, sha256))
    return pages


def _csv_readers(stream: BinaryIO, source: Source) -> Iterator[Callable[[], list[Page]]]:
    found = rows(stream)
    header = next(found, Row(0, []))
    if release_2023.is_release(header.cells):
        yield from _release_readers(read_release(source, header.cells, found), source)
    elif snscrape.is_dump(index_of(header.cells)):
        at = index_of(header.cells)
        for row in found:
            yield partial(_snscrape_page, row, at, source)
    elif header.cells:
        names = ", ".join(header.cells)[:80]
        raise NotAnArchive(f"a CSV that is neither snscrape's nor the 2023 release; its columns are {names}")


def _snscrape_page(row: Row, at: dict[str, int], source: Source) -> list[Page]:
    where, content = f"{source.name}:{row.line}", ",".join(row.cells).encode()
    if row.reason:
        return [corrupt(source, where, row.reason, content)]
    post = snscrape.to_post({name: row.cells[place] for name, place in at.items()})
    return [_page(source, where, post, len(content), hashlib.sha256(content).hexdigest())]


def _release_readers(release: release_2023.Release, source: Source) -> Iterator[Callable[[], list[Page]]]:
    """Yield a reader for the pages of each month of a release, and for each kind of row that is none."""
    remarks = {what: n for what, n in release.notes.items() if not what.endswith(release_2023.NO_POST)}
    for month in release_2023.months(release.table):
        yield partial(_release_pages, release, month, remarks, source)
        remarks = {}  # of the whole file: said once
    for reason, content in release_2023.broken(release):
        yield partial(list, [corrupt(source, source.name, reason, content)])


def _release_pages(
    release: release_2023.Release, month: str, remarks: dict[str, int], source: Source
) -> list[Page]:
    pages = []
    posts = release_2023.posts(release.table, month)
    for start in range(0, len(posts), BATCH):
        notes = {"read_from": "the 2023 release", "problems": {} if start else remarks}
        body = {"data": posts[start : start + BATCH], fields.NOTES: notes}
        content = dumps(body)
        where = f"{source.name}:{month}:{start // BATCH}"
        pages.append(_page(source, where, body, len(content), hashlib.sha256(content).hexdigest()))
    return pages


# The last release that was read: a build asks for it once a month, and reading takes seconds.
_LAST: OrderedDict[tuple[str, int, datetime], release_2023.Release] = OrderedDict()


def read_release(source: Source, header: list[str], found: Iterator[Row]) -> release_2023.Release:
    """Return what a release file holds; the last one that was read is kept."""
    key = (str(source.file), source.file.stat().st_size, source.written)
    if key not in _LAST:
        _LAST.clear()
        _LAST[key] = release_2023.read_release(header, found)
    return _LAST[key]


def releases(path: str | Path) -> Iterator[tuple[Source, release_2023.Release]]:
    """Yield the files of an archive that are the 2023 release, with what they hold.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    for source in sources(path):
        if _suffix(source.name) != ".csv":
            continue
        try:
            with opened(source.file) as stream:
                found = rows(stream)
                header = next(found, Row(0, []))
                if release_2023.is_release(header.cells):
                    yield source, read_release(source, header.cells, found)
        except (NotAnArchive, *READ_ERRORS):
            continue  # the inventory says what is wrong with it


# ---------------------------------------------------------------- pages


def _page(source: Source, where: str, body: dict[str, Any], size: int, sha256: str) -> Page:
    return Page(
        query=source.name,
        index=0,
        body=body,
        fetched_at=retrieved_at(body) or source.written,
        path=where,
        size=size,
        sha256=sha256,
        **describe(body),
    )


def corrupt(source: Source, where: str, reason: str, raw: bytes) -> Page:
    """Return the page that stands for what cannot be read: its place, the reason, its first bytes."""
    raw = raw[:MAX_KEPT]
    return Page(
        query=source.name,
        index=0,
        body=None,
        fetched_at=source.written,
        path=where,
        size=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        status="corrupt",
        reason=f"{where}: {reason}",
        raw=raw,
    )


def _written(file: UPath) -> datetime:
    return datetime.fromtimestamp(file.stat().st_mtime, UTC)


def _suffix(name: str) -> str:
    path = PurePosixPath(name.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in COMPRESSED else path.suffix
