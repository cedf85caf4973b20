"""Finished pieces of a partition that is still being computed, so that a stopped run loses no more than one.

What belongs here: writing a piece, reading those that are there, removing them once the table is written.
What does not: what is computed (`incremental`, `features`).

A piece is a file `journal/<table>/<partition>/<maker>-<first key>-<rows>.arrow` with a row's key and value.
`maker` is a hash of the model and its settings, so that nothing another model left is taken for this one's.
Several processes may write pieces of one partition: equal work gives an equal file of an equal name.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import xxhash

from twigma_core.lake import WHOLE, Lake

ROOT = "journal"


@dataclass(frozen=True)
class Journal:
    """The pieces of one partition of a table, as one maker makes them.

    Attributes:
        lake: where they lie.
        table: name of the table.
        partition: its partition; None is the whole.
        maker: whatever decides the values besides the keys: model, weights, settings.
    """

    lake: Lake
    table: str
    partition: str | None
    maker: str

    def add(self, keys: Sequence[str], values: Sequence[Any]) -> None:
        """Keep a finished piece: n keys and their n values (texts, numbers, or vectors of one width)."""
        texts = isinstance(values[0], str)
        frame = pl.DataFrame({"key": list(keys), "value": list(values) if texts else np.stack(values)})
        buffer = io.BytesIO()
        frame.write_ipc(buffer)
        name = f"{self._prefix}{xxhash.xxh3_64_hexdigest(keys[0].encode())}-{len(keys)}.arrow"
        self.lake.write_bytes(f"{_folder(self.table, self.partition)}/{name}", buffer.getvalue())

    def pieces(self) -> Iterator[tuple[list[str], Iterable[Any]]]:
        """Yield keys and values of each piece that is there; one that cannot be read is as good as none."""
        for file in self.lake.list_files(_folder(self.table, self.partition)):
            if not file.rpartition("/")[2].startswith(self._prefix):
                continue
            try:
                frame = pl.read_ipc(io.BytesIO(self.lake.read_bytes(file)))
            except (OSError, pl.exceptions.PolarsError):
                continue
            values = frame["value"]
            yield frame["key"].to_list(), values.to_list() if values.dtype == pl.String else values.to_numpy()

    @property
    def _prefix(self) -> str:
        return f"{xxhash.xxh3_64_hexdigest(self.maker.encode())}-"


def clear(lake: Lake, table: str, partition: str | None) -> None:
    """Remove all pieces of a partition, whoever made them: its table is written, or begins anew."""
    for file in lake.list_files(_folder(table, partition)):
        lake.remove(file)


def is_clear(lake: Lake, table: str, partition: str | None) -> bool:
    """Say whether a partition has no pieces: it may have been stopped between its table and their removal."""
    return not lake.list_files(_folder(table, partition))


def _folder(table: str, partition: str | None) -> str:
    return f"{ROOT}/{table}/{partition or WHOLE}"
