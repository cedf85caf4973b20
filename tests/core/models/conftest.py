"""Unseen drawings, as the platform meets them: 128 px, after a JPEG encoder; no network; a loopback hub."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from twigma_core.sample.drawing import Scene, draw, random_scene
from twigma_core.sample.training.corpus import as_jpeg


@dataclass(frozen=True)
class Drawings:
    scenes: list[Scene]
    pictures: list[Image.Image]


@pytest.fixture(scope="session")
def drawings() -> Drawings:
    rng = np.random.default_rng(987654321)
    scenes = [random_scene(rng, sensitive=bool(k % 5 == 0)) for k in range(200)]
    return Drawings(scenes, [as_jpeg(draw(scene, 128), 85) for scene in scenes])


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to connect fails, and the hub's cache is looked at no further."""

    def refuse(*args: object) -> NoReturn:
        raise OSError("this test has no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("TWIGMA_WEIGHTS", raising=False)


COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """A model hub on loopback, as the hub's own library asks one.

    Attributes:
        base: its address.
        files: content by path, such as "someone/model/weights.safetensors".
        told: sha256 that it tells of a path, where that is another than the content's.
        cut: of a path, after how many bytes its connection breaks, each time a value is left.
        asked: method, path and range of each request.
    """

    base: str
    files: dict[str, bytes] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    def gets(self, path: str) -> list[str | None]:
        """The range of each download of a path."""
        return [span for method, name, span in self.asked if method == "GET" and name == path]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            repository, _, rest = self.path.strip("/").partition("/resolve/")
            path = f"{repository}/{rest.partition('/')[2]}"
            span = self.headers.get("Range")
            here.asked.append((self.command, path, span))
            data = here.files.get(path)
            if data is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(span.removeprefix("bytes=").split("-")[0]) if span else 0
            self.send_response(206 if span else 200)
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{here.told.get(path) or hashlib.sha256(data).hexdigest()}"')
            if span:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if not body:
                return
            if here.cut.get(path):
                self.wfile.write(data[start : start + here.cut[path].pop(0)])
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(data[start:])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", here.base)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        here.base + "/{repo_id}/resolve/{revision}/{filename}",
    )
    yield here
    server.shutdown()
