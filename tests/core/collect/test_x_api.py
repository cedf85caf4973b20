"""The client against a real HTTP server: what it asks, what it waits for, what it says and what it hides."""

from __future__ import annotations

import json
import logging
import time
import traceback
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from twigma_core.collect.pacing import WINDOW_S, Pacer, clock_drift
from twigma_core.collect.x_api import RECENT, Stopped, XApiError, XClient

WINDOW = (datetime(2022, 8, 1, tzinfo=UTC), datetime(2022, 9, 1, tzinfo=UTC))
QUERY = "(#aiart) has:images -is:retweet"
CAPPED = {
    "account_id": 1,
    "product_name": "standard-basic",
    "title": "UsageCapExceeded",
    "period": "Monthly",
    "scope": "Product",
    "detail": "Usage cap exceeded: Monthly product cap",
    "type": "https://api.twitter.com/2/problems/usage-capped",
}


def ask(client: XClient, size: int = 10):
    return client.search(QUERY, WINDOW, None, size).body


def test_the_request_asks_for_all_fields_and_only_this_month(fake_x, client):
    reply = client.search(QUERY, WINDOW, None, 10)
    path, params = fake_x.requests[0]
    assert path == "/2/tweets/search/all"
    assert params["query"] == QUERY and params["max_results"] == "10"
    assert params["start_time"] == "2022-08-01T00:00:00Z" and params["end_time"] == "2022-09-01T00:00:00Z"
    assert params["expansions"] == "author_id,attachments.media_keys"
    assert {"note_tweet", "public_metrics", "possibly_sensitive"} <= set(params["tweet.fields"].split(","))
    assert {"url", "alt_text", "media_key"} <= set(params["media.fields"].split(","))
    assert json.loads(reply.content) == reply.body and len(reply.body["data"]) == 10


def test_recent_search_asks_its_own_endpoints_and_refuses_what_does_not_fit(fake_x, token):
    client = XClient(token, fake_x.url, tier=RECENT, pace_s=0)
    ask(client)
    client.counts(QUERY, WINDOW, None)
    assert [path for path, _ in fake_x.requests] == ["/2/tweets/search/recent", "/2/tweets/counts/recent"]
    assert fake_x.requests[1][1]["granularity"] == "day"
    with pytest.raises(XApiError, match=r"longer than the 512 of recent search.*TWIGMA_X_SEARCH=all"):
        client.search("#" + "x" * 512, WINDOW, None, 10)
    assert len(fake_x.requests) == 2


def test_a_limit_with_a_reset_time_is_waited_out_once_and_its_end_is_said(fake_x, token):
    said: list[str] = []
    client = XClient(token, fake_x.url, pace_s=0, backoff_s=0.002, say=said.append)
    reset = int(time.time()) + 1
    fake_x.fail(429, {"x-rate-limit-reset": str(reset)})
    ask(client)
    assert time.time() >= reset and len(fake_x.requests) == 2
    assert len(said) == 1 and said[0].startswith("X's rate limit is reached (429); waiting")
    assert "until " in said[0] and said[0].endswith(" UTC")


@pytest.mark.parametrize(
    "headers", [{}, {"x-rate-limit-reset": "1600000000"}, {"x-rate-limit-reset": "9999999999"}]
)
def test_a_limit_that_does_not_pass_ends_within_the_bound(fake_x, token, headers):
    client = XClient(token, fake_x.url, pace_s=0, max_wait_s=0.5, backoff_s=0.05)
    for _ in range(100):
        fake_x.fail(429, headers)
    with pytest.raises(XApiError, match=r"rate limit is reached \(429\).*run again later"):
        ask(client)
    assert len(fake_x.requests) < 12


@pytest.mark.parametrize("headers", [{}, {"x-rate-limit-reset": "9999999999"}])
def test_the_monthly_cap_is_told_from_a_rate_limit_and_not_waited_for(fake_x, client, headers):
    fake_x.fail(429, headers, CAPPED)
    with pytest.raises(
        Stopped, match=r"monthly cap of the account .*X_BEARER_TOKEN.* collected so far are kept"
    ):
        ask(client)
    assert len(fake_x.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, {"title": "SpendCapReached", "type": "https://api.x.com/2/problems/credits"}, "monthly cap"),
        (
            402,
            {"title": "CreditsDepleted", "detail": "no credits"},
            "asks for payment .*no credit left.*top it up",
        ),
        (402, ["a list"], "asks for payment"),
        (402, b"<html>pay</html>", "asks for payment"),
    ],
)
def test_money_that_is_used_up_stops_at_once(fake_x, client, status, body, words):
    fake_x.fail(status, body=body)
    with pytest.raises(Stopped, match=words):
        ask(client)
    assert len(fake_x.requests) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "does not accept the token .*X_BEARER_TOKEN"),
        (403, "X_BEARER_TOKEN must belong to a project with full-archive search"),
        (400, "refused the request"),
        (302, "TooManyRedirects"),
    ],
)
def test_lasting_faults_say_what_to_do_at_once_without_the_token(fake_x, client, token, status, words):
    fake_x.fail(
        status, {"Location": "/elsewhere"}, {"title": "no", "detail": f"sent Bearer {token} and {token}"}
    )
    with pytest.raises(XApiError, match=words) as caught:
        ask(client)
    assert len(fake_x.requests) == 1
    assert token not in "".join(traceback.format_exception(caught.value))


def test_passing_faults_are_waited_out(fake_x, client):
    fake_x.fail(429)
    fake_x.fail(429, {"x-rate-limit-reset": str(int(time.time()) - 900)})
    fake_x.fail(429, {"x-rate-limit-reset": "soon"})
    fake_x.fail(503)
    fake_x.fail(500, body=["a list where tweepy expects an object"])
    fake_x.fail(0)
    fake_x.fail(200, {"Content-Length": "50"}, b'{"data": [')  # breaks off
    fake_x.fail(200, body=b"<html>not JSON</html>")
    fake_x.fail(200, body={"title": "no data and no meta"})
    assert len(ask(client)["data"]) == 10
    assert len(fake_x.requests) == 10


@pytest.mark.parametrize("body", [b"<html></html>", b"[]", b"[" * 10_000 + b"]" * 10_000, b'{"meta": null}'])
def test_an_answer_that_cannot_be_read_is_not_bought_for_ever(fake_x, client, body):
    for _ in range(50):
        fake_x.fail(200, body=body)
    with pytest.raises(XApiError, match="not an object with meta"):
        ask(client)
    assert len(fake_x.requests) == 5


def test_the_token_reaches_the_server_and_no_log(fake_x, token, caplog):
    caplog.set_level(logging.DEBUG)
    said: list[str] = []
    client = XClient(token, fake_x.url, pace_s=0, backoff_s=0.002, say=said.append)
    fake_x.fail(503, body={"detail": f"slow down, {token}, or AAAAcanary+tokenZZZZ"})
    ask(client)
    logging.getLogger("tweepy.client").error("with %s", token, exc_info=ValueError(token))
    assert fake_x.authorizations == {f"Bearer {token}"}
    assert "Making API request" in caplog.text and "Bearer [redacted]" in caplog.text
    for text in (caplog.text, repr(client), *said):
        assert token not in text and "AAAAcanary+tokenZZZZ" not in text
    assert "slow down, [redacted], or [redacted]" in said[0]


def test_requests_are_paced_and_counted():
    now, slept = [1000.0], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    said: list[str] = []
    pacer = Pacer(1.0, 3, clock=lambda: now[0], sleep=sleep)
    for _ in range(3):
        pacer.wait(said.append, 3600)
    assert slept == [1.0, 1.0] and said == []
    pacer.wait(said.append, 3600)
    assert slept[2] == WINDOW_S - 2 and "waiting 898 s, until" in said[0]
    said_at = {"date": "Sat, 07 Jan 2023 10:00:00 GMT"}
    in_100_s = {"x-rate-limit-remaining": "0", "x-rate-limit-reset": "1673085700"}
    pacer.told(said_at | in_100_s)
    pacer.wait(said.append, 3600)
    assert slept[3] == 101.0, "from X's time to X's time, whatever the clock here says"
    pacer.told({"x-rate-limit-remaining": "0", "x-rate-limit-reset": "9999999999"})
    pacer.wait(said.append, 3600)
    assert slept[4] == 3600, "a clock that is wrong does not hold it for ever"
    for useless in ({}, {"x-rate-limit-remaining": "many"}, {"x-rate-limit-remaining": "0"}):
        Pacer(0, None).told(useless)


def test_a_window_that_is_used_up_is_waited_for_before_x_says_429(fake_x, token):
    said: list[str] = []
    client = XClient(token, fake_x.url, pace_s=0, say=said.append)
    reset = int(time.time()) + 1
    fake_x.headers = {"x-rate-limit-remaining": "0", "x-rate-limit-reset": str(reset)}
    ask(client)
    fake_x.headers = {}
    ask(client)
    assert time.time() >= reset + 1 and len(fake_x.requests) == 2


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


@pytest.mark.parametrize(("off", "said"), [(3600, "ahead of"), (-86400, "behind"), (60, ""), (-250, "")])
def test_a_wrong_clock_stops_before_a_page_is_used(fake_x, client, monkeypatch, off, said):
    ours = SimpleNamespace(time=lambda: time.time() + off, monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr("twigma_core.collect.pacing.time", ours)
    if not said:
        assert ask(client)["data"]
        return
    with pytest.raises(XApiError, match=f"this machine's clock is .* s {said} X's; set it right"):
        ask(client)


def test_an_answer_without_a_usable_time_says_nothing_of_the_clock():
    assert clock_drift({}) is None and clock_drift({"date": "yesterday"}) is None
