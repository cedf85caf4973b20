"""A loopback server of synthetic pictures that is not the limit: bytes from memory, no framework.

    GET /media/<number>    the picture of that number; its file is unlike every other's
    GET /stats             JSON: requests, faults, connections, seconds from first request to last answer

Run as `python -m benchmarks.picture_server --side 512`; it prints its port. With `--faults 0.05` that share
of answers is a 503 or a connection cut in the middle of the body; another try may fail again, at the same
odds. `--latency 0.05` waits before each answer.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from twigma_core.sample.drawing import draw, random_scene

DRAWINGS = 24
_JFIF = 20  # bytes before the comment: some readers know a JPEG only by this head
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
_MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


def drawings(side: int, count: int = DRAWINGS) -> list[bytes]:
    """Return JPEG files of drawn scenes with some grain, about as many bytes as X's pictures of that size."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(count):
        pixels = np.asarray(draw(random_scene(rng), side), np.float32)
        grain = rng.normal(0, 8, pixels.shape[:2])[..., None]
        buffer = io.BytesIO()
        Image.fromarray((pixels + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
        files.append(buffer.getvalue())
    return files


def picture(files: list[bytes], number: int) -> bytes:
    """Return the file of picture `number`: a drawing with the number as its JPEG comment."""
    drawing = files[number % len(files)]
    return drawing[:_JFIF] + b"\xff\xfe\x00\x0a" + f"{number:08d}".encode() + drawing[_JFIF:]


def number_of(data: bytes) -> int | None:
    """Return the number of a picture's file; None where it is not one of `picture`."""
    comment = data[_JFIF + 4 : _JFIF + 12]
    return int(comment) if comment.isdigit() else None


@dataclass
class Site:
    """What is served, how badly, and what was asked."""

    files: list[bytes]
    faults: float = 0.0
    latency_s: float = 0.0
    asked: Counter[int] = field(default_factory=Counter)
    connections: int = 0
    faulty: int = 0
    first: float = 0.0
    last: float = 0.0

    def answer(self, path: str) -> tuple[bytes, bool]:
        """Return the answer to a request for `path`, and whether the connection is then cut."""
        if path == "/stats":
            return _answer(json.dumps(self.stats()).encode(), "application/json"), False
        number = path.partition("?")[0].removeprefix("/media/").partition(".")[0]
        if not number.isdecimal():
            return _MISSING, False
        self.first = self.first or time.monotonic()
        n = int(number)
        self.asked[n] += 1
        whole = _answer(picture(self.files, n), "image/jpeg")
        draw_of_luck = hashlib.blake2b(f"{n} {self.asked[n]}".encode(), digest_size=8).digest()
        luck = int.from_bytes(draw_of_luck, "big") / 2**64
        self.faulty += luck < self.faults
        if luck < self.faults / 2:
            return _BUSY, False
        if luck < self.faults:
            return whole[: len(whole) // 2], True
        return whole, False

    def stats(self) -> dict[str, float]:
        """Return what was asked so far."""
        return {
            "requests": self.asked.total(),
            "faults": self.faulty,
            "connections": self.connections,
            "seconds": max(self.last - self.first, 0.0),
        }


def _answer(body: bytes, kind: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One connection: requests in, answers out, kept open."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        self._site.connections += 1
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            answer, cut = self._site.answer(head.split(b" ", 2)[1].decode("ascii", "replace"))
            close = cut or b"connection: close" in head.lower()
            if self._site.latency_s:
                asyncio.get_running_loop().call_later(self._site.latency_s, self._send, answer, close)
            else:
                self._send(answer, close)

    def _send(self, answer: bytes, close: bool) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)
            self._site.last = time.monotonic()
            if close:
                self._transport.close()


async def serve(site: Site) -> None:
    """Serve on a free loopback port, which is printed, until the process ends."""
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(site), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Draw the pictures and serve them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512, help="side of the pictures in pixels")
    parser.add_argument("--faults", type=float, default=0.0, help="share of answers that fail")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    chosen = parser.parse_args()
    asyncio.run(serve(Site(drawings(chosen.side), chosen.faults, chosen.latency)))


if __name__ == "__main__":
    main()
