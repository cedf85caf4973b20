"""Memory of embedding a month, by how many pictures it has.

    python -m benchmarks.memory                  # docs/performance.md shows it
    python -m benchmarks.memory --counts 500 5000

Pictures are drawn, and repeated with changed bytes: each is a file of its own with the same look as others.
Each month is embedded by a process of its own as a step of `embeddings` does, with the sample's CLIP.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import results
from benchmarks.processes import ROOT, machine
from twigma_core import features
from twigma_core.images.shards import write_shards
from twigma_core.incremental import Work
from twigma_core.lake import Lake
from twigma_core.models.clip import ClipEncoder
from twigma_core.sample.drawing import draw, random_scene

MONTH, SIDE, LOOKS = "2021-01", 128, 100
MIB = 2**20


def files(count: int) -> Iterator[bytes]:
    """Yield `count` different JPEGs; what follows a JPEG's end is not looked at."""
    looks = []
    for seed in range(LOOKS):
        buffer = io.BytesIO()
        draw(random_scene(np.random.default_rng(seed)), SIDE).save(buffer, "JPEG")
        looks.append(buffer.getvalue())
    for number in range(count):
        yield looks[number % LOOKS] + str(number).encode()


def lay_out(folder: Path, count: int) -> None:
    """Store a month of `count` pictures."""
    named = [(f"{number:07}.jpg", data) for number, data in enumerate(files(count))]
    places = write_shards(Lake(folder), f"shards/images/{MONTH}", named, 64 * MIB)
    pl.DataFrame(
        {
            "image_id": [f"{number:07}" for number in range(count)],
            "status": "ok",
            "sha256": [hashlib.sha256(data).hexdigest() for _, data in named],
            "shard": [place.shard for place in places],
            "offset": [place.offset for place in places],
            "bytes": [place.bytes for place in places],
        }
    ).write_parquet(folder / "images.parquet")


def embed(folder: Path) -> dict[str, float]:
    """Embed the month; return the largest resident memory before and after, in bytes, and the seconds."""
    encoder = ClipEncoder("sample", device="cpu")
    images = pl.read_parquet(folder / "images.parquet")
    features.embed_pictures(
        Work(Lake(folder / "warm"), "embeddings", MONTH, reuse=False), images.head(0), encoder
    )
    work = Work(Lake(folder), "embeddings", MONTH, reuse=False)
    loaded, begun = _peak(), time.monotonic()
    made, _ = features.embed_pictures(work, images, encoder)
    assert len(made.vectors) == images.height
    return {"loaded": loaded, "peak": _peak(), "seconds": time.monotonic() - begun}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(given: list[str] | None = None) -> dict[int, dict[str, float]]:
    """Measure each count, print the table, and return what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=int, nargs="+", default=[2_000, 20_000])
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.folder:
        print(json.dumps(embed(arguments.folder)))
        return {}
    found = {}
    print(machine())
    print("| pictures | with the model loaded, MiB | at most, MiB | pictures/s |\n|---|---|---|---|")
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as folder:
            lay_out(Path(folder), count)
            command = [sys.executable, "-m", "benchmarks.memory", "--folder", folder]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            seen = found[count] = json.loads(done.stdout.splitlines()[-1])
        row = f"{seen['loaded'] / MIB:.0f} | {seen['peak'] / MIB:.0f} | {count / seen['seconds']:.0f}"
        print(f"| {count:,} | {row} |", flush=True)
    results.keep("memory", found, arguments.json)
    return found


if __name__ == "__main__":
    main()
