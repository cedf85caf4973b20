"""All real posts: each file beside an independent reading of its raw JSON; recorded answers replayed."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest
import yaml

from tests.core.collect.fake_x import FakeX
from twigma_core.collect import parse
from twigma_core.collect.archives import read_archive
from twigma_core.collect.imports import import_month, inventory, months
from twigma_core.collect.pages import PageStore
from twigma_core.collect.parse import parse_pages
from twigma_core.collect.x_api import XClient
from twigma_core.lake import Lake

WINDOW = (datetime(2022, 8, 1, tzinfo=UTC), datetime(2022, 9, 1, tzinfo=UTC))


def objects(text: str) -> tuple[list[dict[str, Any]], int]:
    """Return the JSON objects of a file, one a line, and the number of broken lines."""
    found, broken = [], 0
    for line in text.splitlines():
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            broken += 1
    return found, broken


def listed(reply: dict[str, Any]) -> list[dict[str, Any]]:
    data = reply.get("data", reply)
    return data if isinstance(data, list) else [data]


def counted(replies: list[dict[str, Any]]) -> dict[str, int]:
    """Count with plain json what a file's replies hold."""
    total: Counter[str] = Counter(posts=0, media=0, users=0, errors=0)
    for reply in replies:
        includes = reply.get("includes", {})
        total["media"] += len(includes.get("media", []))
        total["users"] += len(includes.get("users", []))
        total["errors"] += len(reply.get("errors", []))
        for one in listed(reply):
            total["posts"] += "text" in one
            total["media"] += len(one.get("attachments", {}).get("media", []))
            total["users"] += ("username" in one) + ("author" in one)
    return dict(total)


def check(file: Path, replies: list[dict[str, Any]], row: dict[str, Any]) -> int:
    """Check a file's row of the inventory and its tables against its raw replies; return its posts."""
    expected = counted(replies)
    assert {name: row[name] for name in expected} == expected, file.name
    parsed = parse_pages(read_archive(file))
    what = parsed.problems.group_by("what").agg(pl.col("count").sum())
    reported = what.filter(pl.col("what").str.starts_with("X reports: "))
    titles = Counter(error["title"] for reply in replies for error in reply.get("errors", []))
    assert dict(reported.iter_rows()) == {f"X reports: {title}": n for title, n in titles.items()}, file.name
    left_out = what.filter(pl.col("what").is_in(parse.LEFT_OUT))["count"].sum()
    assert parsed.tweets.height + left_out == expected["posts"], file.name
    # The author of each post, and the followers that some page of the file tells for it.
    followers: dict[str, set[int]] = {}
    for reply in replies:
        users = reply.get("includes", {}).get("users", []) + [one.get("author") for one in listed(reply)]
        for user in filter(None, users):
            if "public_metrics" in user:
                followers.setdefault(user["id"], set()).add(user["public_metrics"]["followers_count"])
    authors = {one["id"]: one.get("author_id") for reply in replies for one in listed(reply) if "text" in one}
    for post, author, number in parsed.tweets.select("tweet_id", "author_id", "followers").iter_rows():
        assert author == authors[post], file.name
        assert number in followers.get(author, {None}), file.name
    return expected["posts"]


def test_posts_media_users_and_errors_of_every_file(shared_data: Path) -> None:
    folder = shared_data / "tweets"
    rows = {row["file"]: row for row in inventory(folder).iter_rows(named=True)}
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    assert len(files) == len(rows) == 46, "none is passed over in silence"
    posts = 0
    for file in files:
        row = rows[str(file.relative_to(folder))]
        if file.suffix not in (".jsonl", ".json"):
            continue
        replies, broken = objects(file.read_text())
        if file.name == "error_429_observed.json":
            replies, broken = json.loads(file.read_text()), 0
        assert (row["pages"], row["broken"]) == (len(replies), broken), file.name
        posts += check(file, replies, row)
    assert posts > 1500
    unread = {Path(name).suffix for name, row in rows.items() if (row["note"] or "").startswith("not read")}
    assert unread == {".yaml", ""}


def test_months_are_those_of_the_raw_times_and_no_post_is_lost_on_import(
    shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "tweets" / "twarc_csv_v2"
    times: dict[str, str] = {}
    for file in folder.iterdir():
        for reply in objects(file.read_text())[0]:
            times |= {one["id"]: one["created_at"][:7] for one in listed(reply) if "text" in one}
    assert months(folder) == sorted(set(times.values()))
    lake, found = Lake(tmp_path), dict[str, str]()
    for month in months(folder, lake):
        import_month(lake, folder, month)
        tweets = parse_pages(PageStore(lake, month).pages(), month).tweets
        found |= dict(tweets.select("tweet_id", "month").iter_rows())
    assert found == times


def recorded(folder: Path) -> Iterator[tuple[str, str, dict[str, str], bytes]]:
    """Yield name, address, headers and body as sent, of each recorded answer."""
    for file in sorted(folder.glob("*.yaml")):
        for one in yaml.safe_load(file.read_text())["interactions"]:
            body = one["response"]["body"]["string"]
            headers = {name: values[0] for name, values in one["response"]["headers"].items()}
            sent = body if isinstance(body, bytes) else body.encode()
            yield file.stem, one["request"]["uri"], headers, sent


def plain(sent: bytes) -> dict[str, Any]:
    return json.loads(gzip.decompress(sent) if sent[:2] == b"\x1f\x8b" else sent)


def test_the_bodies_of_the_cassettes_are_an_archive(shared_data: Path, tmp_path: Path) -> None:
    bodies = {}
    for name, _, _, sent in recorded(shared_data / "tweets" / "tweepy_cassettes_v2"):
        bodies[f"{name}.json"] = plain(sent)
        (tmp_path / f"{name}.json").write_bytes(gzip.decompress(sent) if sent[:2] == b"\x1f\x8b" else sent)
    assert len(bodies) == 14
    posts = 0
    for row in inventory(tmp_path).iter_rows(named=True):
        assert row["broken"] == 0
        posts += check(tmp_path / row["file"], [bodies[row["file"]]], row)
    assert posts > 200


def test_the_cassettes_replayed_over_http_give_their_bodies(
    shared_data: Path, fake_x: FakeX, client: XClient
) -> None:
    """The recorded bytes, packed as they were, with the recorded headers, through the real client."""
    replayed = Counter[str]()
    for _, uri, headers, sent in recorded(shared_data / "tweets" / "tweepy_cassettes_v2"):
        path = urlsplit(uri).path
        kept = {
            name: text for name, text in headers.items() if name.startswith("x-rate") or "encoding" in name
        }
        kept.pop("x-rate-limit-reset", None)  # long past
        if sent[:2] != b"\x1f\x8b":
            kept.pop("content-encoding", None)
        fake_x.fail(200, kept, sent)
        query = parse_qs(urlsplit(uri).query)
        body = plain(sent)
        if path == "/2/tweets":
            assert client.tweets(query["ids"][0].split(",")) == body
        elif path.endswith("search/all"):
            assert client.search(query["query"][0], WINDOW, None, 10).body == body
        elif path.endswith("counts/all"):
            assert client.counts(query["query"][0], WINDOW, None).body == body
        else:
            fake_x.faults.pop()
            continue
        replayed[path] += 1
    assert sum(replayed.values()) == 6 and set(replayed) == {
        *("/2/tweets", "/2/tweets/search/all", "/2/tweets/counts/all")
    }


def test_the_recorded_429_is_waited_out(shared_data: Path, fake_x: FakeX, client: XClient) -> None:
    seen = json.loads((shared_data / "tweets" / "error_429_observed.json").read_text())[0]
    fake_x.fail(seen["status"], {}, seen["body"])
    assert len(client.search("(#aiart)", WINDOW, None, 10).body["data"]) == 10
    assert len(fake_x.requests) == 2


@pytest.mark.parametrize("pack", ["gz", "zst"])
def test_real_files_packed_give_the_same(shared_data: Path, tmp_path: Path, pack: str) -> None:
    import zstandard

    for name in ("flat.jsonl", "withheld.jsonl", "streaming_output_with_error.jsonl"):
        content = (shared_data / "tweets" / "twarc_csv_v2" / name).read_bytes()
        packed = gzip.compress(content) if pack == "gz" else zstandard.compress(content)
        (tmp_path / f"{name}.{pack}").write_bytes(packed)
        (tmp_path / name).write_bytes(content)
        one, other = (parse_pages(read_archive(tmp_path / n)) for n in (name, f"{name}.{pack}"))
        assert one.tweets.drop("collected_at").equals(other.tweets.drop("collected_at"))
        assert one.media.equals(other.media)
