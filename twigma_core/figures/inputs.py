"""What a figure asks of its tables, and how numbers are written on it.

Here belong the checks of frames that come in and the wording of numbers, counts and intervals.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import polars as pl


def need(
    figure: str, table: str, frame: pl.DataFrame, what: str = "rows", *, cure: str | None = None
) -> None:
    """Check that `frame`, the part of `table` that `figure` draws, holds at least one row.

    Raises:
        ValueError: it is empty; the message names the figure, the table and the cure.
    """
    if frame.is_empty():
        raise ValueError(f"{figure}: table {table} has no {what}; {cure or f'materialize {table} first'}")


def need_columns(figure: str, table: str, frame: pl.DataFrame, columns: Iterable[str]) -> None:
    """Check that `frame` has the `columns` of `table` that `figure` reads.

    Raises:
        ValueError: some are missing; the message names them.
    """
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(
            f"{figure}: table {table} lacks the columns {', '.join(missing)}; "
            f"pass the frame as twigma_core.tables declares it"
        )


def number(value: float | None, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits, or "–" for none; exponents only far from 1."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -5 or size > 8:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    return f"{value:,.{max(digits - 1 - size, 0)}f}".replace("-", "−")


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """Return "[low, high]", or nothing where an end is missing."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return f"[{number(low, digits)}, {number(high, digits)}]"


def percent(share: float | None, digits: int = 2) -> str:
    """Return a share as a percentage, such as "12 %"."""
    return "–" if share is None or math.isnan(share) else f"{number(100 * share, digits)} %"


def count(n: int) -> str:
    """Return `n` with thousands set apart."""
    return f"{n:,}"


def count_of(n: int, thing: str) -> str:
    """Return a count and what it counts, such as "1 month" or "18 months"."""
    return f"{count(n)} {thing}{'' if n == 1 else 's'}"


def p_text(p: float | None) -> str:
    """Return a p value as text, such as "p = 0.012" or "p < 0.001"."""
    if p is None or math.isnan(p):
        return "p undefined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
