"""Shards: standard tars, an index that is right, bytes that do not change, names that cannot climb."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.object_store import ObjectStoreServer
from twigma_core.images.shards import iter_pictures, member_name, prune, read_picture, write_shards
from twigma_core.lake import Lake

ITEMS = [(f"{n}.jpg", bytes([n]) * (n * 300 + 1)) for n in range(40)]


def test_every_file_comes_back_by_one_read_and_by_tar(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    places = write_shards(lake, "shards/x", ITEMS, max_bytes=64_000)
    assert [place.name for place in places] == [name for name, _ in ITEMS]
    assert len({place.shard for place in places}) > 3
    for place, (_, data) in zip(places, ITEMS, strict=True):
        assert read_picture(lake, place.shard, place.offset, place.bytes) == data
    found = {}
    for shard in lake.list_files("shards/x"):
        packed = sum(512 + -(-place.bytes // 512) * 512 for place in places if place.shard == shard)
        assert packed <= 64_000 and lake.path(shard).stat().st_size < packed + 1024 + tarfile.RECORDSIZE
        with tarfile.open(str(lake.path(shard))) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.uname) == (0, 0, "")
                found[member.name] = tar.extractfile(member).read()  # type: ignore[union-attr]
    assert found == dict(ITEMS)


def test_one_picture_is_one_ranged_read_of_an_object_store(
    s3_lake: Lake, object_store: ObjectStoreServer
) -> None:
    places = write_shards(s3_lake, "shards/x", ITEMS, max_bytes=64_000)
    shards = {place.shard for place in places}
    assert len(shards) > 3 and sorted(s3_lake.list_files("shards/x")) == sorted(shards)
    frame = pl.DataFrame([{"image_id": place.name, **vars(place)} for place in places])
    object_store.asked.clear()
    assert dict(iter_pictures(s3_lake, frame)) == dict(ITEMS)
    base = s3_lake.root.path
    expected = [
        ("GET", f"/{base}/{place.shard}", f"bytes={place.offset}-{place.offset + place.bytes - 1}")
        for place in places
    ]
    assert sorted(object_store.asked, key=str) == sorted(expected, key=str)
    assert prune(s3_lake, "shards/x", {places[0].shard}) == sorted(shards - {places[0].shard})
    with pytest.raises(LookupError, match=places[-1].shard):
        read_picture(s3_lake, places[-1].shard, places[-1].offset, places[-1].bytes)
    with pytest.raises(LookupError, match="ends before"):
        read_picture(s3_lake, places[0].shard, 10**7, 5)


def test_webdataset_reads_the_shards(tmp_path: Path) -> None:
    import webdataset

    lake = Lake(tmp_path)
    places = write_shards(lake, "shards/x", ITEMS, max_bytes=64_000)
    shards = [str(lake.path(shard)) for shard in dict.fromkeys(place.shard for place in places)]
    read = webdataset.WebDataset(shards, shardshuffle=False)
    assert [(f"{sample['__key__']}.jpg", sample["jpg"]) for sample in read] == ITEMS


def test_same_content_gives_the_same_shards_and_prune_removes_the_others(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    old = {place.shard for place in write_shards(lake, "shards/x", ITEMS[:5])}
    new = {place.shard for place in write_shards(lake, "shards/x", ITEMS)}
    assert {place.shard for place in write_shards(lake, "shards/x", iter(ITEMS))} == new
    lake.write_bytes("shards/x/journal.parquet", b"not a shard")
    assert prune(lake, "shards/x", new | {None}) == sorted(old)
    assert lake.list_files("shards/x") == sorted([*new, "shards/x/journal.parquet"])


def test_pictures_come_in_the_frames_order_and_a_missing_shard_is_named(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    places = write_shards(lake, "s", ITEMS[:3])
    frame = pl.DataFrame(
        {
            "image_id": ["2", "none", "0"],
            "shard": [places[2].shard, None, places[0].shard],
            "offset": [places[2].offset, None, places[0].offset],
            "bytes": [places[2].bytes, None, places[0].bytes],
        }
    )
    assert list(iter_pictures(lake, frame)) == [("2", ITEMS[2][1]), ("0", ITEMS[0][1])]
    with pytest.raises(LookupError, match="ends before"):
        read_picture(lake, places[0].shard, 0, 10**6)
    lake.remove(places[0].shard)
    with pytest.raises(LookupError, match=places[0].shard):
        list(iter_pictures(lake, frame))


@given(st.lists(st.text(min_size=1, max_size=120), unique=True, max_size=20))
def test_member_names_are_plain_and_distinct(keys: list[str]) -> None:
    keys += ["../../etc/passwd", "/etc/passwd", "a/../b", "c\\..\\d", ".", "..", "x" * 300, "x" * 301, "ü.b"]
    names = {key: member_name(f"{key}.jpg") for key in keys}
    assert len(set(names.values())) == len(set(keys))
    for name in names.values():
        assert name.isascii() and len(name) <= 100
        assert "/" not in name and "\\" not in name and name.count(".") == 1


def test_an_empty_packing_writes_nothing(tmp_path: Path, make_picture: Callable[..., bytes]) -> None:
    assert write_shards(Lake(tmp_path), "s", []) == []
    assert not (tmp_path / "s").exists()
    (place,) = write_shards(Lake(tmp_path), "s", [("1.jpg", make_picture(1))], max_bytes=10)
    with tarfile.open(fileobj=io.BytesIO((tmp_path / place.shard).read_bytes())) as tar:
        assert tar.getnames() == ["1.jpg"]
