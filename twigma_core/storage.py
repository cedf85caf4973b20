"""Files below one root, in a folder or in an object store, behind the same few verbs.

What belongs here: whole writes, ranged reads and listing, for each kind of place. What does not: what the
files are called and hold (`twigma_core.lake`).

An object store is reached by what everybody's tools read from the environment: `AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, and `AWS_ENDPOINT_URL` for one that is not
Amazon's; or by the role of the machine. Polars reads the same, so nothing here is passed on.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import platform
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import numpy as np
from upath import UPath

Range = tuple[str, int, int]
"""A piece of a file: its name relative to the root, first byte, number of bytes."""

_HOST = platform.node().replace(".", "-") or "host"
_AT_ONCE = 32
_NPY_HEADER = 4096  # more than numpy writes for an array without fields


class Storage(Protocol):
    """What a place of files can do; every name is relative to the root."""

    local: bool
    root: UPath

    def write(self, name: str, data: bytes | bytearray) -> None:
        """Write a file so that it appears whole or not at all; replaces one of the same name."""

    def append(self, name: str, data: bytes) -> bool:
        """Add to the end of a file, without flushing it to disk; False where the place cannot."""

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return the bytes from `offset` on, fewer than `length` where the file ends; one request.

        Raises:
            FileNotFoundError: there is no such file.
        """

    def read_end(self, name: str, length: int) -> bytes:
        """Return the last `length` bytes, or all; one request."""

    def read_ranges(self, ranges: Sequence[Range]) -> Iterator[bytes]:
        """Yield the bytes of each range, in their order; one request a range, several under way."""

    def names(self, folder: str) -> list[str]:
        """Return the names of the files directly in a folder, sorted; empty if there is none."""

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders directly in a folder, sorted; empty if there is none."""

    def hold(self, folder: str) -> AbstractContextManager[None]:
        """Keep a folder to this process until the block ends.

        Raises:
            RuntimeError: another process holds it.
        """

    def exists(self, name: str) -> bool:
        """Say whether there is such a file."""

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""

    def sweep(self, folder: str) -> None:
        """Remove what writers of this machine that were killed left half written in a folder."""

    def array(self, name: str) -> np.ndarray:
        """Return the array of a .npy file, mapped into memory where that can be."""

    def array_rows(self, name: str, rows: Sequence[int]) -> np.ndarray:
        """Return rows of the array of a .npy file without reading the others."""


def open_storage(root: str | Path) -> Storage:
    """Return the place of files at a folder or an address such as "s3://bucket/prefix"."""
    # Listings are never cached: another process may have written meanwhile.
    path = UPath(root, use_listings_cache=False) if "://" in str(root) else UPath(root)
    return Folder(path) if path.protocol in ("", "file") else ObjectStore(path)


class Folder:
    """A folder of this machine."""

    local = True

    def __init__(self, root: UPath) -> None:
        self.root = root
        self._root = Path(str(root))

    def write(self, name: str, data: bytes | bytearray) -> None:
        """See `Storage.write`: a temporary file in the same folder, flushed, then renamed."""
        target = self._root / name
        with _no_space_named(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._sweep(target.parent, target.name)
            temporary = target.with_name(f".{target.name}.{_HOST}.{os.getpid()}.{uuid.uuid4().hex}.tmp")
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
                _flush_folder(target.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def append(self, name: str, data: bytes) -> bool:
        """See `Storage.append`."""
        with _no_space_named(self._root / name), (self._root / name).open("ab") as file:
            file.write(data)
        return True

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `Storage.read`."""
        with (self._root / name).open("rb") as file:
            file.seek(offset)
            return file.read() if length is None else file.read(length)

    def read_end(self, name: str, length: int) -> bytes:
        """See `Storage.read_end`."""
        with (self._root / name).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - length, 0))
            return file.read()

    def read_ranges(self, ranges: Sequence[Range]) -> Iterator[bytes]:
        """See `Storage.read_ranges`."""
        for name, offset, length in ranges:
            yield self.read(name, offset, length)

    def names(self, folder: str) -> list[str]:
        """See `Storage.names`; hidden files are left out."""
        return sorted(entry.name for entry in self._entries(folder) if entry.is_file())

    def folders(self, folder: str) -> list[str]:
        """See `Storage.folders`."""
        return sorted(entry.name for entry in self._entries(folder) if entry.is_dir())

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._root / folder) as entries:
                return [entry for entry in entries if not entry.name.startswith(".")]
        except FileNotFoundError:
            return []

    @contextmanager
    def hold(self, folder: str) -> Iterator[None]:
        """See `Storage.hold`; the system frees the folder if the process dies."""
        lock = self._root / folder / ".lock"
        with _no_space_named(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            lock.touch()
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(f"{folder} is written by another run; wait until it ends") from None
            yield

    def exists(self, name: str) -> bool:
        """See `Storage.exists`."""
        return (self._root / name).is_file()

    def remove(self, name: str) -> None:
        """See `Storage.remove`."""
        (self._root / name).unlink(missing_ok=True)

    def array(self, name: str) -> np.ndarray:
        """See `Storage.array`."""
        return np.load(self._root / name, mmap_mode="r", allow_pickle=False)

    def array_rows(self, name: str, rows: Sequence[int]) -> np.ndarray:
        """See `Storage.array_rows`."""
        return np.asarray(self.array(name)[list(rows)])

    def sweep(self, folder: str) -> None:
        """See `Storage.sweep`."""
        self._sweep(self._root / folder, "*")

    def _sweep(self, folder: Path, written: str) -> None:
        for left in folder.glob(f".{written}.{_HOST}.*.tmp"):
            pid = left.name.rsplit(".", 3)[1]
            if pid.isdigit() and not Path("/proc", pid).exists() and Path("/proc").exists():
                left.unlink(missing_ok=True)


class ObjectStore:
    """A bucket of an object store, through fsspec; a put is atomic there."""

    local = False

    def __init__(self, root: UPath) -> None:
        self.root = root
        self._fs = root.fs

    def _key(self, name: str) -> str:
        return self.root.joinpath(name).path

    def write(self, name: str, data: bytes | bytearray) -> None:
        """See `Storage.write`."""
        with self._told(name, "written to"):
            self._fs.pipe_file(self._key(name), bytes(data))

    def append(self, name: str, data: bytes) -> bool:
        """See `Storage.append`: an object is put whole."""
        return False

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `Storage.read`."""
        if length == 0:
            return b""
        return self._range(name, offset, None if length is None else offset + length)

    def _range(self, name: str, start: int, end: int | None) -> bytes:
        with self._told(name, "read from"):
            try:
                return self._fs.cat_file(self._key(name), start=start, end=end)
            except OSError as error:
                return _nothing(error, name)

    def read_end(self, name: str, length: int) -> bytes:
        """See `Storage.read_end`."""
        return self._range(name, -length, None)

    def read_ranges(self, ranges: Sequence[Range]) -> Iterator[bytes]:
        """See `Storage.read_ranges`."""
        for first in range(0, len(ranges), _AT_ONCE):
            some = ranges[first : first + _AT_ONCE]
            asked = [(name, offset, offset + length) for name, offset, length in some if length]
            found = self._fs.cat_ranges(
                [self._key(name) for name, _, _ in asked],
                [start for _, start, _ in asked],
                [end for _, _, end in asked],
                on_error="return",
            )
            answers = iter(found)
            for name, _, length in some:
                one = next(answers) if length else b""
                with self._told(name, "read from"):
                    data = _nothing(one, name) if isinstance(one, Exception) else one
                yield data

    def names(self, folder: str) -> list[str]:
        """See `Storage.names`."""
        return self._entries(folder, "file")

    def folders(self, folder: str) -> list[str]:
        """See `Storage.folders`."""
        return self._entries(folder, "directory")

    def _entries(self, folder: str, kind: str) -> list[str]:
        with self._told(folder, "read from"):
            try:
                entries = self._fs.ls(self._key(folder), detail=True)
            except FileNotFoundError:
                return []
        return sorted(entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == kind)

    def hold(self, folder: str) -> AbstractContextManager[None]:
        """See `Storage.hold`: an object store has no such lock, so only one process may write."""
        return nullcontext()

    def exists(self, name: str) -> bool:
        """See `Storage.exists`."""
        with self._told(name, "read from"):
            try:  # not `isfile`, which takes a store that refuses for one that has no such file
                return bool(self._fs.info(self._key(name))["type"] == "file")
            except FileNotFoundError:
                return False

    def remove(self, name: str) -> None:
        """See `Storage.remove`."""
        with self._told(name, "removed from"):
            try:
                self._fs.rm_file(self._key(name))
            except FileNotFoundError:
                return

    @contextmanager
    def _told(self, name: str, done: str) -> Iterator[None]:
        """Let an error of the store name the object and say what to do; that there is none passes."""
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # botocore's have no class in common with those of the system
            words = " ".join(str(error).split())[:300]
            raise OSError(
                getattr(error, "errno", None) or errno.EIO,
                f"could not be {done} {self.root}: {type(error).__name__}: {words}; what was there before "
                "is as it was: look at AWS_ENDPOINT_URL, the credentials and the store, then run again",
                name,
            ) from None

    def sweep(self, folder: str) -> None:
        """See `Storage.sweep`: what is not put whole is not there."""

    def array(self, name: str) -> np.ndarray:
        """See `Storage.array`."""
        return np.load(io.BytesIO(self.read(name)), allow_pickle=False)

    def array_rows(self, name: str, rows: Sequence[int]) -> np.ndarray:
        """See `Storage.array_rows`."""
        head = io.BytesIO(self.read(name, 0, _NPY_HEADER))
        version = np.lib.format.read_magic(head)
        reader = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = reader(head)
        width = dtype.itemsize * int(np.prod(shape[1:]))
        found = b"".join(self.read_ranges([(name, head.tell() + row * width, width) for row in rows]))
        return np.frombuffer(found, dtype).reshape(len(rows), *shape[1:])


@contextmanager
def _no_space_named(target: Path) -> Iterator[None]:
    """Let the error of a full disk or quota name the file, and say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        said = "no space is left for this file; free some and run again: what was there before is as it was"
        raise OSError(error.errno, said, str(target)) from None


def _flush_folder(folder: Path) -> None:
    """Make a rename in a folder last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _nothing(error: Exception, name: str) -> bytes:
    """Return no bytes if a range begins behind a file's end; else raise the error with the file's name."""
    if isinstance(error, FileNotFoundError):
        raise FileNotFoundError(errno.ENOENT, "no such object", name) from error
    if isinstance(error, OSError) and error.errno == errno.EINVAL:
        return b""
    raise error
