"""Where data live: one root, a local folder or s3://, and the only code that knows its paths.

Layout, below the root::

    tables/<asset>/<partition>.parquet          a partitioned table
    tables/<asset>/all.parquet                  a whole-dataset table
    tables/<asset>/<partition>.<array>.<hash>.npy   arrays beside a table, mapped straight into memory
    pages/  shards/  figures/  releases/  inbox/    files that assets write or people drop

A write replaces a whole partition or nothing: the bytes go to a temporary file in the same folder, then
take the final name in one step. Arrays are written first, under a name that holds their hash; the table
that refers to them replaces the old one last. Each table carries its `Provenance` in its Parquet metadata.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import platform
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xxhash
from upath import UPath

from twigma_core import tables
from twigma_core.provenance import Provenance

WHOLE = "all"
_HOST = platform.node().replace(".", "-") or "host"
_KEY = "twigma"


class MissingPartition(LookupError):
    """A table or partition that has not been materialized."""


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
        """Return the rows of these ids, in their order; of an id that occurs twice, the first row.

        Raises:
            KeyError: an id is not in the table; the message counts them and names one.
        """
        index = self.table.select(key).with_row_index("row").unique(key, keep="first", maintain_order=True)
        rows = ids.rename(key).to_frame().join(index, on=key, how="left", maintain_order="left")
        missing = rows.filter(pl.col("row").is_null())[key]
        if len(missing):
            raise KeyError(f"{len(missing)} of {len(ids)} ids have no row in the table, e.g. {missing[0]}")
        at = rows["row"].to_numpy()
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
    """Tables, arrays and files below one root.

    Args:
        root: a folder, or an address such as "s3://bucket/prefix".
        storage_options: passed to fsspec for a remote root (key, secret, endpoint_url).
    """

    def __init__(self, root: str | Path, **storage_options: Any) -> None:
        self.root = UPath(root, **storage_options)
        self.local = self.root.protocol in ("", "file")
        self._options = storage_options

    # ------------------------------------------------------------ files

    def path(self, *parts: str) -> UPath:
        """Return the path of a file below the root."""
        return self.root.joinpath(*parts)

    def write_bytes(self, relative: str, data: bytes | bytearray) -> UPath:
        """Write a file so that it appears whole or not at all; replaces one of the same name."""
        target = self.path(relative)
        if not self.local:  # an object store's put is atomic
            target.write_bytes(bytes(data))
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(Path(str(target)))
        temporary = target.with_name(f".{target.name}.{_HOST}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
        try:
            with open(str(temporary), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(str(temporary)).replace(str(target))
            _flush_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
        return target

    def read_bytes(self, relative: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return `length` bytes of a file from `offset` on: one ranged read on an object store."""
        target = self.path(relative)
        with target.open("rb") as file:
            file.seek(offset)
            return file.read() if length is None else file.read(length)

    def list_files(self, relative: str) -> list[str]:
        """Return the files directly in a folder, sorted, relative to the root; empty if there is none."""
        folder = self.path(relative)
        if not folder.exists():
            return []
        names = (entry.name for entry in folder.iterdir() if entry.is_file())
        return sorted(f"{relative}/{name}" for name in names if not name.startswith("."))

    def list_folders(self, relative: str) -> list[str]:
        """Return the names of the folders directly in a folder, sorted; empty if there is none."""
        folder = self.path(relative)
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.exists() else []

    @contextmanager
    def hold(self, relative: str) -> Iterator[None]:
        """Keep a folder to this process until the block ends; the system frees it if the process dies.

        An object store knows no such lock: there, only one process may write.

        Raises:
            RuntimeError: another process holds it.
        """
        if not self.local:
            yield
            return
        lock = Path(str(self.path(relative, ".lock")))
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(f"{relative} is written by another run; wait until it ends") from None
            yield

    def remove(self, relative: str) -> None:
        """Remove a file; one that is not there is no error."""
        self.path(relative).unlink(missing_ok=True)

    # ------------------------------------------------------------ tables

    def table_path(self, name: str, partition: str | None = None) -> UPath:
        """Return the file of a table's partition; None is the whole-dataset table."""
        return self.path("tables", name, f"{partition or WHOLE}.parquet")

    def partitions(self, name: str) -> list[str]:
        """Return the partitions of a table that exist, sorted."""
        found = (Path(file).stem for file in self.list_files(f"tables/{name}") if file.endswith(".parquet"))
        return sorted(key for key in found if key != WHOLE)

    def has(self, name: str, partition: str | None = None) -> bool:
        """Say whether a table's partition exists."""
        return self.table_path(name, partition).exists()

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
        path = self.write_bytes(f"tables/{name}/{partition or WHOLE}.parquet", buffer.getvalue())
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
        return pl.scan_parquet([str(file) for file in files], storage_options=self._polars_options())

    def read(self, name: str, partition: str | None = None) -> pl.DataFrame:
        """Return one partition of a table.

        Raises:
            MissingPartition: it has not been materialized; the message names it.
        """
        self._require(name, partition)
        return pl.read_parquet(io.BytesIO(self.table_path(name, partition).read_bytes()))

    def read_arrays(self, name: str, partition: str | None = None) -> ArrayTable:
        """Return one partition of a table with its arrays, mapped into memory where the lake is local.

        Raises:
            MissingPartition: it has not been materialized.
        """
        frame = self.read(name, partition)
        files = json.loads(self._metadata(name, partition).get("arrays", "{}"))
        return ArrayTable(frame, {key: self._load(f"tables/{name}/{file}") for key, file in files.items()})

    def read_all_arrays(self, name: str, partitions: Iterable[str] | None = None) -> ArrayTable:
        """Return several partitions as one: tables and `vectors` stacked in the partitions' order.

        Raises:
            MissingPartition: the table has no partition at all.
        """
        wanted = list(self.partitions(name) if partitions is None else partitions)
        if not wanted:
            raise MissingPartition(f"{name}: no partition is materialized; materialize {name} first")
        parts = [self.read_arrays(name, key) for key in wanted]
        table = pl.concat([part.table for part in parts])
        full = [part.vectors for part in parts if len(part.vectors)] or [parts[0].vectors]
        return ArrayTable(table, {"vectors": np.concatenate(full)})

    def provenance(self, name: str, partition: str | None = None) -> Provenance:
        """Return the record that a partition carries.

        Raises:
            MissingPartition: it has not been materialized.
        """
        self._require(name, partition)
        return Provenance.from_json(self._metadata(name, partition)[_KEY])

    def _metadata(self, name: str, partition: str | None) -> dict[str, str]:
        path = self.table_path(name, partition)
        source = str(path) if self.local else io.BytesIO(path.read_bytes())
        return pl.read_parquet_metadata(source)

    def _load(self, relative: str) -> np.ndarray:
        if self.local:
            return np.load(str(self.path(relative)), mmap_mode="r", allow_pickle=False)
        return np.load(io.BytesIO(self.read_bytes(relative)), allow_pickle=False)

    def _require(self, name: str, partition: str | None) -> None:
        if not self.has(name, partition):
            place = f"{name}/{partition}" if partition else name
            raise MissingPartition(f"{place} is not materialized; materialize it first")

    def _polars_options(self) -> dict[str, str] | None:
        if self.local:
            return None
        client = self._options.get("client_kwargs", {})
        known = {
            "aws_access_key_id": self._options.get("key"),
            "aws_secret_access_key": self._options.get("secret"),
            "aws_endpoint_url": self._options.get("endpoint_url") or client.get("endpoint_url"),
            "aws_region": client.get("region_name", "us-east-1"),
        }
        return {key: value for key, value in known.items() if value}


def _flush_folder(folder: UPath) -> None:
    """See to it that a new name in a folder survives a loss of power too."""
    handle = os.open(str(folder), os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(target: Path) -> None:
    """Remove temporary files of `target` that a killed process of this machine left behind."""
    for left in target.parent.glob(f".{target.name}.{_HOST}.*.tmp"):
        pid = left.name.removeprefix(f".{target.name}.{_HOST}.").partition(".")[0]
        if pid.isdigit() and not Path("/proc", pid).exists() and Path("/proc").exists():
            left.unlink(missing_ok=True)


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
    """Return a hash of all columns of a frame, and of the arrays beside it."""
    digest = xxhash.xxh3_128()
    buffer = io.BytesIO()
    frame.rechunk().write_ipc(buffer, compression="uncompressed")
    digest.update(buffer.getbuffer())
    for key in sorted(arrays or {}):
        array = np.ascontiguousarray((arrays or {})[key])
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()
