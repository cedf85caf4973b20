"""A Zenodo on loopback: the parts of its deposit API that an upload speaks, with the rules that it has."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.loopback import Quiet, listening

TOKEN = "zenodo-canary-token-ZZZZ"


@dataclass
class Zenodo:
    """Records and drafts by id.

    Attributes:
        base: its address.
        depositions: metadata, files by name, whether submitted, and the record that it is a version of.
        asked: method and path of each request.
        answers: of a method, statuses that its next requests are answered with instead.
        damage: file whose bytes arrive with one missing.
        bucket_base: address that buckets are said to be at.
    """

    base: str
    depositions: dict[int, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    answers: dict[str, list[int]] = field(default_factory=dict)
    damage: str = ""
    bucket_base: str = ""

    def new(self, of: int | None = None) -> int:
        number = 100 + len(self.depositions)
        before = self.depositions[of] if of else {"files": {}, "metadata": {}}
        copied = {"files": dict(before["files"]), "metadata": dict(before["metadata"])}
        self.depositions[number] = {**copied, "submitted": False, "of": of}
        return number

    def shown(self, number: int) -> dict[str, Any]:
        held = self.depositions[number]
        here = f"{self.base}/api/deposit/depositions/{number}"
        newer = [
            n for n, other in self.depositions.items() if other["of"] == number and not other["submitted"]
        ]
        links = {"bucket": f"{self.bucket_base or self.base}/api/files/bucket-{number}", "self": here}
        if held["submitted"]:
            links["html"] = f"{self.base}/records/{number}"
        if newer:
            links["latest_draft"] = f"{self.base}/api/deposit/depositions/{newer[0]}"
        doi = f"10.5072/zenodo.{number}"
        return {
            "id": number,
            "submitted": held["submitted"],
            "metadata": {**held["metadata"], "prereserve_doi": {"doi": doi}},
            **({"doi": doi} if held["submitted"] else {}),
            "links": links,
            "files": [{"id": f"f-{name}", "filename": name} for name in held["files"]],
        }

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path.startswith("/api/files/bucket-"):
            bucket, name = path.removeprefix("/api/files/bucket-").split("/", 1)
            draft, name = self.depositions[int(bucket)], unquote(name)
            if draft["submitted"] or "/" in name:
                return 403, {"message": "no"}
            draft["files"][name] = body[:-1] if name == self.damage else body
            return 201, {"key": name, "checksum": f"md5:{hashlib.md5(draft['files'][name]).hexdigest()}"}
        rest = path.removeprefix("/api/deposit/depositions").strip("/").split("/")
        if rest == [""]:
            return 201, self.shown(self.new())
        if not rest[0].isdigit() or int(rest[0]) not in self.depositions:
            return 404, {"message": "PID does not exist."}
        number = int(rest[0])
        held = self.depositions[number]
        if method == "GET" and len(rest) == 1:
            return 200, self.shown(number)
        if rest[1:] == ["actions", "newversion"] and held["submitted"]:
            if "latest_draft" not in self.shown(number)["links"]:
                self.new(number)
            return 201, self.shown(number)
        if held["submitted"]:
            return 403, {"message": "The record is published."}
        if method == "PUT":
            held["metadata"] = json.loads(body)["metadata"]
            missing = {"title", "creators", "description", "upload_type"} - set(held["metadata"])
            errors = [{"field": f"metadata.{name}", "message": "required"} for name in sorted(missing)]
            return (
                (400, {"message": "Validation error.", "errors": errors})
                if errors
                else (200, self.shown(number))
            )
        if method == "DELETE" and rest[1] == "files":
            del held["files"][unquote(rest[2]).removeprefix("f-")]
            return 204, None
        if rest[1:] == ["actions", "publish"]:
            if not held["files"] or "title" not in held["metadata"]:
                return 400, {
                    "message": "Validation error.",
                    "errors": [{"field": "files", "message": "none"}],
                }
            held["submitted"] = True
            return 202, self.shown(number)
        return 405, {"message": "not allowed"}


@contextmanager
def serve_zenodo() -> Iterator[Zenodo]:
    """Serve a Zenodo without records until the block ends."""

    class Handler(Quiet):
        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            here.asked.append((self.command, self.path))
            if here.answers.get(self.command):
                status, said = here.answers[self.command].pop(0), {"message": "another time"}
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, said = 401, {"message": "The server could not verify that you are authorized."}
            else:
                status, said = here.answer(self.command, self.path, body)
            data = b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = reply

    with listening(Handler) as url:
        here = Zenodo(url)
        yield here
