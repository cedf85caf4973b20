"""The benchmark of downloads at a small size: what it stores is whole and right; how fast, no test says."""

from __future__ import annotations

from pathlib import Path

from benchmarks import download


def test_ours_stores_every_picture_as_it_was_served_though_answers_fail(tmp_path: Path) -> None:
    small = ["--count", "60", "--sides", "64", "--rounds", "1", "--latencies", "0", "--faults", "0.05"]
    (row,) = download.main([*small, "--no-peer", "--json", str(tmp_path / "found.json")])
    ours = row["tools"]["ours"]
    assert row["count"] == 240  # 60 of 256 px
    assert (ours["stored"], ours["wrong"]) == (240, 0)
    assert ours["requests"] > 240
    assert ours["rate"] > 0
