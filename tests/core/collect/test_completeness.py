"""What X counts beside what was collected: the difference of each day is shared out and adds up."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl

from twigma_core import tables
from twigma_core.collect.completeness import compare, explain, received
from twigma_core.collect.pages import Page
from twigma_core.collect.parse import parse_pages
from twigma_core.collect.search import COUNTS_SCHEMA

START = datetime(2022, 1, 1, tzinfo=UTC)
Q, R = "(#aiart) has:images -is:retweet", "(#dalle) -#aiart has:images -is:retweet"


def page(query: str, *posts: tuple[int, int]) -> Page:
    """A page of posts given as (number, day of January 2022, from 0)."""
    data = [
        {"id": str(number), "text": "t", "created_at": (START + timedelta(days=day)).isoformat()}
        for number, day in posts
    ]
    return Page(query, 0, {"data": data, "meta": {}}, START)


def counts(query: str, *numbers: int) -> pl.DataFrame:
    days = [date(2022, 1, 1 + n) for n in range(len(numbers))]
    columns = {"query": [query] * len(numbers), "day": days, "counted": list(numbers)}
    return pl.DataFrame(columns, schema=COUNTS_SCHEMA)


def compared(counted: pl.DataFrame, *pages: Page, tolerance: float = 0.02) -> pl.DataFrame:
    frame = compare(counted, received(pages), parse_pages(pages, "2022-01").tweets, tolerance)
    assert (frame["counted"] == frame["collected"] + frame["unavailable"] + frame["unexplained"]).all()
    return frame


def month(per_day: int, days: int = 3) -> list[tuple[int, int]]:
    return [(1000 * day + n, day) for day in range(days) for n in range(1, per_day + 1)]


def test_a_complete_month_passes_and_the_few_missing_are_unavailable():
    frame = compared(counts(Q, 203, 201, 200), page(Q, *month(200)))
    assert frame.columns == tables.empty("tweet_counts").columns
    assert frame["collected"].to_list() == [200, 200, 200]
    assert frame["unavailable"].to_list() == [3, 1, 0] and frame["unexplained"].sum() == 0
    passed, words = explain(frame)
    assert passed and "600 of 604" in words and "4 missing within the tolerance" in words


def test_a_missing_page_is_found_on_its_day():
    posts = [post for post in month(200) if post[1] != 1]
    frame = compared(counts(Q, 203, 201, 200), page(Q, *posts))
    passed, words = explain(frame)
    assert not passed and "2022-01-02: 201 of 201 missing" in words and "2022-01-03" not in words
    assert frame["unexplained"].to_list() == [0, 191, 0], "ten of them may be gone by right"


def test_posts_that_came_twice_are_duplicates_not_more_posts():
    pages = page(Q, *month(20)), page(Q, *month(20)[50:])
    frame = compared(counts(Q, 20, 20, 20), *pages)
    assert frame["duplicates"].to_list() == [0, 0, 10]
    assert frame["collected"].to_list() == [20, 20, 20]
    passed, words = explain(frame)
    assert passed and "10 came twice" in words


def test_more_than_counted_is_unexplained():
    frame = compared(counts(Q, 20, 4, 20), page(Q, *month(20)))
    assert frame["unexplained"].to_list() == [0, -16, 0]
    passed, words = explain(frame)
    assert not passed and "2022-01-02: 16 more than the 4 counted" in words


def test_a_small_shortfall_on_every_day_shows_in_the_total():
    frame = compared(counts(Q, *[20] * 25), page(Q, *month(19, 25)), tolerance=0.005)
    assert frame["unexplained"].sum() == 0
    passed, words = explain(frame)
    assert not passed and "in all 25 of 500 missing" in words and words.count("\n") == 1


def test_with_several_queries_a_post_counts_for_each_that_brought_it():
    both = pl.concat([counts(Q, 2), counts(R, 1)])
    frame = compared(both, page(Q, (1, 0), (2, 0)), page(R, (2, 0), (3, 1)))
    seen = frame.select("query", "counted", "collected", "shared").rows()
    assert seen == [(Q, 2, 2, 0), (R, 1, 1, 1), (R, 0, 1, 0)]


def test_a_post_that_is_no_row_is_not_collected():
    strange = page(Q, (1, 0))
    nobody = {"id": "not a number", "text": "t", "created_at": "2022-01-01T00:00:00Z"}
    (strange.body or {})["data"].append(nobody)
    frame = compared(counts(Q, 2), strange)
    assert frame.select("collected", "unavailable").row(0) == (1, 1)


def test_without_counts_there_is_nothing_to_compare():
    frame = compared(counts(Q), page("archive.jsonl line 1", (1, 0)))
    assert frame.is_empty() and explain(frame)[0]
