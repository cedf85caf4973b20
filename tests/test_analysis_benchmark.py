"""The analysis benchmark at a small size: the answers of ours and of the peers agree."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks import analysis


def test_every_work_agrees_with_its_peer(capsys: pytest.CaptureFixture[str]) -> None:
    found = analysis.main(["--scale", "0.01", "--rounds", "1"])
    assert [row["work"].split(",")[0] for row in found] and len(found) == len(analysis.WORKS)
    assert all(row["apart"] <= row["most_apart"] for row in found)
    assert capsys.readouterr().out.count("ratio") == len(analysis.WORKS)


def test_a_wrong_answer_stops_it() -> None:
    work = dataclasses.replace(analysis.pairs(0.01), ours=lambda: 1.0)
    with pytest.raises(AssertionError, match="differ by"):
        analysis.compare(work, 1)
