"""A hub on loopback that speaks to the hub's own library: it serves models, and takes datasets."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.loopback import Quiet, listening

COMMIT = "c0ffee" + "0" * 34
HUB_TOKEN = "hf_canaryTokenZZZZ"


@dataclass
class Hub:
    """A model hub on loopback, as the hub's own library asks one.

    Attributes:
        base: its address.
        files: content by path, such as "someone/model/weights.safetensors".
        told: sha256 that it tells of a path, where that is another than the content's.
        cut: of a path, after how many bytes its connection breaks, each time a value is left.
        asked: method, path and range of each request.
        repos: of a dataset, its files by path.
        private, tags, commits: of datasets, as they were made.
        large: ends of file names that go up before the commit, by git's protocol for large files.
        blobs: such files by sha256.
        refuse: part of an address that is answered with 500.
    """

    base: str
    files: dict[str, bytes] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    commits: list[tuple[str, str]] = field(default_factory=list)
    large: tuple[str, ...] = ()
    blobs: dict[str, bytes] = field(default_factory=dict)
    refuse: str = ""

    def gets(self, path: str) -> list[str | None]:
        """The range of each download of a path."""
        return [span for method, name, span in self.asked if method == "GET" and name == path]

    def upload(self, path: str, body: bytes) -> tuple[int, Any]:
        """Answer a request of an upload."""
        if self.refuse and self.refuse in path:
            return 500, {"error": "down"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            if repo in self.repos:
                return 409, {"error": "exists", "url": f"{self.base}/datasets/{repo}"}
            self.repos[repo], self.private[repo] = {}, asked.get("visibility") == "private"
            return 200, {"url": f"{self.base}/datasets/{repo}"}
        if path.startswith("/blobs/"):
            self.blobs[path.removeprefix("/blobs/")] = body
            return 200, {}
        match = re.fullmatch(r"(?:/api)?/datasets/([\w-]+/[\w-]+)(?:\.git/info/lfs)?/(\w+)(?:/.*)?", path)
        if not match or match[1] not in self.repos:
            return 404, {"error": "no such dataset"}
        repo, verb = match.groups()
        return getattr(self, f"_{verb}")(repo, body)

    def _refs(self, repo: str, body: bytes) -> tuple[int, Any]:
        tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": COMMIT} for n in self.tags.get(repo, [])]
        return 200, {"branches": [], "converts": [], "tags": tags}

    def _tree(self, repo: str, body: bytes) -> tuple[int, Any]:
        files = self.repos[repo].items()
        return 200, [{"type": "file", "path": path, "size": len(data), "oid": "0"} for path, data in files]

    def _preupload(self, repo: str, body: bytes) -> tuple[int, Any]:
        asked = [file["path"] for file in json.loads(body)["files"]]
        modes = {path: "lfs" if self.large and path.endswith(self.large) else "regular" for path in asked}
        return 200, {
            "files": [
                {"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()
            ]
        }

    def _objects(self, repo: str, body: bytes) -> tuple[int, Any]:
        def action(file: dict[str, Any]) -> dict[str, Any]:
            return {**file, "actions": {"upload": {"href": f"{self.base}/blobs/{file['oid']}"}}}

        return 200, {"transfer": "basic", "objects": [action(file) for file in json.loads(body)["objects"]]}

    def _commit(self, repo: str, body: bytes) -> tuple[int, Any]:
        head, *operations = map(json.loads, body.splitlines())
        files = dict(self.repos[repo])
        for one in operations:
            path = one["value"]["path"]
            if one["key"] == "file":
                files[path] = base64.b64decode(one["value"]["content"])
            elif one["key"] == "lfsFile":
                files[path] = self.blobs[one["value"]["oid"]]
                assert hashlib.sha256(files[path]).hexdigest() == one["value"]["oid"]
            else:
                del files[path]
        self.repos[repo] = files
        self.commits.append((repo, head["value"]["summary"]))
        return 200, {"commitUrl": f"{self.base}/datasets/{repo}/commit/{COMMIT}", "commitOid": COMMIT}

    def _tag(self, repo: str, body: bytes) -> tuple[int, Any]:
        self.tags.setdefault(repo, []).append(json.loads(body)["tag"])
        return 200, {}


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve a hub until the block ends."""

    class Handler(Quiet):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            if self.path.startswith("/api/"):
                self.take()
            else:
                self.answer(body=True)

        def take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            path = self.path.partition("?")[0]
            status, said = 401, {"error": "Invalid credentials"}
            # A large file goes to an address that is good without a token.
            if path.startswith("/blobs/") or self.headers.get("Authorization") == f"Bearer {HUB_TOKEN}":
                status, said = here.upload(path, body)
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = take

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

    with listening(Handler) as url:
        here = Hub(url)
        yield here
