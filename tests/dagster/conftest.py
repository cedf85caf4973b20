"""The sample world, built once by the very command that a newcomer runs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from twigma_core.lake import Lake

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Built:
    """A home folder in which a command has built the graph.

    Attributes:
        home: TWIGMA_HOME.
        lake: its lake.
        output: what the command printed.
        environment: the variables that it ran with.
    """

    home: Path
    lake: Lake
    output: str
    environment: dict[str, str]

    def twigma(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the command line on this home."""
        return run_twigma(self.home, *arguments, **{**self.environment, **variables})


def environment_of(home: Path) -> dict[str, str]:
    """Return the environment of a user whose home folder is `home` and who has set nothing else."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("TWIGMA_", "DAGSTER_"))}
    ours = {"TWIGMA_HOME": str(home), "DAGSTER_HOME": str(home / "dagster")}
    return {**clean, **ours, "COLUMNS": "160", "HF_HUB_OFFLINE": "1"}


def run_twigma(home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `twigma` as a user would, with a home of its own and no setting but those named."""
    environment = {**environment_of(home), **variables}
    command = [sys.executable, "-m", "twigma_dagster.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=900)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sample world, built by `twigma demo`."""
    home = tmp_path_factory.mktemp("sample")
    done = run_twigma(home, "demo")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    return Built(home, Lake(home / "lake"), done.stdout, {})
