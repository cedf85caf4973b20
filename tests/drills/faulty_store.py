"""A proxy before an object store that refuses, is slow, or breaks off in the middle of a write."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
BROKEN = b"<Error><Code>InternalError</Code><Message>We encountered an internal error</Message></Error>"


@dataclass
class FaultyStore:
    """The proxy's address and what it does to the next requests.

    Attributes:
        upstream: host and port of the store.
        fault: "" forwards; "403" and "500" answer so, the latter after half of what is sent; "reset" breaks
            the connection off there; "slow" waits before it forwards.
        times: requests that the fault meets before it is over; -1 is all.
        methods: those that it meets; empty is all.
        met: requests that it has met.
    """

    upstream: str
    port: int = 0
    fault: str = ""
    times: int = -1
    methods: tuple[str, ...] = ()
    met: int = 0
    _server: ThreadingHTTPServer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """Its address, for AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self.port}"

    def begin(self, fault: str, times: int = -1, methods: tuple[str, ...] = ()) -> None:
        """Let the next requests meet a fault; "refused" closes the port, "" ends it."""
        self.fault, self.times, self.methods, self.met = fault, times, methods, 0
        if fault == "refused":
            self.stop()
        elif self._server is None:
            self.start()

    def take(self, method: str) -> str:
        """Return the fault that a request meets."""
        with self._lock:
            if not self.fault or not self.times or (self.methods and method not in self.methods):
                return ""
            self.times -= 1
            self.met += 1
            return self.fault

    def start(self) -> None:
        """Listen, on the same port as before."""
        handler = type("Handler", (_Handler,), {"store": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Listen no longer, and break off the connections there are."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        """A connection that broke off is what is wanted."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: FaultyStore

    def log_message(self, *_: object) -> None:
        pass

    def parse_request(self) -> bool:
        understood = super().parse_request()
        if understood:
            vars(self)[f"do_{self.command}"] = self._answer
        return understood

    def _answer(self) -> None:
        if self.store.fault == "refused":  # a connection kept from before
            self.close_connection = True
            return
        fault = self.store.take(self.command)
        length = int(self.headers.get("Content-Length") or 0)
        if fault in ("500", "reset"):
            self.rfile.read(length // 2)
            self.close_connection = True
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            self._say(500, BROKEN)
            with suppress(OSError):  # what is still on its way would else reset the answer
                self.rfile.read(length - length // 2)
            return
        body = self.rfile.read(length)
        if fault == "403":
            self._say(403, DENIED)
            return
        if fault == "slow":
            time.sleep(0.5)
        upstream = http.client.HTTPConnection(self.store.upstream, timeout=60)
        upstream.request(self.command, self.path, body, dict(self.headers))
        reply = upstream.getresponse()
        self._say(reply.status, reply.read(), reply.getheaders())
        upstream.close()

    def _say(self, status: int, body: bytes, headers: list[tuple[str, str]] | None = None) -> None:
        self.send_response(status)
        given = [("Content-Type", "application/xml")] if headers is None else headers
        length = str(len(body))
        for name, value in given:
            if name.lower() == "content-length":
                length = value  # of a HEAD: of the body that a GET would have
            elif name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def before(url: str) -> Iterator[FaultyStore]:
    """Run the proxy before the store at `url` until the block ends."""
    proxy = FaultyStore(urlsplit(url).netloc)
    proxy.start()
    yield proxy
    proxy.stop()
