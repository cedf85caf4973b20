"""Stacked rows read as one array would, and no more of it than was asked for."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from twigma_core.lake import ArrayTable, Lake
from twigma_core.stacked import StackedRows, StackedTable
from twigma_dagster.io import load

PARTS = [
    np.arange(6, dtype=np.float32).reshape(3, 2),
    np.zeros((0, 2), np.float32),
    np.ones((2, 2), np.float32),
]
WHOLE = np.concatenate(PARTS)


def stacked(opened: Counter[int]) -> StackedRows:
    def read(part: int) -> np.ndarray:
        opened[part] += 1
        return PARTS[part]

    return StackedRows([partial(read, part) for part in range(3)], [len(part) for part in PARTS])


def test_rows_are_those_of_the_concatenation() -> None:
    rows = stacked(Counter())
    assert (len(rows), rows.shape, rows.dtype) == (5, (5, 2), np.float32)
    np.testing.assert_array_equal(rows.read(), WHOLE)
    for wanted in ([4, 0, 0, 3], [], [2]):
        at = np.array(wanted, dtype=np.int64)
        np.testing.assert_array_equal(rows[at], WHOLE[at])
        np.testing.assert_array_equal(rows.take(at).read(), WHOLE[at])
    np.testing.assert_array_equal(rows.take(np.array([4, 2, 0]))[np.array([1])], WHOLE[[2]])


def test_a_part_is_opened_for_its_own_rows_alone() -> None:
    opened: Counter[int] = Counter()
    some = stacked(opened).take(np.array([4, 3]))
    opened.clear()
    some.read()
    assert opened == {2: 1}


def month_of(ids: list[str], first: float) -> ArrayTable:
    table = pl.DataFrame({"image_id": ids}).with_columns(
        month=pl.lit("2021-01"),
        sha256=pl.lit("0"),
        model=pl.lit("m"),
        weights_sha256=pl.lit("w"),
        settings=pl.lit("s"),
    )
    vectors = np.arange(2 * len(ids), dtype=np.float32).reshape(-1, 2) + np.float32(first)
    return ArrayTable(table, {"vectors": vectors})


def test_months_of_a_lake_are_stacked_unread(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write("embeddings", month_of(["1", "2"], 0), "2021-01")
    lake.write("embeddings", month_of(["3", "2"], 10), "2021-02")
    both = load(lake, "embeddings", ["2021-01", "2021-02"], StackedTable)
    chosen = both.take(pl.Series(["3", "2"]))
    assert chosen.table["image_id"].to_list() == ["3", "2"]
    np.testing.assert_array_equal(chosen.vectors.read(), [[10, 11], [2, 3]])
    with pytest.raises(KeyError, match=r"1 of 2 ids have no row in the table, e\.g\. 9"):
        both.take(pl.Series(["1", "9"]))


def test_a_month_that_is_replaced_while_it_is_read_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path)
    lake.write("embeddings", month_of(["1", "2"], 0), "2021-01")
    opened = lake._files.array
    replacements = [month_of(["1", "3"], 10)]

    def array(name: str) -> np.ndarray:
        if replacements:
            lake.write("embeddings", replacements.pop(), "2021-01")
        return opened(name)

    monkeypatch.setattr(lake._files, "array", array)
    read = lake.read_all_arrays("embeddings")
    assert read.table["image_id"].to_list() == ["1", "3"] and read.vectors[0, 0] == 10
