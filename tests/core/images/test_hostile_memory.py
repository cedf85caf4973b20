"""Memory while the worst comes at once: the peak of a process of its own stays below a bound."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

from tests.core.images import hostile_files as files
from tests.core.images.test_hostile import FILES, ok, raw

ROOT = Path(__file__).resolve().parents[3]
MOST_MIB = 650
MEMORY = r"""
import re, sys
import polars as pl
from twigma_core.images.download import download
from twigma_core.images.fetch import FetchPolicy
from twigma_core.lake import Lake
base, folder, *names = sys.argv[1:]
def peak():
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
before = peak()
policy = FetchPolicy(rewrite={"pbs.twimg.com": base}, attempts=2, backoff_s=0.01, deadline_s=60)
media = pl.DataFrame({"image_id": names, "url": [f"https://pbs.twimg.com/media/{n}.jpg" for n in names]})
ledger = download(media, None, Lake(folder), "2021-01", policy=policy)
print(before // 1024, peak() // 1024, dict(ledger.group_by("status").len().iter_rows()))
"""


def test_memory_stays_bounded_whatever_comes(site: Any, tmp_path: Path) -> None:
    """Hundreds of pictures of the largest size accepted, at once, with bombs and endless bodies between."""
    large = files.png(2_600, 2_000, zlib.compress(bytes(2_000 * 7_801)), chunk_of(18 * 2**20))
    bomb = files.png(7_990, 7_990, zlib.compress(bytes(7_990 * 23_971), 1))
    gigabyte = raw(ok(b""), *[bytes(2**20)] * 1024)
    for n in range(14):
        site.pages[f"/media/large{n:02}"] = (200, {}, large)
        site.pages[f"/media/endless{n:02}"] = gigabyte
    site.pages |= {f"/media/bomb{n}": (200, {}, bomb) for n in range(2)}
    site.pages |= {f"/media/file{n:02}": (200, {}, data) for n, (data, _) in enumerate(FILES.values())}
    names = [path.removeprefix("/media/") for path in site.pages]
    command = [sys.executable, "-c", MEMORY, site.base, str(tmp_path / "lake"), *names]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=True)
    before, after, _ = done.stdout.split(" ", 2)
    assert "'ok': 16" in done.stdout and "'refused': 14" in done.stdout, done.stdout
    # One decoded bomb of 64 megapixels, two shards' worth of bytes, bodies under way.
    assert int(after) - int(before) < MOST_MIB, f"{before} MiB before, {after} MiB at the peak"


def chunk_of(size: int) -> bytes:
    """Return a private chunk of a PNG that decoders pass over."""
    return files.chunk(b"prVt", os.urandom(size))
