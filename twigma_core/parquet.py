"""Parquet files that others wrote or that a disk has damaged: read, or refused with a reason.

Files of others are read by Arrow: Polars answers some broken ones with a panic of its Rust core, which is no
`Exception`, and others by ending the process. The lake's own tables are read by Polars, panics and all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

_LONGEST = 300


@contextmanager
def refusing(error: type[Exception], what: str, cure: str) -> Iterator[None]:
    """Turn all that reading a table may raise into `error`, whose message names the file, cause and cure.

    Args:
        error: the reader's own error.
        what: names the file.
        cure: what to do about it.
    """
    try:
        yield
    except (
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        pa.ArrowException,
        UnicodeDecodeError,
        OSError,
        MemoryError,
    ) as cause:
        said = (str(cause) or type(cause).__name__)[:_LONGEST]
        raise error(f"{what} cannot be read: {said}; {cure}") from cause


def read_columns(file: Path | UPath, choose: Callable[[list[str]], Mapping[str, str | None]]) -> pl.DataFrame:
    """Return columns of someone's Parquet file as text.

    Args:
        file: the file.
        choose: given the names of its columns, returns the file's name of each column wanted, by the name
            that it shall have; None gives a column of nulls.

    Raises:
        ArrowException, PolarsError, OSError: it cannot be read; see `refusing`.
    """
    with file.open("rb") as stream:
        table = pq.ParquetFile(stream)
        chosen = choose(table.schema_arrow.names)
        wanted: Sequence[str] = sorted({name for name in chosen.values() if name is not None})
        found = table.read(columns=wanted)
        found.validate(full=True)  # that text is UTF-8 is believed by all that follows
        frame = pl.DataFrame(pl.from_arrow(found))
        rows = table.metadata.num_rows
    columns = [
        pl.Series(ours, [None], pl.String).new_from_index(0, rows)
        if theirs is None
        else frame[theirs].cast(pl.String).alias(ours)
        for ours, theirs in chosen.items()
    ]
    return pl.DataFrame(columns)
