"""Compliance jobs of the sample server: a job is created, given ids, looked at until it is done, and read.

    POST /2/compliance/jobs   GET /2/compliance/jobs/<id>   PUT, GET /compliance/<id>

The store that takes ids and gives results refuses a token: X's has signed addresses, so none belongs there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from twigma_core.sample.api_objects import timestamp

Job = dict[str, Any]


def gone_of(
    kind: str,
    ids: Sequence[str],
    posts: Mapping[str, Mapping[str, Any]],
    gone: Mapping[str, str],
    accounts: Mapping[str, str],
) -> list[Job]:
    """Return what a job says of ids: those alone that are gone, unknown ones not at all.

    Args:
        kind: "tweets" or "users".
        ids: asked for.
        posts: the world's posts by id.
        gone: posts that are deleted by now, with the reason.
        accounts: accounts that are closed by now, with the reason: their posts go with them.
    """
    found = []
    for one in ids:
        post = posts.get(one) if kind == "tweets" else None
        reason = accounts.get(str(post["author_id"]) if post else one)
        if post and post["status"] == "deleted":
            reason = "deleted"
        reason = gone.get(one, reason)
        if reason:
            when = timestamp(post["created_at"]) if post else None
            found.append(
                {"id": one, "action": "delete", "created_at": when, "redacted_at": when, "reason": reason}
            )
    return found


def job_routes(
    admit: Callable[[str], int], answer: Callable[[str, Sequence[str]], list[Job]], allowed: bool
) -> list[Route]:
    """Return the routes of compliance jobs.

    Args:
        admit: counts a request to an endpoint and gives 200, or the status to refuse it with.
        answer: what a job of a kind says of ids.
        allowed: the token may have jobs.
    """
    jobs: dict[str, Job] = {}

    def refused(request: Request) -> Response | None:
        if not request.headers.get("authorization", "").lower().startswith("bearer "):
            return JSONResponse({"title": "Unauthorized", "status": 401}, 401)
        status = admit("compliance")
        status = 403 if status == 200 and not allowed else status
        return None if status == 200 else JSONResponse({"title": "Error", "status": status}, status)

    async def create(request: Request) -> Response:
        if no := refused(request):
            return no
        kind = (await request.json()).get("type")
        if kind not in ("tweets", "users"):
            return JSONResponse({"title": "Invalid Request", "status": 400}, 400)
        number = str(len(jobs) + 1)
        address = f"{request.base_url}compliance/{number}"
        jobs[number] = {"id": number, "type": kind, "status": "created"}
        jobs[number] |= {"upload_url": address, "download_url": address}
        return JSONResponse({"data": jobs[number]})

    def look(request: Request) -> Response:
        if no := refused(request):
            return no
        job = jobs.get(str(request.path_params["job"]))
        if job is None:
            return JSONResponse({"title": "Not Found", "status": 404}, 404)
        if "ids" in job:  # in progress for one look, then complete
            job["status"] = "in_progress" if job["status"] == "created" else "complete"
        return JSONResponse({"data": {key: value for key, value in job.items() if key != "ids"}})

    async def transfer(request: Request) -> Response:
        job = jobs.get(str(request.path_params["job"]))
        if job is None or "authorization" in request.headers:
            return Response("no such job, or a token that has no business here", 403)
        if request.method == "PUT":
            job["ids"] = (await request.body()).decode().split()
            return Response("")
        return Response("".join(json.dumps(one) + "\n" for one in answer(job["type"], job["ids"])))

    return [
        Route("/2/compliance/jobs", create, methods=["POST"]),
        Route("/2/compliance/jobs/{job}", look),
        Route("/compliance/{job}", transfer, methods=["GET", "PUT"]),
    ]
