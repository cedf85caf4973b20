"""The benchmark of memory at a small size: the month is embedded, and what it took is measured."""

from __future__ import annotations

from pathlib import Path

from benchmarks import memory


def test_memory_is_that_of_a_month_which_was_embedded(tmp_path: Path) -> None:
    (seen,) = memory.main(["--counts", "40", "--json", str(tmp_path / "found.json")]).values()
    assert seen["peak"] >= seen["loaded"] > memory.MIB
