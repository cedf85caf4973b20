"""Search, counts and lookup against a real HTTP server; each of tweepy's faults has its test."""

from __future__ import annotations

import logging
import time
import traceback
from datetime import UTC, date, datetime

import pytest
import zstandard

from twigma_core.collect.pages import Page, PageStore
from twigma_core.collect.parse import parse_pages
from twigma_core.collect.x_api import XApiError, XClient, build_queries, count_month, lookup, search_month
from twigma_core.lake import Lake

MONTH = "2022-08"
QUERY = build_queries(["aiart"])


def collect(client, tmp_path, after, **options) -> PageStore:
    store = PageStore(Lake(tmp_path), MONTH)
    search_month(client, store, MONTH, QUERY, page_size=10, now=after, **options)
    return store


def test_a_month_is_paged_to_its_end_and_a_second_run_buys_nothing(fake_x, client, tmp_path, after):
    fake_x.empty_page_at = 20
    store = collect(client, tmp_path, after)
    assert fake_x.searches == [None, "t10", "t20", "e20", "t30", "t40"]
    table = store.table()
    assert table["posts"].to_list() == [10, 10, 0, 10, 10, 7]
    assert set(table["source"]) == {"sample"} and table["next_token"].to_list()[-1] is None
    tweets, *_ = parse_pages(store.pages(), MONTH)
    assert tweets["tweet_id"].to_list() == [post["id"] for post in fake_x.posts]

    collect(client, tmp_path, after)
    assert len(fake_x.searches) == 6


def test_the_request_asks_for_all_fields_and_only_this_month(fake_x, client, tmp_path, after):
    collect(client, tmp_path, after)
    path, params = fake_x.requests[0]
    assert path == "/2/tweets/search/all"
    assert params["query"] == "(#aiart) has:images -is:retweet"
    assert params["start_time"] == "2022-08-01T00:00:00Z" and params["end_time"] == "2022-09-01T00:00:00Z"
    assert params["expansions"] == "author_id,attachments.media_keys"
    assert {"note_tweet", "public_metrics", "possibly_sensitive"} <= set(params["tweet.fields"].split(","))
    assert {"url", "alt_text", "media_key"} <= set(params["media.fields"].split(","))


@pytest.mark.parametrize("kill_at", range(5))
def test_a_killed_run_goes_on_at_the_exact_page(fake_x, client, tmp_path, after, kill_at):
    class Killed(BaseException):
        pass

    def kill(page: Page) -> None:
        if page.index == kill_at:
            raise Killed

    with pytest.raises(Killed):
        collect(client, tmp_path, after, on_page=kill)
    assert len(fake_x.searches) == kill_at + 1
    store = collect(client, tmp_path, after)
    assert fake_x.searches == [None, "t10", "t20", "t30", "t40"]
    assert store.table()["posts"].sum() == 47


def test_a_month_that_still_runs_is_completed_later_not_bought_again(fake_x, client, tmp_path, after):
    midway = datetime(2022, 8, 2, 0, 0, 30, tzinfo=UTC)
    collect(client, tmp_path, midway)
    store = PageStore(Lake(tmp_path), MONTH)
    assert store.table()["posts"].sum() == 24
    assert collect(client, tmp_path, after).table()["posts"].sum() == 47
    assert fake_x.requests[-1][1]["start_time"] == "2022-08-02T00:00:00Z"
    with pytest.raises(ValueError, match="2022-08 has not begun"):
        collect(client, tmp_path / "new", datetime(2022, 7, 31, tzinfo=UTC))


def cut(stored: bytes) -> bytes:
    return stored[:-20]


def alter(stored: bytes) -> bytes:
    content = zstandard.ZstdDecompressor().decompress(stored)
    return zstandard.ZstdCompressor().compress(content.replace(b"picture 25", b"picture 26"))


@pytest.mark.parametrize("damage", [cut, alter, lambda stored: b""])
def test_a_damaged_page_is_bought_again_alone(fake_x, client, tmp_path, after, damage):
    store = collect(client, tmp_path, after)
    path = store.table()["path"][2]
    damaged = damage(store.lake.read_bytes(path))
    store.lake.write_bytes(path, damaged)
    store = PageStore(Lake(tmp_path), MONTH)
    row = store.table().row(2, named=True)
    assert row["status"] == "corrupt" and row["reason"] and row["query"] == QUERY[0]
    assert [page.status for page in store.pages()].count("corrupt") == 1
    _, _, problems = parse_pages(store.pages(), MONTH)
    assert problems.filter(problems["what"].str.starts_with("corrupt page"))["where"].to_list() == [path]

    store = collect(client, tmp_path, after)
    assert fake_x.searches[5:] == ["t20"]
    assert store.table()["status"].to_list() == ["ok"] * 5 and store.table()["posts"].sum() == 47
    assert store.lake.read_bytes(path.replace(".json.zst", ".damaged")) == damaged


def test_passing_faults_are_waited_out(fake_x, client, tmp_path, after):
    now = int(time.time())
    fake_x.fail(429)
    fake_x.fail(429, {"x-rate-limit-reset": str(now - 900)})
    fake_x.fail(429, {"x-rate-limit-reset": "soon"})
    fake_x.fail(503)
    fake_x.fail(500, body=["a list where tweepy expects an object"])
    fake_x.fail(0)
    fake_x.fail(200, body=b"<html>not JSON</html>")
    fake_x.fail(200, body={"title": "no data and no meta"})
    started = time.time()
    assert collect(client, tmp_path, after).table()["posts"].sum() == 47
    assert time.time() - started < 5
    assert fake_x.searches == [None] * 9 + ["t10", "t20", "t30", "t40"]


def test_a_limit_with_a_reset_time_is_waited_out_once(fake_x, client, tmp_path, after):
    reset = int(time.time()) + 1
    fake_x.fail(429, {"x-rate-limit-reset": str(reset)})
    collect(client, tmp_path, after)
    assert time.time() >= reset and fake_x.searches[:3] == [None, None, "t10"]


@pytest.mark.parametrize(
    "headers", [{}, {"x-rate-limit-reset": "1600000000"}, {"x-rate-limit-reset": "9999999999"}]
)
def test_a_limit_that_does_not_pass_ends_within_the_bound(fake_x, tmp_path, after, token, headers):
    client = XClient(token, fake_x.url, pace_s=0, max_wait_s=0.5, backoff_s=0.05)
    for _ in range(100):
        fake_x.fail(429, headers)
    started = time.monotonic()
    with pytest.raises(XApiError, match=r"rate limit is reached \(429\).*run again later"):
        collect(client, tmp_path, after)
    assert time.monotonic() - started < 2 and len(fake_x.requests) < 12


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not accept the token .*X_BEARER_TOKEN"),
        (402, "asks for payment .*X_BEARER_TOKEN.*no credit"),
        (403, "X_BEARER_TOKEN must belong to a project with full-archive search"),
        (400, "refused the request"),
    ],
)
def test_lasting_faults_say_what_to_do_at_once(fake_x, client, tmp_path, after, token, status, words):
    fake_x.fail(status, body={"title": "no", "detail": f"sent Bearer {token} and {token}"})
    with pytest.raises(XApiError, match=words) as caught:
        collect(client, tmp_path, after)
    assert len(fake_x.requests) == 1
    assert token not in "".join(traceback.format_exception(caught.value))


def test_what_was_collected_before_a_lasting_fault_is_kept(fake_x, client, tmp_path, after):
    def then_no_credit(page: Page) -> None:
        if page.index == 1:
            fake_x.fail(402)

    with pytest.raises(XApiError, match="payment"):
        collect(client, tmp_path, after, on_page=then_no_credit)
    assert PageStore(Lake(tmp_path), MONTH).table()["posts"].sum() == 20
    collect(client, tmp_path, after)
    assert fake_x.searches == [None, "t10", "t20", "t20", "t30", "t40"]


def test_a_silent_server_is_given_up(fake_x, tmp_path, after, token, monkeypatch):
    quick = fake_x.answer

    def slow(path, params):
        time.sleep(0.4)
        return quick(path, params)

    monkeypatch.setattr(fake_x, "answer", slow)
    client = XClient(token, fake_x.url, timeout_s=0.1, pace_s=0, max_wait_s=0.3, backoff_s=0.1)
    with pytest.raises(XApiError, match="no answer from X"):
        collect(client, tmp_path, after)


def test_a_repeating_token_does_not_buy_for_ever(fake_x, client, tmp_path, after):
    fake_x.repeat_token = True
    with pytest.raises(XApiError, match="used before"):
        collect(client, tmp_path, after)
    assert len(fake_x.searches) == 2


def test_the_token_reaches_the_server_and_no_log(fake_x, client, tmp_path, after, token, caplog):
    caplog.set_level(logging.DEBUG)
    fake_x.fail(429, body={"detail": f"slow down, {token}"})
    collect(client, tmp_path, after)
    assert fake_x.authorizations == {f"Bearer {token}"}
    assert "Making API request" in caplog.text and "Bearer [redacted]" in caplog.text
    assert token not in caplog.text and token not in repr(client)
    assert "waiting" in caplog.text


def test_requests_are_paced(fake_x, tmp_path, after, token):
    client = XClient(token, fake_x.url, pace_s=0.1)
    started = time.monotonic()
    collect(client, tmp_path, after)
    assert time.monotonic() - started >= 0.4


@pytest.mark.parametrize("bad", [None, "", "  "])
def test_no_token_names_the_setting(bad):
    with pytest.raises(XApiError, match="set X_BEARER_TOKEN"):
        XClient(bad)


def test_a_token_with_a_line_break_is_refused_without_being_shown():
    with pytest.raises(XApiError, match="X_BEARER_TOKEN holds white space") as caught:
        XClient("abc\ndef")
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["http://example.org", "http://10.0.0.1:80", "ftp://127.0.0.1", "127.0.0.1:80"]
)
def test_the_token_goes_to_loopback_or_to_x(address):
    with pytest.raises(ValueError, match="not a loopback address"):
        XClient("token", address)


def test_counts_in_either_spelling_add_up_to_the_posts(fake_x, client, after):
    frame = count_month(client, QUERY, MONTH, now=after)
    assert frame.to_dicts() == [
        {"query": QUERY[0], "day": date(2022, 8, 1), "counted": 24},
        {"query": QUERY[0], "day": date(2022, 8, 2), "counted": 23},
    ]
    assert fake_x.requests[0][1]["granularity"] == "day" and len(fake_x.requests) == 1


def test_lookup_asks_for_a_hundred_at_a_time_and_tells_what_is_gone(fake_x, client):
    ids = [post["id"] for post in fake_x.posts] + [str(n) for n in range(1, 61)]
    replies = list(lookup(client, ids))
    assert len(fake_x.requests) == 2
    assert sum(len(reply["data"]) for reply in replies) == 47
    assert sum(len(reply["errors"]) for reply in replies) == 60


def test_queries_are_one_until_they_outgrow_the_limit():
    assert build_queries(["dalle", "aiart", "dalle"]) == ["(#aiart OR #dalle) has:images -is:retweet"]
    tags = [f"hashtag{n:03d}" for n in range(200)]
    queries = build_queries(tags)
    assert len(queries) > 1 and max(map(len, queries)) <= 1024
    assert [tag for query in queries for tag in tags if f"#{tag} " in query or f"#{tag})" in query] == tags
    for wrong in (["#dalle"], ["Dalle"], [], ["x" * 1024]):
        with pytest.raises(ValueError, match="hashtag"):
            build_queries(wrong)
