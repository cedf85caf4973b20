"""One picture over the network: addresses that may be asked, connections, retries, classes of outcome.

What belongs here: everything up to a body in memory. What does not: which pictures are wanted, in which
order they are packed and what the ledger says (`download`).

An address comes from a post, so it is hostile: only https to hosts on a list, no redirects, and the
machine that answers must have a public address, checked on the very connection that is used.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpcore
import httpx
import tenacity

from twigma_core.images.decode import BadPicture, PictureInfo, describe_picture

GONE = frozenset({401, 403, 404, 410, 451})
"""HTTP statuses that another try would not change."""


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
        connections: pictures in flight at once.
        per_host: of these, on one host.
        connect_s: seconds to connect.
        read_s: seconds between two pieces of a body.
        deadline_s: seconds for one request in all, so that a slow drip ends.
        backoff_s: first wait after a passing error; it doubles, with jitter.
        longest_wait_s: longest wait, also where the server asks for more by Retry-After.
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
    held_bytes: int = 128 * 2**20
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
        data: the file, if ok.
    """

    status: str
    reason: str | None = None
    url: str | None = None
    http_status: int | None = None
    attempts: int = 0
    info: PictureInfo | None = None
    data: bytes = b""


class RefusedAddress(ValueError):
    """An address that the policy does not let us ask."""


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


def check_address(url: str | None, policy: FetchPolicy) -> str:
    """Return `url` if the policy lets us ask it.

    Raises:
        RefusedAddress: no address, malformed, not https, another host or port, or with a login in it.
    """
    if not url:
        raise RefusedAddress("no address")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RefusedAddress(f"malformed address: {error}") from error
    if any(ord(c) <= 32 or ord(c) == 127 for c in url) or "\\" in url:
        raise RefusedAddress("malformed address: control characters, spaces or backslashes in it")
    if parts.scheme != "https":
        raise RefusedAddress(f"address is not https but {parts.scheme or 'without a scheme'}")
    if parts.username or parts.password:
        raise RefusedAddress("address carries a login")
    if parts.hostname not in policy.hosts:
        raise RefusedAddress(f"host {parts.hostname!r} is not one of {', '.join(policy.hosts)}")
    if port not in (None, 443):
        raise RefusedAddress(f"port {port} is not 443")
    return url


def size_ladder(url: str, sizes: Iterable[str]) -> list[str]:
    """Return the addresses of one picture in the order to try: X's sizes, or the address as it is.

    X serves `https://pbs.twimg.com/media/<name>.<ext>` in other sizes as
    `https://pbs.twimg.com/media/<name>?format=<ext>&name=<size>`.
    """
    parts = urlsplit(url)
    path = PurePosixPath(parts.path)
    sizes = list(sizes)
    if (
        not sizes
        or parts.hostname != "pbs.twimg.com"
        or path.parent.as_posix() != "/media"
        or not path.suffix
    ):
        return [url]
    base = f"https://{parts.netloc}{path.with_suffix('')}"
    return [f"{base}?{urlencode({'format': path.suffix[1:], 'name': size})}" for size in sizes]


class Fetcher:
    """Fetches pictures over kept connections; an async context manager.

    Args:
        policy: what may be fetched and how.
    """

    def __init__(self, policy: FetchPolicy) -> None:
        self._policy = policy
        self._hosts: dict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(policy.per_host))
        # One small client a connection: httpcore's pool looks through all its connections at each
        # request, so a shared pool of 32 spends more time on itself than on the pictures. Last in, first
        # out keeps the fewest connections, and those warm.
        context = httpx.create_ssl_context(trust_env=False)
        self._clients = [_client(policy, context) for _ in range(policy.connections)]
        self._free: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        for client in self._clients:
            self._free.put_nowait(client)

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            await client.aclose()

    async def fetch(self, url: str | None) -> Outcome:
        """Fetch one picture by its size ladder; the outcome says what became of it. Never raises."""
        try:
            checked = check_address(url, self._policy)
        except RefusedAddress as error:
            return Outcome("refused", str(error), url)
        outcome = Outcome("failed", "no size to ask for", checked)
        attempts = 0
        async with self._hosts[urlsplit(checked).hostname or ""]:
            for rung in size_ladder(checked, self._policy.sizes):
                outcome = await self._fetch_rung(rung, attempts)
                attempts = outcome.attempts
                # A smaller size helps where this one is missing, too large or damaged; a server that is
                # down or a picture that was taken away is the same at every size.
                if outcome.status in ("ok", "failed") or outcome.http_status in GONE - {404}:
                    break
        return outcome

    async def _fetch_rung(self, url: str, attempts: int) -> Outcome:
        policy = self._policy
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
            loop = asyncio.get_running_loop()
            info = await loop.run_in_executor(None, describe_picture, body)
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

    async def _get(self, url: str) -> tuple[int, bytes]:
        """Return (HTTP status, body) of one request, or raise `_Passing` or `_Final`."""
        client = await self._free.get()
        try:
            async with asyncio.timeout(self._policy.deadline_s):
                async with client.stream("GET", self._rewritten(url)) as response:
                    self._judge(response)
                    return response.status_code, await self._read(response)
        except (RefusedAddress, httpx.InvalidURL) as error:
            raise _Final("refused", str(error)) from error
        except TimeoutError as error:
            raise _Passing(f"not finished within {self._policy.deadline_s:g} s") from error
        except httpx.HTTPError as error:
            raise _Passing(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        finally:
            self._free.put_nowait(client)

    def _judge(self, response: httpx.Response) -> None:
        code = response.status_code
        if code == 200:
            return
        if code in GONE:
            raise _Final("unavailable", f"HTTP {code}", code)
        if 300 <= code < 400:
            raise _Final("refused", f"HTTP {code}: redirects are not followed", code)
        if code in (408, 425, 429) or code >= 500:
            raise _Passing(f"HTTP {code}", code, _retry_after(response))
        raise _Final("unavailable", f"HTTP {code}", code)

    async def _read(self, response: httpx.Response) -> bytes:
        cap = self._policy.max_bytes
        declared = response.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > cap:
            raise _Final("refused", f"larger than {cap:,} bytes", response.status_code)
        body = bytearray()
        # Raw: a Content-Encoding that we did not ask for could be a bomb of its own.
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > cap:
                raise _Final("refused", f"larger than {cap:,} bytes", response.status_code)
        return bytes(body)

    def _rewritten(self, url: str) -> str:
        parts = urlsplit(url)
        base = self._policy.rewrite.get(parts.hostname or "")
        if base is None:
            return url
        return f"{base.rstrip('/')}{parts.path}" + (f"?{parts.query}" if parts.query else "")


def _retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None


def _client(policy: FetchPolicy, context: ssl.SSLContext) -> httpx.AsyncClient:
    # The environment's proxies are not used: the check of the resolved address would see the proxy's.
    return httpx.AsyncClient(
        transport=_CheckedTransport(policy, context),
        timeout=httpx.Timeout(policy.read_s, connect=policy.connect_s),
        headers={"User-Agent": policy.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"},
        follow_redirects=False,
        trust_env=False,
    )


class _CheckedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over a connection pool whose every new connection is checked."""

    def __init__(self, policy: FetchPolicy, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        bases = [urlsplit(base) for base in policy.rewrite.values()]
        named = {(base.hostname, base.port or {"https": 443}.get(base.scheme, 80)) for base in bases}
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=2,
            max_keepalive_connections=2,
            keepalive_expiry=30.0,
            network_backend=_CheckedBackend(named),
        )


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to public addresses only, and to those named.

    The name is resolved here, checked, and the connection goes to the address that was checked: a name
    that resolves differently the next moment gains nothing. TLS still verifies the name.
    """

    def __init__(self, named: set[tuple[str | None, int]]) -> None:
        self._named = named
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        target = host if (host, port) in self._named else await public_address(host, port)
        return await self._backend.connect_tcp(target, port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise RefusedAddress("unix sockets are not asked for pictures")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def public_address(host: str, port: int) -> str:
    """Return an address of `host`, all of which must be public.

    Raises:
        RefusedAddress: one of them is private, loopback, link-local, multicast or reserved.
        httpcore.ConnectError: the name does not resolve.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(f"{host} does not resolve: {error}") from error
    addresses = [str(info[4][0]) for info in found]
    for text in addresses:
        address = ipaddress.ip_address(text.split("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or address
        if not mapped.is_global or mapped.is_multicast:
            raise RefusedAddress(f"{host} resolves to {text}, which is not a public address")
    return addresses[0]
