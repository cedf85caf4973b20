"""X's API v2: full-archive search, counts and lookup, through tweepy with its faults guarded.

tweepy builds the requests; this module adds what it lacks: a time limit on each request, pacing, waits
that are bounded (for 429 with or without a usable reset time, for 5xx and for broken connections), errors
that name the cause and the setting, and a log that never holds the token. Pages go to a `PageStore`
before the next is asked for. What the replies mean is read in `parse`.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import requests
import tenacity
import tweepy
from requests.adapters import HTTPAdapter

from twigma_core.collect import fields, hashtags
from twigma_core.collect.pages import Page, PageStore, Window, month_window

SETTING = "X_BEARER_TOKEN"
RULES = "has:images -is:retweet"
FIELDS: dict[str, list[str]] = {
    "expansions": ["author_id", "attachments.media_keys"],
    "tweet_fields": [
        *("attachments", "author_id", "created_at", "edit_history_tweet_ids", "entities", "lang"),
        *("note_tweet", "possibly_sensitive", "public_metrics", "referenced_tweets"),
    ],
    "media_fields": [
        *("media_key", "type", "url", "width", "height", "alt_text", "public_metrics", "variants"),
        "preview_image_url",
    ],
    "user_fields": ["created_at", "public_metrics", "protected", "verified", "withheld"],
}
LOOKUP_SIZE = 100
COUNT_DAYS = 31
# X refuses an end_time less than ten seconds in the past.
_BEHIND_NOW = timedelta(seconds=30)
_API = "https://api.twitter.com"

log = logging.getLogger(__name__)


class XApiError(RuntimeError):
    """X did not give what was asked for; the message says why and what to do. Stored pages are safe."""


class Passing(Exception):
    """A failure worth another try.

    Attributes:
        reset: when X says that the limit resets, as a Unix time; None where it does not say.
    """

    def __init__(self, message: str, reset: float | None = None) -> None:
        super().__init__(message)
        self.reset = reset


# ---------------------------------------------------------------- secrets in logs


class RedactingFilter(logging.Filter):
    """Takes bearer tokens out of log records: tweepy logs its request headers at DEBUG."""

    _bearer = re.compile(r"(?i)\bbearer\s+[^\s'\",}]+")

    def __init__(self) -> None:
        super().__init__()
        self.secrets: set[str] = set()

    def redact(self, message: str) -> str:
        """Return the message without any known or likely token."""
        for secret in self.secrets:
            message = message.replace(secret, "[redacted]")
        return self._bearer.sub("Bearer [redacted]", message)

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact a record in place and keep it."""
        record.msg, record.args = self.redact(record.getMessage()), ()
        return True


REDACT = RedactingFilter()
# A logger's filter does not see its children's records, so each one that speaks gets its own.
for _name in ("tweepy", "tweepy.client", "tweepy.api", "urllib3.connectionpool", __name__):
    logging.getLogger(_name).addFilter(REDACT)


# ---------------------------------------------------------------- the client


class _Adapter(HTTPAdapter):
    """Gives each request a time limit and, where one is named, sends it to a loopback server instead."""

    def __init__(self, timeout_s: float, base_url: str | None) -> None:
        self._timeout_s = timeout_s
        self._base_url = base_url
        super().__init__()

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        if self._base_url and request.url:
            request.url = self._base_url + request.url.removeprefix(_API)
        options["timeout"] = options.get("timeout") or self._timeout_s
        return super().send(request, **options)


class XClient:
    """A tweepy client that waits, retries and explains itself.

    Args:
        bearer_token: the app-only token.
        base_url: address of a loopback server that speaks the same API; None is X itself.
        timeout_s: seconds that one request may take to connect, and between two pieces of its reply.
        pace_s: least seconds between two requests; X allows one a second on full-archive search.
        max_wait_s: seconds after which one request is given up, its waits included; X's rate windows are
            15 minutes long.
        backoff_s: first wait after a failure that names no time; doubles up to a minute.

    Raises:
        XApiError: there is no token, or it cannot be one.
        ValueError: `base_url` is not a loopback address.
    """

    def __init__(
        self,
        bearer_token: str | None,
        base_url: str | None = None,
        timeout_s: float = 30.0,
        pace_s: float = 1.05,
        max_wait_s: float = 3600.0,
        backoff_s: float = 2.0,
    ) -> None:
        token = (bearer_token or "").strip()
        if not token:
            raise XApiError(f"no X bearer token; set {SETTING} or choose source=archive")
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise XApiError(f"{SETTING} holds white space or characters that no token has; copy it again")
        if len(token) >= 8:  # a shorter one is a sample's, and would redact ordinary words
            REDACT.secrets.add(token)
        self.source = "sample" if base_url else "x"
        self._pace_s = pace_s
        self._next_at = 0.0
        self._max_wait_s = max_wait_s
        self._backoff = tenacity.wait_exponential(multiplier=backoff_s, max=60.0)
        self._client = tweepy.Client(token, return_type=dict, wait_on_rate_limit=False)
        session = self._client.session
        session.mount("https://", _Adapter(timeout_s, _loopback(base_url) if base_url else None))
        session.max_redirects = 0  # X's API has none, and a token must not follow one
        if base_url:
            session.trust_env = False  # a proxy of the environment knows nothing of this machine's loopback

    def search(self, query: str, window: Window, token: str | None, page_size: int) -> dict[str, Any]:
        """Return one page of full-archive search (`GET /2/tweets/search/all`), newest posts first.

        Args:
            query: at most 1,024 characters.
            window: start and end, end excluded.
            token: token of the page; None for the first.
            page_size: 10 to 500.

        Raises:
            XApiError: X refused, or did not answer within the bounds.
        """
        return self._call(
            lambda: self._client.search_all_tweets(
                query,
                start_time=window[0],
                end_time=window[1],
                next_token=token,
                max_results=page_size,
                **FIELDS,
            ),
            needs="meta",
        )

    def counts(self, query: str, window: Window, token: str | None) -> dict[str, Any]:
        """Return one page of daily counts (`GET /2/tweets/counts/all`).

        Raises:
            XApiError: as `search`.
        """
        return self._call(
            lambda: self._client.get_all_tweets_count(
                query, start_time=window[0], end_time=window[1], granularity="day", next_token=token
            ),
            needs="meta",
        )

    def tweets(self, ids: Sequence[str]) -> dict[str, Any]:
        """Return up to 100 posts by id (`GET /2/tweets`); what is gone stands in the reply's `errors`.

        Raises:
            XApiError: as `search`.
        """
        return self._call(lambda: self._client.get_tweets(list(ids), **FIELDS))

    def _call(self, request: Callable[[], Any], needs: str | None = None) -> dict[str, Any]:
        """Make one request, pacing, waiting and trying again within the bounds."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Passing),
            wait=self._wait,
            stop=tenacity.stop_before_delay(self._max_wait_s),
            before_sleep=_say_wait,
        )
        try:
            return retrying(self._attempt, request, needs)
        except tenacity.RetryError as error:
            attempts, last = error.last_attempt.attempt_number, error.last_attempt.exception()
        # Outside the handler: what tweepy raises can quote X's words, token included, in its chain.
        raise XApiError(
            f"gave up after {attempts} attempts within {self._max_wait_s:.0f} s; the last: {last}. Pages "
            "collected so far are kept; run again later to go on from there"
        )

    def _attempt(self, request: Callable[[], Any], needs: str | None) -> dict[str, Any]:
        now = time.monotonic()
        if now < self._next_at:
            time.sleep(self._next_at - now)
        self._next_at = time.monotonic() + self._pace_s
        failure: Exception
        try:
            body = request()
            if not isinstance(body, dict) or (needs and not isinstance(body.get(needs), dict)):
                raise Passing(f"the reply is not an object with {needs or 'data'}")
            return body
        except (tweepy.HTTPException, requests.RequestException, Passing) as error:
            failure = _explain(error)
        except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
            # tweepy takes error bodies and rate-limit headers to be well formed.
            failure = Passing(f"the reply is malformed ({type(error).__name__})")
        raise failure

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        patience = self._backoff(state)
        if isinstance(error, Passing) and error.reset is not None:
            return max(error.reset - time.time() + 1.0, patience)
        return patience


def _loopback(base_url: str) -> str:
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if parts.scheme not in ("http", "https") or not local:
        raise ValueError(
            f"X base address {base_url!r} is not a loopback address such as http://127.0.0.1:8080; the "
            "token goes to X or to this machine only: leave it empty to use X"
        )
    return base_url.rstrip("/")


def _say_wait(state: tenacity.RetryCallState) -> None:
    seconds = state.next_action.sleep if state.next_action else 0.0
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    error = state.outcome.exception() if state.outcome else None
    log.info("%s; waiting %.0f s, until %s UTC", error, seconds, until.strftime("%H:%M:%S"))


def _explain(error: Exception) -> Exception:
    """Turn what tweepy or requests raised into a `Passing` or an `XApiError`, without any token in it."""
    words = REDACT.redact(" ".join(str(error).split()))[:400]
    if isinstance(error, Passing):
        return error
    if isinstance(error, tweepy.TooManyRequests):
        return Passing("X's rate limit is reached (429)", error.reset_time)
    if isinstance(error, tweepy.TwitterServerError):
        return Passing(f"X is failing ({words})")
    if isinstance(error, tweepy.Unauthorized):
        return XApiError(f"X does not accept the token ({words}); set {SETTING} to a valid bearer token")
    if isinstance(error, tweepy.Forbidden):
        return XApiError(
            f"X refused ({words}); the token in {SETTING} must belong to a project with full-archive search"
        )
    if isinstance(error, tweepy.HTTPException):
        if error.response.status_code == 402:
            return XApiError(
                f"X asks for payment ({words}): the account of the token in {SETTING} has no credit left; "
                "top it up, then run again: pages collected so far are kept"
            )
        if error.response.status_code == 408:
            return Passing(f"X timed out ({words})")
        return XApiError(f"X refused the request ({words}); check the query and the month")
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return Passing(f"no answer from X ({type(error).__name__})")
    if isinstance(error, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
        return Passing(f"X's reply broke off ({type(error).__name__})")
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return Passing("X's reply is not JSON")
    return XApiError(f"the request to X failed ({type(error).__name__}: {words})")


# ---------------------------------------------------------------- what a collection does


def build_queries(tags: Sequence[str], limit: int = 1024) -> list[str]:
    """Return the queries that find posts with pictures and any of the hashtags, retweets left out.

    One OR query avoids duplicates at the source and costs less than one a hashtag. It is split only
    where it outgrows `limit`. Hashtags are sorted, so their order in the list changes no query.

    Args:
        tags: bare hashtags, lower case.
        limit: most characters of a query: 1,024 on full-archive search, 512 on recent search.

    Raises:
        ValueError: no hashtag, one that is not bare, or one too long for a query of its own.
    """
    if not tags:
        raise ValueError("no hashtag to search for; add at least one to hashtags.csv")
    queries: list[str] = []
    group: list[str] = []
    for tag in sorted(set(tags)):
        hashtags.check(tag)
        if len(_query([tag])) > limit:
            raise ValueError(f"hashtag {tag[:40]!r} does not fit a query of {limit} characters; remove it")
        if group and len(_query([*group, tag])) > limit:
            queries.append(_query(group))
            group = []
        group.append(tag)
    return [*queries, _query(group)]


def _query(tags: Sequence[str]) -> str:
    return f"({' OR '.join('#' + tag for tag in tags)}) {RULES}"


def search_month(
    client: XClient,
    store: PageStore,
    month: str,
    queries: Sequence[str],
    page_size: int = 500,
    on_page: Callable[[Page], None] | None = None,
    now: datetime | None = None,
) -> None:
    """Collect a month: every page is on disk, flushed, with its token before the next is asked for.

    A run that was killed goes on at the exact page; a complete month buys nothing. A month that is still
    running is collected up to now, and completed by a later run. An empty page with a token is no end.

    Args:
        client: where to ask.
        store: where pages go; of the same month.
        month: such as "2021-01".
        queries: as `build_queries` gives them.
        page_size: posts a page, 10 to 500.
        on_page: called with each page once it is stored.
        now: the time of day, for tests.

    Raises:
        ValueError: the store is of another month, the page size is out of range, or the month has not
            begun.
        XApiError: X refused, did not answer within the bounds, or gave the same token twice.
    """
    if month != store.month:
        raise ValueError(f"the page store is of {store.month}, not of {month}; open one for {month}")
    if not 10 <= page_size <= 500:
        raise ValueError(f"page size {page_size} is out of range; X allows 10 to 500 posts a page")
    until = _end_of(month, now)
    for query in queries:
        while not (at := store.checkpoint(query, until)).done:
            body = client.search(query, at.window, at.token, page_size)
            page = store.append(
                query, body, source=client.source, index=at.index, token=at.token, window=at.window
            )
            if on_page:
                on_page(page)
            if page.next_token in store.tokens(page):
                raise XApiError(
                    f"{month}: X gave a page token that was used before, so paging would never end; page "
                    f"{page.index} of {query[:80]!r} is kept; report this to X or collect a shorter list"
                )


def count_month(
    client: XClient, queries: Sequence[str], month: str, now: datetime | None = None
) -> pl.DataFrame:
    """Return what X counts per query and day of a month: columns query, day, counted; one row each.

    Counts are not filtered for deleted posts, and search is. A month is one request a query.

    Raises:
        ValueError: the month has not begun.
        XApiError: X refused, or did not answer within the bounds.
    """
    window = (month_window(month)[0], _end_of(month, now))
    found: dict[tuple[str, str], int] = {}
    for query in queries:
        token: str | None = None
        used: set[str] = set()
        while True:
            body = client.counts(query, window, token)
            for bucket in map(fields.mapping, fields.items(body.get("data"))):
                start = fields.moment(bucket.get("start"))
                number = fields.count(fields.first(bucket, "tweet_count", "post_count"))
                if start is None or number is None:
                    raise XApiError(f"{month}: X's counts hold a day without start or count; run again later")
                key = (query, start.date().isoformat())
                found[key] = found.get(key, 0) + number
            token = fields.next_token(body)
            if token is None:
                break
            if token in used:
                raise XApiError(f"{month}: X gave the same counts token twice; run again later")
            used.add(token)
    rows = [(query, day, counted) for (query, day), counted in found.items()]
    schema = {"query": pl.String, "day": pl.String, "counted": pl.Int64}
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col("day").str.to_date())
    return frame.sort("query", "day")


def _end_of(month: str, now: datetime | None) -> datetime:
    """Return where a collection of a month ends: at its end, or now where it is still running."""
    start, end = month_window(month)
    latest = (now or datetime.now(UTC)).replace(microsecond=0) - _BEHIND_NOW
    if latest <= start:
        raise ValueError(f"{month} has not begun; choose a month up to {fields.month_of(latest)}")
    return min(end, latest)


def lookup(client: XClient, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield X's replies for posts by id, 100 ids a request; posts that are gone stand in `errors`.

    Raises:
        XApiError: X refused, or did not answer within the bounds.
    """
    for start in range(0, len(ids), LOOKUP_SIZE):
        yield client.tweets(ids[start : start + LOOKUP_SIZE])
