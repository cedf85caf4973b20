"""A real S3 server on loopback (moto's), which remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@dataclass
class ObjectStoreServer:
    """A running server.

    Attributes:
        url: its address, for AWS_ENDPOINT_URL.
        asked: (method, path, Range header) of each request so far.
    """

    url: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a program must find in its environment to use it."""
        return ENVIRONMENT | {"AWS_ENDPOINT_URL": self.url}


@contextmanager
def serve() -> Iterator[ObjectStoreServer]:
    """Run the server in a thread until the block ends."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log_request(self, *_: Any) -> None:
            pass

    here = ObjectStoreServer()
    application = DomainDispatcherApplication(create_backend_app)

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        here.asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_RANGE")))
        return application(environ, start_response)

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Quiet)
    here.url = f"http://127.0.0.1:{server.port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield here
    server.shutdown()
    server.server_close()
