"""Bringing a reference corpus into the lake: each picture opened safely, packed, and accounted for.

What belongs here: from rows to the table reference_images. What does not: how a corpus is laid out
(`folder`, `laion`, `artbench`, `diffusiondb`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from twigma_core import tables
from twigma_core.images.decode import BadPicture, PictureInfo, describe_picture
from twigma_core.images.shards import MAX_BYTES, Place, ShardWriter
from twigma_core.lake import Lake
from twigma_core.references.artbench import read_artbench
from twigma_core.references.diffusiondb import read_diffusiondb
from twigma_core.references.img2dataset import read_shards
from twigma_core.references.laion import read_laion
from twigma_core.references.rows import CorpusError, ReferenceRow, prompt_key, require_folder, require_rows

_READERS: dict[str, Callable[[Path], Iterator[ReferenceRow]]] = {
    "laion": read_laion,
    "artbench": read_artbench,
    "diffusiondb": read_diffusiondb,
}
_AHEAD = 16
"""Pictures read and decoded ahead of the packer."""


def shard_folder(corpus: str) -> str:
    """Return the folder of a corpus's shards, relative to the lake's root."""
    return f"shards/references/{corpus}"


def load_corpus(corpus: str, location: str | Path) -> Iterator[ReferenceRow]:
    """Return the rows of a corpus: laion, artbench or diffusiondb, read from its folder.

    Pictures lie in it as files, in img2dataset's shards, or both. A shard's captions are titles, and prompts
    in diffusiondb.

    Raises:
        CorpusError: no such corpus, no such folder, nothing in it, or metadata that cannot be read.
    """
    if corpus not in _READERS:
        raise CorpusError(f"reference_images/{corpus}: no such corpus; known: {', '.join(_READERS)}")
    folder = require_folder(corpus, location)
    rows = chain(_READERS[corpus](folder), _shard_rows(corpus, folder))
    return iter(require_rows(corpus, folder, rows))


def _shard_rows(corpus: str, folder: Path) -> Iterator[ReferenceRow]:
    for row in read_shards(folder):
        if corpus == "diffusiondb":
            row = replace(row, title=None, prompt=row.title, prompt_id=prompt_key(row.title))
        yield row


def import_corpus(
    lake: Lake,
    corpus: str,
    rows: Iterable[ReferenceRow],
    *,
    max_bytes: int = 32 * 2**20,
    shard_bytes: int = MAX_BYTES,
    progress: Callable[[int], None] | None = None,
) -> pl.DataFrame:
    """Open, describe and pack the pictures of a corpus.

    Args:
        lake: where the shards go, below `shard_folder(corpus)`; `shards.prune` removes older ones once
            the table has been written.
        corpus: name of the corpus.
        rows: its pictures, from `load_corpus`.
        max_bytes: largest file that is opened.
        shard_bytes: size at which a shard is closed.
        progress: called with the number of pictures done.

    Returns:
        Table reference_images: one row a picture, whatever became of it; status is ok, unavailable (no
        file), refused (too large, or a name that leads out of the folder) or undecodable.

    Raises:
        CorpusError: two rows have the same image_id.
    """
    writer = ShardWriter(lake, shard_folder(corpus), shard_bytes)
    done: dict[str, dict[str, Any]] = {}
    places: list[Place] = []
    for row, data, found in _read_ahead(rows, max_bytes):
        if row.image_id in done:
            raise CorpusError(f"reference_images/{corpus}: two rows have the image_id {row.image_id!r}")
        done[row.image_id] = _table_row(corpus, row, found)
        if isinstance(found, PictureInfo):
            suffix = "jpg" if found.format == "JPEG" else found.format.lower()
            places += writer.add(f"{row.image_id}.{suffix}", data)
        if progress is not None:
            progress(len(done))
    places += writer.close()
    for place in places:
        done[place.name.rpartition(".")[0]] |= {"shard": place.shard, "offset": place.offset}
    schema = tables.empty("reference_images").schema
    return tables.conform("reference_images", pl.DataFrame(list(done.values()), schema=schema, orient="row"))


def _read_ahead(
    rows: Iterable[ReferenceRow], max_bytes: int
) -> Iterator[tuple[ReferenceRow, bytes, PictureInfo | tuple[str, str]]]:
    """Yield each row with its bytes and what they are, in order, decoding a few side by side."""
    with ThreadPoolExecutor() as pool:
        waiting: deque[tuple[ReferenceRow, Future[tuple[bytes, PictureInfo | tuple[str, str]]]]] = deque()
        for row in rows:
            waiting.append((row, pool.submit(_open, row, max_bytes)))
            if len(waiting) > _AHEAD:
                first, future = waiting.popleft()
                yield first, *future.result()
        for first, future in waiting:
            yield first, *future.result()


def _open(row: ReferenceRow, max_bytes: int) -> tuple[bytes, PictureInfo | tuple[str, str]]:
    """Return a row's bytes and description, or no bytes and (status, reason)."""
    if row.path is None:
        return b"", ("refused" if row.refused else "unavailable", row.reason or "no file")
    try:
        with row.path.open("rb") as file:
            file.seek(row.offset)
            data = file.read(max_bytes + 1 if row.length is None else min(row.length, max_bytes + 1))
    except OSError as error:
        return b"", ("unavailable", f"the file cannot be read: {error.strerror or type(error).__name__}")
    if len(data) > max_bytes:
        return b"", ("refused", f"larger than {max_bytes:,} bytes")
    try:
        return data, describe_picture(data)
    except BadPicture as error:
        return b"", ("undecodable", error.reason)


def _table_row(corpus: str, row: ReferenceRow, found: PictureInfo | tuple[str, str]) -> dict[str, Any]:
    values = {
        "image_id": row.image_id,
        "corpus": corpus,
        "title": row.title,
        "artist": row.artist,
        "style": row.style,
        "prompt": row.prompt,
        "prompt_id": row.prompt_id,
    }
    if isinstance(found, PictureInfo):
        return values | vars(found) | {"status": "ok"}
    return values | {"status": found[0], "reason": found[1]}
