"""One reply of X's API as received, and where a query stands after the pages that it has brought.

What belongs here: values, and the rule by which the next page to fetch follows from those there are. What
does not: files (`pages`) and requests (`search`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from twigma_core import tables
from twigma_core.collect import fields

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
        removed: posts that were taken out of it since, because they had to go; `posts` counts them still.
        received: sha256 of the reply as received, where something was taken out; else None.
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
    removed: int = 0
    received: str | None = None

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


def is_month(text: str) -> bool:
    """Say whether a text is a month such as "2021-01"."""
    return bool(_MONTH.match(text))


def month_window(month: str) -> Window:
    """Return the start of a month and of the next one, UTC.

    Raises:
        ValueError: `month` is not such as "2021-01".
    """
    if not is_month(month):
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


def stand(
    query: str, chain: Mapping[int, Page], begin: datetime, bounds: Window, token_refused: bool
) -> Checkpoint:
    """Return where a query stands.

    Args:
        query: the query.
        chain: its pages by number, corrupt ones included.
        begin: where its first window begins.
        bounds: the time that can be and is to be searched; see `PageStore.checkpoint`.
        token_refused: see `PageStore.checkpoint`.
    """
    since, until = bounds
    good = {index: page for index, page in chain.items() if page.status == "ok"}
    index = next(number for number in range(len(good) + 1) if number not in good)
    before = good.get(index - 1)
    token, done = None, False
    rest = _rest(good, index, since) if before and before.next_token and token_refused else None
    if before and before.next_token and not token_refused:
        token, window = before.next_token, before.window or bounds
    elif rest:
        window = rest
    else:
        later = [page.window for number, page in sorted(good.items()) if number > index and page.window]
        ends = [page.window[1] for number, page in good.items() if number < index and page.window]
        reached = max(ends, default=begin)
        start = max(reached, since)
        window = (start, later[0][1] if later else until)
        done = not later and window[1] - start < _SLACK and (before is not None or start >= until)
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


def gaps(chain: Mapping[int, Page], span: Window) -> list[Window]:
    """Return the parts of a span of time that a query's pages pass over, in order.

    A window whose paging was given up covers only what lies after its oldest post; one that is still being
    paged counts as covered. A gap of less than a minute is none.
    """
    pages = [page for _, page in sorted(chain.items()) if page.status == "ok" and page.window]
    covered: list[Window] = []
    for place, page in enumerate(pages):
        following = pages[place + 1].window if place + 1 < len(pages) else None
        if page.window and following != page.window:
            given_up = bool(following and page.next_token)
            same = dict(enumerate(pages[: place + 1]))
            left = _rest(same, place + 1, page.window[0]) if given_up else None
            covered.append((left[1] if left else page.window[0], page.window[1]))
    found, at = [], span[0]
    for start, end in sorted(covered):
        if start - at >= _SLACK and at < span[1]:
            found.append((at, min(start, span[1])))
        at = max(at, end)
    return [*found, (at, span[1])] if span[1] - at >= _SLACK else found


def _rest(good: Mapping[int, Page], index: int, since: datetime) -> Window | None:
    """Return what is left to search of the window of page `index - 1`, whose next token is lost."""
    last = good[index - 1]
    if last.window is None:
        return None
    same = [page for number, page in good.items() if number < index and page.window == last.window]
    oldest = min((int(page.oldest_id) for page in same if page.oldest_id), default=None)
    when = fields.snowflake_time(str(oldest)) if oldest is not None else None
    end = last.window[1]
    if when:
        end = min(end, when.replace(microsecond=0) + timedelta(seconds=1))
    start = max(last.window[0], since)
    return (start, end) if start < end else None
