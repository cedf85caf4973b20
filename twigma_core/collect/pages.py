"""API pages as received, on disk before the next is asked for: nothing is lost, nothing is bought twice.

A page is one file, `pages/<month>/<hash of its query>/<number>.json.zst`: two lines of JSON, compressed.
The first says where the page comes from and which token led to it and leads on from it, the second is the
reply itself. It appears whole or not at all, so the folder is its own checkpoint: replaying the first
lines tells which page is next. A page that has become unreadable is a gap, and is the next to be fetched;
its damaged file is kept beside the new one. Turning pages into tables belongs to `parse`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import zstandard

from twigma_core import tables
from twigma_core.collect import fields
from twigma_core.lake import Lake

_FILE = re.compile(r"(\d{5,})\.json\.zst$")
_MONTH = re.compile(tables.MONTH)
# X wants end_time a little in the past, so a search that ends "now" never quite reaches now.
_SLACK = timedelta(minutes=1)

Window = tuple[datetime, datetime]


@dataclass(frozen=True)
class Page:
    """One reply as received, or the place where one is broken.

    Attributes:
        query: the query, or the archive's file.
        index: number of the page within the query.
        body: the reply; None where it is corrupt or was not read.
        fetched_at: when it was received, UTC.
        month: month that it is stored under; None outside a store.
        source: "x", "sample" or "archive".
        path: file that holds it, relative to the lake's root or to the archive, with the line.
        posts: number of posts that it is about.
        size: bytes of the reply, uncompressed.
        sha256: of the same bytes.
        token: token that led to it; None on the first of a window.
        next_token: token of the page after it; None on the last.
        newest_id, oldest_id: ends of the ids on it.
        window: start and end of the time that was searched, end excluded.
        status: "ok" or "corrupt".
        reason: why it is corrupt.
        raw: the broken bytes of an archive, kept as found.
    """

    query: str
    index: int
    body: dict[str, Any] | None
    fetched_at: datetime
    month: str | None = None
    source: str = "archive"
    path: str = ""
    posts: int = 0
    size: int = 0
    sha256: str = ""
    token: str | None = None
    next_token: str | None = None
    newest_id: str | None = None
    oldest_id: str | None = None
    window: Window | None = None
    status: str = "ok"
    reason: str | None = None
    raw: bytes | None = None

    @property
    def where(self) -> str:
        """The place to look at when something is wrong with this page."""
        return self.path or f"{self.query} page {self.index}"


@dataclass(frozen=True)
class Checkpoint:
    """Where a query of a month stands.

    Attributes:
        query: the query.
        index: number of the page to fetch next.
        token: token to fetch it with; None starts a window.
        window: start and end of the time to search.
        done: nothing is left to fetch.
        pages, posts: readable pages so far, and the posts on them.
        newest_id, oldest_id: ends of the ids collected so far.
    """

    query: str
    index: int
    token: str | None
    window: Window
    done: bool
    pages: int
    posts: int
    newest_id: str | None
    oldest_id: str | None


def month_window(month: str) -> Window:
    """Return the start of a month and of the next one, UTC.

    Raises:
        ValueError: `month` is not such as "2021-01".
    """
    if not _MONTH.match(month):
        raise ValueError(f"month {month!r} is not a month; write it as 2021-01")
    year, number = int(month[:4]), int(month[5:])
    start = datetime(year, number, 1, tzinfo=UTC)
    return start, datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)


def describe(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a page's row says of its reply: posts, newest_id, oldest_id, next_token."""
    ids = sorted(fields.post_ids(body), key=int)
    return {
        "posts": sum(1 for _ in fields.posts(body)),
        "newest_id": ids[-1] if ids else None,
        "oldest_id": ids[0] if ids else None,
        "next_token": fields.next_token(body),
    }


class PageStore:
    """The pages of one month in a lake. One process at a time may append to a month.

    Args:
        lake: where they are kept.
        month: such as "2021-01".

    Raises:
        ValueError: `month` is not a month.
    """

    def __init__(self, lake: Lake, month: str) -> None:
        self.window = month_window(month)
        self.lake = lake
        self.month = month
        self._chains: dict[str, dict[int, Page]] = {}

    # ------------------------------------------------------------ writing

    def append(
        self,
        query: str,
        body: dict[str, Any],
        *,
        source: str = "x",
        index: int | None = None,
        token: str | None = None,
        window: Window | None = None,
        fetched_at: datetime | None = None,
    ) -> Page:
        """Store a reply, flushed to disk, and return it as a page.

        Args:
            query: the query, or the archive's file.
            body: the reply.
            source: "x", "sample" or "archive".
            index: its number; by default the one after the last.
            token: token that it was asked for with.
            window: time that was searched.
            fetched_at: when it was received; now by default.

        Raises:
            ValueError: `index` is that of a page which can still be read.
            RecursionError: the reply nests too deeply to be written as JSON.
        """
        content = json.dumps(body, separators=(",", ":")).encode()
        when = fetched_at or datetime.now(UTC)
        page = Page(query, 0, body, when, source=source, token=token, window=window, **describe(body))
        return self._store(page, content, index)

    def append_corrupt(self, page: Page) -> Page:
        """Store a broken piece of an archive as found, so that it stays accounted for."""
        return self._store(page, page.raw or b"", None)

    def _store(self, page: Page, content: bytes, index: int | None) -> Page:
        chain = self._chain(page.query)
        number = max(chain, default=-1) + 1 if index is None else index
        path = f"{self._folder(page.query)}/{number:05d}.json.zst"
        if number in chain:
            if chain[number].status == "ok":
                raise ValueError(f"{path} is stored already; pages are append-only")
            self.lake.write_bytes(path.replace(".json.zst", ".damaged"), self.lake.read_bytes(path))
        sha256 = hashlib.sha256(content).hexdigest()
        page = replace(
            page, index=number, month=self.month, path=path, size=len(content), sha256=sha256, raw=None
        )
        compressor = zstandard.ZstdCompressor(level=6, write_checksum=True)
        self.lake.write_bytes(path, compressor.compress(_header(page) + b"\n" + content))
        chain[number] = replace(page, body=None)
        return page

    # ------------------------------------------------------------ reading

    def checkpoint(self, query: str, until: datetime | None = None) -> Checkpoint:
        """Return where a query stands: the page to fetch next, or that nothing is left to fetch.

        Args:
            query: the query.
            until: end of the time to collect, the month's end by default. What lies between the end of
                the last complete window and this is a new window, so a month that was collected while
                it ran is completed, not bought again.
        """
        until = min(until or self.window[1], self.window[1])
        good = {index: page for index, page in self._chain(query).items() if page.status == "ok"}
        index = next(number for number in range(len(good) + 1) if number not in good)
        before = good.get(index - 1)
        later = [good[number].window for number in sorted(good) if number > index]
        if before and before.next_token:
            token, window, done = before.next_token, before.window or (self.window[0], until), False
        else:
            start = before.window[1] if before and before.window else self.window[0]
            end = next((window[1] for window in later if window), until)
            token, window = None, (start, end)
            done = before is not None and not later and end - start < _SLACK
        ids = [int(i) for page in good.values() for i in (page.newest_id, page.oldest_id) if i]
        return Checkpoint(
            query=query,
            index=index,
            token=token,
            window=window,
            done=done,
            pages=len(good),
            posts=sum(page.posts for page in good.values()),
            newest_id=str(max(ids)) if ids else None,
            oldest_id=str(min(ids)) if ids else None,
        )

    def tokens(self, page: Page) -> set[str]:
        """Return the tokens that a page and those before it in its window were asked for with."""
        chain = self._chain(page.query).values()
        return {
            one.token for one in chain if one.token and one.index <= page.index and one.window == page.window
        }

    def known(self, query: str) -> set[tuple[str, str | None]]:
        """Return the sha256 of each reply stored for a query, with the reason where it is corrupt."""
        return {(page.sha256, page.reason) for page in self._chain(query).values()}

    def pages(self) -> Iterator[Page]:
        """Yield all pages of the month with their replies, by query folder and number.

        A file that cannot be read is yielded too, with status "corrupt" and the reason.
        """
        for folder in self._folders():
            yield from self._read(folder, bodies=True)

    def table(self) -> pl.DataFrame:
        """Return table `raw_tweets` of the month, sorted by query and page; no row where no page is."""
        same = [name for name in tables.empty("raw_tweets").columns if name not in ("page", "bytes")]
        rows = [
            {name: getattr(page, name) for name in same} | {"page": page.index, "bytes": page.size}
            for folder in self._folders()
            for page in self._read(folder, bodies=False)
        ]
        frame = pl.DataFrame(rows, schema=tables.empty("raw_tweets").schema)
        return tables.conform("raw_tweets", frame.sort("query", "page"))

    def _folder(self, query: str) -> str:
        return f"pages/{self.month}/{hashlib.sha256(query.encode()).hexdigest()[:16]}"

    def _folders(self) -> list[str]:
        top = self.lake.path("pages", self.month)
        if not top.exists():
            return []
        return sorted(f"pages/{self.month}/{entry.name}" for entry in top.iterdir() if entry.is_dir())

    def _chain(self, query: str) -> dict[int, Page]:
        if query not in self._chains:
            found = self._read(self._folder(query), bodies=False)
            self._chains[query] = {page.index: page for page in found}
        return self._chains[query]

    def _read(self, folder: str, bodies: bool) -> Iterator[Page]:
        files = [file for file in self.lake.list_files(folder) if _FILE.search(file)]
        for file in files:
            page = _load(self.lake, file, self.month, bodies)
            yield page if page.query else replace(page, query=self._query_of(folder, files))

    def _query_of(self, folder: str, files: list[str]) -> str:
        """Return the query that a folder holds: its name is a hash, but each readable page tells."""
        loaded = (_load(self.lake, file, self.month, with_body=False) for file in files)
        return next(
            (page.query for page in loaded if page.query), f"unknown query {folder.rpartition('/')[2]}"
        )


def _header(page: Page) -> bytes:
    window = [end.isoformat() for end in page.window] if page.window else None
    return json.dumps(
        {
            "query": page.query,
            "source": page.source,
            "fetched_at": page.fetched_at.isoformat(),
            "posts": page.posts,
            "size": page.size,
            "sha256": page.sha256,
            "token": page.token,
            "next_token": page.next_token,
            "newest_id": page.newest_id,
            "oldest_id": page.oldest_id,
            "window": window,
            "status": page.status,
            "reason": page.reason,
        }
    ).encode()


def _load(lake: Lake, file: str, month: str, with_body: bool) -> Page:
    """Return a stored page; one that cannot be read is corrupt and has no query."""
    match = _FILE.search(file)
    index = int(match.group(1)) if match else 0
    stored = lake.read_bytes(file)
    try:
        header, _, content = zstandard.ZstdDecompressor().decompressobj().decompress(stored).partition(b"\n")
        record = json.loads(header)
        if hashlib.sha256(content).hexdigest() != record["sha256"]:
            raise ValueError("the reply does not match its sha256: truncated or altered")
        record["fetched_at"] = datetime.fromisoformat(record["fetched_at"])
        if record["window"]:
            start, end = record["window"]
            record["window"] = (datetime.fromisoformat(start), datetime.fromisoformat(end))
        body = json.loads(content) if with_body and record["status"] == "ok" else None
        return Page(index=index, body=body, month=month, path=file, **record)
    except (zstandard.ZstdError, ValueError, KeyError, TypeError, RecursionError) as error:
        return Page(
            query="",
            index=index,
            body=None,
            fetched_at=datetime.fromtimestamp(lake.path(file).stat().st_mtime, UTC),
            month=month,
            source="x",
            path=file,
            size=len(stored),
            sha256=hashlib.sha256(stored).hexdigest(),
            status="corrupt",
            reason=f"{type(error).__name__}: {error}"[:300],
        )
