"""Post ids as people's files write them: exact, or damaged on the way.

A file is text with an id or a post's address a line, a CSV or Parquet with a column of ids, or a release:
that of 2023 or one of this platform. An id that went through a float has lost its last digits: it is never
guessed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from upath import UPath

from twigma_core.collect import fields
from twigma_core.collect.documents import MAX_CELL, READ_ERRORS, NotAnArchive, Row, index_of, opened, rows
from twigma_core.parquet import read_columns, refusing

ID_COLUMNS = ("id", "tweet_id", "post_id", "ids", "tweet_ids")
AUTHOR_COLUMNS = ("author_id", "user_id")
RELEASED = ("data/twigma.parquet", "data/twigma.csv")
"""Where a release of this platform keeps its table."""

LOST = "was a float: its last digits are lost"
NO_ID = "is no post id"
EXACT_FLOAT = "was a float, exact below 2**53: repaired"
BY_NAME = "was a float: repaired from image_name, which holds it"
ON_GRID = "is a multiple of 256 as all ids of the file are: it was a float, and its last digits are lost"

_FLOAT = re.compile(r"[0-9]+(?:\.[0-9]*(?:[eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)")
_DIGITS = re.compile(r"[0-9]{15,19}")
_ADDRESS = re.compile(r"https?://\S+/status(?:es)?/([0-9]{1,19})\b.*")
_GRAIN = 256
"""Floats from 2**60 to 2**61, where ids of 2020 to 2024 lie, are 256 apart."""
# Four in ten of X's own ids are multiples of 256, the first of their millisecond: forty in a row are not.
_ENOUGH = 40


class Reading(NamedTuple):
    """What a text says of an id: the id if it is exactly known, about what it is, and a remark."""

    post_id: str | None
    about: int | None
    remark: str | None = None


def is_float(text: str) -> bool:
    """Say whether a text is a number with a fraction or an exponent."""
    return bool(_FLOAT.fullmatch(text))


def exact_id(text: str, hint: str = "") -> Reading:
    """Read an id.

    Args:
        text: as the file writes it.
        hint: a text that may hold the id too, such as the picture's name.
    """
    exact = fields.identifier(text)
    if exact:
        return Reading(exact, int(exact))
    value = float(text) if is_float(text) else math.inf
    if value >= 2**63:
        return Reading(None, None, NO_ID)
    if value < 2**53 and value.is_integer():
        return Reading(str(int(value)), int(value), EXACT_FLOAT)
    if found := same_float(value, hint):
        return Reading(found, int(found), BY_NAME)
    return Reading(None, int(value), LOST)


def same_float(value: float, hint: str) -> str | None:
    """Return the one id in a text that rounds to `value`."""
    found = {run for run in _DIGITS.findall(hint) if float(run) == value and fields.identifier(run)}
    return found.pop() if len(found) == 1 else None


def on_float_grid(ids: Iterable[str | None]) -> bool:
    """Say whether ids, exact by their looks, were all floats once: at least forty, all multiples of 256."""
    large = [int(one) for one in ids if one and int(one) >= 2**60]
    return len(large) >= _ENOUGH and not any(number % _GRAIN for number in large)


# ---------------------------------------------------------------- files of ids


@dataclass
class Asked:
    """The ids of a file.

    Attributes:
        ids: each once, in the file's order.
        authors: author of a post, where the file names one.
        refused: what stands where an id was expected, and why it is none; each once.
        repeated: places where an id or such a text stands again.
        remarks: what was repaired, counted.
    """

    ids: list[str] = field(default_factory=list)
    authors: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    repeated: int = 0
    remarks: Counter[str] = field(default_factory=Counter)


class NoIds(RuntimeError):
    """A file without ids, or one that cannot be read; the message names it and says what to give."""


@contextmanager
def refusing_ids(file: UPath) -> Iterator[None]:
    """Turn all that reading a file of ids may raise into `NoIds`."""
    cure = "give a text with an id a line, a CSV or Parquet, or a release"
    try:
        with refusing(NoIds, file.name, cure):
            yield
    except (NotAnArchive, *READ_ERRORS) as error:
        raise NoIds(f"{file.name} cannot be read: {error}; {cure}") from error


def read_ids(path: str | Path) -> Asked:
    """Read the ids of a file or of a release's folder.

    Raises:
        NoIds: there is nothing at `path`, it cannot be read, or no column of ids is in it.
    """
    file = file_of_ids(path)
    asked, seen = Asked(), set[str]()
    with refusing_ids(file):
        found = list(_parquet(file) if file.name.endswith(".parquet") else _text(file))
    grid = on_float_grid(fields.identifier(text) for text, _, _ in found)
    for text, author, hint in found:
        if text in seen:
            asked.repeated += 1
            continue
        seen.add(text)
        reading = exact_id(text, hint)
        if reading.post_id and grid and int(reading.post_id) >= 2**60:
            repaired = same_float(float(text), hint)
            reading = Reading(repaired, None, BY_NAME if repaired else ON_GRID)
        if not reading.post_id:
            asked.refused[text[:80]] = reading.remark or NO_ID
            continue
        if reading.remark:
            asked.remarks[reading.remark] += 1
        if reading.post_id != text and reading.post_id in seen:
            asked.repeated += 1
            continue
        seen.add(reading.post_id)
        asked.ids.append(reading.post_id)
        if author_id := fields.identifier(author):
            asked.authors[reading.post_id] = author_id
    if not asked.ids and not asked.refused:
        raise NoIds(f"{path}: no ids in it; give a text with an id a line, a CSV or Parquet, or a release")
    return asked


def file_of_ids(path: str | Path | UPath) -> UPath:
    """Return the file at `path`, or the table in the folder of a release.

    Raises:
        NoIds: there is none.
    """
    path = UPath(path)
    if not path.exists():
        raise NoIds(f"no file at {path}; give a text, CSV or Parquet file of ids, or a release")
    if not path.is_dir():
        return path
    for name in RELEASED:
        if (path / name).exists():
            return path / name
    raise NoIds(f"{path}: a folder without {' or '.join(RELEASED)}; name the file that holds the ids")


def _parquet(file: UPath) -> Iterator[tuple[str, str, str]]:
    """Yield (id, author, hint) of each row, as text."""

    def choose(names: list[str]) -> dict[str, str | None]:
        column = _column(names, ID_COLUMNS)
        if column is None:
            raise NoIds(
                f"{file.name}: no column {', '.join(ID_COLUMNS)}; its columns are {', '.join(names)[:200]}"
            )
        return {
            "id": column,
            "author": _column(names, AUTHOR_COLUMNS),
            "hint": _column(names, ("image_name",)),
        }

    yield from read_columns(file, choose).fill_null("").iter_rows()


def _text(file: UPath) -> Iterator[tuple[str, str, str]]:
    """Yield (id, author, hint) of each row of a CSV, or line of a text."""
    with opened(file) as stream:
        found = rows(stream)
        header = next(found, Row(0, []))
        column = _column(header.cells, ID_COLUMNS)
        if column is None:
            if len(header.cells) > 1:
                names = ", ".join(header.cells)[:200]
                raise NoIds(f"{file.name}: no column {', '.join(ID_COLUMNS)}; its columns are {names}")
            yield from ((_address(cell), "", "") for cell in header.cells)
            yield from ((_address(row.cells[0]) if row.cells else row.reason or "", "", "") for row in found)
            return
        at = index_of(header.cells)
        author, name = _column(header.cells, AUTHOR_COLUMNS), _column(header.cells, ("image_name",))
        for row in found:
            if row.reason:
                yield f"line {row.line}: {row.reason}", "", ""
            else:
                others = (row.cells[at[one]].strip() if one else "" for one in (author, name))
                yield (_address(row.cells[at[column]]), *others)  # type: ignore[misc]


def _address(line: str) -> str:
    """Return the id in a post's address, or the line as it is."""
    match = _ADDRESS.fullmatch(line.strip()[:MAX_CELL])
    return match.group(1) if match else line.strip()


def _column(names: Sequence[str], known: Sequence[str]) -> Any:
    """Return the first of the known names that is a column."""
    stripped = {name.strip() for name in names}
    return next((name for name in known if name in stripped), None)
