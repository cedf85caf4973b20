"""Estimates with intervals, and their differences, ratios, averages and extremes.

The estimates that are combined are taken as independent of one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; None where the data do not give it."""

    value: float | None
    low: float | None = None
    high: float | None = None


NOTHING = Estimate(None)


def exactly(value: float) -> Estimate:
    """Return a value that is known without error."""
    return Estimate(value, value, value)


def minus(a: Estimate, b: Estimate) -> Estimate:
    """Return a − b with the interval of a difference of independent ones (MOVER, Zou and Donner 2008)."""
    if a.value is None or b.value is None:
        return NOTHING
    difference = a.value - b.value
    if None in (a.low, a.high, b.low, b.high):
        return Estimate(difference)
    below = np.hypot(a.value - a.low, b.high - b.value)  # type: ignore[operator]
    above = np.hypot(a.high - a.value, b.value - b.low)  # type: ignore[operator]
    return Estimate(difference, difference - float(below), difference + float(above))


def ratio(a: Estimate, b: Estimate) -> Estimate:
    """Return a / b of positive estimates, by `minus` of their logarithms."""
    logs = []
    for each in (a, b):
        ends = (each.value, each.low, each.high)
        logs.append(Estimate(*(None if end is None or end <= 0 else float(np.log(end)) for end in ends)))
    found = minus(*logs)
    ends = (found.value, found.low, found.high)
    return Estimate(*(None if end is None else float(np.exp(end)) for end in ends))


def share(hits: int, total: int) -> Estimate:
    """Return hits / total with its Wilson interval; nothing where the total is 0."""
    from statsmodels.stats.proportion import proportion_confint

    if not total:
        return NOTHING
    low, high = proportion_confint(hits, total, method="wilson")
    return Estimate(hits / total, float(low), float(high))


def extreme(found: Mapping[str, Estimate], largest: bool) -> Estimate:
    """Return the estimate with the largest or smallest value; nothing where none has a value."""
    known = [ours for ours in found.values() if ours.value is not None]
    if not known:
        return NOTHING
    return (max if largest else min)(known, key=lambda ours: ours.value or 0.0)


def average(parts: Sequence[Estimate]) -> Estimate:
    """Return the mean of independent estimates; nothing where one has no value."""
    values = [part.value for part in parts if part.value is not None]
    if len(values) < len(parts):
        return NOTHING
    total = exactly(0.0)
    for part in parts:  # a + b is a − (−b)
        low, high = (None if end is None else -end for end in (part.high, part.low))
        total = minus(total, Estimate(-(part.value or 0.0), low, high))
    ends = (total.value, total.low, total.high)
    return Estimate(*(None if end is None else end / len(parts) for end in ends))
