"""A model hub on loopback that speaks to the hub's own library, breaks connections and gives wrong bytes."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve a hub until the block ends."""

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
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
