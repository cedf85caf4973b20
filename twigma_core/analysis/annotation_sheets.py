"""Reading back what annotators wrote: filled-in sheets, and what Label Studio exports.

Here: CSV sheets and Label Studio's JSON, JSON-MIN and CSV exports to table `annotations`, and what could not
be read, in words. Not here: the sheets that go out (`annotation`) and what the answers say (`concordance`).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from twigma_core import tables
from twigma_core.analysis.annotation import MAX_KEYWORDS, SHEET_COLUMNS, picture_files

_LONGEST_CELL = 2**26  # Label Studio's CSV repeats the picture's data in each row


@dataclass(frozen=True)
class _Entry:
    """What one annotator wrote on one picture."""

    annotator: str
    image_id: str
    keywords: tuple[str, ...]
    group: str | None
    file: str = ""

    @property
    def blank(self) -> bool:
        return not self.keywords and self.group is None


def read_sheets(
    sheets: Iterable[tuple[str, str | bytes]], tasks: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, list[str]]:
    """Read filled-in sheets and Label Studio's exports (JSON, JSON-MIN or CSV).

    Keywords are lower-cased and at most three a picture. A row that cannot be read is left out and
    reported; so is a sheet without the columns annotator, image_id, keywords, group. Rows without keywords
    and group are counted for each annotator. E-mail addresses, by which some exports name people, are
    replaced by pseudonyms.

    Args:
        sheets: name and content of each; what starts with "[" or "{" is an export in JSON.
        tasks: table `annotation_tasks`. With it, pictures that were not handed out are left out and reported,
            and a row whose long image_id a spreadsheet has rounded is known by its picture's file.

    Returns:
        Table `annotations`, and the problems: "name, row n: what is wrong", in the sheets' order.
    """
    files = {} if tasks is None else picture_files(tasks)
    handed_out = set(files.values())
    rows: dict[tuple[str, str], _Entry] = {}
    problems: list[str] = []
    for name, content in sheets:
        blank: dict[str, list[bool]] = {}
        for number, entry in _entries(content):
            place = f"{name}, row {number}" if number else name
            if isinstance(entry, str):
                problems.append(f"{place}: {entry}")
                continue
            if not entry.annotator or not entry.image_id:
                missing = "image_id" if entry.annotator else "annotator; fill in a pseudonym"
                problems.append(f"{place}: no {missing}")
                continue
            if tasks is not None and entry.image_id not in handed_out:
                if entry.file not in files:
                    problems.append(f"{place}: picture {entry.image_id} is not among the tasks")
                    continue
                entry = replace(entry, image_id=files[entry.file])
            blank.setdefault(entry.annotator, []).append(entry.blank)
            if entry.blank:
                continue
            key = (entry.annotator, entry.image_id)
            if key in rows:
                problems.append(
                    f"{place}: {entry.annotator} already has a row for picture {entry.image_id}; "
                    "the first is kept"
                )
                continue
            if len(entry.keywords) > MAX_KEYWORDS:
                problems.append(f"{place}: {len(entry.keywords)} keywords; the first {MAX_KEYWORDS} are kept")
            rows[key] = entry
        problems += [f"{name}: {text}" for text in _left_blank(blank)]
    if not rows:
        return tables.empty("annotations"), problems
    frame = pl.DataFrame(
        [
            (entry.annotator, entry.image_id, list(entry.keywords[:MAX_KEYWORDS]), entry.group)
            for entry in rows.values()
        ],
        schema=dict(tables.empty("annotations").schema),
        orient="row",
    )
    return tables.conform("annotations", frame), problems


def _left_blank(blank: dict[str, list[bool]]) -> Iterator[str]:
    for who, rows in blank.items():
        if all(rows):
            yield f"{who} labelled none of {len(rows)} pictures"
        elif any(rows):
            yield f"{who} left {sum(rows)} of {len(rows)} pictures blank"


def _entries(content: str | bytes) -> Iterator[tuple[int, _Entry | str]]:
    if isinstance(content, bytes):
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # what some spreadsheets call Unicode text
        try:
            content = content.decode("utf-16" if wide else "utf-8")
        except UnicodeDecodeError:
            yield 0, "not text in UTF-8; save the sheet as CSV UTF-8"
            return
    text = content.lstrip("\ufeff").lstrip()
    yield from _json_rows(text) if text.startswith(("[", "{")) else _csv_rows(text)


def _csv_rows(text: str) -> Iterator[tuple[int, _Entry | str]]:
    header = text.split("\n", 1)[0]
    # a spreadsheet of a country with a decimal comma saves with semicolons, one that says Unicode with tabs
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    with _long_cells():
        try:
            missing = [c for c in SHEET_COLUMNS if c != "picture" and c not in (reader.fieldnames or [])]
            if missing:
                yield (
                    0,
                    f"no column {', '.join(missing)}; the first line must be {','.join(SHEET_COLUMNS)}",
                )
                return
            for number, row in enumerate(reader, start=2):
                if None in row or any(row[c] is None for c in SHEET_COLUMNS if c in row):
                    yield number, "not as many cells as columns"
                    continue
                cells = (row["keywords"], row["group"])
                entry = _entry(row["annotator"], row["image_id"], *(_unpacked(c) for c in cells))
                yield number, replace(entry, file=(row.get("picture") or "").strip())
        except csv.Error as error:
            yield 0, f"after line {reader.line_num}: not a CSV sheet ({error}); the rest is not read"


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _unpacked(cell: str) -> Any:
    """Return a cell's text; Label Studio writes several answers as JSON."""
    if cell.startswith(("{", "[")):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell


def _json_rows(text: str) -> Iterator[tuple[int, _Entry | str]]:
    try:
        exported = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield 0, f"not a JSON export of Label Studio ({error}); export it again as JSON"
        return
    if not isinstance(exported, list):
        yield 0, "not a JSON export of Label Studio, which is a list of tasks; export it again as JSON"
        return
    for number, task in enumerate(exported, start=1):
        try:
            for entry in _of_task(task):
                yield number, entry
        except (KeyError, TypeError, AttributeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else "a part is of another type"
            yield number, f"not a task of Label Studio: {what}; export it again as JSON"


def _of_task(task: Any) -> Iterator[_Entry | str]:
    if "annotations" not in task and "annotator" in task:  # JSON-MIN: one annotation a row
        yield _entry(
            str(task["annotator"]), str(task["image_id"]), task.get("keywords", ""), task.get("group", "")
        )
        return
    image_id = str(task["data"]["image_id"])
    for annotation in task["annotations"]:
        if annotation.get("was_cancelled"):
            yield "skipped in Label Studio"
            continue
        who = annotation["completed_by"]
        said = {
            result["from_name"]: result["value"]
            for result in annotation["result"]
            if "text" in result.get("value", {})
        }
        yield _entry(
            str(who["id"] if isinstance(who, dict) else who),
            image_id,
            said.get("keywords", ""),
            said.get("group", ""),
        )


def _entry(annotator: str, image_id: str, keywords: Any, group: Any) -> _Entry:
    words = [" ".join(word.lower().split()) for word in _text(keywords).replace(",", ";").split(";")]
    return _Entry(
        _pseudonym(annotator.strip()),
        image_id.strip(),
        tuple(dict.fromkeys(word for word in words if word)),
        " ".join(_text(group).split()) or None,
    )


def _text(answer: Any) -> str:
    """Return an answer as text: a string, a list of them, or either as `text` of a value."""
    if isinstance(answer, dict):
        answer = answer["text"]
    if isinstance(answer, str):
        return answer
    return "; ".join(str(part) for part in answer)


def _pseudonym(name: str) -> str:
    return f"annotator-{hashlib.sha256(name.encode()).hexdigest()[:8]}" if "@" in name else name
