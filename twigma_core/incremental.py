"""Computing no more than what is new: what is stored is taken over, what a stopped run left is picked up.

What belongs here: which rows of a partition must be computed, keeping finished pieces, saying how it goes.
What does not: what is computed of a row (`features`), and where pieces lie (`journal`).

A row is computed anew where its key (the sha256 of its bytes), the model's name, its weights or its settings
are not those of a stored row. Equal bytes are computed once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from datetime import timedelta
from itertools import groupby, islice
from typing import Any

import numpy as np
import polars as pl

from twigma_core.journal import Journal, clear
from twigma_core.lake import Lake
from twigma_core.models.pipeline import Meter

PIECE = 512
"""Rows after which a piece is kept at the latest; pictures of one shard are kept together before that."""
EVERY_S = 10.0
"""Seconds between two lines of progress."""
MAKER = ("model", "weights_sha256", "settings")
"""Columns that say what made a row."""


Values = Sequence[Any] | np.ndarray
"""Values of several rows: texts, numbers, or vectors."""


@dataclass(frozen=True)
class Maker:
    """What makes a row's value of its bytes.

    Attributes:
        name: name of the model.
        weights_sha256: sha256 of its weights.
        settings: what else decides a row's bits.
    """

    name: str
    weights_sha256: str
    settings: str


@dataclass(frozen=True)
class Work:
    """A partition that a model fills.

    Attributes:
        lake: where its table lies, and the pieces of it.
        table: name of the table.
        partition: its partition.
        reuse: whether stored rows and pieces are taken over; without it all is computed.
        log: told how it goes, in lines for a person.
    """

    lake: Lake
    table: str
    partition: str
    reuse: bool = True
    log: Callable[[str], object] = lambda _: None

    @property
    def place(self) -> str:
        """The partition as people write it."""
        return f"{self.table}/{self.partition}"

    def finish(self) -> None:
        """Remove the pieces: the table is written."""
        clear(self.lake, self.table, self.partition)


@dataclass
class Effort:
    """What it took to fill a partition.

    Attributes:
        rows: of the table.
        computed: rows that went through the model.
        reused: rows taken from the stored table.
        resumed: rows taken from what a stopped run left.
        meter: the model's speed.
        device: the device's own name.
        settings: device, dtype and batch of the model.
    """

    rows: int
    computed: int = 0
    reused: int = 0
    resumed: int = 0
    meter: Meter = field(default_factory=Meter)
    device: str = ""
    settings: str = ""

    def metadata(self) -> dict[str, Any]:
        """What a person wants to see of it beside the table."""
        shown: dict[str, Any] = {
            "computed": self.computed,
            "taken over": self.reused,
            "resumed": self.resumed,
            "settings": self.settings,
        }
        if self.device:
            shown["device"] = self.device
        if self.meter.rows:
            shown |= {
                "per second": round(self.meter.per_second, 1),
                "seconds": round(self.meter.seconds, 2),
                "forward pass ran": f"{self.meter.busy:.0%} of the time",
            }
        return shown


def fill(
    work: Work,
    maker: Maker,
    keys: Sequence[str],
    value: str,
    out: np.ndarray,
    compute: Callable[[list[int], Meter], Iterable[Values]],
    shards: Sequence[tuple[str, int]] | None = None,
    device: str = "",
) -> Effort:
    """Fill `out` with each row's value, computing only what is neither stored nor left by a stopped run.

    Args:
        work: the partition.
        maker: the model.
        keys: n keys; rows of equal keys have equal values.
        value: array or column of the table that holds the values.
        out: (n, ...) array to be filled; of dtype object for texts.
        compute: given rows, yields their values in that order, some at a time; counts in the meter.
        shards: shard and offset of each of the n rows: they are computed in this order, and what a shard
            holds is kept together. None computes them as they stand.
        device: the device's own name.

    Returns:
        What it took.
    """
    journal = Journal(work.lake, work.table, work.partition, " ".join(astuple(maker)))
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        rows_of.setdefault(key, []).append(row)
    missing = dict.fromkeys(rows_of)

    def put(found: Iterable[tuple[str, Any]]) -> int:
        taken = 0
        for key, given in found:
            if key in missing:
                for row in rows_of[key]:
                    out[row] = given
                taken += len(rows_of[key])
                del missing[key]
        return taken

    effort = Effort(len(keys), device=device, settings=maker.settings)
    if work.reuse:
        effort.reused = put(_stored(work, maker, value, out))
        effort.resumed = sum(put(zip(*piece, strict=True)) for piece in journal.pieces())
    else:
        work.finish()
    todo = [rows_of[key][0] for key in missing]
    if shards is not None:
        todo.sort(key=lambda row: shards[row])
    work.log(
        f"{work.place}: {len(keys):,} rows: {effort.reused:,} taken over, {effort.resumed:,} resumed, "
        f"{len(todo):,} to compute{f' on {device} ({maker.settings})' if device else ''}"
    )
    values = _with_progress(work, compute(todo, effort.meter), len(todo), effort.meter) if todo else iter(())
    for piece in _pieces(todo, shards):
        names, made = [keys[row] for row in piece], list(islice(values, len(piece)))
        if len(made) < len(piece):
            raise RuntimeError(f"{work.place}: the model gave fewer values than it was given rows")
        journal.add(names, made)
        effort.computed += put(zip(names, made, strict=True))
    for _ in values:
        raise RuntimeError(f"{work.place}: the model gave more values than it was given rows")
    if todo:
        meter = effort.meter
        span = timedelta(seconds=round(meter.seconds))
        work.log(f"{work.place}: {effort.computed:,} computed in {span}, {_speed(meter)}")
    return effort


def _pieces(todo: list[int], shards: Sequence[tuple[str, int]] | None) -> Iterator[list[int]]:
    """Cut the rows where a shard ends, and after `PIECE` rows."""
    for _, run in groupby(todo, key=lambda row: shards[row][0] if shards else ""):
        while piece := list(islice(run, PIECE)):
            yield piece


def _stored(work: Work, maker: Maker, value: str, out: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Yield key and value of each stored row that this maker made, and would make again."""
    if not work.lake.has(work.table, work.partition):
        return
    try:
        stored = work.lake.read_arrays(work.table, work.partition)
        table = stored.table.with_row_index("row").filter(
            *(pl.col(name) == made_by for name, made_by in zip(MAKER, astuple(maker), strict=True))
        )
        rows = table.select("sha256", "row")
        values: Any = stored.arrays[value] if value in stored.arrays else stored.table[value].to_list()
    except (OSError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
        # An older version's columns, or a damaged file: neither must stand in the way of a new one.
        work.log(f"{work.place}: nothing is taken over from what is stored: {type(error).__name__}: {error}")
        return
    if isinstance(values, list) or values.shape[1:] == out.shape[1:]:
        for key, row in rows.iter_rows():
            yield key, values[row]


def _with_progress(work: Work, batches: Iterable[Values], total: int, meter: Meter) -> Iterator[Any]:
    """Yield the values of the batches one by one, and log how it goes every few seconds."""
    done, begun = 0, time.monotonic()
    said = begun
    for batch in batches:
        done += len(batch)
        now = time.monotonic()
        if now - said >= EVERY_S and done < total:
            said, left = now, timedelta(seconds=round((total - done) * (now - begun) / done))
            work.log(f"{work.place}: {done:,} of {total:,}, {_speed(meter)}, {left} left")
        yield from batch


def _speed(meter: Meter) -> str:
    return f"{meter.per_second:,.1f} a second, forward pass {meter.busy:.0%} of the time"
