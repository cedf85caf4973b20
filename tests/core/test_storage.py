"""Files in a folder and in an object store: the same verbs, the same answers, as few requests as can be."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from fsspec import filesystem

from tests.object_store import ObjectStoreServer
from twigma_core.lake import Lake
from twigma_core.storage import Storage, open_storage

DATA = bytes(range(256)) * 40


@pytest.fixture(params=["folder", "object store"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path / "root")
    return open_storage(f"{request.getfixturevalue('bucket')}/root")


def test_files_are_written_read_listed_and_removed(files: Storage) -> None:
    files.write("a/b.bin", b"old")
    files.write("a/b.bin", bytearray(DATA))
    files.write("a/deep/c.bin", b"c")
    files.write("a/odd name é.bin", b"d")
    assert files.read("a/b.bin") == DATA
    assert files.read("a/b.bin", 300, 7) == DATA[300:307]
    assert files.read("a/b.bin", len(DATA) - 3, 10) == DATA[-3:], "shorter where the file ends"
    assert files.read("a/b.bin", len(DATA) + 5, 10) == b"", "and empty behind its end"
    assert files.read("a/b.bin", 5, 0) == b""
    assert files.read("a/b.bin", 300) == DATA[300:]
    assert files.read_end("a/b.bin", 10) == DATA[-10:]
    assert files.read_end("a/b.bin", 10**6) == DATA
    assert files.names("a") == ["b.bin", "odd name é.bin"]
    assert files.names("nowhere") == []
    assert files.exists("a/b.bin") and not files.exists("a/x.bin") and not files.exists("a")
    files.remove("a/b.bin")
    files.remove("a/b.bin")
    assert files.names("a") == ["odd name é.bin"]
    for read in (
        lambda: files.read("a/b.bin"),
        lambda: files.read("a/b.bin", 1, 1),
        lambda: files.read_end("a/b.bin", 9),
        lambda: list(files.read_ranges([("a/b.bin", 0, 1)])),
    ):
        with pytest.raises(FileNotFoundError, match=r"a/b\.bin"):
            read()


def test_ranges_come_in_order_and_rows_of_an_array_alone(files: Storage) -> None:
    files.write("x", DATA)
    ranges = [("x", (37 * n) % 9000, n % 5) for n in range(1, 100)] + [("x", len(DATA), 4)]
    assert list(files.read_ranges(ranges)) == [DATA[at : at + n] for _, at, n in ranges]
    assert list(files.read_ranges([])) == []
    array = np.arange(2000, dtype=np.float32).reshape(100, 20)
    out = io.BytesIO()
    np.save(out, array)
    files.write("a.npy", out.getvalue())
    assert np.array_equal(files.array("a.npy"), array)
    assert np.array_equal(files.array_rows("a.npy", [99, 3, 3]), array[[99, 3, 3]])
    assert files.array_rows("a.npy", []).shape == (0, 20)


def test_an_object_is_one_request_and_no_listing_is_remembered(
    bucket: str, object_store: ObjectStoreServer
) -> None:
    files = open_storage(bucket)
    name = bucket.removeprefix("s3://")
    files.write("f/x", DATA)
    assert files.names("f") == ["x"]
    filesystem("s3").pipe_file(f"{name}/f/y", b"by another program")
    assert files.names("f") == ["x", "y"] and files.exists("f/y")
    object_store.asked.clear()
    files.read("f/x", 100, 50)
    list(files.read_ranges([("f/x", 0, 10), ("f/x", 20, 10)]))
    files.read_end("f/x", 8)
    assert sorted(object_store.asked, key=str) == [
        ("GET", f"/{name}/f/x", "bytes=-8"),
        ("GET", f"/{name}/f/x", "bytes=0-9"),
        ("GET", f"/{name}/f/x", "bytes=100-149"),
        ("GET", f"/{name}/f/x", "bytes=20-29"),
    ]


def test_a_scan_reads_only_the_columns_that_are_asked_for(
    s3_lake: Lake, object_store: ObjectStoreServer
) -> None:
    rows = 20_000
    frame = pl.DataFrame(
        {
            "image_id": [str(n) for n in range(rows)],
            "month": "2021-01",
            "cluster": 1,
            "distance": np.random.default_rng(0).random(rows),
            "version": "v",
        }
    )
    stored = s3_lake.write("clusters", frame, "2021-01")
    object_store.asked.clear()
    assert s3_lake.scan("clusters").select("cluster").sum().collect().item() == rows
    asked = [span for method, _, span in object_store.asked if method == "GET" and span]
    read = [span.removeprefix("bytes=").split("-") for span in asked]
    inner = sum(int(last) - int(first) + 1 for first, last in read if first)
    assert inner < stored.bytes / 4, f"{asked} of {stored.bytes}"


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    files = open_storage(tmp_path)
    script = (
        "import os, signal, sys\nfrom twigma_core.storage import open_storage\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"open_storage({str(tmp_path)!r}).write('f/x', b'1' * 100)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    files.write("f/other", b"2")
    (left,) = [path for path in (tmp_path / "f").iterdir() if path.suffix == ".tmp"]
    alive = left.with_name(left.name.replace(f".{left.name.split('.')[3]}.", ".1."))
    alive.write_bytes(b"")
    assert not files.exists("f/x") and files.names("f") == ["other"]
    files.sweep("f")
    assert not left.exists() and alive.exists()
