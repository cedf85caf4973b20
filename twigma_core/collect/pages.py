"""API pages as received, on disk before the next is asked for: nothing is lost, nothing is bought twice.

A page is one file, `pages/<month>/<hash of its query>/<number>.json.zst`: a line of JSON and the reply,
compressed. The line says where the page comes from and which token led to it and leads on from it, and is
followed by the reply's bytes as they came. The file appears whole or not at all, so the folder is its own
checkpoint: replaying the first lines tells which page is next. A page that has become unreadable is a gap,
and is the next to be fetched; its damaged file is kept beside the new one. Replies of the counts endpoint
are kept in the same way below `counts/`. What must be gone (table `tombstones`) is taken out of a page before
it is stored, and out of stored ones by `remove`. Turning pages into tables belongs to `parse`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import zstandard

from twigma_core import tables
from twigma_core.collect import fields
from twigma_core.collect.documents import dumps
from twigma_core.collect.page import Checkpoint, Page, Window, describe, gaps, month_window, stand
from twigma_core.collect.tombstones import Finder, Gone, without
from twigma_core.lake import Lake

_FILE = re.compile(r"(\d{5,})\.json\.zst$")
# Compressed bytes that hold the first line of a page for certain: one block of zstandard.
_FIRST_BLOCK = 2**17 + 2**10
_UNREADABLE = (zstandard.ZstdError, ValueError, KeyError, TypeError, RecursionError)
PAGES, COUNTS = "pages", "counts"
_EMPTIED = "; emptied, because it named a post or account that is gone"


class PageStore:
    """The pages of one month in a lake. One process at a time may append: see `Lake.hold`.

    Args:
        lake: where they are kept.
        month: such as "2021-01".
        folder: `PAGES`, or `COUNTS` for replies of the counts endpoint.

    Raises:
        ValueError: `month` is not a month.
    """

    def __init__(self, lake: Lake, month: str, folder: str = PAGES) -> None:
        self.window = month_window(month)
        self.lake = lake
        self.month = month
        self.folder = f"{folder}/{month}"
        self._chains: dict[str, dict[int, Page]] = {}
        self._gone: Gone | None = None

    # ------------------------------------------------------------ writing

    def append(
        self,
        query: str,
        body: dict[str, Any],
        *,
        content: bytes | None = None,
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
            content: its bytes as received; by default the reply written as JSON.
            source: "x", "sample" or "archive".
            index: its number; by default the one after the last.
            token: token that it was asked for with.
            window: time that was searched.
            fetched_at: when it was received; now by default.

        Raises:
            ValueError: `index` is that of a page which can still be read.
            RecursionError: the reply nests too deeply to be written as JSON.
        """
        content = json.dumps(body, separators=(",", ":")).encode() if content is None else content
        when = fetched_at or datetime.now(UTC)
        page = Page(query, 0, body, when, source=source, token=token, window=window, **describe(body))
        if self._gone is None:
            self._gone = Gone.of(self.lake)
        page, content = _relieved(page, content, self._gone) if self._gone else (page, content)
        return self._store(page, content, index)

    def append_corrupt(self, page: Page) -> Page:
        """Store a broken piece of an archive as found, so that it stays accounted for."""
        return self._store(page, page.raw or b"", None)

    def _store(self, page: Page, content: bytes, index: int | None) -> Page:
        chain = self._chain(page.query)
        number = max(chain, default=-1) + 1 if index is None else index
        path = f"{self.folder_of(page.query)}/{number:05d}.json.zst"
        if number in chain:
            if chain[number].status == "ok":
                raise ValueError(f"{path} is stored already; pages are append-only")
            self.lake.write_bytes(path.replace(".json.zst", ".damaged"), self.lake.read_bytes(path))
        sha256 = hashlib.sha256(content).hexdigest()
        page = replace(
            page, index=number, month=self.month, path=path, size=len(content), sha256=sha256, raw=None
        )
        self._write(page, content)
        chain[number] = replace(page, body=None)
        return page

    def _write(self, page: Page, content: bytes) -> None:
        compressor = zstandard.ZstdCompressor(level=6, write_checksum=True)
        self.lake.write_bytes(page.path, compressor.compress(_header(page) + b"\n" + content))

    def remove(self, gone: Gone) -> tuple[int, set[str]]:
        """Take what must be gone out of the stored pages.

        Returns:
            How many pages were written anew, and the ids of the posts that were on them.

        A page keeps its place, its tokens and the number of posts that it was paid for. A broken piece that
        names such an id is emptied, and damaged files, which nobody can search, are removed.
        """
        finder, changed, dropped = Finder(gone), 0, set[str]()
        for folder in self._folders():
            for file in self.lake.list_files(folder):
                if file.endswith(".damaged"):
                    self.lake.remove(file)
                elif _FILE.search(file):
                    found = self._remove(file, gone, finder)
                    changed += found is not None
                    dropped |= found or set()
        self._chains.clear()
        return changed, dropped

    def _remove(self, file: str, gone: Gone, finder: Finder) -> set[str] | None:
        """Take what must be gone out of a page; None where it names nothing such."""
        try:
            content = _split(self.lake.read_bytes(file))[1]
        except _UNREADABLE:
            return None
        if finder.complete and not finder.find(content):
            return None
        page = _load(self.lake, file, self.month, with_body=True)
        if not page.query:
            return None
        if page.body is None:
            if finder.find(content):
                reason = f"{page.reason}{_EMPTIED}"
                received = page.received or page.sha256
                nothing = hashlib.sha256(b"").hexdigest()
                self._write(replace(page, size=0, sha256=nothing, reason=reason, received=received), b"")
                return set()
            return None
        smaller, _ = _relieved(page, content, gone)
        if smaller is page:
            return None
        dropped = set(fields.post_ids(page.body)) - set(fields.post_ids(smaller.body or {}))
        content = dumps(smaller.body)
        sha256 = hashlib.sha256(content).hexdigest()
        self._write(replace(smaller, size=len(content), sha256=sha256), content)
        return dropped

    # ------------------------------------------------------------ reading

    def checkpoint(
        self,
        query: str,
        until: datetime | None = None,
        since: datetime | None = None,
        begin: datetime | None = None,
        token_refused: bool = False,
    ) -> Checkpoint:
        """Return where a query stands: the page to fetch next, or that nothing is left to fetch.

        Args:
            query: the query.
            until: end of the time to collect, the month's end by default. What lies between the end of
                the last complete window and this is a new window, so a month that was collected while
                it ran is completed, not bought again.
            since: start of the time that can be reached, the month's start by default.
            begin: start of the time to collect, the month's start by default.
            token_refused: the next page's token is not taken any more: go on by time, from the second of
                the oldest post so far.
        """
        first = max(begin or self.window[0], self.window[0])
        bounds = (max(since or first, first), min(until or self.window[1], self.window[1]))
        return stand(query, self._chain(query), first, bounds, token_refused)

    def searched(self) -> list[str]:
        """Return the queries that were searched for this month, in the order in which they were begun."""
        begun: dict[str, datetime] = {}
        for page in self._heads():
            if page.window and page.query not in begun:
                begun[page.query] = page.fetched_at
        return sorted(begun, key=lambda query: (begun[query], query))

    def span(self, query: str) -> Window:
        """Return from when up to when a query was searched; the month's start, twice, where it was not."""
        windows = [page.window for page in self._chain(query).values() if page.window]
        nothing = self.window[0], self.window[0]
        return min(windows, default=nothing)[0], max(windows, key=lambda one: one[1], default=nothing)[1]

    def gaps(self, query: str, begin: datetime | None = None, until: datetime | None = None) -> list[Window]:
        """Return the times between `begin` and `until` (the month's own by default) that were passed over."""
        return gaps(self._chain(query), (begin or self.window[0], until or self.window[1]))

    def is_complete(self) -> bool:
        """Say whether every query that was begun is searched to the month's end, by first lines alone."""
        chains: dict[str, dict[int, Page]] = defaultdict(dict)
        for page in self._heads():
            if page.window:
                chains[page.query][page.index] = page
        return all(
            stand(query, chain, self.window[0], self.window, token_refused=False).done
            for query, chain in chains.items()
        )

    def bought(self) -> tuple[int, int]:
        """Return how many pages came from X, and how many posts; only first lines are read."""
        posts = [page.posts for page in self._heads() if page.source == "x"]
        return len(posts), sum(posts)

    def tokens(self, page: Page) -> set[str]:
        """Return the tokens that a page and those before it in its window were asked for with."""
        chain = self._chain(page.query).values()
        return {
            one.token for one in chain if one.token and one.index <= page.index and one.window == page.window
        }

    def known(self, query: str) -> set[tuple[str, str | None]]:
        """Return the sha256 of each reply of a query as received, with the reason where it is corrupt."""
        pages = self._chain(query).values()
        return {
            (page.received or page.sha256, (page.reason or "").partition(_EMPTIED)[0] or None)
            for page in pages
        }

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

    def folder_of(self, query: str) -> str:
        """Return the folder of a query's pages, relative to the lake's root."""
        return f"{self.folder}/{hashlib.sha256(query.encode()).hexdigest()[:16]}"

    def _folders(self) -> list[str]:
        return [f"{self.folder}/{name}" for name in self.lake.list_folders(self.folder)]

    def _chain(self, query: str) -> dict[int, Page]:
        if query not in self._chains:
            found = self._read(self.folder_of(query), bodies=False)
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

    def _heads(self) -> Iterator[Page]:
        """Yield the pages of the month by their first lines alone, unverified; skip what has none."""
        for file in (file for folder in self._folders() for file in self.lake.list_files(folder)):
            if _FILE.search(file):
                block = self.lake.read_bytes(file, 0, _FIRST_BLOCK)
                with suppress(*_UNREADABLE):
                    yield _page(_split(block)[0], file, self.month)


def _relieved(page: Page, content: bytes, gone: Gone) -> tuple[Page, bytes]:
    """Return a page and its reply without what must be gone; the very page where it names nothing such."""
    body, dropped = without(page.body or {}, gone)
    if body == page.body:
        return page, content
    ends = describe(body)
    smaller = replace(
        page,
        body=body,
        newest_id=ends["newest_id"],
        oldest_id=ends["oldest_id"],
        removed=page.removed + len(dropped),
        received=page.received or hashlib.sha256(content).hexdigest(),
    )
    return smaller, dumps(body)


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
            "removed": page.removed,
            "received": page.received,
        }
    ).encode()


def _split(stored: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the record in a page's first line and what follows it, of a file or of its beginning."""
    header, _, content = zstandard.ZstdDecompressor().decompressobj().decompress(stored).partition(b"\n")
    return json.loads(header), content


def _page(record: dict[str, Any], file: str, month: str, body: dict[str, Any] | None = None) -> Page:
    fetched_at = datetime.fromisoformat(record["fetched_at"])
    ends = [datetime.fromisoformat(end) for end in record["window"] or ()]
    window = (ends[0], ends[1]) if ends else None
    record = record | {"fetched_at": fetched_at, "window": window}
    return Page(index=_index(file), body=body, month=month, path=file, **record)


def _index(file: str) -> int:
    match = _FILE.search(file)
    return int(match.group(1)) if match else 0


def _load(lake: Lake, file: str, month: str, with_body: bool) -> Page:
    """Return a stored page; one that cannot be read is corrupt and has no query."""
    stored = lake.read_bytes(file)
    try:
        record, content = _split(stored)
        if hashlib.sha256(content).hexdigest() != record["sha256"]:
            raise ValueError("the reply does not match its sha256: truncated or altered")
        body = json.loads(content) if with_body and record["status"] == "ok" else None
        return _page(record, file, month, body)
    except _UNREADABLE as error:
        return Page(
            query="",
            index=_index(file),
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
