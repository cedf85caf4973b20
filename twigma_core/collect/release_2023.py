"""The 2023 release of TWIGMA (zenodo.org/records/8031785): a CSV of ids and of what came of the pictures.

It holds no text, no author and no followers. Its rows become table `release_2023`, keyed by media id, so
that what was derived then can be set beside what is derived now; and posts, so far as their ids are intact,
so that its months can be built. A first version of the release wrote ids as floats. A float of that size
stands for 256 ids, so such an id is refused, unless the picture's name holds the very id that rounds to it;
and a file of which every id is a multiple of 256 has been through a float too.

What does not belong here: reading CSV (`documents`), what makes of posts and pictures (`parse`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from twigma_core import tables
from twigma_core.collect import fields, ids
from twigma_core.collect.documents import Row, index_of
from twigma_core.release.table import COLUMNS as PROFILES

COLUMNS = PROFILES["paper_compat"]
"""The 12 columns of the release, in its order; they may stand in any."""
NEEDED = frozenset({"id", "image_name", "all_captions", "label_10_cluster"})
"""Columns that tell the release from other files with ids."""

_GAPS = frozenset({"", "nan", "na", "n/a", "null", "none", "<na>"})
_COUNT = re.compile(r"([0-9]{1,18})(?:\.0*)?")
_BY_ID = re.compile(r"(?:[0-9]{15,19}_)?(?:[0-9]{1,2}_)?([0-9]{15,19})")
_BY_NAME = re.compile(r"[A-Za-z0-9_-]{11,}")
_TRUE, _FALSE = ("true", "1", "1.0", "t"), ("false", "0", "0.0", "f")
_CHUNK = 50_000

NO_MEDIA_ID = "image_name holds no media id"
LOST_MEDIA_ID = "image_name is a number that was a float: its last digits are lost"
NEWER = "image_name holds an id that is more than a day newer than its post"
AGAIN = "picture of an earlier row"
NO_POST = "; the row has no post"
NO_ADDRESS = "image_name gives no address; hydrate the ids to learn it"


@dataclass
class Release:
    """What a release file holds.

    Attributes:
        table: table `release_2023`, in the file's order.
        notes: values that were repaired or left empty, counted.
        refused: rows that are not in the table, counted by reason.
        examples: of each such reason, the line and cells of the first row.
    """

    table: pl.DataFrame = field(default_factory=lambda: tables.empty("release_2023"))
    notes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    examples: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def refuse(self, row: Row, reason: str) -> None:
        """Count a row that cannot be used, and keep the first of its kind as example."""
        self.refused[reason] += 1
        self.examples.setdefault(reason, (row.line, row.cells))


def is_release(header: Iterable[str]) -> bool:
    """Say whether a CSV's header is that of the 2023 release."""
    return {name.strip() for name in header} >= NEEDED


def read_release(header: Sequence[str], rows: Iterable[Row]) -> Release:
    """Read the rows of a release.

    Args:
        header: names of its columns; those beyond `COLUMNS` are not looked at.
        rows: as `documents.rows` gives them, the header left out.
    """
    release, at = Release(), index_of(header)
    places = {name: at[name] for name in COLUMNS if name in at}
    seen: set[str] = set()
    frames: list[pl.DataFrame] = []
    chunk: list[dict[str, Any]] = []
    for row in rows:
        if row.reason:
            release.refuse(row, row.reason)
            continue
        texts = {name: row.cells[place].strip() for name, place in places.items()}
        cells = {name: "" if text.lower() in _GAPS else text for name, text in texts.items()}
        read = _read_row(cells, release.notes)
        if not isinstance(read, str) and read["image_id"] in seen:
            read = AGAIN
        if isinstance(read, str):
            release.refuse(row, read)
            continue
        seen.add(read["image_id"])
        chunk.append(read)
        if len(chunk) == _CHUNK:
            frames.append(_frame(chunk))
            chunk = []
    release.table = _without_rounded_ids(pl.concat([*frames, _frame(chunk)]), release)
    return release


def months(table: pl.DataFrame) -> list[str]:
    """Return the months of table `release_2023` that have posts, sorted."""
    return table.drop_nulls(["tweet_id", "month"])["month"].unique().sort().to_list()


def posts(table: pl.DataFrame, month: str) -> list[dict[str, Any]]:
    """Return a month's posts of table `release_2023` as X's API would have written them, oldest first.

    Text, hashtags and author are not in the release; a picture without an address in it has none here.
    """
    found: dict[str, dict[str, Any]] = {}
    of_month = table.filter(pl.col("month") == month, pl.col("tweet_id").is_not_null())
    for row in of_month.sort("created_at", "tweet_id", maintain_order=True).iter_rows(named=True):
        post = found.setdefault(row["tweet_id"], _post(row))
        medium = {"media_key": f"3_{row['image_id']}", "type": "photo"}
        post["attachments"]["media"].append(medium | ({"url": row["url"]} if row["url"] else {}))
    return list(found.values())


def _post(row: Mapping[str, Any]) -> dict[str, Any]:
    metrics = {name: row[name] for name in ("like_count", "quote_count", "reply_count")}
    return {
        "id": row["tweet_id"],
        "text": "",
        "created_at": row["created_at"].isoformat(),
        "public_metrics": {name: number for name, number in metrics.items() if number is not None},
        "possibly_sensitive": row["possibly_sensitive"],
        "attachments": {"media": []},
    }


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=tables.empty("release_2023").schema)


def _read_row(cells: Mapping[str, str], notes: Counter[str]) -> dict[str, Any] | str:
    """Return a row of the table, or why there is none."""
    name = cells.get("image_name", "")
    image_id, url = picture_named(name)
    if image_id is None:
        return LOST_MEDIA_ID if ids.is_float(name) else NO_MEDIA_ID
    tweet_id, approximate = _post_id(cells.get("id", ""), name, notes)
    when = fields.possible(fields.moment(cells.get("created_at", "")))
    if when is None:
        notes["created_at is no time: taken from the id"] += 1
        when = fields.possible(fields.snowflake_time(str(approximate))) if approximate else None
    uploaded = fields.snowflake_time(image_id)
    if when and uploaded and (uploaded - when).days >= 1:
        return NEWER
    if url is None:
        notes[NO_ADDRESS] += 1
    return {
        "image_id": image_id,
        "tweet_id": tweet_id,
        "image_name": name,
        "url": url,
        "month": fields.month_of(when) if when else None,
        "created_at": when,
        "like_count": _count(cells, "like_count", notes),
        "quote_count": _count(cells, "quote_count", notes),
        "reply_count": _count(cells, "reply_count", notes),
        "caption": cells.get("all_captions") or None,
        "cluster": _within(_count(cells, "label_10_cluster", notes), 1, 10, "label_10_cluster", notes),
        "possibly_sensitive": _flag(cells, "possibly_sensitive", notes),
        "nsfw_score": _within(_real(cells, "nsfw_score", notes), 0, 1, "nsfw_score", notes),
        "x": _real(cells, "UMAP_dim_1", notes),
        "y": _real(cells, "UMAP_dim_2", notes),
    }


def picture_named(name: str) -> tuple[str | None, str | None]:
    """Return the media id that a picture's name holds, and its address where the name is that of X's file.

    The name may be X's file name, the media id, the media key, or the media id behind the post's id.
    """
    path = PurePosixPath(name.partition("?")[0]).name
    stem = PurePosixPath(path).stem if "." in path else path
    if match := _BY_ID.fullmatch(stem):
        return fields.identifier(match.group(1)), None
    if not _BY_NAME.fullmatch(stem) or ids.is_float(name) or re.fullmatch(r"[0-9_]+", stem):
        return None, None
    address = f"https://pbs.twimg.com/media/{stem}{PurePosixPath(path).suffix or '.jpg'}"
    return fields.media_id_of_url(address), address


def _post_id(text: str, name: str, notes: Counter[str]) -> tuple[str | None, int | None]:
    """Return a post's id if it is exactly known, and in any case about what it is."""
    reading = ids.exact_id(text, hint=name)
    if reading.remark:
        notes[f"id {reading.remark}{'' if reading.post_id else NO_POST}"] += 1
    return reading.post_id, reading.about


def _without_rounded_ids(table: pl.DataFrame, release: Release) -> pl.DataFrame:
    """Return the table without ids that are whole numbers now and were floats before."""
    if not ids.on_float_grid(table["tweet_id"].drop_nulls()):
        return table
    repaired: dict[str, str | None] = {}
    for tweet_id, name in table.select("tweet_id", "image_name").drop_nulls().iter_rows():
        repaired[tweet_id] = ids.same_float(float(tweet_id), name) if int(tweet_id) >= 2**60 else tweet_id
        if repaired[tweet_id] != tweet_id:
            found = repaired[tweet_id] is not None
            release.notes[f"id {ids.BY_NAME}" if found else f"id {ids.ON_GRID}{NO_POST}"] += 1
    return table.with_columns(pl.col("tweet_id").replace_strict(repaired, return_dtype=pl.String))


def _real(cells: Mapping[str, str], name: str, notes: Counter[str]) -> float | None:
    text = cells.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value):
        return value
    notes[f"{name} is not a number: left empty"] += 1
    return None


def _count(cells: Mapping[str, str], name: str, notes: Counter[str]) -> int | None:
    """Return a whole number; pandas writes 12.0 once a column has a gap."""
    text = cells.get(name, "")
    if not text:
        return None
    if match := _COUNT.fullmatch(text):
        return int(match.group(1))
    notes[f"{name} is not a count: left empty"] += 1
    return None


def _within(value: Any, low: float, high: float, name: str, notes: Counter[str]) -> Any:
    if value is None or low <= value <= high:
        return value
    notes[f"{name} is not within {low} to {high}: left empty"] += 1
    return None


def _flag(cells: Mapping[str, str], name: str, notes: Counter[str]) -> bool | None:
    text = cells.get(name, "").lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text:
        notes[f"{name} is neither true nor false: left empty"] += 1
    return None


def gather(releases: Iterable[Release]) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return table `release_2023` of one or more files, and all that was repaired or left out, counted."""
    found = list(releases)
    counted: Counter[str] = Counter()
    for release in found:
        counted += release.notes + release.refused
    whole = pl.concat([tables.empty("release_2023"), *(release.table for release in found)])
    table = whole.unique("image_id", keep="first", maintain_order=True)
    if again := whole.height - table.height:
        counted[AGAIN] += again
    return tables.conform("release_2023", table), dict(counted)


def broken(release: Release) -> Iterator[tuple[str, bytes]]:
    """Yield why rows have no post or are not in the table, with their number, and the cells of the first."""
    for reason, count in sorted(release.notes.items()):
        if reason.endswith(NO_POST):
            yield f"{_rows(count)}: {reason}", reason.encode()
    for reason, count in sorted(release.refused.items()):
        line, cells = release.examples[reason]
        yield f"{_rows(count)}: {reason} (the first on line {line})", ",".join(cells).encode()


def _rows(count: int) -> str:
    return f"{count:,} rows" if count > 1 else "1 row"
