"""A month from X: what it will cost, then its pages, one after the other, each on disk before the next.

A run that is killed anywhere goes on at the exact page; a month that is complete buys nothing. What it
may cost is `budget`'s business, which queries to ask `queries`', and how X is asked `x_api`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import polars as pl

from twigma_core.collect import fields
from twigma_core.collect.budget import Budget, Estimate, Spend
from twigma_core.collect.pacing import Say
from twigma_core.collect.page import Checkpoint, Page, Window, month_window
from twigma_core.collect.pages import COUNTS, PAGES, PageStore
from twigma_core.collect.queries import Search, plan
from twigma_core.collect.telling import Teller, in_words
from twigma_core.collect.x_api import Stopped, TokenRefused, XApiError, XClient
from twigma_core.lake import Lake

COUNTS_SCHEMA = {"query": pl.String, "day": pl.Date, "counted": pl.Int64}
# X refuses an end_time less than ten seconds in the past.
_BEHIND_NOW = timedelta(seconds=30)
# Recent search refuses a start_time that has grown too old while it was paged: begin so much later.
_MARGIN = timedelta(minutes=30)
_FOR_EVER = timedelta(days=100 * 365)


class OutOfReach(XApiError):
    """Recent search reaches nothing of a month of which nothing is there."""


@dataclass(frozen=True)
class Collected:
    """What a collection of a month did.

    Attributes:
        pages: table `raw_tweets` of the month, pages of earlier runs included.
        estimate: what was to be bought before it began; None where nothing was.
        bought: what this run bought.
        resumed_at: number of the first page it asked for, where earlier runs had left pages.
        gaps: times that recent search did not reach, in words.
        stopped: why it ended before the month was complete; None if it did not.
    """

    pages: pl.DataFrame
    estimate: Estimate | None = None
    bought: Spend = field(default_factory=Spend)
    resumed_at: int | None = None
    gaps: list[str] = field(default_factory=list)
    stopped: Stopped | None = None


def collect_month(
    client: XClient,
    lake: Lake,
    month: str,
    tags: Sequence[str],
    budget: Budget,
    say: Say,
    now: datetime | None = None,
) -> Collected:
    """Say what a month will cost, then collect it.

    Args:
        client: where to ask.
        lake: where pages go.
        month: such as "2021-01".
        tags: the reviewed hashtags.
        budget: what may be spent; it takes note of what is.
        say: told of the estimate, and of each page with what is left to do.
        now: the time of day, for tests.

    Raises:
        ValueError: the month has not begun, or the list of hashtags has changed under an open search.
        XApiError: X refused, did not answer within the bounds, or does not reach the month. `Stopped` is
            raised only where no page is there at all: else it is returned, with what there is.
        RuntimeError: another process collects.
    """
    store, counts = PageStore(lake, month), PageStore(lake, month, COUNTS)
    before = budget.spend
    stopped: Stopped | None = None
    estimate, resumed_at = None, None
    with lake.hold(PAGES):  # one token has one pace and one budget, whatever the months
        until = end_of(month, now)
        searches = plan(store, tags, client.tier.query_length)
        try:
            estimate = estimate_month(client, store, counts, searches, budget, until, now)
            if not estimate.complete:
                say(in_words(estimate, budget, client))
                begun = [_stand(client, store, one, until, now) for one in searches]
                resumed_at = next((at.index for at in begun if not at.done and at.index), None)
                teller = Teller(month, estimate, budget, client, say)
                search_month(client, store, searches, budget, on_page=teller.page, until=until, now=now)
        except Stopped as error:
            stopped = Stopped(f"raw_tweets/{month}: {error}")
    table = store.table()
    if stopped and table.is_empty():
        raise stopped
    spend = budget.spend
    bought = Spend(spend.pages - before.pages, spend.posts - before.posts, spend.counts - before.counts)
    return Collected(table, estimate, bought, resumed_at, _gaps(store, searches, until), stopped)


def search_month(
    client: XClient,
    store: PageStore,
    searches: Sequence[Search],
    budget: Budget | None = None,
    *,
    page_size: int | None = None,
    on_page: Callable[[Page], object] = lambda page: None,
    until: datetime | None = None,
    now: datetime | None = None,
) -> None:
    """Collect a month: every page is on disk, flushed, with its token before the next is asked for.

    A month that is still running is collected up to now, and completed by a later run. An empty page with
    a token is no end. Where X does not take a token of an earlier run any more, or recent search no longer
    reaches where it began, the search goes on by time, from the second of the oldest post.

    Args:
        client: where to ask.
        store: where pages go.
        searches: as `plan` gives them.
        budget: what may be spent; no bound by default.
        page_size: posts a page, at least 10; by default as many as X gives.
        on_page: called with each page once it is stored.
        until: end of the time to collect; the month's end, or now, by default.
        now: the time of day, for tests.

    Raises:
        ValueError: the page size is out of range, or the month has not begun.
        Stopped: the budget, X's cap or the account's credit is used up.
        XApiError: X refused, did not answer within the bounds, or gave the same token twice.
    """
    size = page_size or client.tier.page_size
    if not 10 <= size <= client.tier.page_size:
        raise ValueError(f"page size {size} is out of range; X allows 10 to {client.tier.page_size} posts")
    until = until or end_of(store.month, now)
    budget = budget or Budget()
    for search in searches:
        refused: str | None = None
        fresh: set[str] = set()
        while not (at := _stand(client, store, search, until, now, refused)).done:
            budget.allow(f"page {at.index}", Spend(1, size))
            try:
                reply = client.search(search.query, at.window, at.token, size)
            except TokenRefused as error:
                if at.token in fresh:
                    raise XApiError(f"{store.month}: {error}, though it gave it only now") from None
                refused = at.token
                continue
            page = store.append(
                search.query,
                reply.body,
                content=reply.content,
                source=client.source,
                index=at.index,
                token=at.token,
                window=at.window,
            )
            budget.add(Spend(1, page.posts))
            on_page(page)
            fresh |= {page.next_token} if page.next_token else set()
            if page.next_token in store.tokens(page):
                raise XApiError(
                    f"{store.month}: X gave a page token that was used before, so paging would never end; "
                    f"page {page.index} of {search.query[:80]!r} is kept; report this to X or collect a "
                    "shorter list"
                )


def _stand(
    client: XClient,
    store: PageStore,
    search: Search,
    until: datetime,
    now: datetime | None,
    refused: str | None = None,
) -> Checkpoint:
    """Return where a search stands, within what the client's search reaches.

    Raises:
        OutOfReach: it reaches nothing of the month, of which nothing is there.
    """
    end = min(until, search.until or until)
    horizon = (now or datetime.now(UTC)) - (client.tier.reach or _FOR_EVER)
    since = horizon + _MARGIN
    at = store.checkpoint(search.query, end, since, search.begin)
    if at.token and (at.token == refused or at.window[0] < horizon):
        at = store.checkpoint(search.query, end, since, search.begin, token_refused=True)
    if at.done and not at.pages and since > store.window[0]:
        raise OutOfReach(
            f"{store.month}: recent search reaches back to {since:%Y-%m-%d %H:%M} UTC only; set "
            "TWIGMA_X_SEARCH=all, with a token that has full-archive access, or import an archive"
        )
    return at


def count_month(
    client: XClient,
    counts: PageStore,
    searches: Sequence[Search],
    budget: Budget | None = None,
    until: datetime | None = None,
    now: datetime | None = None,
) -> pl.DataFrame:
    """Return what X counts per query and day of a month: columns query, day, counted; one row each.

    Counts are not filtered for deleted posts, and search is. A month is one request a query; replies are
    kept, so what was counted once is not asked for again.

    Raises:
        ValueError: the month has not begun.
        Stopped, XApiError: as `search_month`.
    """
    until = until or end_of(counts.month, now)
    budget = budget or Budget()
    for search in searches:
        while not (at := _stand(client, counts, search, until, now)).done:
            budget.allow("a request for counts", Spend(counts=1))
            reply = client.counts(search.query, at.window, at.token)
            _days(counts.month, reply.body)
            page = counts.append(
                search.query,
                reply.body,
                content=reply.content,
                source=client.source,
                index=at.index,
                token=at.token,
                window=at.window,
            )
            budget.add(Spend(counts=1))
            if page.next_token in counts.tokens(page):
                raise XApiError(f"{counts.month}: X gave the same counts token twice; run again later")
    return counted(counts, [search.query for search in searches])


def count_collected(client: XClient, lake: Lake, month: str, budget: Budget) -> pl.DataFrame:
    """Return what X counts for each query of a month, within the time that it was searched.

    Raises:
        Stopped, XApiError: as `count_month`.
    """
    store = PageStore(lake, month)
    searches = [Search(query, *store.span(query)) for query in store.searched()]
    return count_month(client, PageStore(lake, month, COUNTS), searches, budget)


def counted(counts: PageStore, queries: Sequence[str]) -> pl.DataFrame:
    """Return what the stored replies of the counts endpoint say: columns query, day, counted."""
    rows = [
        {"query": page.query, "day": day, "counted": number}
        for page in counts.pages()
        if page.body is not None and page.query in queries
        for day, number in _days(counts.month, page.body)
    ]
    frame = pl.DataFrame(rows, schema=COUNTS_SCHEMA)
    return frame.group_by("query", "day").agg(pl.sum("counted")).sort("query", "day")


def _days(month: str, body: dict[str, object]) -> list[tuple[date, int]]:
    found = []
    for bucket in map(fields.mapping, fields.items(body.get("data"))):
        start = fields.moment(bucket.get("start"))
        number = fields.count(fields.first(bucket, "tweet_count", "post_count"))
        if start is None or number is None:
            raise XApiError(f"{month}: X's counts hold a day without start or count; run again later")
        found.append((start.date(), number))
    return found


def end_of(month: str, now: datetime | None = None) -> datetime:
    """Return where a collection of a month ends: at its end, or now where it is still running.

    Raises:
        ValueError: the month has not begun.
    """
    start, end = month_window(month)
    latest = (now or datetime.now(UTC)).replace(microsecond=0) - _BEHIND_NOW
    if latest <= start:
        raise ValueError(f"{month} has not begun; choose a month up to {fields.month_of(latest)}")
    return min(end, latest)


# ---------------------------------------------------------------- what it will cost


def estimate_month(
    client: XClient,
    store: PageStore,
    counts: PageStore,
    searches: Sequence[Search],
    budget: Budget,
    until: datetime,
    now: datetime | None = None,
) -> Estimate:
    """Return what a month will cost, from the counts endpoint; a complete month asks nothing.

    Raises:
        Stopped, XApiError: as `count_month`.
    """
    open_ = [search for search in searches if not _stand(client, store, search, until, now).done]
    if not open_:
        return Estimate(store.month, 0, 0, 0, complete=True)
    frame = count_month(client, counts, open_, budget, until, now)
    by_query = dict(frame.group_by("query").agg(pl.sum("counted")).iter_rows())
    here = {search.query: store.checkpoint(search.query).posts for search in open_}
    pages = sum(
        max(1, math.ceil((by_query.get(query, 0) - posts) / client.tier.page_size))
        for query, posts in here.items()
    )
    return Estimate(store.month, sum(by_query.values()), sum(here.values()), pages, complete=False)


def estimate_months(
    client: XClient,
    lake: Lake,
    months: Sequence[str],
    tags: Sequence[str],
    budget: Budget,
    now: datetime | None = None,
) -> Iterator[Estimate]:
    """Yield what each month would cost, without buying a post; a collection need not count again.

    A month that cannot be collected says why in its note.

    Raises:
        Stopped, XApiError: as `count_month`.
    """
    for month in months:
        store, counts = PageStore(lake, month), PageStore(lake, month, COUNTS)
        try:
            searches = plan(store, tags, client.tier.query_length)
            yield estimate_month(client, store, counts, searches, budget, end_of(month, now), now)
        except (ValueError, OutOfReach) as error:
            yield Estimate(month, 0, 0, 0, complete=True, note=str(error))


def _gaps(store: PageStore, searches: Sequence[Search], until: datetime) -> list[str]:
    """Say which times of the month the searches passed over, because recent search did not reach them."""

    def words(gap: Window) -> str:
        return f"{gap[0]:%Y-%m-%d %H:%M} to {gap[1]:%Y-%m-%d %H:%M} UTC"

    found = {
        words(gap): None
        for search in searches
        for gap in store.gaps(search.query, search.begin, min(until, search.until or until))
    }
    return list(found)
