"""Pictures made for the tests, and a real loopback server that serves them, well and badly."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image


def encode(seed: int, format: str = "JPEG", size: tuple[int, int] = (48, 32), **options: Any) -> bytes:
    """Return a picture of smooth noise as a file."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture
def make_picture() -> Callable[..., bytes]:
    return encode


@dataclass
class Site:
    """A loopback server: `pages` maps a path to (status, headers, body) or to a function of the handler."""

    base: str
    pages: dict[str, Any] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    connections: int = 0

    def rewrite(self) -> dict[str, str]:
        return {"pbs.twimg.com": self.base}


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            here.connections += 1

        def do_GET(self) -> None:
            here.asked[self.path] += 1
            page = here.pages.get(self.path, here.pages.get(self.path.split("?")[0]))
            if page is None:
                page = (404, {}, b"")
            if callable(page):
                page(self)
                return
            status, headers, body = page
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 256  # the default of 5 resets connections that come at once
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    here = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield here
    server.shutdown()
    server.server_close()


@pytest.fixture
def drip() -> Callable[[BaseHTTPRequestHandler], None]:
    """Return a page that sends one byte now and then, for ever."""

    def page(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "40000")
        handler.end_headers()
        try:
            for _ in range(200):
                handler.wfile.write(b"\xff")
                time.sleep(0.05)
        except OSError:
            pass

    return page
