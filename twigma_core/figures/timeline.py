"""Months on an axis: text such as "2021-01" becomes a whole number and back, with ticks that can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def month_index(month: str) -> int:
    """Return the months since January of year 0 of `month` ("2021-01")."""
    year, number = month.split("-")
    return 12 * int(year) + int(number) - 1


def month_index_expr(column: str = "month") -> pl.Expr:
    """Return `month_index` as an expression over text months, Int32."""
    year = pl.col(column).str.slice(0, 4).cast(pl.Int32)
    return (12 * year + pl.col(column).str.slice(5, 2).cast(pl.Int32) - 1).alias(f"{column}_index")


def month_text(index: int) -> str:
    """Return the month ("2021-01") of an index."""
    return f"{index // 12:04d}-{index % 12 + 1:02d}"


def months_between(first: str, last: str) -> list[str]:
    """Return all months from `first` to `last`, both included."""
    return [month_text(i) for i in range(month_index(first), month_index(last) + 1)]


def month_ticks(first: int, last: int, most: int = 7) -> tuple[list[int], list[str]]:
    """Return at most about `most` ticks between two month indices, and their labels.

    The step is one that divides a year, so that ticks fall on the same months every year. The first tick
    and each that begins a year show the year, on a line of its own.
    """
    steps = (1, 2, 3, 6, 12, 24, 60)
    step = next((s for s in steps if (last - first) // s + 1 <= most), 120)
    ticks = [i for i in range(first, last + 1) if i % step == 0] or [first]
    labels, year = [], None
    for tick in ticks:
        name = _NAMES[tick % 12]
        labels.append(f"{name}\n{tick // 12}" if tick // 12 != year else name)
        year = tick // 12
    return ticks, labels


def month_axis(axes: Axes, first: int, last: int, most: int = 7) -> None:
    """Make the x axis of `axes` a time axis from month index `first` to `last`."""
    ticks, labels = month_ticks(first, last, most)
    axes.set_xticks(ticks, labels)
    margin = max(0.6, (4 - (last - first)) / 2)  # a bar of a single month is not as wide as the page
    axes.set_xlim(first - margin, last + margin)
