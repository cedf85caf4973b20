"""Posts that someone collected before: twarc2 JSONL, flattened or not, and API replies in files or folders.

Files may be plain, gzip or zstd, told by their content, not their name. A broken line is a page with
status "corrupt", the reason, and its bytes: nothing stops the reading and nothing is lost. What the pages
hold is read in `parse`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import polars as pl
import zstandard
from upath import UPath

from twigma_core.collect import fields
from twigma_core.collect.pages import Page, PageStore, describe
from twigma_core.collect.parse import retrieved_at
from twigma_core.lake import Lake

SUFFIXES = (".json", ".jsonl", ".ndjson")
COMPRESSED = (".gz", ".zst")
MAX_LINE = 256 * 2**20
MAX_KEPT = 2**20  # bytes kept of a broken line
BATCH = 500
INVENTORY_SCHEMA = {
    "file": pl.String,
    "pages": pl.Int64,
    "posts": pl.Int64,
    "first_month": pl.String,
    "last_month": pl.String,
    "broken": pl.Int64,
    "note": pl.String,
}
_READ_ERRORS = (OSError, EOFError, zlib.error, zstandard.ZstdError)


def read_archive(path: str | Path) -> Iterator[Page]:
    """Yield the pages of an archive, in the order of its files and lines.

    Args:
        path: a file, read as JSON or as JSON lines; or a folder, of which the files named .json, .jsonl
            or .ndjson (.gz, .zst) are read, in their sorted order; `inventory` tells of the others.

    Yields:
        A page for each reply or flattened post, `path` being the file and the line. What cannot be read
        is a page with status "corrupt".

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    for file, name in _files(path):
        if _is_archive(file.name) or not UPath(path).is_dir():
            yield from _read_file(file, name)


def months(path: str | Path) -> list[str]:
    """Return the months that an archive's posts are of, sorted, such as ["2021-04", "2022-10"].

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    return sorted({month for page in read_archive(path) for month in _months(page)})


def inventory(path: str | Path) -> pl.DataFrame:
    """Return what an archive holds, one row a file, those that are not read included.

    Returns:
        Columns file, pages, posts, first_month, last_month, broken (lines or files that cannot be read),
        note.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    rows: list[tuple[str, int, int, str | None, str | None, int, str | None]] = []
    for file, name in _files(path):
        if UPath(path).is_dir() and not _is_archive(file.name):
            rows.append((name, 0, 0, None, None, 0, f"not read: not one of {', '.join(SUFFIXES)}"))
            continue
        pages = posts = broken = 0
        found: set[str] = set()
        notes: dict[str, None] = {}
        for page in _read_file(file, name):
            if page.body is None:
                broken += 1
                notes[page.reason or "corrupt"] = None
                continue
            pages += 1
            posts += page.posts
            found |= _months(page)
            others = {fields.kind(value) for value in fields.data(page.body) if not fields.is_post(value)}
            notes |= dict.fromkeys(f"holds {kind}" for kind in sorted(others))
        if not pages and not broken:
            notes["empty"] = None
        elif not posts and not notes:
            notes["no posts"] = None
        note = "; ".join(notes) or None
        rows.append((name, pages, posts, min(found, default=None), max(found, default=None), broken, note))
    return pl.DataFrame(rows, schema=INVENTORY_SCHEMA, orient="row")


def import_month(lake: Lake, path: str | Path, month: str) -> pl.DataFrame:
    """Store an archive's pages that hold posts of a month, and return the month's table `raw_tweets`.

    Whole pages are stored as they are, posts of other months included; flattened posts of the month are
    gathered to pages of 500. Broken lines are stored with every month that is imported, as found (the
    first MiB of each). What is stored already is not stored again, so importing twice changes nothing.

    Args:
        lake: where pages are kept.
        path: as for `read_archive`.
        month: such as "2021-01".

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: `month` is not a month.
    """
    keeper = _Keeper(PageStore(lake, month))
    for page in read_archive(path):
        name = page.query
        if name != keeper.name:
            keeper.close()
            keeper.name = name
        if page.body is None:
            keeper.keep_corrupt(page)
        elif month in _months(page):
            if page.body.get("data") is None and fields.is_post(page.body):
                keeper.gather(page)
            else:
                keeper.keep(page.query, page.body, page.fetched_at)
    keeper.close()
    return keeper.store.table()


@dataclass
class _Keeper:
    """Puts pages into a store once, and flattened posts into pages of their own."""

    store: PageStore
    name: str | None = None
    batch: list[dict[str, Any]] = field(default_factory=list)
    received: datetime | None = None

    def keep(self, query: str, body: dict[str, Any], received: datetime | None) -> None:
        content = json.dumps(body, separators=(",", ":")).encode()
        if (hashlib.sha256(content).hexdigest(), None) not in self.store.known(query):
            self.store.append(query, body, source="archive", fetched_at=received)

    def keep_corrupt(self, page: Page) -> None:
        if (page.sha256, page.reason) not in self.store.known(page.query):
            self.store.append_corrupt(page)

    def gather(self, page: Page) -> None:
        # Posts received at different moments stay on different pages: a page has one moment.
        if self.batch and (len(self.batch) == BATCH or page.fetched_at != self.received):
            self.close()
        self.batch.append(page.body or {})
        self.received = page.fetched_at

    def close(self) -> None:
        if self.batch and self.name is not None:
            self.keep(self.name, {"data": self.batch}, self.received)
        self.batch = []


# ---------------------------------------------------------------- files


def _files(path: str | Path) -> list[tuple[UPath, str]]:
    """Return the files of an archive with their names within it, hidden ones left out."""
    top = UPath(path)
    if not top.exists():
        raise FileNotFoundError(f"no archive at {path}; give a JSON or JSONL file, or a folder of them")
    if not top.is_dir():
        return [(top, top.name)]
    found = []
    for file in top.rglob("*"):
        name = str(file.path)[len(str(top.path).rstrip("/")) + 1 :]
        if file.is_file() and not any(part.startswith(".") for part in PurePosixPath(name).parts):
            found.append((file, name))
    return sorted(found, key=lambda pair: pair[1])


def _suffix(name: str) -> str:
    path = PurePosixPath(name.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


def _is_archive(name: str) -> bool:
    return _suffix(name) in SUFFIXES


def _months(page: Page) -> set[str]:
    times = (fields.post_time(post) for post in fields.posts(page.body or {}))
    return {fields.month_of(when) for when in times if when}


def _read_file(file: UPath, name: str) -> Iterator[Page]:
    written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    number = 0
    try:
        with file.open("rb") as raw, _decompressed(raw) as stream:
            for line, content in _documents(stream, whole=_suffix(name) == ".json"):
                for page in _pages(content, name, line, written):
                    yield replace(page, index=number)
                    number += 1
    except _READ_ERRORS as error:
        reason = f"the file breaks off after {number} pages ({type(error).__name__}: {error})"
        yield _corrupt(name, name, number, written, reason, reason.encode())


def _decompressed(raw: Any) -> BinaryIO:
    start = raw.read(4)
    raw.seek(0)
    if start[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if start == b"\x28\xb5\x2f\xfd":
        return io.BufferedReader(_ZstdStream(raw))
    return io.BufferedReader(raw) if isinstance(raw, io.RawIOBase) else raw


class _ZstdStream(io.RawIOBase):
    """Zstandard frames as a stream that says when it is cut short; the library's own ends in silence."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame: Any = None
        self._input = self._output = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            # Small pieces bound what a hostile file can blow up to at a time.
            self._input = self._input or self._raw.read(8192)
            if not self._input:
                if self._frame:
                    raise EOFError("the file ends within a compressed frame")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._output, self._input = self._frame.decompress(self._input), b""
            if self._frame.eof:
                self._input, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._output))
        buffer[:size], self._output = self._output[:size], self._output[size:]
        return size


def _documents(stream: BinaryIO, whole: bool) -> Iterator[tuple[int, bytes]]:
    """Yield (line number, bytes) of each JSON document: each line, or the whole file where it is one."""
    if whole:
        content = stream.read(MAX_LINE + 1)
        lines = content.split(b"\n", 1)
        # A file of one document, pretty-printed or broken, does not have one on its first line.
        if len(content) <= MAX_LINE and _loads(content)[1] and not _loads(lines[0])[1]:
            stream = io.BytesIO(content)
        else:
            if content.strip():
                yield 1, content
            return
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            yield number, line
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE)
        elif line.strip(b"\xef\xbb\xbf \t\r\n"):
            yield number, line


def _loads(content: bytes) -> tuple[Any, str | None]:
    """Return a JSON document and None, or None and why it cannot be read."""
    if len(content) > MAX_LINE:
        return None, f"longer than {MAX_LINE // 2**20} MiB"
    try:
        return json.loads(content.decode("utf-8-sig")), None
    except (ValueError, RecursionError) as error:
        words = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        return None, f"not JSON: {words}"[:200]


def _pages(content: bytes, name: str, line: int, written: datetime) -> Iterator[Page]:
    where = f"{name}:{line}"
    value, reason = _loads(content)
    if reason:
        yield _corrupt(name, where, 0, written, reason, content[:MAX_KEPT])
        return
    for body in value if isinstance(value, list) else [value]:
        if isinstance(body, dict):
            yield Page(
                query=name,
                index=0,
                body=body,
                fetched_at=retrieved_at(body) or written,
                path=where,
                size=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                **describe(body),
            )
        else:
            piece = json.dumps(body).encode()
            yield _corrupt(name, where, 0, written, f"a JSON {type(body).__name__}, not an object", piece)


def _corrupt(name: str, where: str, index: int, written: datetime, reason: str, raw: bytes) -> Page:
    return Page(
        query=name,
        index=index,
        body=None,
        fetched_at=written,
        path=where,
        size=len(raw),
        sha256=hashlib.sha256(raw).hexdigest(),
        status="corrupt",
        reason=f"{where}: {reason}",
        raw=raw,
    )
