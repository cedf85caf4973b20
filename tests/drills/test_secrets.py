"""A canary in every setting that can hold a secret: whatever is built, refused or published, none is seen."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import polars as pl
import pytest
import zstandard
from fsspec import filesystem

from tests.dagster.conftest import ROOT, environment_of
from tests.dagster.deployment import lacking
from tests.drills.counts import FULL
from tests.drills.postgres import Postgres, postgres
from tests.model_hub import HUB_TOKEN, serve_hub
from tests.object_store import ObjectStoreServer
from tests.zenodo_server import TOKEN, serve_zenodo
from twigma_core.sample.server import running_server
from twigma_dagster.settings import secrets

BEYOND = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN")
"""Secrets that are not settings of ours: what libraries read by themselves."""
CANARIES = {name: f"canary+{n}/Zq7/{n * 7919:05d}xKd" for n, name in enumerate([*sorted(secrets()), *BEYOND])}
CANARIES |= {"ZENODO_TOKEN": TOKEN, "HF_TOKEN": HUB_TOKEN}  # what the servers of the tests accept


def forms(canary: str) -> set[bytes]:
    """Return a canary as it may be written: plain, quoted, in base64 at any offset, in hexadecimal."""
    found = {canary, quote(canary), quote(canary, safe=""), canary.encode().hex()}
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # Its first and last letters depend on what stands around it.
            found.add(encode(b"\0" * before + canary.encode()).decode().rstrip("=")[4:-4])
    return {form.encode() for form in found}


WANTED = {form: name for name, canary in CANARIES.items() for form in forms(canary)}


def seen(where: str, data: bytes) -> list[str]:
    """Return which canaries are in a file: in its bytes, and in what it holds packed."""
    contents = [data]
    if data[:4] == zstandard.FRAME_HEADER:
        contents.append(zstandard.ZstdDecompressor().decompressobj().decompress(data))
    elif data[:4] == b"PAR1":
        table = pl.read_parquet(io.BytesIO(data))
        contents += [table.write_json().encode(), repr(pl.read_parquet_metadata(io.BytesIO(data))).encode()]
    elif data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as pack:
            contents += [pack.read(name) for name in pack.namelist()]
    return [f"{name} in {where}" for form, name in WANTED.items() if any(form in one for one in contents)]


def seen_below(folder: Path) -> tuple[list[str], int]:
    """Return which canaries are in the files below a folder, and how many files those are."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return [what for path in files for what in seen(str(path.relative_to(folder)), path.read_bytes())], len(
        files
    )


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """Else the drill could not fail."""
    canary = next(iter(CANARIES.values()))
    (tmp_path / "plain").write_text(f"a {canary} b")
    (tmp_path / "quoted").write_text(f"?token={quote(canary, safe='')}&")
    (tmp_path / "base64").write_bytes(base64.b64encode(f"user:{canary}".encode()))
    (tmp_path / "page.zst").write_bytes(zstandard.ZstdCompressor().compress(canary.encode()))
    pl.DataFrame({"a": [canary] * 50}).write_parquet(tmp_path / "table.parquet")
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "meta.parquet", metadata={"k": canary})
    found, files = seen_below(tmp_path)
    assert files == 6 and len({what.rpartition(" ")[2] for what in found}) == 6, found


@pytest.fixture
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server whose password is a canary."""
    if why := lacking("initdb", "postgres", "pg_isready"):
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    with postgres(CANARIES["TWIGMA_DATABASE"]) as running:
        yield running


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that refuses everything, and says all that it was sent."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = str(self.headers)
            self.send_response(403, self.headers.get("Authorization", "-"))
            self.send_header("X-Echo", self.headers.get("Authorization", "-"))
            self.end_headers()
            self.wfile.write(f'{{"title": "no", "detail": {told!r}}}'.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def run(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run `twigma`, with the drills' command; what it prints holds no canary."""
    command = [sys.executable, "-m", "tests.drills.collect_month", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    said = done.stdout + done.stderr
    assert not seen(" ".join(arguments), said.encode())
    return done.returncode, said


def test_no_secret_is_written_or_said(
    database: Postgres, object_store: ObjectStoreServer, echo: str, tmp_path: Path
) -> None:
    """Posts from X into S3 with PostgreSQL, every secret in use; then X refuses; then settings are wrong."""
    home = tmp_path / "home"
    store = object_store.environment | {"AWS_SECRET_ACCESS_KEY": CANARIES["AWS_SECRET_ACCESS_KEY"]}
    s3 = filesystem("s3", key="test", secret="test", endpoint_url=object_store.url, use_listings_cache=False)
    s3.mkdir("canaries")
    with running_server() as x:
        environment = {
            **environment_of(home),
            **CANARIES,
            **store,
            "TWIGMA_DATABASE": database.address,
            "TWIGMA_LAKE": "s3://canaries/lake",
            "TWIGMA_SOURCE": "x",
            "TWIGMA_X_API": x,
            "TWIGMA_MEDIA_BASE": x,
        }
        status, said = run(environment, "collect", "2021-01")
    assert status == 0, said[-3000:]
    status, said = run(environment | {"TWIGMA_X_API": echo}, "collect", "2021-02")
    assert status == 1 and "403" in said, said[-3000:]
    wrong = {
        "TWIGMA_DATABASE": f"mysql://user:{CANARIES['TWIGMA_DATABASE']}@host/name",
        "TWIGMA_MEDIA_BASE": f"http://user:{CANARIES['X_BEARER_TOKEN']}@127.0.0.1:9",
        "TWIGMA_LAKE": f"s3://key:{CANARIES['AWS_SECRET_ACCESS_KEY']}@bucket/lake",
    }
    if FULL:
        assert "(set)" in run(environment, "settings")[1]
        for name, value in wrong.items():
            status, said = run(environment | {name: value}, "settings")
            assert status == 2 and name in said, said

    found, files = seen_below(home)
    objects = s3.find("canaries")
    found += [what for name in objects for what in seen(name, s3.cat_file(name))]
    database.stop()
    (database.folder / "password").unlink()
    more, rows = seen_below(database.folder)  # runs, events and what is written ahead, byte by byte
    print(f"secrets: {files} files at home, {len(objects)} objects, {rows} files of PostgreSQL: none in them")
    assert not found + more
    assert files > 3 and any("shards" in name for name in objects) and rows > 100, objects


@pytest.mark.skipif(not FULL, reason="builds the whole graph: make drills")
def test_no_secret_is_in_a_release_or_report_or_published(tmp_path: Path) -> None:
    """The whole graph of a month, a dry run of both uploads, and both uploads, to servers of our own."""
    home = tmp_path / "home"
    environment = {**environment_of(home), **CANARIES}
    del environment["TWIGMA_DATABASE"]  # SQLite: its files are searched
    status, said = run(environment, "build", "2021-01")
    assert status == 0, said[-3000:]
    (release,) = (path for path in (home / "lake" / "releases").iterdir() if path.is_dir())
    with serve_zenodo() as zenodo, serve_hub() as hub:
        there = environment | {"TWIGMA_ZENODO": zenodo.base, "HF_ENDPOINT": hub.base, "HF_HUB_OFFLINE": "0"}
        for more in (["--dry-run"], ["--yes"]):
            for target in (["zenodo", str(release)], ["hub", str(release), "somebody/twigma"]):
                status, said = run(there, "publish", *target, *more)
                assert status == 0, said[-3000:]
    found, files = seen_below(home)
    print(f"secrets: {files} files of a whole build, its release and report: none in them")
    assert files > 200 and not found
