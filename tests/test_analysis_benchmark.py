"""The analysis benchmark at a small size: the answers of ours and of the peers agree."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import analysis, analysis_works

NOT_INSTALLED = ["divergences", "divergences_50"]
"""Works whose peer has an environment of its own, which no test makes."""


def test_every_work_agrees_with_its_peer(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    small = ["--scale", "0.005", "--rounds", "1", "--json", str(file)]
    found = analysis.main([*small, "--without", *NOT_INSTALLED])
    assert len(found) == len(analysis_works.WORKS) - len(NOT_INSTALLED)
    assert all(row["apart"] <= row["most_apart"] for row in found)
    assert all(row["ratio"] > 0 and row["ours"]["mib"] >= 0 for row in found)
    assert capsys.readouterr().out.count("ratio") == len(found)
    record = json.loads(file.read_text())
    assert [row["work"] for row in record["found"]] == [row["work"] for row in found]
    assert record["versions"]["numpy"] == np.__version__


def test_a_wrong_answer_stops_it() -> None:
    work = dataclasses.replace(analysis_works.pairs(0.01), ours=lambda: 1.0)
    with pytest.raises(AssertionError, match="differ by"):
        analysis.compare(work, 1)


def test_divergences_are_those_of_all_pairs_and_are_compared_on_the_same_histograms() -> None:
    work = analysis_works.divergences(0.01)
    scores = work.ours()
    assert scores.shape == (6,)
    assert ((scores > 0) & (scores < 1)).all()
    p, q = np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]), np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    theirs = {"p": p, "q": q, "mauve": np.array([1.0, 0.0])}
    assert work.apart(scores, theirs) < work.most
    assert work.apart(scores, {**theirs, "mauve": np.array([0.9, 0.0])}) > work.most
