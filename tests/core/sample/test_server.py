"""The server, asked through the real tweepy: complete pages, limits that bite, pictures to the byte."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import polars as pl
import pytest
import requests
import tweepy
from requests.adapters import HTTPAdapter

from twigma_core.sample import media
from twigma_core.sample.queries import BadQuery, compile_query
from twigma_core.sample.server import (
    Limiter,
    ServerOptions,
    closed_accounts,
    running_server,
    serve_in_thread,
)
from twigma_core.sample.truths import collected
from twigma_core.sample.world import World

TAGS = "#aiart OR #dalle OR #dalle2 OR #generativeart OR #midjourney OR #stablediffusion"
QUERY = f"({TAGS}) has:images -is:retweet"
MONTH = {"start_time": "2021-03-01T00:00:00Z", "end_time": "2021-04-01T00:00:00Z"}
FIELDS: dict[str, Any] = {
    "tweet_fields": ["created_at", "public_metrics", "entities", "attachments", "possibly_sensitive", "lang"],
    "expansions": ["author_id", "attachments.media_keys"],
    "media_fields": ["url", "width", "height"],
    "user_fields": ["public_metrics"],
}
BEARER = {"Authorization": "Bearer any"}


class ToLoopback(HTTPAdapter):
    """Sends tweepy's requests, whose host is fixed, to another."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        split = urlsplit(str(request.url))
        request.url = f"{self.base}{split.path}?{split.query}"
        return super().send(request, *args, **kwargs)


def client_of(base: str) -> tweepy.Client:
    logging.getLogger("tweepy").setLevel(logging.WARNING)
    client = tweepy.Client("any", return_type=dict)
    client.session.mount("https://", ToLoopback(base))
    return client


@pytest.fixture(scope="module")
def base(world: World) -> Iterator[str]:
    with running_server(world) as url:
        yield url


def all_pages(client: tweepy.Client, **options: Any) -> list[dict[str, Any]]:
    pages, token = [], None
    while True:
        page: Any = client.search_all_tweets(QUERY, next_token=token, **MONTH, **FIELDS, **options)
        pages.append(page)
        token = page["meta"].get("next_token")
        if token is None:
            return pages


@pytest.mark.parametrize("size", [10, 64, 500])
def test_paging_gives_every_post_of_the_month_once_newest_first(base: str, world: World, size: int) -> None:
    pages = all_pages(client_of(base), max_results=size)
    ids = [post["id"] for page in pages for post in page.get("data", [])]
    planted = collected(world).filter(pl.col("month") == "2021-03")["tweet_id"].to_list()
    assert sorted(ids) == sorted(planted)
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids, key=int, reverse=True)
    empty = [page for page in pages if page["meta"]["result_count"] == 0]
    assert len(empty) == (size < len(ids)), "one empty page, and not at the end"
    assert all("next_token" in page["meta"] for page in empty)


def test_a_post_has_the_fields_asked_for_and_its_includes(base: str, world: World) -> None:
    page = all_pages(client_of(base), max_results=500)[0]
    keys = {one["media_key"]: one for one in page["includes"]["media"]}
    users = {one["id"]: one for one in page["includes"]["users"]}
    known = {post["tweet_id"]: post for post in world.post_rows}
    for post in page["data"]:
        row = known[post["id"]]
        assert post["text"] == row["text"]
        assert [tag["tag"] for tag in post["entities"]["hashtags"]] == row["hashtags"]
        for tag in post["entities"]["hashtags"]:
            assert post["text"][tag["start"] : tag["end"]] == f"#{tag['tag']}"
        assert ("public_metrics" in post) == (row["like_count"] is not None)
        assert all(key in keys for key in post["attachments"]["media_keys"])
        assert users[post["author_id"]]["public_metrics"]["followers_count"] >= 20
    assert any("public_metrics" not in post for post in page["data"])
    bare = httpx.get(f"{base}/2/tweets/search/all", params={"query": "#aiart"}, headers=BEARER).json()
    assert set(bare["data"][0]) == {"id", "text", "edit_history_tweet_ids"}
    assert "includes" not in bare and len(bare["data"]) == 10


def test_counts_hold_the_deleted_posts_and_lookup_names_them(base: str, world: World) -> None:
    client = client_of(base)
    counts: Any = client.get_all_tweets_count(QUERY, granularity="day", **MONTH)
    march = world.posts.filter(pl.col("month") == "2021-03")
    deleted = march.filter(pl.col("status") == "deleted")["tweet_id"].to_list()
    alive = collected(world).filter(pl.col("month") == "2021-03")
    assert len(counts["data"]) == 31
    assert counts["meta"]["total_tweet_count"] == alive.height + len(deleted)
    per_day = alive.group_by(pl.col("created_at").dt.day()).len()
    for row in per_day.iter_rows():
        assert counts["data"][row[0] - 1]["tweet_count"] >= row[1]
    ids = [*deleted, alive["tweet_id"][0]]
    answer: Any = client.get_tweets(ids)
    assert [post["id"] for post in answer["data"]] == ids[-1:]
    assert [(e["resource_id"], e["title"]) for e in answer["errors"]] == [
        (one, "Not Found Error") for one in deleted
    ]


def test_closed_accounts_and_withheld_posts_are_told_as_x_tells_them(world: World, shared_data: Path) -> None:
    """Errors have the keys and words of those that X really sent."""
    accounts = closed_accounts(world, 2)
    protected, suspended = accounts
    rows = [row for row in world.post_rows if row["status"] == "posted"]
    theirs = [next(r["tweet_id"] for r in rows if r["author_id"] == author) for author in accounts]
    withheld = next(row["tweet_id"] for row in rows if row["author_id"] not in accounts)
    options = ServerOptions(accounts=accounts, withheld={withheld: ("IN",)})
    with running_server(world, options) as url:
        client = client_of(url)
        answer: Any = client.get_tweets([*theirs, withheld], tweet_fields=["withheld"])
        users: Any = client.get_users(ids=[*accounts, "1"], user_fields=["protected"])
        found: Any = client.search_all_tweets("#aiart", start_time="2021-01-01T00:00:00Z", max_results=500)
    assert [post["id"] for post in answer["data"]] == [withheld]
    assert answer["data"][0]["withheld"] == {"copyright": False, "country_codes": ["IN"]}
    assert [error["resource_id"] for error in answer["errors"]] == theirs
    assert [user["protected"] for user in users["data"]] == [True]
    assert not {post["id"] for post in found["data"]} & set(theirs)
    kinds: dict[str, dict[str, Any]] = {}
    for file in (shared_data / "tweets" / "twarc_csv_v2").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            if '"errors"' in line:
                kinds |= {error["title"]: error for error in json.loads(line).get("errors", [])}
    for error in (answer["errors"][0], *users["errors"]):
        real = kinds[error["title"]]
        assert error.keys() == real.keys() and error["type"] == real["type"]
        words = [text["detail"].split(" with ")[0].partition(": [")[0] for text in (error, real)]
        assert words[0].replace("user", "tweet") == words[1].replace("user", "tweet")
    assert [error["title"] for error in users["errors"]] == ["Forbidden", "Not Found Error"]
    assert users["errors"][0]["resource_id"] == suspended and protected == users["data"][0]["id"]


def test_counts_of_more_than_31_days_come_in_pages(base: str) -> None:
    whole = {"start_time": "2021-01-01T00:00:00Z", "end_time": "2021-07-01T00:00:00Z", "granularity": "day"}
    days, token = [], None
    while True:
        params = {"query": QUERY, **whole, **({"next_token": token} if token else {})}
        page = httpx.get(f"{base}/2/tweets/counts/all", params=params, headers=BEARER).json()
        assert len(page["data"]) <= 31
        days += [row["start"][:10] for row in page["data"]]
        token = page["meta"].get("next_token")
        if token is None:
            break
    assert len(days) == len(set(days)) == 181


def test_what_is_wrong_is_refused_as_x_refuses_it(base: str) -> None:
    search = f"{base}/2/tweets/search/all"
    assert httpx.get(search, params={"query": "#aiart"}).status_code == 401
    for params in (
        {},
        {"query": "(#aiart"},
        {"query": "#aiart flies:high"},
        {"query": "#aiart", "max_results": "501"},
        {"query": "#aiart", "max_results": "9"},
        {"query": "#aiart", "next_token": "b26v"},
        {"query": "#aiart", "start_time": "yesterday"},
        {"query": "#aiart", "start_time": "2021-03-01T00:00:00Z", "end_time": "2021-02-01T00:00:00Z"},
    ):
        answer = httpx.get(search, params=params, headers=BEARER)
        assert answer.status_code == 400, params
        assert answer.json()["title"] == "Invalid Request"
    assert httpx.get(f"{base}/2/tweets", params={"ids": "x"}, headers=BEARER).status_code == 400


def test_the_limit_bites_and_ends_with_its_window(world: World) -> None:
    options = ServerOptions(search_limit=2, window_s=2)
    with serve_in_thread(world, options) as running:
        client = client_of(running.url)
        first = httpx.get(f"{running.url}/2/tweets/search/all", params={"query": "#aiart"}, headers=BEARER)
        assert (first.headers["x-rate-limit-limit"], first.headers["x-rate-limit-remaining"]) == ("2", "1")
        client.search_all_tweets("#aiart")
        with pytest.raises(tweepy.TooManyRequests) as caught:
            client.search_all_tweets("#aiart")
        assert caught.value.response.headers["x-rate-limit-remaining"] == "0"
        client.get_tweets(["1"])  # another endpoint has its own window
        time.sleep(max(0.0, float(caught.value.response.headers["x-rate-limit-reset"]) - time.time()))
        client.search_all_tweets("#aiart")
        assert running.requests["search/all"] == 4


def test_faults_come_first_and_a_bare_429_has_no_headers(world: World) -> None:
    options = ServerOptions(faults=(503, 429), bare_429=True)
    with running_server(world, options) as url:
        answers = [
            httpx.get(f"{url}/2/tweets/search/all", params={"query": "#aiart"}, headers=BEARER)
            for _ in range(3)
        ]
    assert [answer.status_code for answer in answers] == [503, 429, 200]
    assert "x-rate-limit-reset" not in answers[1].headers
    assert "x-rate-limit-reset" in answers[2].headers


def test_requests_too_close_together_are_refused_where_that_is_asked_for() -> None:
    limiter = Limiter(ServerOptions(min_interval_s=1))
    assert [limiter.admit("search/all", now)[0] for now in (10.0, 10.5, 11.6)] == [200, 429, 200]


def test_pictures_come_under_both_spellings_and_lost_ones_do_not(base: str, world: World) -> None:
    rows = world.media_rows
    png = next(row for row in rows.values() if row["format"] == "PNG")
    path = urlsplit(media.media_url(png)).path
    plain = httpx.get(f"{base}{path}")
    sized = httpx.get(f"{base}{path.removesuffix('.png')}", params={"format": "png", "name": "orig"})
    assert plain.content == sized.content == world.draw_media(png["media_id"])
    assert plain.headers["content-type"] == "image/png"
    gone = next(row for row in rows.values() if row["kind"] == "unavailable")
    assert httpx.get(f"{base}{urlsplit(media.media_url(gone)).path}").status_code == 404
    assert httpx.get(f"{base}/media/nonsense.jpg").status_code == 404


def test_the_server_is_not_reachable_from_elsewhere(base: str) -> None:
    assert urlsplit(base).hostname == "127.0.0.1"


POST = {"hashtags": ["AIart"], "media_ids": ["1"], "retweet_of": "", "text": "A cat", "lang": "en"}
POST |= {"username": "ana", "author_id": "9"}


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("#aiart", True),
        ("#ai", False),
        ("(#x OR #AIART) has:images -is:retweet", True),
        ("#aiart -has:images", False),
        ("-(#x OR #y) cat", True),
        ("#x #aiart", False),
        ("#x OR #y OR from:ana", True),
        ('"a cat" lang:ja', False),
    ],
)
def test_queries(query: str, matches: bool) -> None:
    assert compile_query(query)(POST) is matches


@pytest.mark.parametrize("query", ["", "(#a", "#a)", "#a OR", "-", "()", "has:wings", "#a " * 400])
def test_bad_queries(query: str) -> None:
    with pytest.raises(BadQuery):
        compile_query(query)


def test_the_command_writes_its_port_and_answers_there(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    command = [sys.executable, "-m", "twigma_core.sample.server", "--port-file", str(port_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "127.0.0.1" in process.stdout.readline()
            port = int(port_file.read_text())
            answer = httpx.get(f"http://127.0.0.1:{port}/2/tweets", params={"ids": "1"}, headers=BEARER)
            assert answer.json()["errors"][0]["resource_id"] == "1"
        finally:
            process.terminate()
