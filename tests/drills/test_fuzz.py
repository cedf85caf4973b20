"""Any bytes into all that reads bytes of others: rows, a counted reason, or the documented error."""

from __future__ import annotations

import importlib.util
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dagster.deployment import ROOT
from tests.drills.counts import FULL, count
from tests.drills.fuzz_targets import COUNTED, REFUSED, ROWS, TARGETS

CASES = Path(__file__).with_name("cases")
FOUND = sorted(path for path in CASES.rglob("*") if path.is_file())
EXAMPLES = count(12, 1000)
MEMORY_MIB = 500
"""Most memory that the readers may take beyond what the process had taken at some time before."""


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("name", TARGETS)
def test_a_good_file_gives_rows(name: str, tmp_path: Path) -> None:
    found = [TARGETS[name].run(seed, tmp_path / "x") for seed in TARGETS[name].seeds]
    assert found[0] == ROWS
    assert set(found) <= {ROWS, COUNTED}


@pytest.mark.parametrize("file", FOUND, ids=[str(path.relative_to(CASES)) for path in FOUND])
def test_a_case_that_was_found_once_stays_mended(file: Path, tmp_path: Path) -> None:
    name = str(file.parent.relative_to(CASES))
    assert TARGETS[name].run(file.read_bytes(), tmp_path / "x") in (ROWS, COUNTED, REFUSED)


@pytest.mark.timeout(count(600, 3600))
@pytest.mark.parametrize("name", TARGETS)
def test_hypothesis_finds_nothing(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    target, became = TARGETS[name], Counter[str]()
    folder = tmp_path_factory.mktemp("fuzz") / "x"

    @settings(
        max_examples=EXAMPLES,
        derandomize=not FULL,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.sampled_from(target.seeds), random=st.randoms(use_true_random=False))
    def throw(seed: bytes, random: Random) -> None:
        became[target.run(target.mutate(seed, random), folder)] += 1

    before = peak_mib()
    throw()
    print(f"fuzz {name}: {dict(became)}")
    assert became.total() >= EXAMPLES
    assert peak_mib() - before < MEMORY_MIB


@pytest.mark.timeout(count(600, 3600))
@pytest.mark.parametrize("name", TARGETS if FULL else ["pages"])
def test_atheris_finds_nothing(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris has no wheel for this machine")
    command = [sys.executable, "-m", "tests.drills.fuzz_atheris", name, str(count(4, 60)), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    print(f"atheris {name}: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "DONE" in done.stderr
