"""The lake's disk is full: while pages, pictures, tables and a release are written."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drills.counts import FULL
from tests.drills.undisturbed import Ground

SIZE = 16 * 2**20
FREE_KIB = (0, 4, 8, 16, 32, 64, 128, 256, 512, 700, 900, 1000, 1100, 1200) if FULL else (8, 64, 700)
"""What is left free, in turn, before each attempt: from nothing at all to almost enough."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(place)], capture_output=True, text=True
    )
    if made.returncode:
        message = f"a small disk cannot be mounted here: {made.stderr.strip()}; run as root"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(disk: Path, free: int) -> None:
    """Fill a disk with a file until so many KiB are left."""
    ballast = disk / "ballast"
    ballast.unlink(missing_ok=True)
    left = os.statvfs(disk)
    size = left.f_bavail * left.f_frsize - free * 1024
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def test_a_full_disk_is_named_and_the_next_attempt_goes_on(month: Ground, disk: Path) -> None:
    home = month.fresh("full", disk / "lake")
    stages = []
    for free in FREE_KIB:
        fill(disk, free)
        failed = home.build()
        first = failed.splitlines()[0]
        assert "no space is left for this file; free some and run again" in first, failed
        assert f"'{disk}/lake/" in first, "the file is named"
        assert [path for path in home.files() if path.endswith(".tmp")] == []
        home.whole()
        stages.append(f"{free} KiB: {home.stage()}")
    print(f"\nthe step that found the disk full: {'; '.join(stages)}")
    assert len({stage.partition(": ")[2] for stage in stages}) > 1
    (disk / "ballast").unlink()
    assert home.build() == ""
    assert (home.versions(), home.released(), home.files()) == (
        month.home.versions(),
        month.home.released(),
        month.home.files(),
    )
    again = Counter(endpoint for endpoint, _ in month.repeated())
    print(f"asked again: {dict(again)}")
    assert again["search/all"] <= len(FREE_KIB), "a page that had no room is asked for again, and no other"
