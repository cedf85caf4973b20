"""Taking posts and accounts out of replies: what goes, what goes along, what stays."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import zstandard

from twigma_core import tables
from twigma_core.collect import fields
from twigma_core.collect.archives import read_archive
from twigma_core.collect.imports import import_month
from twigma_core.collect.pages import PageStore
from twigma_core.collect.parse import parse_pages
from twigma_core.collect.tombstones import Finder, Gone, without
from twigma_core.lake import Lake

A, B, C, D = (str(1_500_000_000_000_000_000 + n) for n in range(4))
ANN, BOB = "1100000000001", "1100000000002"
PICTURE = "1354143047324299264"


def post(one: str, author: str, *media: str, **more: object) -> dict[str, object]:
    keys = {"attachments": {"media_keys": [f"3_{name}" for name in media]}} if media else {}
    return {
        "id": one,
        "text": "words",
        "author_id": author,
        "created_at": "2022-03-05T00:00:00Z",
        **keys,
        **more,
    }


def body() -> dict[str, object]:
    return {
        "data": [
            post(A, ANN, PICTURE),
            post(B, BOB, PICTURE, "1354143047324299265", referenced_tweets=[{"type": "quoted", "id": A}]),
            post(C, BOB, referenced_tweets=[{"type": "retweeted", "id": A}]),
            post(D, BOB, entities={"mentions": [{"id": ANN, "username": "ann"}]}, in_reply_to_user_id=ANN),
        ],
        "includes": {
            "media": [{"media_key": f"3_{PICTURE}"}, {"media_key": "3_1354143047324299265"}],
            "users": [{"id": ANN, "username": "ann"}, {"id": BOB, "username": "bob"}],
            "tweets": [post(A, ANN, PICTURE)],
        },
        "errors": [{"resource_id": A, "title": "Not Found Error"}],
        "meta": {"result_count": 4, "newest_id": D, "oldest_id": A, "next_token": "t"},
    }


def test_a_post_takes_along_what_only_it_refers_to() -> None:
    left, dropped = without(body(), Gone(frozenset({A})))
    assert dropped == {A, C}, "a repost goes with what it repeats"
    assert A not in json.dumps(left) and C not in json.dumps(left)
    assert [one["id"] for one in left["data"]] == [B, D]
    assert [one["id"] for one in left["includes"]["users"]] == [BOB], "no post of hers is left"
    assert len(left["includes"]["media"]) == 2, "B shows the picture too"
    assert left["meta"] == {"result_count": 4, "newest_id": D, "oldest_id": B, "next_token": "t"}


def test_a_picture_goes_also_from_a_post_that_is_merely_referred_to() -> None:
    other = "1354143047324299265"
    quoting = post(D, BOB, other, referenced_tweets=[{"type": "quoted", "id": B}])
    page = {"data": [post(A, ANN, PICTURE), quoting], "includes": {"tweets": [post(B, BOB, PICTURE, other)]}}
    page["includes"]["media"] = body()["includes"]["media"]  # type: ignore[call-overload, index]
    for data in (page["data"], [quoting]):  # also on a page without the post itself
        left, _ = without(page | {"data": data}, Gone(frozenset({A}), pictures=frozenset({PICTURE})))
        assert PICTURE not in json.dumps(left), "B is no row here, and does not keep it"
        assert [one["media_key"] for one in left["includes"]["media"]] == [f"3_{other}"]
        assert left["includes"]["tweets"] == [post(B, BOB, other)] and left["data"] == [quoting]
    shown = page | {"data": [post(C, BOB, PICTURE)]}
    assert without(shown, Gone(frozenset({A}), pictures=frozenset({PICTURE}))) == (shown, set()), "C shows it"


def test_a_link_to_it_goes_from_a_post_that_quotes_it() -> None:
    links = [
        {"url": "https://t.co/a", "expanded_url": f"https://twitter.com/ann/status/{one}"} for one in (A, C)
    ]
    page = {"data": [post(B, BOB, entities={"urls": links, "hashtags": []})]}
    left, _ = without(page, Gone(frozenset({A})))
    assert left == {"data": [post(B, BOB, entities={"urls": links[1:], "hashtags": []})]}


def test_a_flattened_post_loses_what_it_carries_within_it() -> None:
    within = {**post(A, ANN), "author": {"id": ANN}, "type": "replied_to"}
    reply = {"in_reply_to_user_id": ANN, "in_reply_to_user": {"id": ANN}}
    flat = post(
        B, BOB, referenced_tweets=[{**post(C, BOB), "type": "quoted", "referenced_tweets": [within]}], **reply
    )
    left, dropped = without(flat, Gone(authors=frozenset({ANN})))
    assert left == post(
        B, BOB, referenced_tweets=[{**post(C, BOB), "type": "quoted", "referenced_tweets": []}]
    )
    assert dropped == set()


def test_the_address_of_a_lookup_goes_where_it_names_a_post() -> None:
    notes = {"url": f"https://api.twitter.com/2/tweets?ids={A},{B}", "retrieved_at": "2022-03-06T00:00:00Z"}
    page = {"data": [post(B, BOB)], "__twarc": notes}
    left, _ = without(page, Gone(frozenset({A})))
    assert left == page | {"__twarc": {"retrieved_at": "2022-03-06T00:00:00Z"}}
    assert without(page, Gone(frozenset({C}))) == (page, set())


def test_whatever_goes_of_the_real_posts_no_page_names_it_still(shared_data: Path) -> None:
    pages = [page.body for page in read_archive(shared_data / "tweets") if page.body]
    posts = {str(one["id"]): one for body in pages for one in fields.data(body) if fields.is_post(one)}
    authors = sorted({str(one["author_id"]) for one in posts.values() if "author_id" in one})

    def shown(ids: Iterable[str]) -> set[str]:
        media = re.compile(r'"media_key": "[0-9]+_([0-9]+)"|"[0-9]+_([0-9]+)"')
        texts = [json.dumps(posts[one].get("attachments", {})) for one in ids]
        return {one or other for text in texts for one, other in media.findall(text)}

    for seed, (of_posts, of_authors) in enumerate([(0.05, 0), (0.3, 20), (0.6, 0), (0.6, 20)]):
        draw = random.Random(seed + 10)
        chosen = set(draw.sample(sorted(posts), round(of_posts * len(posts))))
        closed = set(draw.sample(authors, of_authors))
        chosen |= {one for one, value in posts.items() if value.get("author_id") in closed}
        pictures = shown(chosen) - shown(posts.keys() - chosen)
        gone = Gone(frozenset(chosen), frozenset(closed), frozenset(pictures))
        assert gone.pictures
        left = b" ".join(json.dumps(without(body, gone)[0]).encode() for body in pages)
        assert Finder(gone).find(left) == set(), seed


def test_an_account_goes_with_all_its_posts_and_mentions() -> None:
    left, dropped = without(body(), Gone(authors=frozenset({ANN})))
    assert dropped == {A} and ANN not in json.dumps(left)
    left, dropped = without(body(), Gone(authors=frozenset({BOB})))
    assert dropped == {B, C, D} and BOB not in json.dumps(left)
    assert [one["media_key"] for one in left["includes"]["media"]] == [f"3_{PICTURE}"]


def test_an_earlier_version_of_an_edited_post_names_it() -> None:
    edited = {"data": [post(B, ANN, edit_history_tweet_ids=[A, B])]}
    assert without(edited, Gone(frozenset({A})))[0]["data"] == []
    alone = post(A, ANN)
    assert without(alone, Gone(frozenset({A}))) == ({}, {A})


def test_what_names_nothing_such_is_left_as_it_is() -> None:
    assert without(body(), Gone(frozenset({"1500000000000000099"}))) == (body(), set())
    strange: dict[str, object] = {"data": [None, 7, {"id": None}], "includes": [], "errors": {}, "meta": None}
    left, dropped = without(strange, Gone(frozenset({A})))
    assert left["data"] == strange["data"] and dropped == set()


@pytest.mark.parametrize("tail", [0, 1, 255])
def test_a_media_id_is_found_as_a_number_and_in_the_name_of_its_file(tail: int) -> None:
    finder = Finder(Gone(pictures=frozenset({PICTURE})))
    name = base64.urlsafe_b64encode(int(PICTURE).to_bytes(8, "big") + bytes([tail, 3])).decode().rstrip("=")
    assert finder.find(f"https://pbs.twimg.com/media/{name}.jpg".encode()) == {PICTURE}
    assert finder.find(f"x{PICTURE}.jpg".encode()) == {PICTURE}
    assert finder.find(f"{PICTURE}0 {int(PICTURE) + 1}".encode()) == set()
    other = base64.urlsafe_b64encode((int(PICTURE) + 1).to_bytes(8, "big") + b"\0\0").decode().rstrip("=")
    assert finder.find(other.encode()) == set()


def test_stored_pages_lose_it_and_keep_their_place_price_and_token(tmp_path: Path) -> None:
    lake, gone = Lake(tmp_path), Gone(frozenset({A}))
    window = (datetime(2022, 3, 1, tzinfo=UTC), datetime(2022, 4, 1, tzinfo=UTC))
    store = PageStore(lake, "2022-03")
    store.append("q", body(), window=window)
    store.append("q", {"data": [post(D, BOB)], "meta": {}}, token="t", window=window)
    before = PageStore(lake, "2022-03").checkpoint("q")
    assert PageStore(lake, "2022-03").remove(gone) == (1, {A, C})
    after = PageStore(lake, "2022-03")
    assert after.bought() == (2, 5), "what was paid for stays on the bill"
    assert after.checkpoint("q").done == before.done and after.is_complete()
    assert set(after.table()["status"]) == {"ok"}
    assert set(parse_pages(after.pages(), "2022-03").tweets["tweet_id"]) == {B, D}
    assert PageStore(lake, "2022-03").remove(gone) == (0, set())
    assert {sha for sha, _ in after.known("q")} == {sha for sha, _ in store.known("q")}, (
        "so it is not imported again"
    )


def test_a_page_that_comes_later_is_relieved_of_it_before_it_is_stored(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    stone = pl.DataFrame({"kind": "post", "id": A, "status": "deleted", "source": "a", "month": None})
    stone = stone.with_columns(image_ids=[], noted_at=pl.lit(datetime(2022, 4, 1, tzinfo=UTC)))
    lake.write("tombstones", tables.conform("tombstones", stone))
    archive = tmp_path / "archive.json"
    archive.write_text(json.dumps(body()))
    first = import_month(lake, archive, "2022-03")
    assert first["posts"].sum() == 4, "as they came"
    assert set(parse_pages(PageStore(lake, "2022-03").pages(), "2022-03").tweets["tweet_id"]) == {B, D}
    for path in (tmp_path / "lake" / "pages" / "2022-03").rglob("*.zst"):
        content = zstandard.ZstdDecompressor().decompressobj().decompress(path.read_bytes())
        assert A.encode() not in content
    assert import_month(lake, archive, "2022-03").equals(first), "nor is it stored twice"
