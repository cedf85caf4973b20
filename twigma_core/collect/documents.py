"""The documents of an archive's file: lines or one whole document of JSON, or rows of CSV.

Files may be plain, gzip or zstd, told by their content, not their name. Whoever made a file may have made it
to do harm: no line, cell or document is held beyond a limit, a file that claims to be small and unpacks to
terabytes is left where it stops being plausible, and what cannot be read comes with a reason. What the
documents mean is told in `archives`, `snscrape` and `release_2023`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO, NamedTuple

import zstandard
from upath import UPath

MAX_LINE = 16 * 2**20
"""Longest line in bytes; a page of 500 posts has about three million."""
MAX_DOCUMENT = 64 * 2**20
"""Longest document that fills a file of its own."""
MAX_DEPTH = 100
"""Levels of nesting from which on a document is hostile; X's have about ten."""
MAX_CELL = 2**20
"""Longest cell of a CSV, in characters."""
MAX_KEPT = 2**20
"""Bytes that are kept of what is broken."""
MAX_SKIPPED = 2**30
"""A line longer than this ends the reading of its file."""
MANY_BROKEN = 1000
"""A file with more broken documents than this, and more of them than good ones, is no archive."""

READ_ERRORS = (OSError, EOFError, zlib.error, zstandard.ZstdError)
TOO_DEEP = "not JSON: nested too deeply"
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ZSTD_PIECE = 1024  # compressed bytes at a time: a hostile frame blows each up to 32 MiB at most
_FOREIGN = {
    b"PK\x03\x04": "a zip file: unpack it first",
    b"PAR1": "a Parquet file, not JSON",
    b"BZh": "a bzip2 file: unpack it first",
    b"\xfd7zX": "an xz file: unpack it first",
    b"SQLi": "a SQLite database, not JSON",
}


class NotAnArchive(RuntimeError):
    """A file that holds no posts in a form that is read here; the message names it and says why."""


class Document(NamedTuple):
    """A piece of a file.

    Attributes:
        line: line that it begins on, from 1.
        content: its bytes; the first `MAX_KEPT` of what is broken.
        reason: why it cannot be read; None where it may be readable.
    """

    line: int
    content: bytes
    reason: str | None = None


class Row(NamedTuple):
    """A row of a CSV: the line that it ends on, its cells, and why they cannot be used where they cannot."""

    line: int
    cells: list[str]
    reason: str | None = None


@contextmanager
def opened(file: UPath) -> Iterator[BinaryIO]:
    """Open a file and unpack it on the way, whatever its name says.

    Raises:
        NotAnArchive: it is a container of files or another format altogether.
    """
    with ExitStack() as stack:
        raw = stack.enter_context(file.open("rb"))
        start = raw.read(4)
        raw.seek(0)
        stream: Any
        if start[:2] == b"\x1f\x8b":
            stream = gzip.GzipFile(fileobj=raw)
        elif start == zstandard.FRAME_HEADER:
            stream = io.BufferedReader(_ZstdStream(raw))
        else:
            stream = raw if isinstance(raw, io.BufferedIOBase) else io.BufferedReader(raw)
        for magic, what in _FOREIGN.items():
            if start.startswith(magic):
                raise NotAnArchive(what)
        if _is_tar(stream):
            raise NotAnArchive("a tar file: unpack it first")
        yield stream


def _is_tar(stream: Any) -> bool:
    try:
        return stream.peek(512)[257:262] == b"ustar"
    except READ_ERRORS:
        return False  # a damaged file: the reading itself says what is wrong


class _ZstdStream(io.RawIOBase):
    """Zstandard frames as a stream that says when it is cut short; the library's own ends in silence."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame: Any = None
        self._input, self._output = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            self._input = self._input or self._raw.read(_ZSTD_PIECE)
            if not self._input:
                if self._frame:
                    raise EOFError("the file ends within a compressed frame")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._output, self._input = memoryview(self._frame.decompress(self._input)), b""
            if self._frame.eof:
                self._input, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._output))
        buffer[:size], self._output = self._output[:size], self._output[size:]
        return size


# ---------------------------------------------------------------- JSON


def documents(stream: BinaryIO, whole: bool) -> Iterator[Document]:
    """Yield the JSON documents of a stream: one a line, or a single one.

    Args:
        stream: what `opened` gives.
        whole: the file is expected to be one document (its name ends in .json); where its first line is
            a document already, it is read by lines all the same.
    """
    lines = _lines(stream)
    if not whole:
        yield from lines
        return
    start = stream.readline(MAX_LINE + 1)
    if len(start) <= MAX_LINE and loads(start)[1] is None:
        yield Document(1, start)
        yield from (line._replace(line=line.line + 1) for line in lines)
        return
    content = start + stream.read(MAX_DOCUMENT + 1 - len(start))
    if len(content) > MAX_DOCUMENT:
        cure = "split it into one document a line, such as by jq -c '.[]'"
        yield Document(1, content[:MAX_KEPT], f"longer than {MAX_DOCUMENT >> 20} MiB: {cure}")
    elif content.strip():
        second = content.split(b"\n", 2)[1:2]
        # Lines of which only the first is broken are lines nevertheless.
        by_line = bool(loads(content)[1]) and bool(second) and isinstance(loads(second[0])[0], dict)
        yield from _lines(io.BytesIO(content)) if by_line else [Document(1, content)]


def _lines(stream: BinaryIO) -> Iterator[Document]:
    """Yield the lines that hold anything; of one that is too long, its beginning and the reason."""
    for number, (line, reason) in enumerate(_bounded(stream), 1):
        if reason or line.strip(b"\xef\xbb\xbf \t\r\n"):
            yield Document(number, line, reason)


def _bounded(stream: BinaryIO) -> Iterator[tuple[bytes, str | None]]:
    """Yield each line; of one that is too long, its beginning and the reason."""
    while line := stream.readline(MAX_LINE + 1):
        if len(line) <= MAX_LINE:
            yield line, None
            continue
        start, length = line[:MAX_KEPT], len(line)
        while line and not line.endswith(b"\n"):
            line = stream.readline(MAX_LINE)
            length += len(line)
            if length > MAX_SKIPPED:
                yield start, f"longer than {MAX_SKIPPED >> 20} MiB: the rest of the file is not read"
                return
        yield start, f"longer than {MAX_LINE >> 20} MiB ({length:,} bytes)"


def loads(content: bytes) -> tuple[Any, str | None]:
    """Return a JSON document and None, or None and why it cannot be read."""
    try:
        value = json.loads(content.decode("utf-8-sig"))
        return (None, TOO_DEEP) if _nests_too_deeply(content, value) else (value, None)
    except RecursionError:
        return None, TOO_DEEP
    except ValueError as error:
        if content.lstrip()[:1] == b"<":
            return None, "HTML or XML where JSON should be"
        if b"\0" in content:
            return None, "not JSON: NUL bytes in it"
        return None, f"not JSON: {error}"[:200]


def _nests_too_deeply(content: bytes, value: Any) -> bool:
    """Say whether JSON nests deeper than some way beyond `MAX_DEPTH`: what reads it later would give up."""
    brackets = content.translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        inner = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if not inner:
            return False
        if len(inner) == len(brackets):
            break  # brackets that stand in texts
        brackets = inner
    level = [value]
    for _ in range(MAX_DEPTH):
        holders = (one.values() if isinstance(one, dict) else one for one in level)
        level = [one for holder in holders for one in holder if isinstance(one, dict | list)]
        if not level:
            return False
    return True


def dumps(body: Any) -> bytes:
    """Return JSON as compact bytes."""
    return json.dumps(body, separators=(",", ":")).encode()


# ---------------------------------------------------------------- CSV


def rows(stream: BinaryIO) -> Iterator[Row]:
    """Yield the rows of a CSV, the header first; blank lines are left out.

    A row that cannot be split into cells, or that has other cells than the header, has a reason.
    """
    csv.field_size_limit(MAX_CELL)
    lines = _CsvLines(stream)
    reader = csv.reader(lines)
    columns = 0
    while True:
        begins = lines.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lines.reason = None
            yield Row(lines.number, [], f"not CSV from line {begins} on: {error}")
            continue
        reason, lines.reason = lines.reason, None
        if not cells and not reason:
            continue
        columns = columns or len(cells)
        if not reason and len(cells) != columns:
            reason = f"has {len(cells)} cells, the header {columns}"
        yield Row(lines.number, cells, reason)


class _CsvLines:
    """The lines of a stream as text; one that is too long becomes a blank line and a reason."""

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = _bounded(stream)
        self.number = 0
        self.reason: str | None = None

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        line, reason = next(self._lines)
        self.number += 1
        self.reason = self.reason or reason
        text = "\n" if reason else line.decode("utf-8", "replace")
        return text.removeprefix("\ufeff") if self.number == 1 else text


def index_of(header: Sequence[str]) -> dict[str, int]:
    """Return the place of each column; of a name that occurs twice, the first."""
    return {name.strip(): at for at, name in reversed(list(enumerate(header)))}
