"""Rows of several stored arrays as if they were one, read when they are asked for.

The vectors of the whole dataset are 2.5 GB at the paper's size. A sample of them needs a few rows of each
month; what needs all of them needs one array, not the months' arrays, their concatenation and a copy in the
order of the dataset side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl


class StackedRows:
    """Rows of arrays (n_i, d) one after the other, or some of them; each array is open only while it is read.

    Args:
        parts: opens each array.
        lengths: rows of each.
        rows: numbers of the rows that these are, in the stack of all; None is all.
    """

    def __init__(
        self,
        parts: Sequence[Callable[[], np.ndarray]],
        lengths: Sequence[int] | np.ndarray,
        rows: np.ndarray | None = None,
    ) -> None:
        self._parts, self._lengths = parts, np.asarray(lengths, dtype=np.int64)
        self._rows = np.arange(self._lengths.sum()) if rows is None else rows
        filled = np.flatnonzero(self._lengths)
        one = parts[int(filled[0]) if len(filled) else 0]()
        self.dtype, self.shape = one.dtype, (len(self._rows), *one.shape[1:])

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._rows)

    def take(self, rows: np.ndarray) -> StackedRows:
        """Return these rows, still unread."""
        return StackedRows(self._parts, self._lengths, self._rows[rows])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Read rows by their numbers: (m, d)."""
        wanted = self._rows[rows]
        ends = np.cumsum(self._lengths)
        part_of = np.searchsorted(ends, wanted, side="right")
        found = np.empty((len(wanted), *self.shape[1:]), self.dtype)
        for part in np.unique(part_of).tolist():
            at = np.flatnonzero(part_of == part)
            found[at] = self._parts[part]()[wanted[at] - (ends[part] - self._lengths[part])]
        return found

    def read(self) -> np.ndarray:
        """Read all rows: (n, d), the only copy of them in memory."""
        return self[np.arange(len(self))]


@dataclass(frozen=True)
class StackedTable:
    """Several partitions of a table with the arrays `vectors` beside them, which are not read yet.

    Attributes:
        table: the id tables, one after the other.
        vectors: row i is of row i of the table.
    """

    table: pl.DataFrame
    vectors: StackedRows

    def take(self, ids: pl.Series, key: str = "image_id") -> StackedTable:
        """Return the rows of these ids, in their order; see `rows_of`."""
        rows = rows_of(self.table, ids, key)
        return StackedTable(self.table[rows], self.vectors.take(rows))


def rows_of(table: pl.DataFrame, ids: pl.Series, key: str = "image_id") -> np.ndarray:
    """Return the row of each id in a table, (n,) integers; of an id that occurs twice, the first.

    Raises:
        KeyError: an id is not in the table; the message counts them and names one.
    """
    index = table.select(key).with_row_index("row").unique(key, keep="first", maintain_order=True)
    rows = ids.rename(key).to_frame().join(index, on=key, how="left", maintain_order="left")
    missing = rows.filter(pl.col("row").is_null())[key]
    if len(missing):
        raise KeyError(f"{len(missing)} of {len(ids)} ids have no row in the table, e.g. {missing[0]}")
    return rows["row"].to_numpy()
