"""One picture over the network: connections, retries, classes of outcome.

What belongs here: everything up to a body and what is known of it. What does not: which addresses may be
asked (`addresses`), which pictures are wanted, in which order they are packed, the ledger (`download`).

Every answer is hostile too: no redirects, a cap on bytes whatever the headers say, a deadline for each
request, and bodies above `SPOOL` wait on disk, in files without a name, so that memory stays bounded.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import IO, Any
from urllib.parse import urlsplit

import aiohttp
import tenacity
from yarl import URL

from twigma_core.images.addresses import (
    LONGEST,
    PublicResolver,
    RefusedAddress,
    check_address,
    size_ladder,
)
from twigma_core.images.decode import BadPicture, PictureInfo, describe_picture
from twigma_core.images.progress import in_words

log = logging.getLogger(__name__)

GONE = frozenset({401, 403, 404, 410, 451})
"""HTTP statuses that another try would not change."""
SPOOL = 2**20
"""Bytes of a body kept in memory; a larger one waits in a temporary file that has no name."""


@dataclass(frozen=True)
class FetchPolicy:
    """What may be fetched, how hard, and how often.

    Attributes:
        hosts: the only hosts that are asked, over https.
        rewrite: for a sample or test server: host of a picture's address -> base address that is asked in
            its place, such as {"pbs.twimg.com": "http://127.0.0.1:8000"}. Only these bases may be plain
            http and private.
        sizes: X's names for sizes, tried in this order until one is accepted.
        max_bytes: largest body accepted; streaming stops there whatever Content-Length says.
        attempts: requests for one address while errors are passing ones.
        connections: requests under way at once.
        per_host: of these, to one host.
        connect_s: seconds to connect.
        read_s: seconds between two pieces of a body.
        deadline_s: seconds for one request in all, so that a slow drip ends.
        backoff_s: first wait after a passing error; it doubles, with jitter.
        longest_wait_s: longest wait, also where the server asks for more by Retry-After.
        give_up_after: pictures in a row that fail for passing reasons until no more are asked for.
        held_bytes: bodies held in memory at once before new requests wait.
        user_agent: what we call ourselves.
    """

    hosts: tuple[str, ...] = ("pbs.twimg.com", "video.twimg.com")
    rewrite: Mapping[str, str] = field(default_factory=dict)
    sizes: tuple[str, ...] = ("orig", "large", "medium")
    max_bytes: int = 20 * 2**20
    attempts: int = 4
    connections: int = 32
    per_host: int = 32
    connect_s: float = 10.0
    read_s: float = 20.0
    deadline_s: float = 120.0
    backoff_s: float = 0.5
    longest_wait_s: float = 60.0
    give_up_after: int = 200
    held_bytes: int = 64 * 2**20
    user_agent: str = "twigma/0.1 (research; +https://arxiv.org/abs/2306.08310)"


@dataclass(frozen=True)
class Outcome:
    """What became of one picture.

    Attributes:
        status: a value of `tables.IMAGE_STATUSES`.
        reason: why it is not ok.
        url: address asked last, before any rewriting.
        http_status: last HTTP status, if an answer came.
        attempts: requests made.
        info: hashes and size, if ok.
        body: the file, if ok.
    """

    status: str
    reason: str | None = None
    url: str | None = None
    http_status: int | None = None
    attempts: int = 0
    info: PictureInfo | None = None
    body: IO[bytes] | None = None

    @property
    def in_memory(self) -> int:
        """Bytes of memory that the body takes at most."""
        return min(self.info.bytes, SPOOL) if self.info else 0

    def take_body(self) -> bytes:
        """Return the file and let go of it."""
        if self.body is None:
            return b""
        with self.body as body:
            body.seek(0)
            return body.read()


class _Passing(Exception):
    """An error that may be gone at the next try."""

    def __init__(self, reason: str, http_status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.http_status, self.retry_after = reason, http_status, retry_after


class _Final(Exception):
    """An answer that stands: another try at this address would not change it."""

    def __init__(self, status: str, reason: str, http_status: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.http_status = status, reason, http_status


class Fetcher:
    """Fetches pictures over kept connections; an async context manager.

    Args:
        policy: what may be fetched and how.
        say: told of waits that a host asks for.
    """

    def __init__(self, policy: FetchPolicy, say: Callable[[str], object] = log.info) -> None:
        self._policy, self._say = policy, say
        self._slots = asyncio.Semaphore(policy.connections)
        self._hosts: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(policy.per_host))
        self._not_before: dict[str, float] = defaultdict(float)
        self._failed_in_a_row = 0
        self._decoders = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="decode")
        self._session = _session(policy)

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        self._decoders.shutdown(wait=True, cancel_futures=True)

    async def fetch(self, url: str | None) -> Outcome:
        """Fetch one picture by its size ladder; the outcome says what became of it. Never raises."""
        try:
            checked = check_address(url, self._policy.hosts)
        except RefusedAddress as error:
            return Outcome("refused", str(error), url and url[:LONGEST])
        outcome = Outcome("failed", "no size to ask for", checked)
        attempts = 0
        for rung in size_ladder(checked, self._policy.sizes):
            if self._failed_in_a_row >= self._policy.give_up_after:
                reason = f"not asked for: {self._failed_in_a_row} pictures in a row had failed"
                return Outcome("failed", f"{reason}; a later run tries again", checked)
            outcome = await self._fetch_rung(rung, attempts)
            attempts = outcome.attempts
            # A smaller size helps where this one is missing, too large or damaged; a server that is
            # down, a redirect or a picture that was taken away is the same at every size.
            if outcome.status == "ok" or outcome.http_status not in (200, 404):
                break
        self._failed_in_a_row = self._failed_in_a_row + 1 if outcome.status == "failed" else 0
        return outcome

    async def _fetch_rung(self, url: str, attempts: int) -> Outcome:
        policy = self._policy
        body = None
        try:
            async for attempt in tenacity.AsyncRetrying(
                retry=tenacity.retry_if_exception_type(_Passing),
                stop=tenacity.stop_after_attempt(policy.attempts),
                wait=self._wait,
                reraise=True,
            ):
                with attempt:
                    attempts += 1
                    status, body = await self._get(url)
            if body is None:
                raise AssertionError("a request that raised nothing has a body")
            loop = asyncio.get_running_loop()
            info = await loop.run_in_executor(self._decoders, _describe, body)
            return Outcome("ok", None, url, status, attempts, info, body)
        except _Final as error:
            return Outcome(error.status, error.reason, url, error.http_status, attempts)
        except _Passing as error:
            reason = f"{error.reason}; gave up after {policy.attempts} requests, a later run tries again"
            return Outcome("failed", reason, url, error.http_status, attempts)
        except BadPicture as error:
            return Outcome("undecodable", error.reason, url, status, attempts)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "retry_after", None)
        if asked is not None:
            return min(asked, self._policy.longest_wait_s)
        backoff = tenacity.wait_exponential_jitter(
            initial=self._policy.backoff_s, max=self._policy.longest_wait_s, jitter=self._policy.backoff_s
        )
        return backoff(state)

    async def _get(self, url: str) -> tuple[int, IO[bytes]]:
        """Return (HTTP status, body) of one request, or raise `_Passing` or `_Final`."""
        host = urlsplit(url).hostname or ""
        try:
            async with (
                self._turn(host),
                asyncio.timeout(self._policy.deadline_s),
                self._session.get(self._rewritten(url), allow_redirects=False) as response,
            ):
                self._judge(response, host)
                return response.status, await self._read(response)
        except RefusedAddress as error:
            raise _Final("refused", str(error)) from error
        except TimeoutError as error:
            raise _Passing(f"not finished within {self._policy.deadline_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _Passing(_in_words(error)) from error

    @asynccontextmanager
    async def _turn(self, host: str) -> AsyncIterator[None]:
        """Wait for a free connection, and for as long as the host has asked all of us to wait."""
        async with self._hosts[host], self._slots:
            while (left := self._not_before[host] - time.monotonic()) > 0:
                await asyncio.sleep(left)
            yield

    def _judge(self, response: aiohttp.ClientResponse, host: str) -> None:
        code = response.status
        if code == 200:
            return
        if code in GONE:
            raise _Final("unavailable", f"HTTP {code}", code)
        if 300 <= code < 400:
            raise _Final("refused", f"HTTP {code}: redirects are not followed", code)
        if code in (408, 425, 429) or code >= 500:
            asked = _retry_after(response)
            if asked:
                self._hold_back(host, min(asked, self._policy.longest_wait_s), code)
            raise _Passing(f"HTTP {code}", code, asked)
        raise _Final("unavailable", f"HTTP {code}", code)

    def _hold_back(self, host: str, seconds: float, code: int) -> None:
        now = time.monotonic()
        if now + seconds > self._not_before[host] + 1:  # those under way say the same
            self._say(f"{host} asks to wait (HTTP {code}); pictures go on in {in_words(seconds)}")
        self._not_before[host] = max(self._not_before[host], now + seconds)

    async def _read(self, response: aiohttp.ClientResponse) -> IO[bytes]:
        cap = self._policy.max_bytes
        if (response.content_length or 0) > cap:
            raise _Final("refused", f"larger than {cap:,} bytes", response.status)
        body = SpooledTemporaryFile(SPOOL)  # noqa: SIM115 - whoever takes the body closes it
        try:
            async for piece in response.content.iter_any():
                body.write(piece)
                if body.tell() > cap:
                    raise _Final("refused", f"larger than {cap:,} bytes", response.status)
        except BaseException:
            body.close()
            raise
        return body

    def _rewritten(self, url: str) -> URL:
        parts = urlsplit(url)
        base = self._policy.rewrite.get(parts.hostname or "")
        if base is not None:
            url = f"{base.rstrip('/')}{parts.path}" + (f"?{parts.query}" if parts.query else "")
        return URL(url, encoded=True)


def _describe(body: IO[bytes]) -> PictureInfo:
    body.seek(0)
    return describe_picture(body.read())


def _in_words(error: Exception) -> str:
    """Return the cause of a failed request.

    In words of our own: aiohttp's messages hold whole answers, and the address with any login in it.
    """
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"{error.host} does not resolve"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}: {error.strerror or type(error.os_error).__name__}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the body broke off, or is not as the headers say"
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionError):
        return "the server closed the connection"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is not HTTP"
    return type(error).__name__


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdecimal() and value.isascii() else None


def _session(policy: FetchPolicy) -> aiohttp.ClientSession:
    bases = [urlsplit(base) for base in policy.rewrite.values()]
    named = {(base.hostname or "", base.port or {"https": 443}.get(base.scheme, 80)) for base in bases}
    connector = aiohttp.TCPConnector(
        limit=policy.connections, resolver=PublicResolver(named), use_dns_cache=False
    )
    options: dict[str, Any] = {
        "timeout": aiohttp.ClientTimeout(sock_connect=policy.connect_s, sock_read=policy.read_s),
        # A Content-Encoding that we did not ask for could be a bomb of its own: bodies are taken raw.
        "headers": {"User-Agent": policy.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"},
        "auto_decompress": False,
        "cookie_jar": aiohttp.DummyCookieJar(),
        # The environment's proxies are not used: the check of the resolved address would see the proxy's.
        "trust_env": False,
    }
    return aiohttp.ClientSession(connector=connector, **options)
