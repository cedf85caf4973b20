"""The seven faults of tweepy 4.17 that a collection must not inherit: each shown bare, then guarded.

The bare half says that the guard is still needed; where it fails, tweepy has mended the fault.
"""

from __future__ import annotations

import inspect
import logging
import sys
import time
import warnings
from itertools import pairwise
from typing import Any

import pytest
import requests
import tweepy
from requests.adapters import HTTPAdapter

from twigma_core.collect.pages import PageStore
from twigma_core.collect.parse import parse_pages
from twigma_core.collect.queries import Search
from twigma_core.collect.search import search_month
from twigma_core.collect.x_api import Stopped, XApiError, XClient
from twigma_core.lake import Lake

QUERY = "(#aiart) has:images -is:retweet"
MONTH = {"start_time": "2022-08-01T00:00:00Z", "end_time": "2022-09-01T00:00:00Z"}


class _ToLoopback(HTTPAdapter):
    def __init__(self, base: str) -> None:
        self.base, self.timeouts = base, list[Any]()
        super().__init__()

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        self.timeouts.append(options.get("timeout"))
        request.url = str(request.url).replace("https://api.twitter.com", self.base)
        return super().send(request, **options)


def bare(fake_x, token, **options) -> tuple[tweepy.Client, _ToLoopback]:
    client = tweepy.Client(token, **options)
    adapter = _ToLoopback(fake_x.url)
    client.session.mount("https://", adapter)
    return client, adapter


def collect(client, tmp_path, after) -> PageStore:
    store = PageStore(Lake(tmp_path), "2022-08")
    search_month(client, store, [Search(QUERY)], page_size=10, now=after)
    return store


def test_fault_1_its_debug_log_prints_the_token(fake_x, client, tmp_path, after, token):
    messages: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, keep = logging.getLogger("tweepy.client"), Keep()
    guards = list(logger.filters)
    logger.addHandler(keep)
    logger.setLevel(logging.DEBUG)
    try:
        for guard in guards:
            logger.removeFilter(guard)
        bare(fake_x, token, return_type=dict)[0].search_all_tweets(QUERY, max_results=10, **MONTH)
        assert any(token in message for message in messages)
        messages.clear()
        for guard in guards:
            logger.addFilter(guard)
        collect(client, tmp_path, after)
    finally:
        logger.removeHandler(keep)
        logger.setLevel(logging.NOTSET)
    assert len(messages) == 10 and not any(token in message for message in messages)


def test_fault_2_it_sets_no_time_limit(fake_x, tmp_path, after, token, monkeypatch):
    other, adapter = bare(fake_x, token, return_type=dict)
    other.search_all_tweets(QUERY, max_results=10, **MONTH)
    assert adapter.timeouts == [None]
    quick = fake_x.answer

    def slow(path: str, params: dict[str, str]) -> dict[str, Any]:
        time.sleep(0.4)
        return quick(path, params)

    monkeypatch.setattr(fake_x, "answer", slow)
    client = XClient(token, fake_x.url, timeout_s=0.1, pace_s=0, max_wait_s=0.3, backoff_s=0.1)
    with pytest.raises(XApiError, match="no answer from X"):
        collect(client, tmp_path, after)


@pytest.mark.parametrize("headers", [{}, {"x-rate-limit-reset": "1600000000"}], ids=["missing", "past"])
def test_fault_3_a_429_without_a_usable_reset_time_makes_it_hammer_and_die(
    fake_x, client, tmp_path, after, token, headers
):
    for _ in range(1500):
        fake_x.fail(429, headers)
    other, _ = bare(fake_x, token, return_type=dict, wait_on_rate_limit=True)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 200)  # Python's own limit makes it near a thousand
    try:
        with pytest.raises(RecursionError):
            other.search_all_tweets(QUERY, max_results=10, **MONTH)
    finally:
        sys.setrecursionlimit(limit)
    assert len(fake_x.requests) > 50, "without a pause between two"
    fake_x.faults.clear()
    fake_x.requests.clear()
    for _ in range(4):
        fake_x.fail(429, headers)
    assert collect(client, tmp_path, after).table()["posts"].sum() == 47
    assert fake_x.searches == [None] * 5 + ["t10", "t20", "t30", "t40"]


def test_fault_4_a_503_and_a_402_end_it_alike(fake_x, client, tmp_path, after, token):
    other, _ = bare(fake_x, token, return_type=dict)
    for status, kind in ((503, tweepy.TwitterServerError), (402, tweepy.HTTPException)):
        fake_x.fail(status)
        with pytest.raises(tweepy.HTTPException) as caught:
            other.search_all_tweets(QUERY, max_results=10, **MONTH)
        assert type(caught.value) is kind
    fake_x.requests.clear()
    fake_x.fail(503)
    fake_x.fail(402)
    with pytest.raises(Stopped, match="asks for payment"):
        collect(client, tmp_path, after)
    assert len(fake_x.requests) == 2, "the 503 was tried again, the 402 was not"


def test_fault_5_its_paginator_drops_next_token(fake_x, client, tmp_path, after, token):
    other, _ = bare(fake_x, token, return_type=dict)
    next(iter(tweepy.Paginator(other.search_all_tweets, QUERY, max_results=10, next_token="t20", **MONTH)))
    assert fake_x.searches == [None], "it began at the first page again"
    fake_x.requests.clear()

    def stop(page) -> None:
        if page.index == 1:
            raise KeyboardInterrupt

    store = PageStore(Lake(tmp_path), "2022-08")
    with pytest.raises(KeyboardInterrupt):
        search_month(client, store, [Search(QUERY)], page_size=10, on_page=stop, now=after)
    collect(client, tmp_path, after)
    assert fake_x.searches == [None, "t10", "t20", "t30", "t40"]


def test_fault_6_a_reply_without_edit_history_warns_then_raises(fake_x, client, tmp_path, after, token):
    for post in fake_x.posts:
        post.pop("edit_history_tweet_ids")
    other, _ = bare(fake_x, token)
    with pytest.warns(RuntimeWarning, match="edit_history_tweet_ids"):
        found = other.search_all_tweets(QUERY, max_results=10, **MONTH)
    with pytest.raises(AttributeError):
        _ = found.data[0].edit_history_tweet_ids  # type: ignore[union-attr]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tweets, *_ = parse_pages(collect(client, tmp_path, after).pages())
    assert tweets.height == 47


def test_fault_7_it_does_not_pace(fake_x, tmp_path, after, token):
    pace = 0.3
    other, _ = bare(fake_x, token, return_type=dict)
    for _ in range(5):
        other.search_all_tweets(QUERY, max_results=10, **MONTH)
    hurried = [later - earlier for earlier, later in pairwise(fake_x.times)]
    assert min(hurried) < pace / 3
    fake_x.times.clear()
    collect(XClient(token, fake_x.url, pace_s=pace), tmp_path, after)
    assert len(fake_x.times) == 5
    # A request may be late on a busy machine and the next one then seem early: the whole tells.
    assert fake_x.times[-1] - fake_x.times[0] > 4 * pace * 0.8
