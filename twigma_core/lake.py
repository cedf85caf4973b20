"""Where data live: one root, a local folder or s3://, and the only code that knows its paths.

Layout, below the root::

    tables/<asset>/<partition>.parquet          a partitioned table
    tables/<asset>/all.parquet                  a whole-dataset table
    tables/<asset>/<partition>.<array>.<hash>.npy   arrays beside a table, mapped straight into memory
    pages/  shards/  models/  figures/  releases/  inbox/  outbox/    files that assets write or people drop

A write replaces a whole partition or nothing (`twigma_core.storage` says how). Arrays are written first,
under a name that holds their hash; the table that refers to them replaces the old one last. Each table
carries its `Provenance` in its Parquet metadata.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import xxhash
from upath import UPath

from twigma_core import tables
from twigma_core.parquet import refusing
from twigma_core.provenance import Provenance
from twigma_core.stacked import StackedRows, StackedTable, rows_of
from twigma_core.storage import Range, open_storage

WHOLE = "all"
_KEY = "twigma"
_FOOTER = 2**16  # bytes read for a table's metadata: more than almost any footer takes


class MissingPartition(LookupError):
    """A table or partition that has not been materialized."""


class DamagedTable(RuntimeError):
    """A table or partition whose file cannot be read; the message names it, the cause and the cure."""


def damage(name: str, partition: str | None = None) -> AbstractContextManager[None]:
    """Turn all that reading a table may raise into `DamagedTable`."""
    place = f"{name}/{partition}" if partition else name
    return refusing(DamagedTable, place, "if its file is damaged, materialize it again")


@dataclass(frozen=True)
class ArrayTable:
    """A table with arrays beside it: row i of the table describes row i of `vectors`, where there is one.

    Attributes:
        table: the id table.
        arrays: named numeric arrays; `vectors` is (n, d) float32.
    """

    table: pl.DataFrame
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def vectors(self) -> np.ndarray:
        """The (n, d) array called `vectors`."""
        return self.arrays["vectors"]

    def take(self, ids: pl.Series, key: str = "image_id") -> ArrayTable:
        """Return the rows of these ids, in their order; see `stacked.rows_of`."""
        at = rows_of(self.table, ids, key)
        return ArrayTable(self.table[at], {name: array[at] for name, array in self.arrays.items()})


@dataclass(frozen=True)
class Stored:
    """What a write left behind.

    Attributes:
        path: the table's file.
        rows: number of rows.
        bytes: size of the table and its arrays on disk.
        provenance: the record that it carries, with its data version.
    """

    path: str
    rows: int
    bytes: int
    provenance: Provenance


class Lake:
    """Tables, arrays and files below one root, which is in a folder or in an object store.

    Args:
        root: a folder, or an address such as "s3://bucket/prefix" (`twigma_core.storage` says how that is
            reached).
    """

    def __init__(self, root: str | Path) -> None:
        self._files = open_storage(root)
        self.root = self._files.root
        self.local = self._files.local

    # ------------------------------------------------------------ files

    def path(self, *parts: str) -> UPath:
        """Return the path of a file below the root."""
        return self.root.joinpath(*parts)

    def write_bytes(self, relative: str, data: bytes | bytearray) -> UPath:
        """Write a file so that it appears whole or not at all; replaces one of the same name."""
        self._files.write(relative, data)
        return self.path(relative)

    def append(self, relative: str, data: bytes) -> bool:
        """Add to the end of a file in a folder that is held; False in an object store, which cannot.

        What is added lasts through the death of this process, and not for certain through a loss of power.
        """
        return self._files.append(relative, data)

    def read_bytes(self, relative: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return `length` bytes of a file from `offset` on, fewer where it ends: one ranged read.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return self._files.read(relative, offset, length)

    def read_ranges(self, ranges: Sequence[Range]) -> Iterator[bytes]:
        """Yield the bytes of each (file, offset, length): a ranged read each, several at once from afar."""
        return self._files.read_ranges(ranges)

    def list_files(self, relative: str) -> list[str]:
        """Return the files directly in a folder, sorted, relative to the root; empty if there is none."""
        return [f"{relative}/{name}" for name in self._files.names(relative)]

    def exists(self, relative: str) -> bool:
        """Say whether there is such a file."""
        return self._files.exists(relative)

    def list_folders(self, relative: str) -> list[str]:
        """Return the names of the folders directly in a folder, sorted; empty if there is none."""
        return self._files.folders(relative)

    def hold(self, relative: str) -> AbstractContextManager[None]:
        """Keep a folder to this process until the block ends; the system frees it if the process dies.

        An object store knows no such lock: there, only one process may write.

        Raises:
            RuntimeError: another process holds it.
        """
        return self._files.hold(relative)

    def remove(self, relative: str) -> None:
        """Remove a file; one that is not there is no error."""
        self._files.remove(relative)

    def sweep(self, relative: str) -> None:
        """Remove what killed writers left half written in a folder."""
        self._files.sweep(relative)

    # ------------------------------------------------------------ tables

    def table_path(self, name: str, partition: str | None = None) -> UPath:
        """Return the file of a table's partition; None is the whole-dataset table."""
        return self.path(_table(name, partition))

    def partitions(self, name: str) -> list[str]:
        """Return the partitions of a table that exist, sorted."""
        found = (Path(file).stem for file in self.list_files(f"tables/{name}") if file.endswith(".parquet"))
        return sorted(key for key in found if key != WHOLE)

    def has(self, name: str, partition: str | None = None) -> bool:
        """Say whether a table's partition exists."""
        return self.exists(_table(name, partition))

    def write(
        self,
        name: str,
        value: pl.DataFrame | ArrayTable,
        partition: str | None = None,
        provenance: Provenance | None = None,
    ) -> Stored:
        """Replace a partition of table `name`; the schema in `tables` must hold.

        Raises:
            dataframely.exc.ValidationError, SchemaError: the value breaks the table's schema.
        """
        arrays = value.arrays if isinstance(value, ArrayTable) else {}
        frame = tables.conform(name, value.table if isinstance(value, ArrayTable) else value)
        version = data_version(name, frame, arrays)
        record = replace(
            provenance or Provenance(name, partition), asset=name, partition=partition, data_version=version
        )
        size, files = 0, {}
        for key, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
            files[key] = f"{partition or WHOLE}.{key}.{version[:16]}.npy"
            self.write_bytes(f"tables/{name}/{files[key]}", buffer.getvalue())
            size += buffer.tell()
        buffer = io.BytesIO()
        frame.write_parquet(buffer, metadata={_KEY: record.to_json(), "arrays": json.dumps(files)})
        path = self.write_bytes(_table(name, partition), buffer.getvalue())
        self._remove_old_arrays(name, partition, keep=set(files.values()))
        return Stored(str(path), frame.height, size + buffer.tell(), record)

    def _remove_old_arrays(self, name: str, partition: str | None, keep: set[str]) -> None:
        for file in self.list_files(f"tables/{name}"):
            base = Path(file).name
            if base.endswith(".npy") and base.startswith(f"{partition or WHOLE}.") and base not in keep:
                self.remove(file)

    def scan(self, name: str, partitions: Iterable[str] | None = None) -> pl.LazyFrame:
        """Return a lazy frame over the partitions that exist, or over those named.

        A table without any partition is an empty frame of its schema.
        """
        if self.has(name):
            files = [self.table_path(name)]
        else:
            existing = self.partitions(name)
            wanted = existing if partitions is None else [key for key in partitions if key in existing]
            files = [self.table_path(name, key) for key in wanted]
        if not files:
            return tables.empty(name).lazy()
        return pl.scan_parquet([str(file) for file in files])

    def read(self, name: str, partition: str | None = None) -> pl.DataFrame:
        """Return one partition of a table.

        Raises:
            MissingPartition: it has not been materialized; the message names it.
            DamagedTable: its file cannot be read.
        """
        self._require(name, partition)
        data = io.BytesIO(self.read_bytes(_table(name, partition)))
        with damage(name, partition):
            return pl.read_parquet(data)

    def read_arrays(self, name: str, partition: str | None = None) -> ArrayTable:
        """Return one partition of a table with its arrays, mapped into memory where the lake is local.

        Raises:
            MissingPartition: it has not been materialized.
            DamagedTable: its file cannot be read.
        """
        try:
            return self._read_arrays(name, partition)
        except FileNotFoundError:  # replaced meanwhile: the arrays that the old table names are gone
            return self._read_arrays(name, partition)

    def _read_arrays(self, name: str, partition: str | None) -> ArrayTable:
        table, files = self._table_and_files(name, partition)
        arrays = {key: self._files.array(f"tables/{name}/{file}") for key, file in files.items()}
        return ArrayTable(table, arrays)

    def _table_and_files(self, name: str, partition: str | None) -> tuple[pl.DataFrame, dict[str, str]]:
        self._require(name, partition)
        data = io.BytesIO(self.read_bytes(_table(name, partition)))
        with damage(name, partition):
            return pl.read_parquet(data), json.loads(pl.read_parquet_metadata(data).get("arrays", "{}"))

    def read_rows(
        self, name: str, partition: str | None, rows: Sequence[int], array: str = "vectors"
    ) -> np.ndarray:
        """Return some rows of a partition's array without reading the others.

        Raises:
            MissingPartition: it has not been materialized.
        """
        self._require(name, partition)
        files = json.loads(self._metadata(name, partition).get("arrays", "{}"))
        return self._files.array_rows(f"tables/{name}/{files[array]}", rows)

    def stack(self, name: str, partitions: Iterable[str] | None = None) -> StackedTable:
        """Return several partitions as one, in the partitions' order; their `vectors` are not read yet.

        Raises:
            MissingPartition: the table has no partition at all.
        """
        wanted = list(self.partitions(name) if partitions is None else partitions)
        if not wanted:
            raise MissingPartition(f"{name}: no partition is materialized; materialize {name} first")
        parts = [self._table_and_files(name, key) for key in wanted]
        # A file's name holds the hash of its content: what is read later is what belongs to this table.
        opens = [partial(self._files.array, f"tables/{name}/{files['vectors']}") for _, files in parts]
        rows = StackedRows(opens, [table.height for table, _ in parts])
        return StackedTable(pl.concat([table for table, _ in parts]), rows)

    def read_all_arrays(self, name: str, partitions: Iterable[str] | None = None) -> ArrayTable:
        """Return several partitions as one: tables and `vectors` stacked in the partitions' order.

        Raises:
            MissingPartition: the table has no partition at all.
        """
        wanted = None if partitions is None else list(partitions)
        try:
            return self._read_stack(name, wanted)
        except FileNotFoundError:  # replaced meanwhile, as in `read_arrays`
            return self._read_stack(name, wanted)

    def _read_stack(self, name: str, partitions: Iterable[str] | None) -> ArrayTable:
        stacked = self.stack(name, partitions)
        return ArrayTable(stacked.table, {"vectors": stacked.vectors.read()})

    def provenance(self, name: str, partition: str | None = None) -> Provenance:
        """Return the record that a partition carries.

        Raises:
            MissingPartition: it has not been materialized.
            DamagedTable: its file cannot be read, or carries no such record.
        """
        self._require(name, partition)
        metadata = self._metadata(name, partition)
        try:
            return Provenance.from_json(metadata[_KEY])
        except (KeyError, TypeError, ValueError) as error:
            place = f"{name}/{partition}" if partition else name
            raise DamagedTable(f"{place} carries no lineage ({error!r}); materialize it again") from error

    def _metadata(self, name: str, partition: str | None) -> dict[str, str]:
        file, length = _table(name, partition), _FOOTER
        while True:
            end = self._files.read_end(file, length)
            # A Parquet file ends with its footer, the footer's length, and four letters. A damaged one may
            # name a length beyond its own.
            needed = int.from_bytes(end[-8:-4], "little") + 8
            if needed <= len(end) or len(end) < length:
                with damage(name, partition):
                    return pl.read_parquet_metadata(io.BytesIO(end))
            length = needed

    def _require(self, name: str, partition: str | None) -> None:
        if not self.has(name, partition):
            place = f"{name}/{partition}" if partition else name
            raise MissingPartition(f"{place} is not materialized; materialize it first")


def _table(name: str, partition: str | None) -> str:
    return f"tables/{name}/{partition or WHOLE}.parquet"


def table_provenance(file: Path) -> Provenance:
    """Return the record that a Parquet file written by `Lake.write` carries.

    Raises:
        ValueError: the file carries none.
    """
    metadata = pl.read_parquet_metadata(file)
    if _KEY not in metadata:
        raise ValueError(f"{file} carries no lineage: it was not written by this platform")
    return Provenance.from_json(metadata[_KEY])


def data_version(name: str, frame: pl.DataFrame, arrays: Mapping[str, np.ndarray] | None = None) -> str:
    """Return a hash of a table's content: the same content gives the same version, whenever it was made.

    Columns that only tell when a run happened do not count (`tables.content_columns`).
    """
    return frame_version(frame.select(tables.content_columns(name)), arrays)


def frame_version(frame: pl.DataFrame, arrays: Mapping[str, np.ndarray] | None = None) -> str:
    """Return a hash of all columns of a frame, and of the arrays beside it.

    What Arrow keeps in memory says more than the values: bytes below nulls, the order of string buffers, a
    validity bitmap without a null. These depend on how a frame was made, so the values themselves are hashed.
    """
    digest = xxhash.xxh3_128()
    for column in frame.iter_columns():
        digest.update(column.name.encode())
        _hash_values(digest, column)
    for key in sorted(arrays or {}):
        array = np.ascontiguousarray((arrays or {})[key])
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()


def _hash_values(digest: xxhash.xxh3_128, values: pl.Series) -> None:
    digest.update(f" {values.dtype} {len(values)} ".encode())
    digest.update(np.packbits(values.is_null().to_numpy()).data)
    values = values.drop_nulls()
    match values.dtype:
        case pl.String():
            digest.update(values.str.len_bytes().to_numpy().data)
            digest.update(values.str.join("").item().encode())
        case pl.List():
            lengths = values.list.len()
            digest.update(lengths.to_numpy().data)
            _hash_values(digest, values.filter(lengths > 0).explode())
        case pl.Array():
            _hash_values(digest, values.explode())
        case pl.Struct():
            for field_values in values.struct.unnest().iter_columns():
                _hash_values(digest, field_values)
        case _:
            digest.update(np.ascontiguousarray(values.to_physical().to_numpy()).view(np.uint8).data)
