"""What a benchmark found, kept in a file with the machine, its load, and the versions it was found with."""

from __future__ import annotations

import datetime as dt
import json
import os
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, machine

RESULTS = ROOT / ".twigma" / "benchmarks" / "results"
SAID = (
    *("torch", "numpy", "scipy", "scikit-learn", "polars", "faiss-gpu", "faiss-cpu", "open_clip_torch"),
    *("dagster", "pillow"),
)


def keep(benchmark: str, found: Any, file: Path | None = None) -> Path:
    """Write what was found as JSON, and say where; by default a file of its own for each run.

    docs/performance.md is written from these files.
    """
    now = dt.datetime.now(dt.UTC)
    file = file or RESULTS / f"{benchmark}-{now:%Y%m%dT%H%M%S}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "benchmark": benchmark,
        "command": shlex.join(["python", "-m", f"benchmarks.{benchmark}", *sys.argv[1:]]),
        "ended": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "load": load(),
        "versions": versions(),
        "found": found,
    }
    file.write_text(json.dumps(record, indent=1))
    print(f"written to {file}")
    return file


def load() -> float:
    """Return how many processes wanted a core in the last minute, on average."""
    return round(os.getloadavg()[0], 1)


def versions() -> dict[str, str]:
    """Return the versions of those of our libraries that decide speed, where they are installed."""
    return {one.metadata["Name"]: one.version for one in metadata.distributions() if one.name in SAID}
