"""The analysis beside the libraries of the field: same input, same answer, taking turns.

    python -m benchmarks.analysis                      # all works at full size; docs/performance.md shows it
    python -m benchmarks.analysis --scale 0.02 pairs   # one work, small

Vectors are unit vectors of 768 dimensions around 50 centres, about as spread as CLIP's. Each round runs ours
and then the peer's, in one process with the same number of threads; the median over rounds is printed with
the ratio (peer / ours). Each work checks that the two answers agree and says how far they are apart.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.processes import machine

WIDTH = 768
NEIGHBORS = 5
CLUSTERS = 10


@dataclass(frozen=True)
class Work:
    """One comparison.

    Attributes:
        name: what is computed, with its size.
        peer: what computes it beside ours.
        ours: computes it our way.
        theirs: computes it with the peer.
        apart: from the two answers to how far they are apart, 0 for not at all.
        most: the most that they may be apart.
    """

    name: str
    peer: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    apart: Callable[[Any, Any], float]
    most: float


def vectors(n: int, seed: int) -> np.ndarray:
    """Return (n, 768) float32 unit vectors around 50 centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(50, WIDTH)).astype(np.float32)
    x = rng.standard_normal((n, WIDTH), dtype=np.float32)
    x += centres[rng.integers(50, size=n)]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def pairs(scale: float) -> Work:
    """Mean distance over all pairs, beside scipy's pdist."""
    from scipy.spatial.distance import pdist

    from twigma_core.analysis.variation import mean_pairwise_distance

    n = round(20_000 * scale)
    x = vectors(n, 1)
    return Work(
        f"mean pairwise distance, {n:,} × {WIDTH}",
        "scipy pdist",
        lambda: mean_pairwise_distance(x),
        lambda: float(pdist(x).mean()),
        lambda a, b: abs(a - b) / b,
        1e-6,
    )


def neighbors(scale: float) -> Work:
    """The five most similar of another set, beside FAISS's flat index as shipped."""
    import faiss

    from twigma_core.analysis.exact_search import topk

    n, m = round(50_000 * scale), round(100_000 * scale)
    queries, base = vectors(n, 2), vectors(m, 3)

    def flat() -> tuple[np.ndarray, np.ndarray]:
        index = faiss.IndexFlatIP(WIDTH)
        index.add(base)
        similarity, rows = index.search(queries, NEIGHBORS)
        return rows, similarity

    def apart(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
        """Return the largest difference of similarities at the same rank: equal ones may swap rows."""
        ours, theirs = (next(part for part in found if part.dtype.kind == "f") for found in (a, b))
        return float(np.abs(np.asarray(ours, np.float64) - theirs).max())

    return Work(
        f"{NEIGHBORS} nearest, {n:,} in {m:,} × {WIDTH}",
        f"FAISS {faiss.__version__} flat",
        lambda: topk(queries, base, NEIGHBORS),
        flat,
        apart,
        1e-5,
    )


def kmeans(scale: float) -> Work:
    """Ten clusters, beside scikit-learn with three starts."""
    from sklearn.cluster import KMeans

    from twigma_core.analysis.clusters import fit_kmeans

    n = round(200_000 * scale)
    x = vectors(n, 4)
    return Work(
        f"k-means, k = {CLUSTERS}, {n:,} × {WIDTH}",
        "scikit-learn, 3 starts",
        lambda: fit_kmeans(x, CLUSTERS, 0).inertia,
        lambda: float(KMeans(CLUSTERS, n_init=3, random_state=0).fit(x).inertia_),
        lambda a, b: max(0.0, a / b - 1),
        0.005,
    )


def identical(scale: float) -> Work:
    """The number of different rows, beside polars' unique on a column of arrays."""
    from twigma_core.images.lookalikes import fingerprint
    from twigma_core.lake import ArrayTable

    n = round(800_000 * scale)
    x = vectors(n, 5)
    x[n // 2 : n // 2 + n // 100] = x[: n // 100]  # one in a hundred is there twice
    names = pl.DataFrame({"image_id": [str(i) for i in range(n)]}).with_columns(
        month=pl.lit("2021-01"), sha256="image_id", model=pl.lit("m"), weights_sha256=pl.lit("w")
    )
    column = pl.Series("x", x)
    return Work(
        f"different rows, {n:,} × {WIDTH}",
        "polars unique",
        lambda: fingerprint(ArrayTable(names, {"vectors": x})).table["digest"].n_unique(),
        lambda: column.to_frame().unique().height,
        lambda a, b: abs(a - b),
        0,
    )


def opening(scale: float) -> Work:
    """All vectors of 27 months, opened and summed, beside a list column of Parquet."""
    from twigma_core.lake import ArrayTable, Lake

    n = round(800_000 * scale) // 27
    folder = tempfile.TemporaryDirectory()
    root = Path(folder.name)
    lake = Lake(root / "lake")
    months = [f"{2021 + i // 12}-{1 + i % 12:02d}" for i in range(27)]
    for i, month in enumerate(months):
        x = vectors(n, 100 + i)
        ids = pl.DataFrame({"image_id": [f"{i}-{j}" for j in range(n)]}).with_columns(
            month=pl.lit(month),
            sha256=pl.lit("0" * 64),
            model=pl.lit("m"),
            weights_sha256=pl.lit("w"),
            settings=pl.lit("s"),
        )
        lake.write("embeddings", ArrayTable(ids, {"vectors": x}), month)
        ids.with_columns(pl.Series("vector", x).arr.to_list()).write_parquet(root / f"{month}.parquet")

    def ours() -> float:
        return sum(
            float(lake.read_arrays("embeddings", month).vectors.sum(dtype=np.float64)) for month in months
        )

    def theirs() -> float:
        _ = folder  # lives as long as its files are read
        total = 0.0
        for month in months:
            listed = pl.read_parquet(root / f"{month}.parquet")["vector"]
            total += float(listed.list.explode().to_numpy().sum(dtype=np.float64))
        return total

    return Work(
        f"opening and summing all vectors of 27 months, {27 * n:,} × {WIDTH}",
        "polars list column",
        ours,
        theirs,
        lambda a, b: abs(a - b) / abs(b),
        1e-9,
    )


WORKS: dict[str, Callable[[float], Work]] = {
    "pairs": pairs,
    "neighbors": neighbors,
    "kmeans": kmeans,
    "identical": identical,
    "opening": opening,
}


def compare(work: Work, rounds: int) -> dict[str, Any]:
    """Run a work's two sides in turn and return name, peer, medians in seconds, ratio, difference.

    Raises:
        AssertionError: the answers are farther apart than they may be.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    apart = 0.0
    for _ in range(rounds):
        answers = []
        for side, times in zip((work.ours, work.theirs), taken, strict=True):
            start = time.perf_counter()
            answers.append(side())
            times.append(time.perf_counter() - start)
        apart = max(apart, work.apart(*answers))
        assert apart <= work.most, (
            f"{work.name}: ours and {work.peer} differ by {apart:.3g}, over {work.most}"
        )
    ours, theirs = (statistics.median(times) for times in taken)
    found = {"work": work.name, "peer": work.peer, "ours_s": ours, "peer_s": theirs}
    return {**found, "ratio": theirs / ours, "apart": apart, "most_apart": work.most}


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Run the works that are named, all by default; print a line for each and return what it says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("works", nargs="*", choices=[*WORKS, []], help="default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args(arguments)
    print(machine())
    found = []
    for name in asked.works or WORKS:
        row = compare(WORKS[name](asked.scale), asked.rounds)
        found.append(row)
        print(
            f"{row['work']}: ours {row['ours_s']:.3g} s, {row['peer']} {row['peer_s']:.3g} s, "
            f"ratio {row['ratio']:.1f}, answers apart by {row['apart']:.1g}",
            flush=True,
        )
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
