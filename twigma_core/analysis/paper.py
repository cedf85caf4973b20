"""The paper's numbers beside ours: table `paper_comparison`.

`paper_numbers.csv` holds every number and stated order of the paper: the paper's own words, their place, the
asset that ours comes from, and how it is read from it (`paper_readers.py`). Here: the verdict, and why.

Kinds of number:

- setting: a choice of the method, such as k = 10. Reproduced where ours is the same.
- size: how much there is. Compared only where the data cover the paper's months, or hold a whole corpus.
- level: a value that depends on the data. Reproduced where the intervals meet (within 5 % where neither
  side has one); not comparable on synthetic data.
- direction: a stated order, turned into a contrast that is positive where the order holds. Reproduced where
  its interval lies above 0; compared on synthetic data, too.
- outside: stated by the paper but not computed from our tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.analysis.contrasts import NOTHING, Estimate
from twigma_core.analysis.paper_readers import Missing, Tables, read, selection
from twigma_core.provenance import in_words

TOLERANCE = 0.05
MONTHS = [f"{year}-{month:02d}" for year in (2021, 2022, 2023) for month in range(1, 13)][:27]
"""The paper's months, 2021-01 to 2023-03."""
SYNTHETIC = "The data are synthetic, which says nothing about the paper's."


def paper_numbers() -> pl.DataFrame:
    """Return every number of the paper: number, place, paper, value, low, high, kind, asset, how, note.

    `paper` is quoted from the paper, several places parted by " … ".
    """
    text = resources.files("twigma_core.analysis").joinpath("paper_numbers.csv").read_bytes()
    schema = {"value": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.read_csv(text, schema_overrides=schema, infer_schema_length=None)


def needed_assets() -> list[str]:
    """Return the assets whose tables `paper_comparison` reads, sorted."""
    named = paper_numbers()["asset"].drop_nulls().to_list()
    return sorted({*named, "tweet_media", "reference_embeddings"})


def paper_comparison(tables_by_asset: Tables, synthetic: bool) -> pl.DataFrame:
    """Return table `paper_comparison`: each number of the paper, ours with its interval, and a verdict.

    Args:
        tables_by_asset: whole tables by asset; one that is missing or empty makes its numbers not comparable.
        synthetic: whether the data are simulated or paired by invention: only settings and directions are
            then compared.
    """
    rows = [_compare(entry, tables_by_asset, synthetic) for entry in paper_numbers().iter_rows(named=True)]
    schema: Any = tables.empty("paper_comparison").schema
    return tables.conform("paper_comparison", pl.DataFrame(rows, schema=schema))


def _compare(entry: Mapping[str, Any], given: Tables, synthetic: bool) -> dict[str, Any]:
    ours, missing = _find(entry, given)
    verdict, because = ("not comparable", missing) if missing else _judge(entry, ours, given, synthetic)
    reasons = [because, _robustly(entry, given), entry["note"]]
    return {
        **{name: entry[name] for name in ("number", "place", "paper", "kind")},
        **{f"paper_{name}": entry[name] for name in ("value", "low", "high")},
        "value": ours.value,
        "low": ours.low,
        "high": ours.high,
        "asset": entry["asset"] or "none",
        "selection": selection(entry["how"]) if entry["how"] else None,
        "verdict": verdict,
        "because": " ".join(reason for reason in reasons if reason),
    }


def _find(entry: Mapping[str, Any], given: Tables) -> tuple[Estimate, str | None]:
    """Return ours, or nothing and why there is none."""
    if entry["kind"] == "outside":
        return NOTHING, "Not computed here."
    asset = entry["asset"]
    try:
        ours = read(given, asset, entry["how"])
    except Missing as missing:
        return NOTHING, f"{missing}."
    if ours.value is None or not np.isfinite(ours.value):
        return NOTHING, f"{asset} holds no estimate of it."
    return ours, None


def _robustly(entry: Mapping[str, Any], given: Tables) -> str | None:
    """Return what the robust column says where the paper's is compared: likes belong to posts and authors."""
    how = entry["how"] or ""
    if "column=paper" not in how:
        return None
    try:
        ours = read(given, entry["asset"], how.replace("column=paper", "column=robust"))
    except Missing:
        return None
    if ours.value is None:
        return None
    interval = "" if ours.low is None or ours.high is None else f" [{ours.low:.4g}, {ours.high:.4g}]"
    return f"Robust, with errors clustered by author: {ours.value:.4g}{interval}."


def _judge(entry: Mapping[str, Any], ours: Estimate, given: Tables, synthetic: bool) -> tuple[str, str]:
    value = ours.value
    assert value is not None
    if entry["kind"] == "setting":
        if value == entry["value"]:
            return "reproduced", "The setting is the same."
        return "differs", f"The setting here is {value:g}."
    if entry["kind"] == "direction":
        verdict, because = _judge_direction(ours)
        return verdict, f"{because} {SYNTHETIC}" if synthetic else because
    if synthetic:
        return "not comparable", "Synthetic data: only settings and directions can be compared."
    if entry["kind"] == "size" and (other := _other_extent(entry["asset"], value, entry["value"], given)):
        return "not comparable", other
    return _judge_level(ours, value, entry["value"], entry["low"], entry["high"])


def _other_extent(asset: str, value: float, stated: float, given: Tables) -> str | None:
    """Return why a size cannot be compared: the data cover other months, or a part of a corpus."""
    if asset == "reference_images":
        part = abs(value - stated) > TOLERANCE * stated
        return "A part of the corpus is compared with, not all of it." if part else None
    months = sorted(given["dataset"]["month"].unique()) if "dataset" in given else []
    if months == MONTHS:
        return None
    return f"The data cover {in_words(months) or 'no month'}, the paper {in_words(MONTHS)}."


def _judge_direction(ours: Estimate) -> tuple[str, str]:
    assert ours.value is not None
    if ours.value <= 0 or (ours.high is not None and ours.high <= 0):
        return "differs", "The order is the other way round or absent."
    if ours.low is None:
        return "reproduced", "The stated order holds; it has no interval."
    if ours.low <= 0:
        return "differs", "Same direction, but not beyond chance: the interval of the contrast holds 0."
    return "reproduced", "The stated order holds: the interval of the contrast lies above 0."


def _judge_level(
    ours: Estimate, value: float, stated: float, low: float | None, high: float | None
) -> tuple[str, str]:
    """Compare intervals where there is one, else values within `TOLERANCE`."""
    if ours.low is not None and ours.high is not None:
        ends, whose = (ours.low, ours.high), "The interval here"
    elif low is not None:
        ends, whose = (value, value), "The value here"
    elif value == stated:
        return "reproduced", "The number is the same."
    elif abs(value - stated) <= TOLERANCE * abs(stated):
        return "reproduced", f"Within {TOLERANCE:.0%} of the paper's; neither has an interval."
    else:
        return "differs", f"{value / stated:.3g} times the paper's: other data, sample or period."
    theirs = (stated, stated) if low is None or high is None else (low, high)
    target = "the paper's value" if low is None else "the paper's interval"
    if ends[0] <= theirs[1] and theirs[0] <= ends[1]:
        return "reproduced", f"{whose} meets {target}."
    return "differs", f"{whose} does not meet {target}: other data, sample or period."
