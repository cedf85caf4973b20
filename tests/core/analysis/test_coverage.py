"""The program that simulates coverage, at its small size: every interval that is given holds its truth."""

from __future__ import annotations

import re

import pytest

from benchmarks import coverage
from tests.core.analysis.made import unit
from twigma_core.analysis.kernel import kernel_distance

RUNS = 40
BIASED = {"frechet, source"}  # there to show what the correction is for


@pytest.mark.parametrize("part", coverage.PARTS, ids=lambda part: part.__name__)
def test_intervals_hold_what_they_are_intervals_of(part) -> None:
    for setting, tallies in part(RUNS, 1, True):
        for name, tally in tallies.items():
            assert len(tally.intervals) == RUNS
            if name in BIASED:
                assert tally.held < 0.8, (setting, name)
            elif tally.given:
                assert tally.held >= 0.8, (setting, name, tally.held)


def test_the_program_prints_tables(capsys: pytest.CaptureFixture[str]) -> None:
    coverage.main(["--small", "--runs", "5"])
    printed = capsys.readouterr().out
    assert "5 runs, seed 0" in printed
    tables = re.findall(r"\n\| setting \|.*\n\|---", printed)
    assert len(tables) == len(coverage.PARTS)
    assert "withheld" in printed and "%" in printed
    coverage.main(["--small", "--runs", "2", "--parts", "conditions"])
    assert capsys.readouterr().out.count("| setting |") == 1


def test_the_kernel_distance_of_many_rows_is_that_of_all_pairs() -> None:
    x, y = unit(90, 5, 0), unit(70, 5, 1, shift=0.5)
    assert coverage.kernel_of_many(x, y) == pytest.approx(kernel_distance(x, y, gamma=1.0), rel=1e-9)
