"""Archives made to do harm: each is refused with a reason, memory stays bounded, no post is lost."""

from __future__ import annotations

import base64
import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard

from twigma_core.collect import parse
from twigma_core.collect.archives import NotAnArchive, read_archive
from twigma_core.collect.documents import MANY_BROKEN
from twigma_core.collect.imports import import_month, inventory
from twigma_core.collect.pages import PageStore
from twigma_core.lake import Lake

MONTH = "2022-08"
GOOD = {"id": "1554000000000000001", "text": "t", "created_at": "2022-08-02T00:00:00.000Z"}


def page(*posts: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"data": [GOOD, *posts], **more}).encode() + b"\n"


def post(**other: Any) -> dict[str, Any]:
    return GOOD | {"id": "1554000000000000002"} | other


def named(media_id: int) -> str:
    name = base64.urlsafe_b64encode(media_id.to_bytes(8, "big") + b"abc").decode().rstrip("=")
    return f"https://pbs.twimg.com/media/{name}.jpg"


KEY = 1554000000000000003
DEEP = 10_000
FUTURE = (datetime.now(UTC) + timedelta(days=3)).isoformat()
# What a page holds beside one good post -> the problem that the parser counts, and the rows that come of it.
POSTS: dict[str, tuple[bytes, str | None, int]] = {
    "emoji": (page(post(text="🎨👩‍🎨🏳️‍🌈 e\u0301 \U000e0041")), None, 2),
    "right to left": (page(post(text="\u202eاردو \u2066עברית\u2069 =1+1")), None, 2),
    "half a surrogate pair": (page(post(text="\ud83c")), "text had half surrogate pairs: replaced", 2),
    "NUL in a text": (page(post(text="a\0b")), None, 2),
    "id beyond 2**63": (page(post(id=str(2**63))), parse.BIG_ID, 1),
    "id beyond 2**63, a number": (page(post(id=2**64)), parse.BIG_ID, 1),
    "id of 4,000 digits": (page(post(id="9" * 4000)), parse.BIG_ID, 1),
    "id as a float": (page(post(id=1.554e18)), parse.FLOAT_ID, 1),
    "id as the text of a float": (page(post(id="1.5540000000000000e+18")), parse.FLOAT_ID, 1),
    "id below zero": (page(post(id=-5)), parse.NO_ID, 1),
    "id that is none": (page(post(id="1 OR 1=1")), parse.NO_ID, 1),
    "id that is true": (page(post(id=True)), parse.NO_ID, 1),
    "id in other digits": (page(post(id="١٥٥٤")), parse.NO_ID, 1),
    "a post twice": (page(GOOD), parse.REPEATED, 1),
    "a time in the future": (page(post(id="7", created_at=FUTURE)), parse.IMPOSSIBLE_TIME, 1),
    "a time before the first post": (
        page(post(id="7", created_at="2006-03-20T23:59:59Z")),
        parse.IMPOSSIBLE_TIME,
        1,
    ),
    "an impossible time, but an id that tells": (
        page(post(created_at="1970-01-01T00:00:00Z")),
        "created_at impossible: taken from the post's id",
        2,
    ),
    "a time that is none": (page(post(id="7", created_at="soon")), parse.NO_TIME, 1),
    "a time of the year 10000": (
        page(post(id="7", created_at="9999-12-31T23:59:59-12:00")),
        parse.NO_TIME,
        1,
    ),
    "a picture under another id": (
        page(
            post(attachments={"media_keys": [f"3_{KEY}"]}),
            includes={"media": [{"media_key": f"3_{KEY}", "type": "photo", "url": named(KEY + 1)}]},
        ),
        parse.OTHER_KEY,
        2,
    ),
    "a media key beyond 2**63": (
        page(post(attachments={"media_keys": [f"3_{2**63}"]})),
        "media key without a media id",
        2,
    ),
    "metrics that are none": (
        page(post(public_metrics={"like_count": 1e9, "quote_count": -1})),
        "like_count is not a count",
        2,
    ),
}


@pytest.mark.parametrize("name", POSTS)
def test_a_hostile_post_is_a_row_or_a_problem_and_takes_no_other_along(tmp_path: Path, name: str) -> None:
    content, problem, rows = POSTS[name]
    (tmp_path / "a.jsonl").write_bytes(content)
    lake = Lake(tmp_path / "lake")
    import_month(lake, tmp_path / "a.jsonl", MONTH)
    parsed = parse.parse_pages(PageStore(lake, MONTH).pages(), MONTH)
    assert GOOD["id"] in parsed.tweets["tweet_id"].to_list()
    assert parsed.tweets.height == rows
    counted = dict(parsed.problems.select("what", "count").iter_rows())
    assert counted.get(problem or "", 0) == (problem is not None)
    left_out = sum(number for what, number in counted.items() if what in parse.LEFT_OUT)
    assert rows + left_out == 2
    if problem is None:  # to the letter, and through Parquet
        stored = lake.write("tweets", parsed.tweets, MONTH)
        sent = json.loads(content)["data"][1]["text"]
        assert pl.read_parquet(stored.path).filter(tweet_id="1554000000000000002")["text"].item() == sent


def test_a_picture_under_another_id_keeps_its_key(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(POSTS["a picture under another id"][0])
    media = parse.parse_pages(read_archive(tmp_path)).media
    assert media["image_id"].to_list() == [str(KEY)]


def deep(depth: int) -> bytes:
    return json.dumps(GOOD)[:-1].encode() + b', "x": ' + b"[" * depth + b"]" * depth + b"}\n"


LINES: dict[str, tuple[bytes, str]] = {
    "JSON of depth 10,000": (deep(DEEP), "nested too deeply"),
    "objects of depth 10,000": (b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"\n", "nested too deeply"),
    "HTML": (b"<!DOCTYPE html><html><body>Over capacity</body></html>\n", "HTML or XML where JSON should be"),
    "NUL bytes": (b"\0" * 4096 + b"\n", "NUL bytes in it"),
    "a broken line": (b'{"data": [{"id"\n', "not JSON"),
    "not UTF-8": (b"\xff\xfe\n", "not JSON"),
    "a number": (b"5\n", "a JSON int, not an object"),
    "nothing": (b"null\n", "a JSON NoneType, not an object"),
    "Infinity": (b"[1e999, Infinity]\n", "a JSON float, not an object"),
    "a number of 5,000 digits": (b"9" * 5000 + b"\n", "not JSON"),
}


@pytest.mark.parametrize("pack", [lambda b: b, gzip.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("name", LINES)
def test_a_broken_line_has_its_place_and_reason_and_the_next_is_read(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    line, reason = LINES[name]
    (tmp_path / "a.jsonl").write_bytes(pack(page() + line + page(post())))
    pages = import_month(Lake(tmp_path / "lake"), tmp_path / "a.jsonl", MONTH)
    assert pages.filter(status="ok")["posts"].to_list() == [1, 2]
    broken = pages.filter(status="corrupt")["reason"].to_list()
    assert broken and all(text.startswith("a.jsonl:2: ") and reason in text for text in broken)
    row = inventory(tmp_path / "a.jsonl").row(0, named=True)
    assert (row["pages"], row["posts"], row["broken"]) == (2, 3, 1)
    assert reason in row["note"]


@pytest.mark.parametrize("depth", [90, 205, 300, 900, 950, 985, 990, 995])
def test_no_depth_passes_reading_and_breaks_what_comes_after(tmp_path: Path, depth: int) -> None:
    (tmp_path / "a.jsonl").write_bytes(json.dumps(post()).encode() + b"\n" + deep(depth))
    lake = Lake(tmp_path / "lake")
    table = import_month(lake, tmp_path / "a.jsonl", MONTH)
    tweets = parse.parse_pages(PageStore(lake, MONTH).pages(), MONTH).tweets
    assert tweets.height == (2 if depth < 100 else 1)
    assert (table["status"] == "corrupt").sum() == 2 - tweets.height


def archive_of(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as pack:
            pack.writestr("../../climbs.jsonl", page())
    else:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            member = tarfile.TarInfo("../../climbs.jsonl")
            member.size = len(page())
            tar.addfile(member, io.BytesIO(page()))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", archive_of("zip"), "a zip file: unpack it first"),
        ("a.jsonl", archive_of("tar"), "a tar file: unpack it first"),
        ("a.jsonl", gzip.compress(archive_of("tar")), "a tar file: unpack it first"),
        ("a.json", b"PAR1 and so on", "a Parquet file"),
        ("a.csv", b"name,age\nx,5\n", "neither snscrape's nor the 2023 release; its columns are name, age"),
    ],
)
def test_containers_and_other_files_are_named_and_never_unpacked(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(content)
    with pytest.raises(NotAnArchive, match=reason):
        list(read_archive(folder / name))
    assert list(read_archive(folder)) == []
    row = inventory(folder).row(0, named=True)
    assert row["note"].startswith("not read: ") and reason in row["note"]
    assert not list(tmp_path.rglob("climbs*"))


MEASURE = """
import resource, sys, json
from pathlib import Path
from twigma_core.collect.imports import import_month, inventory
from twigma_core.lake import Lake
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
inventory(sys.argv[1])
before = peak()
lake = Lake(sys.argv[3])
table = import_month(lake, sys.argv[2], "2022-08")
notes = inventory(sys.argv[2], lake)["note"].to_list()
rows = table.select("status", "reason", "posts").rows()
print(json.dumps({"grew": peak() - before, "rows": rows, "notes": notes}))
"""


def zeros(length: int) -> bytes:
    """Return a zstandard frame of this many zeros: some thousandths of their size."""
    packer = zstandard.ZstdCompressor().compressobj()
    block = bytes(2**24)
    return b"".join(packer.compress(block) for _ in range(length >> 24)) + packer.flush()


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a line of 100 MB": (
        "a.jsonl",
        lambda: page() + b'{"data": "' + b"x" * 10**8 + b'"}\n' + page(),
        "longer than 16 MiB (100,000,013 bytes)",
    ),
    "a line of 100 MB, packed": (
        "a.jsonl.gz",
        lambda: gzip.compress(page() + b"[" * 10**8 + b"\n" + page(), 1),
        "longer than 16 MiB (100,000,001 bytes)",
    ),
    "a document of 100 MB": (
        "a.json",
        lambda: b'{\n"data": "' + b"x" * 10**8 + b'"}\n',
        "longer than 64 MiB: split it into one document a line",
    ),
    "two GiB of zeros": (
        "a.jsonl.zst",
        lambda: zstandard.ZstdCompressor().compress(page()) + zeros(2**31),
        "longer than 1024 MiB: the rest of the file is not read",
    ),
    "ten million lines of nothing": (
        "a.jsonl.gz",
        lambda: gzip.compress(page() + b"1\n" * 10**7, 1),
        f"gave up after {MANY_BROKEN + 1:,} broken pieces: the rest of the file is not read",
    ),
    "a cell of 100 MB": (
        "a.csv",
        lambda: b"id,date,content\n1,2022-08-02T00:00:00Z,t\n2,x," + b"y" * 10**8 + b"\n",
        "longer than 16 MiB",
    ),
    "a cell that never ends": (
        "a.csv",
        lambda: b'id,date,content\n1,2022-08-02T00:00:00Z,t\n2,x,"' + b"y\n" * 10**6,
        "not CSV from line 3 on: field larger than field limit",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_told_and_memory_stays_bounded(tmp_path: Path, name: str) -> None:
    file, content, reason = BOMBS[name]
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.jsonl").write_bytes(page())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / file).write_bytes(content())
    folders = [str(tmp_path / part) for part in ("good", "bad", "lake")]
    command = [sys.executable, "-c", MEASURE, *folders]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    told = json.loads(done.stdout)
    assert told["grew"] < 300, f"{told['grew']:.0f} MiB more than for a page of one post"
    assert any(reason in (row[1] or "") for row in told["rows"]), told["rows"][-3:]
    assert any(reason in (note or "") for note in told["notes"])
    if file != "a.json":
        assert ["ok", None, 1] in told["rows"], "the post before the bomb is there"
