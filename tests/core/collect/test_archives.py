"""Archives: what they hold, counted by another way; compressed, broken and imported twice."""

from __future__ import annotations

import gzip
import json

import polars as pl
import pytest
import zstandard

from twigma_core.collect.archives import read_archive
from twigma_core.collect.imports import import_month, inventory, months
from twigma_core.collect.pages import PageStore
from twigma_core.collect.parse import parse_pages
from twigma_core.lake import Lake


def line(first: int, month: str = "2022-08", posts: int = 3) -> bytes:
    data = [
        {"id": str(first + n), "text": "t", "created_at": f"{month}-02T00:00:00.000Z"} for n in range(posts)
    ]
    return (
        json.dumps({"data": data, "__twarc": {"retrieved_at": "2023-01-01T00:00:00+00:00"}}).encode() + b"\n"
    )


def test_the_inventory_of_real_files_agrees_with_a_plain_reading(shared_data):
    folder = shared_data / "tweets" / "twarc_csv_v2"
    found = {row["file"]: row for row in inventory(folder).iter_rows(named=True)}
    assert len(found) == 28
    for file in folder.iterdir():
        good = bad = posts = 0
        for text in file.read_bytes().splitlines():
            if not text.strip():
                continue
            try:
                reply = json.loads(text)
            except ValueError:
                bad += 1
                continue
            good += 1
            data = reply.get("data", reply)
            posts += sum("text" in one for one in (data if isinstance(data, list) else [data]))
        row = found[file.name]
        assert (row["pages"], row["broken"], row["posts"]) == (good, bad, posts), file.name
    assert found["streaming_output_with_error.jsonl"]["broken"] == 1
    assert found["empty.json"]["note"] == "empty"


def test_importing_all_real_months_loses_no_post(shared_data, tmp_path):
    folder = shared_data / "tweets"
    lake = Lake(tmp_path)
    whole = parse_pages(read_archive(folder)).tweets
    kept = []
    for month in months(folder):
        table = import_month(lake, folder, month)
        assert (table["status"] == "corrupt").sum() == 1
        kept.append(parse_pages(PageStore(lake, month).pages(), month).tweets)
    assert table.equals(import_month(lake, folder, month))
    ids = pl.concat(kept)
    assert ids["tweet_id"].is_unique().all()
    assert set(ids.select("tweet_id", "like_count").iter_rows()) == set(
        whole.select("tweet_id", "like_count").iter_rows()
    )


@pytest.mark.parametrize("pack", [lambda b: b, gzip.compress, zstandard.ZstdCompressor().compress])
def test_plain_gzip_and_zstd_are_told_by_content(tmp_path, pack):
    (tmp_path / "posts.jsonl").write_bytes(pack(b"\xef\xbb\xbf" + line(1) + b"\n" + line(10)))
    pages = list(read_archive(tmp_path / "posts.jsonl"))
    assert [page.posts for page in pages] == [3, 3]
    assert [page.path for page in pages] == ["posts.jsonl:1", "posts.jsonl:3"]
    assert pages[0].fetched_at.year == 2023


def test_broken_lines_and_files_are_pages_with_a_reason(tmp_path):
    deep = b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"\n"
    (tmp_path / "a.jsonl").write_bytes(line(1) + b'{"data": [{"id"\n' + b"5\n\xff\xfe\n" + deep + line(10))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(line(20) * 2000)[:-100])
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(line(30))[:-4])
    (tmp_path / "d.json").write_text(json.dumps(json.loads(line(40)), indent=1)[:-30])
    (tmp_path / "notes.txt").write_text("not an archive")
    broken = [page for page in read_archive(tmp_path) if page.status == "corrupt"]
    places = [page.path for page in broken]
    assert places == [
        "a.jsonl:2",
        "a.jsonl:3",
        "a.jsonl:4",
        "a.jsonl:5",
        "b.jsonl.gz",
        "c.jsonl.zst",
        "d.json:1",
    ]
    assert all(page.body is None and str(page.reason).startswith(page.path) for page in broken)
    assert "nested too deeply" in str(broken[3].reason) and "an object" in str(broken[1].reason)

    found = {row["file"]: row for row in inventory(tmp_path).iter_rows(named=True)}
    assert found["a.jsonl"]["broken"] == 4 and found["a.jsonl"]["posts"] == 6
    assert found["notes.txt"]["note"].startswith("not read")
    table = import_month(Lake(tmp_path / "lake"), tmp_path, "2022-08")
    assert (table["status"] == "corrupt").sum() == 7
    assert table.filter(pl.col("status") == "corrupt")["reason"].null_count() == 0
    assert parse_pages(PageStore(Lake(tmp_path / "lake"), "2022-08").pages()).tweets.height >= 6


def test_two_equal_broken_lines_are_two_rows_and_a_second_import_adds_none(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"{\n{\n" + line(1))
    lake = Lake(tmp_path / "lake")
    assert import_month(lake, tmp_path / "a.jsonl", "2022-08").height == 3
    assert import_month(lake, tmp_path / "a.jsonl", "2022-08").height == 3


def test_folders_of_replies_pretty_printed_or_in_lists(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "1.json").write_text(json.dumps(json.loads(line(1)), indent=2))
    (tmp_path / "sub" / "2.json").write_text(json.dumps([json.loads(line(10)), json.loads(line(20)), 7]))
    (tmp_path / "sub" / "3.json").write_bytes(line(30) + line(40))
    pages = list(read_archive(tmp_path))
    assert [page.posts for page in pages] == [3, 3, 3, 0, 3, 3]
    assert [page.query for page in pages[:2]] == ["sub/1.json", "sub/2.json"]
    assert pages[3].status == "corrupt"


def test_flattened_posts_are_gathered_by_month(tmp_path):
    flat = [
        {"id": str(n), "text": "t", "created_at": f"2022-0{8 + n % 2}-02T00:00:00Z", "author": {"id": "1"}}
        for n in range(1, 1203)
    ]
    (tmp_path / "flat.jsonl").write_text("\n".join(map(json.dumps, flat)))
    assert months(tmp_path) == ["2022-08", "2022-09"]
    lake = Lake(tmp_path / "lake")
    table = import_month(lake, tmp_path / "flat.jsonl", "2022-08")
    assert table["posts"].to_list() == [500, 101]
    tweets, _, problems = parse_pages(PageStore(lake, "2022-08").pages(), "2022-08")
    assert tweets.height == 601 and problems.is_empty()


def test_a_missing_archive_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no archive at"):
        list(read_archive(tmp_path / "none"))
