"""Replies to lookups by id, on disk before the next is asked for, so that no id is bought twice.

A reply is one file, `hydrated/<source>/<name>/<kind>/<number>-<bought>.json.zst`: the reply as JSON, with the
ids that it was asked for under `fields.NOTES`. The folder is an archive that `archives` reads, and what it
cost stands in the names of its files. Asking, and what replies say of the ids, belong to `hydrate`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import zstandard

from twigma_core.collect import fields
from twigma_core.collect.documents import dumps, loads
from twigma_core.lake import Lake

TOP = "hydrated"
REPLIES, ACCOUNTS = "replies", "accounts"
"""Kinds of replies: to lookups of posts, and of accounts."""
_FILE = re.compile(r".*/([0-9]{5,})-([0-9]+)\.json\.zst")


def folder_of(name: str, source: str, kind: str = REPLIES) -> str:
    """Return the folder of the replies to a file of ids, relative to the lake's root.

    Args:
        name: of the file of ids.
        source: who was asked: "x" or "sample".
        kind: `REPLIES` or `ACCOUNTS`.
    """
    return f"{TOP}/{source}/{name}/{kind}"


def store(lake: Lake, folder: str, number: int, asked: list[str], body: dict[str, Any]) -> None:
    """Write a reply, flushed to disk."""
    notes = {"retrieved_at": datetime.now(UTC).isoformat(), "asked": asked}
    content = zstandard.ZstdCompressor(level=6, write_checksum=True).compress(
        dumps({fields.NOTES: notes} | body)
    )
    lake.write_bytes(f"{folder}/{number:05d}-{len(fields.data(body))}.json.zst", content)


def stored(lake: Lake, folder: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the files of replies with the reply in each; None where it cannot be read."""
    for name in lake.list_files(folder):
        if not _FILE.fullmatch(name):
            continue
        try:
            body, _ = loads(zstandard.ZstdDecompressor().decompressobj().decompress(lake.read_bytes(name)))
        except zstandard.ZstdError:
            body = None
        yield name, body if isinstance(body, dict) and asked_for(body) else None


def asked_for(body: dict[str, Any]) -> list[str]:
    """Return the ids that a reply was asked for."""
    return [one for one in fields.items(fields.mapping(body.get(fields.NOTES)).get("asked")) if one]


def next_number(lake: Lake, folder: str) -> int:
    """Return the number of the next reply."""
    return max((number for number, _ in _names(lake, folder)), default=-1) + 1


def bought(lake: Lake, kind: str) -> int:
    """Return how many posts or accounts X gave to all hydrations of a lake, by the names of files alone."""
    folders = [folder_of(name, "x", kind) for name in lake.list_folders(f"{TOP}/x")]
    return sum(number for folder in folders for _, number in _names(lake, folder))


def _names(lake: Lake, folder: str) -> list[tuple[int, int]]:
    found = (_FILE.fullmatch(name) for name in lake.list_files(folder))
    return [(int(match.group(1)), int(match.group(2))) for match in found if match]
