"""A client of X's API v2: search, counts and lookup, through tweepy with its faults guarded.

tweepy builds the requests; this module adds what it lacks: a time limit on each request, pacing, waits
that are bounded and announced (for 429 with or without a usable reset time, for 5xx and for broken
connections), errors that name the cause and the setting, and a log that never holds the token. What a
collection asks for belongs to `search`, what replies mean to `parse`.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
import tenacity
import tweepy
from requests.adapters import HTTPAdapter

from twigma_core.collect import fields
from twigma_core.collect.pacing import Pacer, Say, clock_drift, until, until_reset
from twigma_core.collect.pages import Window
from twigma_core.collect.redact import REDACT

SETTING = "X_BEARER_TOKEN"
FIELDS: dict[str, list[str]] = {
    "expansions": ["author_id", "attachments.media_keys"],
    "tweet_fields": [
        *("attachments", "author_id", "created_at", "edit_history_tweet_ids", "entities", "lang"),
        *("note_tweet", "possibly_sensitive", "public_metrics", "referenced_tweets", "withheld"),
    ],
    "media_fields": [
        *("media_key", "type", "url", "width", "height", "alt_text", "public_metrics", "variants"),
        "preview_image_url",
    ],
    "user_fields": ["created_at", "public_metrics", "protected", "verified", "withheld"],
}
LOOKUP_SIZE = 100
PACE_S = 1.05
"""Least seconds between two requests: X allows one a second on full-archive search."""
REQUESTS_A_WINDOW = 300
"""Requests that X allows in 15 minutes to search and to counts, each."""
LOOKUPS_A_WINDOW = 3500
ACCOUNTS_A_WINDOW = 300
JOBS_A_WINDOW = 150
KEPT = "Pages collected so far are kept"
_UNUSABLE = 5
_API = "https://api.twitter.com"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tier:
    """One of X's two searches, with its limits.

    Attributes:
        name: as the setting TWIGMA_X_SEARCH names it.
        query_length: most characters of a query.
        page_size: most posts a page.
        reach: how far back it finds posts; None for the whole archive.
    """

    name: str
    query_length: int
    page_size: int
    reach: timedelta | None = None


ALL = Tier("all", 1024, 500)
RECENT = Tier("recent", 512, 100, timedelta(days=7))
TIERS = {tier.name: tier for tier in (ALL, RECENT)}


class XApiError(RuntimeError):
    """X did not give what was asked for; the message says why and what to do. Stored pages are safe."""


class Stopped(XApiError):
    """Money ends a collection for now: the budget, X's monthly cap, or an account without credit."""


class TokenRefused(XApiError):
    """X does not take a page token any more."""


class Forbidden(XApiError):
    """X does not let this token have what was asked for (403)."""


class Passing(Exception):
    """A failure worth another try.

    Attributes:
        reset: seconds until the limit resets, as X says; None where it does not.
        answered: X gave a page, and may have billed it, but it cannot be used.
    """

    def __init__(self, message: str, reset: float | None = None, answered: bool = False) -> None:
        super().__init__(message)
        self.reset, self.answered = reset, answered


@dataclass(frozen=True)
class Reply:
    """What X answered: the object, and its bytes as they came."""

    body: dict[str, Any]
    content: bytes


class _Adapter(HTTPAdapter):
    """Gives each request a time limit and, where one is named, sends it to a loopback server instead.

    Attributes:
        last: the answer to the latest request; None while there is none.
    """

    def __init__(self, timeout_s: float, base_url: str | None) -> None:
        self._timeout_s = timeout_s
        self._base_url = base_url
        self.last: requests.Response | None = None
        super().__init__()

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        self.last = None
        if self._base_url and request.url:
            request.url = self._base_url + request.url.removeprefix(_API)
        options["timeout"] = options.get("timeout") or self._timeout_s
        self.last = super().send(request, **options)
        return self.last


class XClient:
    """A tweepy client that waits, retries and explains itself.

    Args:
        bearer_token: the app-only token.
        base_url: address of a loopback server that speaks the same API; None is X itself.
        tier: which of X's two searches to use.
        source: what pages are labelled with: "x", or "sample" for the sample world's server.
        say: told of waits, with the time when they end.
        timeout_s: seconds that one request may take to connect, and between two pieces of its reply.
        pace_s: least seconds between two requests; X allows one a second on full-archive search. 0 also
            switches off the count of requests in 15 minutes.
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
        *,
        tier: Tier = ALL,
        source: str = "x",
        say: Say = log.info,
        timeout_s: float = 30.0,
        pace_s: float = PACE_S,
        max_wait_s: float = 3600.0,
        backoff_s: float = 2.0,
    ) -> None:
        token = (bearer_token or "").strip()
        if not token:
            raise XApiError(f"no X bearer token; set {SETTING} or choose source=archive")
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise XApiError(f"{SETTING} holds white space or characters that no token has; copy it again")
        REDACT.add(token)
        self.tier, self.source, self.pace_s = tier, source, pace_s
        self._say = say
        self._max_wait_s = max_wait_s
        self._backoff = tenacity.wait_exponential(multiplier=backoff_s, max=60.0)
        limits = {"search": REQUESTS_A_WINDOW, "counts": REQUESTS_A_WINDOW}
        limits |= {"lookup": LOOKUPS_A_WINDOW, "users": ACCOUNTS_A_WINDOW, "compliance": JOBS_A_WINDOW}
        self._pacers = {name: Pacer(pace_s, limit if pace_s else None) for name, limit in limits.items()}
        # The reply itself: its bytes are kept as they came, and its headers tell what remains.
        self._client = tweepy.Client(token, return_type=requests.Response, wait_on_rate_limit=False)
        self.base_url, self.timeout_s = base_url, timeout_s
        self._adapter = _Adapter(timeout_s, loopback(base_url) if base_url else None)
        session = self._client.session
        session.mount("https://", self._adapter)
        session.max_redirects = 0  # X's API has none, and a token must not follow one
        if base_url:
            session.trust_env = False  # a proxy of the environment knows nothing of this machine's loopback

    def search(self, query: str, window: Window, token: str | None, page_size: int) -> Reply:
        """Return one page of search (`GET /2/tweets/search/all` or `/recent`), newest posts first.

        Args:
            query: at most as long as the tier allows.
            window: start and end, end excluded.
            token: token of the page; None for the first.
            page_size: 10 to 500, or 100 on recent search.

        Raises:
            TokenRefused: X does not take the token any more.
            Stopped: the account's cap or credit is used up.
            XApiError: X refused, or did not answer within the bounds.
        """
        self._fits(query)
        ask = self._client.search_all_tweets if self.tier.reach is None else self._client.search_recent_tweets
        return self._call(
            "search",
            lambda: ask(
                query,
                start_time=window[0],
                end_time=window[1],
                next_token=token,
                max_results=page_size,
                **FIELDS,
            ),
            token=token,
        )

    def counts(self, query: str, window: Window, token: str | None) -> Reply:
        """Return one page of daily counts (`GET /2/tweets/counts/all` or `/recent`).

        Raises:
            TokenRefused, Stopped, XApiError: as `search`.
        """
        self._fits(query)
        span = {"start_time": window[0], "end_time": window[1], "granularity": "day"}
        if self.tier.reach is None:
            return self._call(
                "counts",
                lambda: self._client.get_all_tweets_count(query, next_token=token, **span),
                token=token,
            )
        return self._call("counts", lambda: self._client.get_recent_tweets_count(query, **span))

    def tweets(self, ids: Sequence[str]) -> dict[str, Any]:
        """Return up to 100 posts by id (`GET /2/tweets`); what is gone stands in the reply's `errors`.

        Raises:
            Stopped, XApiError: as `search`.
        """
        return self._call("lookup", lambda: self._client.get_tweets(list(ids), **FIELDS), meta=False).body

    def users(self, ids: Sequence[str]) -> dict[str, Any]:
        """Return up to 100 accounts by id (`GET /2/users`); what is gone stands in the reply's `errors`.

        Raises:
            Stopped, XApiError: as `search`.
        """
        names = FIELDS["user_fields"]
        return self._call(
            "users", lambda: self._client.get_users(ids=list(ids), user_fields=names), meta=False
        ).body

    def create_job(self, kind: str, name: str) -> dict[str, Any]:
        """Begin a compliance job (`POST /2/compliance/jobs`) for "tweets" or "users"; return it.

        Raises:
            Stopped, XApiError: as `search`; a token may not be allowed to have one.
        """
        return self._of_job(lambda: self._client.create_compliance_job(kind, name=name))

    def job(self, job_id: str) -> dict[str, Any]:
        """Return how a compliance job stands (`GET /2/compliance/jobs/:id`).

        Raises:
            Stopped, XApiError: as `search`.
        """
        return self._of_job(lambda: self._client.get_compliance_job(job_id))

    def _of_job(self, request: Callable[[], Any]) -> dict[str, Any]:
        body = self._call("compliance", request, meta=False).body
        job = fields.mapping(body.get("data"))
        if "id" not in job:
            raise XApiError("X's reply holds no compliance job; run again later")
        return job

    def _fits(self, query: str) -> None:
        if len(query) > self.tier.query_length:
            raise XApiError(
                f"a query of {len(query):,} characters is longer than the {self.tier.query_length:,} of "
                f"{self.tier.name} search; it was begun on full-archive search: set TWIGMA_X_SEARCH=all"
            )

    def _call(
        self, endpoint: str, request: Callable[[], Any], meta: bool = True, token: str | None = None
    ) -> Reply:
        """Make one request, pacing, waiting and trying again within the bounds."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(Passing),
            wait=self._wait,
            stop=tenacity.stop_any(_InVain(), tenacity.stop_before_delay(self._max_wait_s)),
            before_sleep=self._say_wait,
        )
        try:
            return retrying(self._attempt, endpoint, request, meta, token)
        except tenacity.RetryError as error:
            attempts, last = error.last_attempt.attempt_number, error.last_attempt.exception()
        # Outside the handler: what tweepy raises can quote X's words, token included, in its chain.
        raise XApiError(
            f"gave up after {attempts} attempts within {self._max_wait_s:.0f} s; the last: {last}. {KEPT}; "
            "run again later to go on from there"
        )

    def _attempt(self, endpoint: str, request: Callable[[], Any], meta: bool, token: str | None) -> Reply:
        pacer = self._pacers[endpoint]
        pacer.wait(self._say, self._max_wait_s)
        self._adapter.last = None
        answer: requests.Response | None = None
        failure: Exception = Passing("X gave no answer")
        try:
            request()
            answer = self._adapter.last
        except requests.RequestException as error:
            failure = _broken(error)
        except (tweepy.HTTPException, ValueError, AttributeError, TypeError, KeyError, RecursionError):
            # tweepy takes error bodies and rate-limit headers to be well formed: the answer itself tells.
            answer = self._adapter.last
        if answer is None:
            raise failure
        pacer.told(answer.headers)
        if answer.status_code != 200:
            raise explain(answer, token, self.tier)
        if drift := clock_drift(answer.headers):
            raise XApiError(f"{drift}. {KEPT}")
        body = _json(answer)
        if not isinstance(body, dict) or (meta and not isinstance(body.get("meta"), dict)):
            raise Passing(f"the reply is not an object with {'meta' if meta else 'data'}", answered=True)
        return Reply(body, answer.content)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        patience = self._backoff(state)
        if isinstance(error, Passing) and error.reset is not None:
            return max(error.reset + 1.0, patience)
        return patience

    def _say_wait(self, state: tenacity.RetryCallState) -> None:
        seconds = state.next_action.sleep if state.next_action else 0.0
        self._say(f"{state.outcome.exception() if state.outcome else ''}; {until(seconds)}")


class _InVain(tenacity.stop.stop_base):
    """Stops after some answers that cannot be read: each may have been billed all the same."""

    def __init__(self) -> None:
        self._answers = 0

    def __call__(self, retry_state: tenacity.RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        self._answers += isinstance(error, Passing) and error.answered
        return self._answers >= _UNUSABLE


def loopback(base_url: str) -> str:
    """Return an address of this machine without a slash at its end.

    Raises:
        ValueError: it is another's.
    """
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


def _json(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except (ValueError, RecursionError):
        return None


def _broken(error: requests.RequestException) -> Exception:
    """Say what came in place of an answer, without any token in it."""
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return Passing(f"no answer from X ({type(error).__name__})")
    if isinstance(error, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
        return Passing(f"X's reply broke off ({type(error).__name__})")
    words = REDACT.redact(" ".join(str(error).split()))[:400]
    return XApiError(f"the request to X failed ({type(error).__name__}: {words})")


def explain(answer: requests.Response, token: str | None = None, tier: Tier = ALL) -> Exception:
    """Turn an answer that is not a page into a `Passing` or an `XApiError`, without any secret in it.

    A used-up monthly cap comes as a 429 like a rate limit, and is told from it by X's words alone.
    """
    problem = fields.mapping(_json(answer))
    told = [fields.text(problem.get(name)) or "" for name in ("title", "detail", "type")]
    first = fields.mapping(next(iter(fields.items(problem.get("errors"))), None))
    told.append(fields.text(first.get("message")) or "")
    status = answer.status_code
    words = REDACT.redact(" ".join(f"{status} {answer.reason} {' '.join(told[:2])} {told[3]}".split()))[:400]
    kinds = f"{told[0]} {told[2]}".lower()
    if any(kind in kinds for kind in ("usagecap", "usage-cap", "spendcap", "spend-cap")):
        return Stopped(
            f"the monthly cap of the account of the token in {SETTING} is used up ({words}). {KEPT}; run "
            "again when X's period is over or the cap is raised in X's developer console"
        )
    if status == 402 or "creditsdepleted" in kinds:
        return Stopped(
            f"X asks for payment ({words}): the account of the token in {SETTING} has no credit left. "
            f"{KEPT}; top it up, then run again"
        )
    if status == 429:
        return Passing("X's rate limit is reached (429)", until_reset(answer.headers))
    if status >= 500 or status == 408:
        return Passing(f"X is failing ({words})")
    if status == 401:
        return XApiError(f"X does not accept the token ({words}); set {SETTING} to a valid bearer token")
    if status == 403:
        access = "full-archive search, or set TWIGMA_X_SEARCH=recent" if tier.reach is None else "search"
        return Forbidden(
            f"X refused ({words}); the token in {SETTING} must belong to a project with {access}"
        )
    if status == 400 and token and "token" in " ".join(told):
        return TokenRefused(f"X does not take the page token any more ({words})")
    return XApiError(f"X refused the request ({words}); check the query and the month")
