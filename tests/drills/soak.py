"""Collect the same month again and again in one process, each time into a new lake, and say what it holds.

`python -m tests.drills.soak ADDRESS SECONDS FOLDER` prints a line of JSON a round.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import time
from pathlib import Path

from tests.core.collect import drill
from twigma_core.lake import Lake

GOES = 5
"""Most runs until a month is whole: what failed for passing reasons is fetched by the next run."""


def contents(lake: Lake) -> dict[str, str | None]:
    """Return what must be the same after each round: the versions of the tables."""
    return {name: lake.provenance(name, drill.MONTH).data_version for name in drill.TABLES}


def whole(lake: Lake) -> bool:
    """Say whether no picture failed for a passing reason."""
    return not (lake.read("images", drill.MONTH)["status"] == "failed").any()


def main() -> None:
    """Go round until the time is over."""
    address, seconds, folder = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        lake = Lake(folder / "lake")
        goes = 0
        while not goes or not (whole(lake) or goes == GOES):
            drill.collect(folder / "lake", address, backoff_s=0.05)
            goes += 1
        images = lake.read("images", drill.MONTH)
        told = {
            "versions": contents(lake),
            "goes": goes,
            "pictures": (images["status"] == "ok").sum(),
            "attempts": images["attempts"].sum(),
        }
        shutil.rmtree(folder / "lake")
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        told |= {
            "seconds": time.monotonic() - begun,
            "mib": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
            "open": len(list(Path("/proc/self/fd").iterdir())),
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
