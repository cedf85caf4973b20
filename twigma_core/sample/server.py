"""A server on this machine that speaks the parts of X's API v2 that collection uses, and serves the pictures.

    GET /2/tweets/search/all     GET /2/tweets/counts/all        GET /2/tweets?ids=
    GET /2/tweets/search/recent  GET /2/tweets/counts/recent     GET /2/users?ids=
    GET /media/<name>.<ext>      GET /media/<name>?format=jpg&name=orig
    POST /2/compliance/jobs      GET /2/compliance/jobs/<id>     PUT, GET /compliance/<id>

``python -m twigma_core.sample.server --port 0 --port-file F`` runs it; `running_server` runs it in a thread.
It binds 127.0.0.1 only. What belongs here: HTTP, paging, limits, faults on demand. What does not: the world
(``world``), its JSON (``api_objects``), the query language (``queries``).
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import math
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from twigma_core.sample import api_objects, media, queries
from twigma_core.sample.jobs import gone_of, job_routes
from twigma_core.sample.limits import Limiter, ServerOptions
from twigma_core.sample.world import UnknownMedium, World, load

HOST = "127.0.0.1"
COUNT_DAYS = 31
LOOKUP_IDS = 100


class BadRequest(ValueError):
    """A request that X would answer with 400; the message says which parameter is wrong."""


# ---------------------------------------------------------------- parameters


def _time(value: str | None, default: datetime) -> datetime:
    if value is None:
        return default
    try:
        when = datetime.fromisoformat(value)
    except ValueError as error:
        raise BadRequest(f"{value!r} is no RFC 3339 time") from error
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def _whole(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    value = query.get(name, str(default))
    if not value.isdigit() or not low <= int(value) <= high:
        raise BadRequest(f"the `{name}` query parameter value [{value}] is not between {low} and {high}")
    return int(value)


def make_token(place: int, empty_served: bool, query: str) -> str:
    """Return the opaque token of the page that begins at a place of a query's results."""
    raw = json.dumps([place, empty_served, sum(query.encode())])
    return base64.urlsafe_b64encode(raw.encode()).decode().rstrip("=")


def read_token(token: str | None, query: str) -> tuple[int, bool]:
    """Return where a page begins, and whether the empty page before it was served.

    Raises:
        BadRequest: this server did not give the token for this query.
    """
    if token is None:
        return 0, False
    try:
        place, empty_served, check = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError as error:
        raise BadRequest(f"the `next_token` query parameter value [{token}] is not valid") from error
    if check != sum(query.encode()):
        raise BadRequest("the `next_token` belongs to another query")
    return int(place), bool(empty_served)


def _place(query: Mapping[str, str]) -> tuple[int, bool]:
    return read_token(query.get("next_token") or query.get("pagination_token"), query["query"])


# ---------------------------------------------------------------- endpoints


@dataclass(frozen=True)
class Api:
    """The endpoints over a world; each method takes query parameters and returns X's JSON."""

    world: World
    options: ServerOptions

    def _matching(self, query: Mapping[str, str], deleted: bool) -> list[dict[str, Any]]:
        try:
            test = queries.compile_query(query.get("query", ""))
        except queries.BadQuery as error:
            raise BadRequest(f"the `query` query parameter is not valid: {error}") from error
        start, end = self._window(query)
        return [
            post
            for post in self.world.post_rows
            if start <= post["created_at"] < end
            and self._begun(post)
            and (deleted or self._shown(post))
            and test(post)
        ]

    def _shown(self, post: Mapping[str, Any]) -> bool:
        there = post["status"] == "posted" and post["tweet_id"] not in self.options.gone
        return there and post["author_id"] not in self.options.accounts

    def _begun(self, post: Mapping[str, Any]) -> bool:
        return self.options.clock is None or post["created_at"] <= self.options.clock()

    def _settled(self, post: Mapping[str, Any]) -> dict[str, Any]:
        """Return a post with the likes that it has by now."""
        if self.options.clock is None or not self.options.settle_days or post["like_count"] is None:
            return dict(post)
        age = (self.options.clock() - post["created_at"]) / timedelta(days=self.options.settle_days)
        return {**post, "like_count": round(post["like_count"] * -math.expm1(-max(age, 0.0)))}

    def _window(self, query: Mapping[str, str]) -> tuple[datetime, datetime]:
        newest = self.world.post_rows[0]["created_at"]
        end = _time(query.get("end_time"), newest + timedelta(seconds=1))
        start = _time(query.get("start_time"), end - timedelta(days=30))
        if start >= end:
            raise BadRequest("`start_time` must be before `end_time`")
        return start, end

    def search(self, query: Mapping[str, str], largest: int) -> dict[str, Any]:
        """Return a page of the posts that match, newest first, and what they refer to."""
        size = _whole(query, "max_results", 10, 10, largest)
        found = self._matching(query, deleted=False)
        place, empty_served = _place(query)
        if self.options.empty_pages and place and not empty_served:
            token = make_token(place, True, query["query"])
            return {"meta": {"result_count": 0, "next_token": token}}
        rows = found[place : place + size]
        meta: dict[str, Any] = {"result_count": len(rows)}
        if not rows:
            return {"meta": meta}
        meta |= {"newest_id": rows[0]["tweet_id"], "oldest_id": rows[-1]["tweet_id"]}
        if place + size < len(found):
            # Only the first page is followed by an empty one.
            meta["next_token"] = make_token(place + size, place > 0, query["query"])
        return self._page(rows, query) | {"meta": meta}

    def _page(self, rows: Sequence[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
        asked = api_objects.Asked.from_query(query)
        known = self.world.media_rows
        posts = [api_objects.post_object(self._settled(post), known, asked) for post in rows]
        for post in posts:
            if post["id"] in self.options.withheld and "withheld" in asked.tweet:
                countries = list(self.options.withheld[post["id"]])
                post["withheld"] = {"copyright": False, "country_codes": countries}
        body: dict[str, Any] = {"data": posts}
        referred = api_objects.includes(rows, self.world.user_rows, known, asked)
        return body | ({"includes": referred} if referred else {})

    def counts(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the posts per day or hour, deleted ones included, 31 days a page, oldest days last."""
        steps = {"day": timedelta(days=1), "hour": timedelta(hours=1)}
        if (step := steps.get(query.get("granularity", "hour"))) is None:
            raise BadRequest("the `granularity` query parameter is neither hour nor day")
        start, end = self._window(query)
        times = sorted(post["created_at"] for post in self._matching(query, deleted=True))
        page, _ = _place(query)
        page_end = end - timedelta(days=COUNT_DAYS) * page
        page_start = max(start, page_end - timedelta(days=COUNT_DAYS))
        data, edge = [], page_start
        while edge < page_end:
            stop = edge.replace(minute=0, second=0, microsecond=0)
            if step.days:
                stop = stop.replace(hour=0)
            stop = min(stop + step, page_end)
            number = sum(edge <= when < stop for when in times)
            data.append(
                {
                    "start": api_objects.timestamp(edge),
                    "end": api_objects.timestamp(stop),
                    "tweet_count": number,
                }
            )
            edge = stop
        meta: dict[str, Any] = {"total_tweet_count": sum(row["tweet_count"] for row in data)}
        if page_start > start:
            meta["next_token"] = make_token(page + 1, False, query["query"])
        return {"data": data, "meta": meta}

    def lookup(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the posts with the ids asked for; those that are gone or never were stand in errors."""
        ids = _ids(query)
        there = {
            post["tweet_id"]: post
            for post in self.world.post_rows
            if post["status"] == "posted" and post["tweet_id"] not in self.options.gone and self._begun(post)
        }
        rows = [there[one] for one in ids if one in there and self._shown(there[one])]
        body = self._page(rows, query) if rows else {}
        errors = [
            api_objects.not_authorized(one) if one in there else api_objects.not_found("tweet", one)
            for one in ids
            if one not in there or not self._shown(there[one])
        ]
        return body | ({"errors": errors} if errors else {})

    def gone_of(self, kind: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return what a compliance job says of ids; see `jobs.gone_of`."""
        posts = {post["tweet_id"]: post for post in self.world.post_rows}
        return gone_of(kind, ids, posts, self.options.gone, self.options.accounts)

    def users(self, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the accounts with the ids asked for; suspended and unknown ones stand in errors."""
        data, errors = [], []
        asked = api_objects.Asked.from_query(query)
        for one in _ids(query):
            row, status = self.world.user_rows.get(one), self.options.accounts.get(one)
            if row is None:
                errors.append(api_objects.not_found("user", one))
            elif status == "suspended":
                errors.append(api_objects.suspended(one))
            else:
                user = api_objects.user_object(row, asked)
                data.append(user | ({"protected": status == "protected"} if "protected" in user else {}))
        return ({"data": data} if data else {}) | ({"errors": errors} if errors else {})


def _ids(query: Mapping[str, str]) -> list[str]:
    ids = list(dict.fromkeys(query.get("ids", "").split(",")))
    if len(ids) > LOOKUP_IDS or not all(re.fullmatch(r"[0-9]{1,19}", one) for one in ids):
        raise BadRequest(f"the `ids` query parameter must hold 1 to {LOOKUP_IDS} ids of 1 to 19 digits")
    return ids


# ---------------------------------------------------------------- HTTP


def _error(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    body = {"title": title, "detail": detail, "type": "about:blank", "status": status}
    return JSONResponse(body, status, dict(headers or {}))


def make_app(world: World | None = None, options: ServerOptions | None = None) -> Starlette:
    """Return the server as an ASGI application; its `state.limiter` counts the requests."""
    chosen = options or ServerOptions()
    known = world or load()
    api, limiter = Api(known, chosen), Limiter(chosen)

    def endpoint(name: str, answer: Callable[[Mapping[str, str]], dict[str, Any]]) -> Callable[..., Response]:
        def handle(request: Request) -> Response:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not token.strip():
                return _error(401, "Unauthorized", "Unauthorized")
            limiter.asked.append((name, request.url.query))
            status, headers = limiter.admit(name, time.time())
            if status != 200:
                title = {429: "Too Many Requests", 503: "Service Unavailable"}.get(status, "Error")
                return _error(status, title, title, headers)
            try:
                return JSONResponse(answer(request.query_params), headers=headers)
            except BadRequest as error:
                detail = f"One or more parameters to your request was invalid: {error}"
                return _error(400, "Invalid Request", detail, headers)

        return handle

    def picture(request: Request) -> Response:
        limiter.requests["media"] += 1
        limiter.asked.append(("media", str(request.path_params["name"])))
        name, _, _ = str(request.path_params["name"]).partition(".")
        try:
            media_id = media.media_id_of(name)
            data = known.draw_media(media_id)
        except (ValueError, UnknownMedium) as error:
            return Response(str(error), 404, media_type="text/plain")
        row = known.media_rows[media_id]
        return Response(data, media_type="image/png" if row["format"] == "PNG" else "image/jpeg")

    app = Starlette(
        routes=[
            *job_routes(lambda name: limiter.admit(name, time.time())[0], api.gone_of, chosen.compliance),
            Route("/2/tweets/search/all", endpoint("search/all", lambda query: api.search(query, 500))),
            Route("/2/tweets/search/recent", endpoint("search/recent", lambda query: api.search(query, 100))),
            Route("/2/tweets/counts/all", endpoint("counts/all", api.counts)),
            Route("/2/tweets/counts/recent", endpoint("counts/recent", api.counts)),
            Route("/2/tweets", endpoint("lookup", api.lookup)),
            Route("/2/users", endpoint("users", api.users)),
            Route("/media/{name}", picture),
        ]
    )
    app.state.limiter = limiter
    return app


@dataclass(frozen=True)
class Running:
    """A server that answers at `url`.

    Attributes:
        url: its base address.
        requests: how many requests came, by endpoint.
        asked: each of them in order: endpoint and query string, or "media" and file name.
        faults: statuses that the next API requests are answered with, first to last.
    """

    url: str
    requests: Counter[str]
    asked: list[tuple[str, str]]
    faults: list[int]


@contextlib.contextmanager
def serve_in_thread(world: World | None = None, options: ServerOptions | None = None) -> Iterator[Running]:
    """Run the server in a thread on a free port until the block ends.

    Raises:
        RuntimeError: it did not start within ten seconds.
    """
    import uvicorn

    app = make_app(world, options)
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the sample server did not start; its thread ended or took over 10 s")
            time.sleep(0.01)
        try:
            limiter: Limiter = app.state.limiter
            address = f"http://{HOST}:{listener.getsockname()[1]}"
            yield Running(address, limiter.requests, limiter.asked, limiter.faults)
        finally:
            server.should_exit = True
            thread.join(timeout=10)


@contextlib.contextmanager
def running_server(world: World | None = None, options: ServerOptions | None = None) -> Iterator[str]:
    """Run the server in a thread and yield its base URL; see `serve_in_thread`."""
    with serve_in_thread(world, options) as running:
        yield running.url


def closed_accounts(world: World, number: int) -> dict[str, str]:
    """Return the first accounts of a world, protected and suspended in turn, for `ServerOptions`."""
    authors = sorted(world.user_rows)[:number]
    return {author: ("protected", "suspended")[n % 2] for n, author in enumerate(authors)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the server until it is stopped."""
    import uvicorn

    parser = argparse.ArgumentParser(prog="python -m twigma_core.sample.server", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--port-file", type=Path, help="file to write the port to once it is known")
    parser.add_argument("--closed", type=int, default=0, help="accounts that are protected or suspended")
    chosen = parser.parse_args(arguments)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, chosen.port))
        # From here on connections wait in the queue, so whoever reads the port may connect at once.
        listener.listen(128)
        port = listener.getsockname()[1]
        if chosen.port_file:
            temporary = chosen.port_file.with_name(f".{chosen.port_file.name}.tmp")
            temporary.write_text(f"{port}\n")
            temporary.replace(chosen.port_file)
        sys.stdout.write(f"sample server: http://{HOST}:{port}\n")
        sys.stdout.flush()
        world = load()
        app = make_app(world, ServerOptions(accounts=closed_accounts(world, chosen.closed)))
        config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
