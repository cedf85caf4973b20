"""The lake's object store refuses, is slow, breaks off or answers 500 in the middle of a write."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.drills.counts import FULL
from tests.drills.faulty_store import FaultyStore, before
from tests.object_store import ENVIRONMENT, ObjectStoreServer
from twigma_core import tables
from twigma_core.collect.page import month_window
from twigma_core.collect.pages import PageStore
from twigma_core.images.shards import write_shards
from twigma_core.lake import ArrayTable, Lake

MONTH = "2021-01"
LASTING = ("refused", "403", "500", "reset")
PASSING = ("500", "reset", "slow")
BIG = 101 * 2**20
"""Bytes above which the client sends a file in parts."""


@dataclass(frozen=True)
class Store:
    """A lake in a bucket behind a proxy, and the bucket as it is."""

    lake: Lake
    proxy: FaultyStore
    client: Any
    bucket: str

    def objects(self) -> dict[str, str]:
        """Return the hash of each object, asked of the store itself."""
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {one["Key"]: one["ETag"] for one in found}

    def unfinished(self) -> int:
        """Return the uploads in parts that were begun and neither completed nor given up."""
        return len(self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))


@pytest.fixture
def store(object_store: ObjectStoreServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    import boto3
    from s3fs import S3FileSystem

    with before(object_store.url) as proxy:
        for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL": proxy.url}).items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()  # they keep the address that was in force when they were made
        bucket = f"test-{uuid.uuid4().hex}"
        client = boto3.client("s3", endpoint_url=object_store.url)
        client.create_bucket(Bucket=bucket)
        yield Store(Lake(f"s3://{bucket}/lake"), proxy, client, bucket)
        S3FileSystem.clear_instance_cache()


def a_page(lake: Lake, version: int) -> None:
    body = {"data": [], "meta": {"result_count": 0}}
    start, end = month_window(MONTH)
    PageStore(lake, MONTH).append(f"query {version}", body, window=(start, end), fetched_at=start)


def a_shard(lake: Lake, version: int) -> None:
    write_shards(lake, f"shards/images/{MONTH}", [(f"{version}.jpg", bytes([version]) * 100_000)])


def a_table(lake: Lake, version: int) -> None:
    rows = {"image_id": ["1", "2"], "month": [MONTH] * 2, "sha256": ["a" * 64] * 2, "model": ["m"] * 2}
    rows |= {"weights_sha256": ["b" * 64] * 2, "settings": ["s"] * 2}
    empty = tables.empty("embeddings")
    frame = pl.DataFrame(rows).select(pl.col(name) for name in empty.columns)
    vectors = np.full((2, 8), version, np.float32)
    lake.write("embeddings", ArrayTable(frame, {"vectors": vectors}), MONTH)


WRITES = (a_page, a_shard, a_table)


@pytest.mark.parametrize("fault", LASTING if FULL else ("refused", "403", "500"))
def test_a_fault_that_lasts_is_told_and_leaves_all_as_it_was(store: Store, fault: str) -> None:
    for write in WRITES:
        write(store.lake, 1)
    held = store.objects()
    for write in WRITES if FULL else (a_table,):
        store.proxy.begin(fault)
        # a page looks first which posts must be gone: there it is the reading that fails
        done = "read from" if write is a_page else "written to"
        told = f"could not be {done} s3://{store.bucket}/lake"
        with pytest.raises(OSError, match=told) as caught:
            write(store.lake, 2)
        print(f"\n{fault}, {write.__name__}, after {store.proxy.met} requests: {caught.value}")
        assert "what was there before is as it was" in str(caught.value)
        assert store.objects() == held, "no object is new, none has changed"
        store.proxy.begin("")
        write(store.lake, 2)
        assert store.objects() != held
        held = store.objects()
    assert store.lake.read_arrays("embeddings", MONTH).vectors[0, 0] == 2


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_is_waited_out(store: Store, fault: str) -> None:
    a_table(store.lake, 1)
    store.proxy.begin(fault, times=2, methods=("PUT",))
    a_table(store.lake, 2)
    assert store.proxy.met == 2
    assert store.lake.read_arrays("embeddings", MONTH).vectors[0, 0] == 2
    print(f"\n{fault}, twice: recovered")


@pytest.mark.skipif(not FULL, reason="sends 101 MiB, with `make drills`")
def test_a_file_sent_in_parts_leaves_no_part_behind(store: Store) -> None:
    data = bytes(BIG)
    store.lake.write_bytes("big", b"the old one")
    held = store.objects()
    store.proxy.begin("500", methods=("PUT",))
    with pytest.raises(OSError, match="could not be written"):
        store.lake.write_bytes("big", data)
    assert (store.objects(), store.unfinished()) == (held, 0)
    store.proxy.begin("")
    store.lake.write_bytes("big", data)
    assert store.lake.read_bytes("big", BIG - 4) == bytes(4)


@pytest.mark.parametrize("fault", ("refused", "403", "500"))
def test_a_store_that_cannot_be_read_is_no_empty_lake(store: Store, fault: str) -> None:
    """Nothing is taken to be missing, and so made or bought again, because it cannot be seen."""
    a_table(store.lake, 1)
    asks: list[Callable[[], object]] = [
        lambda: store.lake.has("embeddings", MONTH),
        lambda: store.lake.partitions("embeddings"),
        lambda: store.lake.read("embeddings", MONTH),
    ]
    for ask in asks if FULL else asks[:2]:
        store.proxy.begin(fault)
        with pytest.raises(OSError, match=f"could not be read from s3://{store.bucket}/lake"):
            ask()
        store.proxy.begin("")
        assert ask() is not None
