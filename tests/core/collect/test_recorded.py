"""Replies that X really gave, served again byte for byte with their headers, read by the real client.

Each count is checked against a reading of the JSON that uses no code of the project.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest
import yaml

from tests.core.collect.fake_x import FakeX, serve
from twigma_core.collect.page import month_window
from twigma_core.collect.pages import COUNTS, PageStore
from twigma_core.collect.parse import parse_pages
from twigma_core.collect.queries import Search
from twigma_core.collect.search import count_month, search_month
from twigma_core.collect.x_api import ALL, RECENT, XClient
from twigma_core.lake import Lake

PACING = ("x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset")
NEWER = {
    "note_tweet": "note_post",
    "retweet_count": "repost_count",
    "tweet_count": "post_count",
    "total_tweet_count": "total_post_count",
    "edit_history_tweet_ids": "edit_history_post_ids",
    "referenced_tweets": "referenced_posts",
}


@dataclass(frozen=True)
class Recorded:
    """One recorded answer."""

    name: str
    path: str
    headers: dict[str, str]
    sent: bytes
    content: bytes

    @property
    def body(self) -> dict[str, Any]:
        return json.loads(self.content)


@pytest.fixture(scope="module")
def cassettes(shared_data: Path) -> list[Recorded]:
    found = []
    for file in sorted((shared_data / "tweets" / "tweepy_cassettes_v2").glob("*.yaml")):
        for one in yaml.safe_load(file.read_text())["interactions"]:
            raw = one["response"]["body"]["string"]
            sent = raw if isinstance(raw, bytes) else raw.encode()
            packed = sent.startswith(b"\x1f\x8b")
            headers = {name.lower(): values[0] for name, values in one["response"]["headers"].items()}
            kept = {name: headers[name] for name in PACING} | ({"Content-Encoding": "gzip"} if packed else {})
            path = urlsplit(one["request"]["uri"]).path
            found.append(Recorded(file.stem, path, kept, sent, gzip.decompress(sent) if packed else sent))
    assert len(found) == 14
    return found


@pytest.fixture
def x() -> Iterator[FakeX]:
    with serve(FakeX()) as world:
        yield world


def of_kind(cassettes: list[Recorded], end: str) -> list[Recorded]:
    chosen = [one for one in cassettes if one.path.endswith(end)]
    assert chosen
    return chosen


def client_of(x: FakeX, path: str = "all") -> XClient:
    tier = RECENT if path.endswith("recent") else ALL
    return XClient("any-token-at-all", x.url, tier=tier, pace_s=0, backoff_s=0.002)


def ids(body: dict[str, Any]) -> list[str]:
    return [post["id"] for post in body["data"]]


def time_of(tweet_id: str) -> datetime:
    """When a post id was given out, by X's published rule."""
    milliseconds = (int(tweet_id) >> 22) + 1_288_834_974_657
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


@pytest.mark.parametrize("kind", ["search/all", "search/recent"])
def test_a_recorded_search_is_collected_whole(
    x: FakeX, cassettes: list[Recorded], tmp_path: Path, kind: str
) -> None:
    for number, one in enumerate(of_kind(cassettes, kind)):
        x.fail(200, dict(one.headers), one.sent)
        last = json.dumps({"meta": {"result_count": 0}}).encode()
        x.fail(200, body=last)
        posted = sorted(map(time_of, ids(one.body)))
        month = f"{posted[-1]:%Y-%m}"
        after = month_window(month)[1] if kind.endswith("all") else posted[-1] + timedelta(hours=1)
        store = PageStore(Lake(tmp_path / str(number)), month)
        search_month(client_of(x, kind), store, [Search("Tweepy")], now=after + timedelta(minutes=5))
        table = store.table()
        assert table["posts"].to_list() == [len(one.body["data"]), 0]
        assert table["next_token"].to_list() == [one.body["meta"]["next_token"], None]
        assert table["newest_id"][0] == one.body["meta"]["newest_id"]
        assert table["oldest_id"][0] == one.body["meta"]["oldest_id"]
        assert table["bytes"][0] == len(one.content), "kept as it came"
        assert x.searches[-1] == one.body["meta"]["next_token"]
        tweets = parse_pages(store.pages()).tweets
        assert sorted(tweets["tweet_id"]) == sorted(ids(one.body))
        assert tweets["created_at"].to_list() == posted
        assert Counter(tweets["text"]) == Counter(post["text"] for post in one.body["data"])


@pytest.mark.parametrize("kind", ["counts/all", "counts/recent"])
def test_recorded_counts_add_up(x: FakeX, cassettes: list[Recorded], tmp_path: Path, kind: str) -> None:
    for number, one in enumerate(of_kind(cassettes, kind)):
        x.fail(200, dict(one.headers), one.sent)
        last = datetime.fromisoformat(one.body["data"][-1]["end"])
        counts = PageStore(Lake(tmp_path / str(number)), f"{last:%Y-%m}", COUNTS)
        frame = count_month(client_of(x, kind), counts, [Search("Tweepy")], now=last + timedelta(minutes=1))
        expected: Counter[str] = Counter()
        for bucket in one.body["data"]:
            expected[bucket["start"][:10]] += bucket["tweet_count"]
        assert {str(day): n for day, n in frame.select("day", "counted").iter_rows()} == dict(expected)
        assert frame["counted"].sum() == one.body["meta"]["total_tweet_count"]


def test_a_recorded_lookup_is_read(x: FakeX, cassettes: list[Recorded]) -> None:
    for one in of_kind(cassettes, "/2/tweets"):
        x.fail(200, dict(one.headers), one.sent)
        assert client_of(x).tweets(ids(one.body)) == one.body


def test_every_recorded_page_parses_whole(cassettes: list[Recorded]) -> None:
    pages = [one for one in cassettes if "/counts/" not in one.path]
    assert len(pages) == 10
    for one in pages:
        tweets, _, problems = parse_pages([one.body])
        repeated = problems.filter(pl.col("what") == "post on an earlier page")["count"].sum()
        assert tweets.height + repeated == len(one.body["data"]), one.name
        assert set(tweets["tweet_id"]) == set(ids(one.body)), one.name


def test_the_recorded_429_is_waited_out(x: FakeX, shared_data: Path, tmp_path: Path) -> None:
    (recorded,) = json.loads((shared_data / "tweets" / "error_429_observed.json").read_text())
    said: list[str] = []
    client = XClient("any-token-at-all", x.url, pace_s=0, backoff_s=0.002, say=said.append)
    for _ in range(3):
        x.fail(recorded["status"], body=recorded["body"])
    store = PageStore(Lake(tmp_path), "2022-08")
    search_month(client, store, [Search("q")], page_size=10, now=datetime(2023, 1, 1, tzinfo=UTC))
    assert store.table()["posts"].sum() == 47
    assert x.searches == [None] * 4 + ["t10", "t20", "t30", "t40"]
    assert len(said) == 3 and all("rate limit is reached (429); waiting" in words for words in said)


def photographed(body: Any) -> Iterator[tuple[str, str]]:
    """The (post id, media id) of each photo attached to a post that a reply is about."""
    data = body.get("data", body)
    for post in data if isinstance(data, list) else [data]:
        if "text" in post:
            for key in post.get("attachments", {}).get("media_keys", []):
                if key.startswith("3_"):
                    yield post["id"], key.removeprefix("3_")


def renamed(value: Any) -> Any:
    """The same JSON in the spelling of X's newer descriptions."""
    if isinstance(value, dict):
        return {NEWER.get(key, key): renamed(inner) for key, inner in value.items()}
    return [renamed(inner) for inner in value] if isinstance(value, list) else value


def test_recorded_pages_in_the_newer_spelling_give_the_same_tables(
    x: FakeX, cassettes: list[Recorded], shared_data: Path, tmp_path: Path
) -> None:
    older = [one.body for one in cassettes if "/counts/" not in one.path]
    for file in sorted((shared_data / "tweets" / "twarc_csv_v2").glob("*.jsonl")):
        for line in file.read_text(errors="replace").splitlines():
            try:
                older.append(json.loads(line))
            except ValueError:
                continue
    newer = [renamed(body) for body in older]
    assert sum(a != b for a, b in zip(older, newer, strict=True)) > 20
    was, now = parse_pages(older), parse_pages(newer)
    posts = [post for body in older for post in photographed(body)]
    assert was.tweets.height > 1000
    assert set(was.media.select("tweet_id", "image_id").iter_rows()) == set(posts)
    assert now.tweets.drop("collected_at").equals(was.tweets.drop("collected_at"))
    assert now.media.equals(was.media) and now.problems.equals(was.problems)
    assert was.tweets["retweet_count"].sum() > 0

    (one, *_) = of_kind(cassettes, "counts/all")
    last = datetime.fromisoformat(one.body["data"][-1]["end"])
    x.fail(200, body=renamed(one.body))
    counts = PageStore(Lake(tmp_path), f"{last:%Y-%m}", COUNTS)
    frame = count_month(client_of(x), counts, [Search("q")], now=last + timedelta(minutes=1))
    assert frame["counted"].sum() == one.body["meta"]["total_tweet_count"]


def test_a_post_of_note_length_is_read_in_either_spelling() -> None:
    post = {"id": "1560000000000000000", "text": "begins", "note_tweet": {"text": "begins and goes on"}}
    for body in ({"data": [post]}, {"data": [renamed(post)]}, {"data": [{**renamed(post), "text": None}]}):
        assert parse_pages([body]).tweets["text"].to_list() == ["begins and goes on"]
