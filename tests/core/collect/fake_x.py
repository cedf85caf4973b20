"""A small HTTP server on loopback that answers as X's API v2 does, faults included."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.loopback import Quiet, listening

TOKEN = "AAAAcanary%2BtokenZZZZ"


def snowflake(when: datetime) -> str:
    """Return a post id that X would have given out at that time, not as the first of its millisecond."""
    milliseconds = int(when.timestamp() * 1000) - 1_288_834_974_657
    return str((milliseconds << 22) + 1)


class FakeX:
    """Posts to serve, faults to serve first, and the requests that came."""

    def __init__(self, posts: int = 47, month: str = "2022-08") -> None:
        start = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
        self.posts = [
            {
                "id": snowflake(start + timedelta(hours=n)),
                "text": f"picture {n}",
                "created_at": f"{start + timedelta(hours=n):%Y-%m-%dT%H:%M:%S}.000Z",
                "edit_history_tweet_ids": [],
                "entities": {"hashtags": [{"tag": "AIart"}]},
            }
            for n in range(posts)
        ]
        self.faults: deque[tuple[int, dict[str, str], bytes]] = deque()
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.authorizations: set[str] = set()
        self.empty_page_at: int | None = None
        self.dead_tokens: set[str] = set()
        self.headers: dict[str, str] = {}
        self.times: list[float] = []
        self.repeat_token = False
        self.url = ""

    def fail(self, status: int, headers: dict[str, str] | None = None, body: Any = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body or {"title": "fault"}).encode()
        self.faults.append((status, headers or {}, content))

    @property
    def searches(self) -> list[str | None]:
        """The page tokens that searches came with, in order."""
        return [params.get("next_token") for path, params in self.requests if "/search/" in path]

    @property
    def counts(self) -> int:
        """How many requests for counts came."""
        return sum("/counts/" in path for path, _ in self.requests)

    def answer(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        if path.endswith("/tweets"):
            wanted = params["ids"].split(",")
            found = [post for post in self.posts if post["id"] in wanted]
            gone = sorted(set(wanted) - {str(post["id"]) for post in found})
            return {"data": found, "errors": [{"title": "Not Found Error", "value": one} for one in gone]}
        start, end = (datetime.fromisoformat(params[name]) for name in ("start_time", "end_time"))
        inside = [
            post for post in self.posts if start <= datetime.fromisoformat(str(post["created_at"])) < end
        ]
        if "/counts/" in path:
            days: dict[datetime, int] = {}
            for post in inside:
                day = datetime.fromisoformat(str(post["created_at"])).replace(hour=0)
                days[day] = days.get(day, 0) + 1
            data = [
                {
                    "start": day.isoformat(),
                    "end": (day + timedelta(days=1)).isoformat(),
                    "tweet_count" if day.day % 2 else "post_count": number,
                }
                for day, number in days.items()
            ]
            return {"data": data, "meta": {"total_tweet_count": len(inside)}}
        inside.reverse()
        offset, size = int(params.get("next_token", "t0")[1:]), int(params["max_results"])
        if self.empty_page_at == offset:
            self.empty_page_at = None
            return {"meta": {"result_count": 0, "next_token": f"e{offset}"}}
        page = inside[offset : offset + size]
        meta: dict[str, Any] = {"result_count": len(page)}
        if offset + size < len(inside):
            meta["next_token"] = "t10" if self.repeat_token else f"t{offset + size}"
        return {"data": page, "meta": meta} if page else {"meta": meta}


@contextmanager
def serve(world: FakeX) -> Iterator[FakeX]:
    """Answer on loopback, at `world.url`, until the block ends."""

    class Handler(Quiet):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet, else each reply waits 40 ms for an acknowledgement

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            params = {key: values[0] for key, values in parse_qs(parts.query).items()}
            world.requests.append((parts.path, params))
            world.times.append(time.monotonic())
            world.authorizations.add(self.headers.get("Authorization", ""))
            if world.faults:
                status, headers, content = world.faults.popleft()
            elif params.get("next_token") in world.dead_tokens:
                told = "The `next_token` query parameter value is not a valid token"
                status, headers = 400, {}
                content = json.dumps({"errors": [{"message": told}], "title": "Invalid Request"}).encode()
            else:
                answer = json.dumps(world.answer(parts.path, params)).encode()
                status, headers, content = 200, dict(world.headers), answer
            if status == 0:  # hang up without an answer
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = "Content-Length" in headers

    with listening(Handler) as world.url:
        yield world
