"""What we depend on: licences, known holes where an index tells of them, hashes that are looked at."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.drills.counts import FULL
from tests.drills.licences import DOCUMENT, ROOT, allowed, document, licence, locked

LOCK = (ROOT / "requirements.lock").read_text()
ACCEPTED: dict[str, str] = {}
"""Known holes that do not concern us: their id and the reason."""


def test_every_licence_is_allowed_or_a_named_exception() -> None:
    names = locked()
    assert len(names) > 200
    assert not {name: said for name in names if not allowed(name, said := licence(name))}
    assert not allowed("x", "GPL-3.0-only") and not allowed("x", "MIT AND AGPL-3.0") and not allowed("x", "")


@pytest.mark.skipif(sys.platform != "linux", reason="the document is that of Linux")
def test_the_document_is_current() -> None:
    assert DOCUMENT.read_text() == document(), "write it anew: .venv/bin/python -m tests.drills.licences"


# ---------------------------------------------------------------- hashes


def wheel(folder: Path) -> str:
    """Make a package of one empty module and return the sha256 of its wheel."""
    files = {
        "drill_package.py": b"",
        "drill_package-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: drill-package\nVersion: 1.0\n",
        "drill_package-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any",
    }
    record = [
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip('=')},{len(data)}"
        for name, data in files.items()
    ]
    path = folder / "drill_package-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as pack:
        for name, data in files.items():
            pack.writestr(name, data)
        pack.writestr("drill_package-1.0.dist-info/RECORD", "\n".join(record) + "\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sync(folder: Path, sha256: str) -> subprocess.CompletedProcess[str]:
    """Install it as `make` installs requirements.lock, from a folder instead of an index."""
    lock = folder / "requirements.lock"
    lock.write_text(f"drill-package==1.0 \\\n    --hash=sha256:{sha256}\n")
    uv = [sys.executable, "-m", "uv", "pip", "sync", "--require-hashes", "--no-index", "--no-cache"]
    places = ["--python", sys.executable, "--find-links", str(folder), "--target", str(folder / "there")]
    return subprocess.run([*uv, *places, str(lock)], capture_output=True, text=True, timeout=120)


def test_a_package_whose_hash_is_not_the_locks_is_not_installed(tmp_path: Path) -> None:
    sha256 = wheel(tmp_path)
    altered = sha256[:-1] + ("0" if sha256[-1] != "0" else "1")
    refused = sync(tmp_path, altered)
    assert refused.returncode != 0 and "Hash mismatch" in refused.stderr, refused.stderr
    assert not (tmp_path / "there" / "drill_package.py").exists()
    taken = sync(tmp_path, sha256)
    assert taken.returncode == 0, taken.stderr
    assert (tmp_path / "there" / "drill_package.py").exists()


def test_all_that_installs_the_lock_looks_at_its_hashes() -> None:
    for name in ("Makefile", "Dockerfile"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if "requirements.lock" in line]
        installs = [line for line in lines if re.search(r"pip (sync|install)", line) and "grep" not in line]
        assert installs and all("--require-hashes" in line for line in installs), (name, installs)
    pinned = re.findall(r"^\S+==.*?(?=^\S|\Z)", LOCK, re.MULTILINE | re.DOTALL)
    assert len(pinned) > 200 and all("--hash=sha256:" in one for one in pinned)
    assert "index-url" not in LOCK


# ---------------------------------------------------------------- known holes


def holes(index: str, packages: list[tuple[str, str]]) -> dict[str, list[str]] | None:
    """Return the known holes of releases that an index's JSON API tells of; None where it offers none."""
    found: dict[str, list[str]] = {}
    for name, version in packages:
        try:
            with urlopen(f"{index}/{name}/{version}/json", timeout=60) as reply:
                about = json.load(reply)
        except HTTPError as error:
            if error.code != 404:
                raise
            about = {}
        if "vulnerabilities" not in about:
            return None
        known = [one["id"] for one in about["vulnerabilities"] if not one.get("withdrawn")]
        if left := [one for one in known if one not in ACCEPTED]:
            found[name] = left
    return found


@pytest.mark.skipif(not FULL, reason="asks an index for every package: make drills")
def test_no_package_has_a_known_hole() -> None:
    index = os.environ.get("AUDIT_INDEX")
    if not index:
        pytest.skip("not audited: set AUDIT_INDEX to the address of an index's JSON API, such as …/pypi")
    packages = re.findall(r"^([a-zA-Z0-9._-]+)==(\S+)", LOCK, re.MULTILINE)
    found = holes(index.rstrip("/"), packages)
    if found is None:
        pytest.skip(f"not audited: {index} tells of no vulnerabilities")
    assert not found


def test_the_audit_finds_a_hole_and_says_where_none_are_told() -> None:
    """On an index of our own: the audit itself must work where it is offered."""
    replies = {
        "/a/1.0/json": {"vulnerabilities": [{"id": "PYSEC-1"}, {"id": "PYSEC-2", "withdrawn": "2026-01-01"}]},
        "/b/1.0/json": {"vulnerabilities": []},
        "/c/1.0/json": {"info": {}},
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply = replies.get(self.path)
            self.send_response(200 if reply else 404)
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    index = f"http://127.0.0.1:{server.server_port}"
    try:
        assert holes(index, [("a", "1.0"), ("b", "1.0")]) == {"a": ["PYSEC-1"]}
        assert holes(index, [("c", "1.0")]) is None
        assert holes(index, [("absent", "1.0")]) is None
    finally:
        server.shutdown()
        server.server_close()
