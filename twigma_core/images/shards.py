"""Tar shards with a byte index: many pictures in few files, each of them one ranged read away.

What belongs here: packing and reading. What does not: whether bytes are a picture (`decode`), or which
pictures there are (`download`, `references`).

A shard is an uncompressed tar whose members are called `<key>.<ext>`, as webdataset expects. Its name is
the hash of its content and nothing in it depends on the clock, so packing the same pictures again gives
the same shards: a month that is re-materialized replaces itself exactly.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import polars as pl

from twigma_core.lake import Lake
from twigma_core.storage import Range

MAX_BYTES = 64 * 2**20
"""A shard is closed when it would grow beyond this: what packing holds in memory."""

_LONGEST_NAME = 96  # a plain tar header holds 100 bytes


@dataclass(frozen=True)
class Place:
    """Where a file lies.

    Attributes:
        name: the name that it was handed over with.
        shard: tar file, relative to the lake's root.
        offset: first byte of the file's content within the shard.
        bytes: its length.
    """

    name: str
    shard: str
    offset: int
    bytes: int


class ShardWriter:
    """Packs files into shards as they come, holding at most one shard in memory.

    Args:
        lake: where the shards go.
        prefix: their folder, relative to the lake's root, such as "shards/images/2021-01".
        max_bytes: a shard is closed before it grows beyond this; a larger file gets a shard of its own.
    """

    def __init__(self, lake: Lake, prefix: str, max_bytes: int = MAX_BYTES) -> None:
        self._lake, self._prefix, self._max_bytes = lake, prefix.rstrip("/"), max_bytes
        self._buffer = bytearray()
        self._pending: list[tuple[str, int, int]] = []

    def add(self, name: str, data: bytes) -> list[Place]:
        """Pack a file called `<key>.<ext>`; return the places of the shard that this closed, if any."""
        size = tarfile.BLOCKSIZE * (1 + -(-len(data) // tarfile.BLOCKSIZE))
        closed: list[Place] = []
        if self._buffer and len(self._buffer) + size > self._max_bytes:
            closed = self.close()
        header = tarfile.TarInfo(member_name(name))
        header.size = len(data)
        self._buffer += header.tobuf(tarfile.USTAR_FORMAT)
        self._pending.append((name, len(self._buffer), len(data)))
        self._buffer += data
        self._buffer += bytes(-len(data) % tarfile.BLOCKSIZE)
        return closed

    def close(self) -> list[Place]:
        """Write the shard that is open and return its places; nothing is written if it is empty."""
        if not self._pending:
            return []
        content = self._buffer
        content += bytes(2 * tarfile.BLOCKSIZE)
        content += bytes(-len(content) % tarfile.RECORDSIZE)
        shard = f"{self._prefix}/{hashlib.sha256(content).hexdigest()[:24]}.tar"
        self._lake.write_bytes(shard, content)
        places = [Place(name, shard, offset, length) for name, offset, length in self._pending]
        self._buffer, self._pending = bytearray(), []
        return places


def write_shards(
    lake: Lake, prefix: str, items: Iterable[tuple[str, bytes]], max_bytes: int = MAX_BYTES
) -> list[Place]:
    """Pack (name, bytes) pairs into shards below `prefix`; return the places in the order of `items`."""
    writer = ShardWriter(lake, prefix, max_bytes)
    places: list[Place] = []
    for name, data in items:
        places += writer.add(name, data)
    return places + writer.close()


def read_picture(lake: Lake, shard: str, offset: int, length: int) -> bytes:
    """Return a file's bytes: one ranged read.

    Raises:
        LookupError: the shard is gone, or ends before the file does.
    """
    return next(_read(lake, [(shard, offset, length)]))


def iter_pictures(lake: Lake, frame: pl.DataFrame) -> Iterator[tuple[str, bytes]]:
    """Yield (image_id, bytes) for the rows of `frame` that have a place, in their order.

    Args:
        lake: where the shards are.
        frame: columns image_id, shard, offset, bytes; rows whose shard is null are passed over.

    Raises:
        LookupError: see `read_picture`.
    """
    stored = frame.filter(pl.col("shard").is_not_null())
    places = stored.select("shard", "offset", "bytes").rows()
    yield from zip(stored["image_id"], _read(lake, places), strict=True)


def _read(lake: Lake, places: Sequence[Range]) -> Iterator[bytes]:
    try:
        for (shard, offset, length), data in zip(places, lake.read_ranges(places), strict=True):
            if len(data) != length:
                raise LookupError(
                    f"shard {shard} ends before byte {offset + length:,}; materialize the pictures again"
                )
            yield data
    except FileNotFoundError as error:
        raise LookupError(f"a shard does not exist; materialize the pictures again: {error}") from error


def prune(lake: Lake, prefix: str, keep: Collection[str | None]) -> list[str]:
    """Remove the shards directly below `prefix` that are not in `keep`; return those removed.

    To be called after the table that names the shards has been written: a reader never meets a table
    whose shard is gone.
    """
    lake.sweep(prefix.rstrip("/"))
    kept = set(keep)
    removed = [
        file for file in lake.list_files(prefix.rstrip("/")) if file.endswith(".tar") and file not in kept
    ]
    for file in removed:
        lake.remove(file)
    return removed


def repack(lake: Lake, prefix: str, ledger: pl.DataFrame) -> pl.DataFrame:
    """Return a ledger whose shards hold its pictures and nothing else; those that hold more are rewritten.

    The pictures of a shard with more members than the ledger names go into new shards, in the order of the
    ledger; once the ledger that is returned has been written, `prune` removes the
    old ones.

    Args:
        lake: where the shards are.
        prefix: their folder.
        ledger: columns image_id, format, shard, offset, bytes (table images); a null shard is no picture.

    Raises:
        LookupError: a shard that the ledger names is gone.
    """
    stored = ledger.filter(pl.col("shard").is_not_null())
    present = set(lake.list_files(prefix.rstrip("/")))
    stale = [
        shard
        for (shard,), rows in stored.group_by("shard", maintain_order=True)
        if shard in present and _members(lake, str(shard)) != rows.height
    ]
    if not stale:
        return ledger
    moving = stored.filter(pl.col("shard").is_in(stale))
    names = [
        f"{image_id}.{'jpg' if kind == 'JPEG' else (kind or 'bin').lower()}"
        for image_id, kind in moving.select("image_id", "format").iter_rows()
    ]
    found = (data for _, data in iter_pictures(lake, moving))
    places = write_shards(lake, prefix, zip(names, found, strict=True))
    moved = pl.DataFrame(
        {
            "image_id": moving["image_id"],
            "shard": [place.shard for place in places],
            "offset": [place.offset for place in places],
        },
        schema={"image_id": pl.String, "shard": pl.String, "offset": pl.Int64},
    )
    return ledger.update(moved, on="image_id")


def _members(lake: Lake, shard: str) -> int:
    """Return how many files a shard holds, by its headers."""
    with lake.path(shard).open("rb") as file, tarfile.open(fileobj=file, mode="r:") as found:
        return len(found.getmembers())


def member_name(name: str) -> str:
    """Return a tar member's name for `name`: one plain path component, its key free of dots.

    webdataset takes what precedes the first dot for the key, and a hostile name must not climb out of
    the folder that someone unpacks the tar into. Long names are cut and made unique by a hash.
    """
    path = PurePosixPath(name)
    extension = re.sub(r"[^a-z0-9]", "", path.suffix.lower()) or "bin"
    key = name[: len(name) - len(path.suffix)] if path.suffix else name
    safe = re.sub(r"[^A-Za-z0-9_-]", lambda match: "".join(f"%{b:02X}" for b in match[0].encode()), key)
    if len(safe) + 1 + len(extension) > _LONGEST_NAME:
        safe = f"{safe[:60]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return f"{safe}.{extension[:12]}"
