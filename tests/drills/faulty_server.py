"""The sample world's server, a share of whose answers fail: 429, 500, 503, or a connection cut in the middle.

`python -m tests.drills.faulty_server` prints its port and serves until it is ended: `/share?0.05` makes five
in a hundred answers fail from then on, `/stats` tells how many requests came and how many of them failed. Of
its month, the first sixty posts are there.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any

import polars as pl
import uvicorn

from tests.core.collect.drill import MONTH
from twigma_core.sample.server import ServerOptions, make_app
from twigma_core.sample.world import World, load

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
FAULTS = (429, 500, 503, "cut")


def small_world() -> World:
    """Return the sample world with sixty posts of `MONTH`."""
    world = load()
    return replace(world, posts=world.posts.filter(pl.col("month") == MONTH).sort("created_at").head(60))


class Faulty:
    """An application around another, which it keeps from answering now and then."""

    def __init__(self, app: Any) -> None:
        self._app, self._share = app, 0.0
        self._random = random.Random(0)
        self.requests = self.faults = 0

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        """Answer a request, or not."""
        if scope["path"] == "/share":
            self._share = float(scope["query_string"])
            self.requests = self.faults = 0
        if scope["path"] in ("/share", "/stats"):
            await _answer(send, 200, f"{self.requests} {self.faults}".encode())
            return
        self.requests += 1
        fault = self._random.choice(FAULTS) if self._random.random() < self._share else None
        self.faults += fault is not None
        if fault == "cut":
            await self._app(scope, receive, _cutting(send))
        elif fault:
            await _answer(send, int(fault), b"")
        else:
            await self._app(scope, receive, send)


def _cutting(send: Send) -> Send:
    async def cut(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": message["body"][: len(message["body"]) // 2], "more_body": True}
            await send(message)
            raise ConnectionResetError  # the server closes the connection
        await send(message)

    return cut


async def _answer(send: Send, status: int, body: bytes) -> None:
    reset = [(b"x-rate-limit-remaining", b"0"), (b"x-rate-limit-reset", str(int(time.time())).encode())]
    headers = [(b"content-length", str(len(body)).encode()), *(reset if status == 429 else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve on a free port of loopback."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # of cut connections
    app = Faulty(make_app(small_world(), ServerOptions(search_limit=10**9)))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(app, access_log=False, lifespan="off", log_config=None)
        asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
