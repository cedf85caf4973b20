"""The machine's clock is set back, by an hour and by a day, between two runs and in the middle of one."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from twigma_core.collect import fields, pacing
from twigma_core.collect.pacing import Pacer, until_reset
from twigma_core.collect.page import month_window
from twigma_core.collect.pages import PageStore
from twigma_core.collect.parse import parse_pages
from twigma_core.collect.search import end_of
from twigma_core.collect.snapshots import keep_snapshots, settled
from twigma_core.lake import Lake

BACK = [timedelta(hours=1), timedelta(days=1), timedelta(days=3650)]


@pytest.fixture
def now() -> datetime:
    """The time at which the test begins, not that at which this file was read."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(params=BACK, ids=["an hour", "a day", "ten years"])
def set_back(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], timedelta]:
    """Return what sets the clock back that all of collection reads; `monotonic` goes on, as it does."""
    real, off = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() - off[0])

    def turn() -> timedelta:
        off[0] = request.param.total_seconds()

        class Earlier(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
                return datetime.now(UTC) - request.param

        for module in ("fields", "parse", "pages", "search", "snapshots", "pacing"):
            monkeypatch.setattr(f"twigma_core.collect.{module}.datetime", Earlier, raising=False)
        return request.param

    return turn


def post(number: int, when: datetime, likes: int) -> dict[str, object]:
    metrics = {"like_count": likes, "reply_count": 0, "quote_count": 0, "retweet_count": 0}
    return {
        "id": str(number),
        "text": "#aiart",
        "author_id": "7",
        "created_at": when.isoformat(),
        "public_metrics": metrics,
    }


def test_posts_do_not_vanish_from_a_month_that_is_made_again(
    lake: Lake, now: datetime, set_back: Callable[[], timedelta]
) -> None:
    """A post that came before the clock was set back is of the future by it, and is there all the same."""
    posted = now - timedelta(minutes=5)
    month = fields.month_of(posted)
    store = PageStore(lake, month)
    body = {"data": [post(1, posted, 3)], "meta": {"result_count": 1}}
    store.append("#aiart", body, window=(month_window(month)[0], now))
    before = parse_pages(store.pages(), month).tweets
    assert before.height == 1
    set_back()
    assert parse_pages(PageStore(lake, month).pages(), month).tweets.equals(before)


def test_no_wait_grows_with_the_clock(set_back: Callable[[], timedelta]) -> None:
    slept: list[float] = []
    pacer = Pacer(1.05, 300, sleep=slept.append)
    pacer.wait(lambda _: None, 3600)
    set_back()
    pacer.wait(lambda _: None, 3600)
    assert len(slept) == 1 and 0 < slept[0] <= 1.05, "the pause between two requests, and no more"


@pytest.mark.parametrize(("reset", "wait"), [(900, 900.0), (-900, 0.0)], ids=["to come", "past"])
def test_xs_limit_is_waited_for_by_xs_clock(
    now: datetime, set_back: Callable[[], timedelta], reset: int, wait: float
) -> None:
    set_back()
    headers = {
        "date": now.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        "x-rate-limit-remaining": "0",
        "x-rate-limit-reset": str(int(now.timestamp()) + reset),
    }
    assert until_reset(headers) == wait
    slept: list[float] = []
    pacer = Pacer(0.0, 300, sleep=slept.append)
    pacer.told(headers)
    pacer.wait(lambda _: None, 3600)
    assert len(slept) == 1 and wait < slept[0] <= wait + 1


@pytest.mark.parametrize("reset", ["nan", "inf", "soon"])
def test_a_moment_that_is_none_is_no_wait(reset: str) -> None:
    assert until_reset({"x-rate-limit-reset": reset}) is None


def test_collecting_stops_before_a_page_is_stored(now: datetime, set_back: Callable[[], timedelta]) -> None:
    date = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
    set_back()
    said = pacing.clock_drift({"date": date})
    assert said and "behind X's; set it right, then run again" in said


def test_a_month_that_is_to_come_by_the_clock_is_not_begun(
    now: datetime, set_back: Callable[[], timedelta]
) -> None:
    month = fields.month_of(now)
    start, _ = month_window(month)
    back = set_back()
    if now - back <= start:
        with pytest.raises(ValueError, match=f"{month} has not begun"):
            end_of(month)
    else:
        assert end_of(month) <= datetime.now(UTC) - back


def test_the_last_snapshot_counts_by_its_number(now: datetime, set_back: Callable[[], timedelta]) -> None:
    """A refresh after the clock was set back is dated before the one before it, and is the latest."""
    posted = now - timedelta(days=4000)
    month = fields.month_of(posted)

    def seen(likes: int, when: datetime) -> pl.DataFrame:
        reply = {"__twarc": {"retrieved_at": when.isoformat()}, "data": [post(1, posted, likes)]}
        return parse_pages([reply], month).tweets

    tweets = seen(1, now)
    once = keep_snapshots(tweets, None, seen(2, now))
    back = set_back()
    twice = keep_snapshots(tweets, once, seen(3, now - back))
    assert twice["snapshot"].to_list() == [0, 1, 2]
    assert settled(tweets, twice)["like_count"].to_list() == [3]
