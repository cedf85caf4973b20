"""What `analysis` compares: ours and a peer's way to the same answer.

Vectors are unit vectors of 768 dimensions around 50 centres, about as spread as CLIP's.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.processes import peer

WIDTH = 768
NEIGHBORS = 5
CLUSTERS = 10
MOST_CELLS = 50  # the largest of the codebook's quantizers
MAUVE = "mauve-text==0.4.0"


def nothing_more(ours: Any, theirs: Any) -> dict[str, float]:
    """Say no more of two answers than how far apart they are."""
    return {}


@dataclass(frozen=True)
class Work:
    """One comparison.

    Attributes:
        name: what is computed, with its size.
        peer: what computes it beside ours.
        aim: how many times as fast ours should be.
        ours: computes it our way.
        theirs: computes it with the peer.
        apart: from the two answers to how far they are apart, 0 for not at all.
        most: the most that they may be apart.
        more: what else is to be said of the two answers.
    """

    name: str
    peer: str
    aim: float
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    apart: Callable[[Any, Any], float]
    most: float
    more: Callable[[Any, Any], dict[str, float]] = nothing_more


@dataclass(frozen=True)
class Elsewhere:
    """The answer of a process of its own, and what it says it took, without its start and its reading."""

    value: Any
    took: dict[str, float]


def vectors(n: int, seed: int, shares: np.ndarray | None = None) -> np.ndarray:
    """Return (n, 768) float32 unit vectors around 50 centres, which have these shares, or equal ones."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(50, WIDTH)).astype(np.float32)
    x = rng.standard_normal((n, WIDTH), dtype=np.float32)
    x += centres[rng.choice(50, size=n, p=shares)]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def run_elsewhere(
    python: str | Path, script: str, arrays: dict[str, np.ndarray], arguments: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Run a script on arrays, in its working folder; return the JSON of its last line and `out.npz`.

    No setting of BLAS or OpenMP is handed down: the peer runs as it comes.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS", "OMP", "MKL"))}
    with tempfile.TemporaryDirectory(prefix="twigma-bench-") as folder:
        for name, array in arrays.items():
            np.save(Path(folder) / f"{name}.npy", array)
        command = [str(python), "-c", script, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=inherited, check=False)
        if done.returncode:
            raise RuntimeError(f"the peer ended with {done.returncode}: {done.stderr[-2000:]}")
        with np.load(Path(folder) / "out.npz") as out:
            return json.loads(done.stdout.splitlines()[-1]), dict(out)


TIMED = """
import json, sys, time
from pathlib import Path
import numpy as np
def kib(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)
def timed(work):
    Path("/proc/self/clear_refs").write_text("5")
    before = kib("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    answer = work()
    took = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    took["mib"] = (kib("VmHWM") - before) / 1024
    return answer, took
"""
"""Start of a peer's script: what `analysis.take_turn` counts, counted there."""


def pairs(scale: float) -> Work:
    """Mean distance over all pairs, beside scipy's pdist."""
    from scipy.spatial.distance import pdist

    from twigma_core.analysis.variation import mean_pairwise_distance

    n = round(20_000 * scale)
    x = vectors(n, 1)
    return Work(
        f"mean pairwise distance, {n:,} × {WIDTH}",
        "scipy pdist",
        40,
        lambda: mean_pairwise_distance(x),
        lambda: float(pdist(x).mean()),
        lambda a, b: abs(a - b) / b,
        1e-6,
    )


FAISS_SCRIPT = """
import faiss
queries, base = np.load("queries.npy"), np.load("base.npy")
def search():
    index = faiss.IndexFlatIP(base.shape[1])
    index.add(base)
    return index.search(queries, int(sys.argv[1]))
(similarity, rows), took = timed(search)
np.savez("out.npz", similarity=similarity, rows=rows)
print(json.dumps(took))
"""


def _nearest(scale: float, name: str, theirs: Callable[[np.ndarray, np.ndarray], Any]) -> Work:
    import torch  # noqa: F401  # before the clock starts

    from twigma_core.analysis.exact_search import topk

    n, m = round(50_000 * scale), round(100_000 * scale)
    queries, base = vectors(n, 2), vectors(m, 3)
    return Work(
        f"{NEIGHBORS} nearest, {n:,} in {m:,} × {WIDTH}",
        name,
        3.5,
        lambda: topk(queries, base, NEIGHBORS),
        lambda: theirs(queries, base),
        # equal ones may swap rows, so similarities at the same rank are compared
        lambda a, b: float(np.abs(a[0].astype(np.float64) - b[0]).max()),
        1e-5,
        lambda a, b: {"share of ranks with the same neighbour": float((a[1] == b[1]).mean())},
    )


def neighbors(scale: float) -> Work:
    """The five most similar of another set, beside FAISS's flat index as its package ships it.

    A process imports FAISS and nothing beside it: which BLAS kernels it finds depends on what is loaded.
    """
    import faiss

    def flat(queries: np.ndarray, base: np.ndarray) -> Elsewhere:
        arrays = {"queries": queries, "base": base}
        took, out = run_elsewhere(sys.executable, TIMED + FAISS_SCRIPT, arrays, [str(NEIGHBORS)])
        return Elsewhere((out["similarity"], out["rows"]), took)

    return _nearest(scale, f"FAISS {faiss.__version__} flat, as shipped", flat)


def neighbors_sklearn(scale: float) -> Work:
    """The same beside scikit-learn."""
    from sklearn.neighbors import NearestNeighbors

    def brute(queries: np.ndarray, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        model = NearestNeighbors(n_neighbors=NEIGHBORS, algorithm="brute", metric="cosine").fit(base)
        distances, rows = model.kneighbors(queries)
        return 1 - distances, rows

    return _nearest(scale, "scikit-learn, brute, cosine", brute)


def kmeans(scale: float) -> Work:
    """Ten clusters, beside scikit-learn with three starts."""
    from sklearn.cluster import KMeans

    from twigma_core.analysis.clusters import fit_kmeans

    n = round(200_000 * scale)
    x = vectors(n, 4)
    return Work(
        f"k-means, k = {CLUSTERS}, {n:,} × {WIDTH}",
        "scikit-learn, 3 starts",
        5,
        lambda: fit_kmeans(x, CLUSTERS, 0).inertia,
        lambda: float(KMeans(CLUSTERS, n_init=3, random_state=0).fit(x).inertia_),
        lambda a, b: max(0.0, a / b - 1),
        0.005,
        lambda a, b: {"inertia of its": a / b},
    )


def identical(scale: float) -> Work:
    """The number of different rows, beside polars' unique on a column of arrays."""
    from twigma_core.images.lookalikes import digests

    n = round(800_000 * scale)
    x = vectors(n, 5)
    x[n // 2 : n // 2 + n // 100] = x[: n // 100]  # one in a hundred is there twice
    column = pl.Series("x", x)
    return Work(
        f"different rows, {n:,} × {WIDTH}",
        "polars unique",
        10,
        lambda: len(set(digests(x))),
        lambda: column.to_frame().unique().height,
        lambda a, b: abs(a - b),
        0,
    )


def opening(scale: float) -> Work:
    """All vectors of 27 months, opened and read through, beside a list column of Parquet."""
    from twigma_core.lake import ArrayTable, Lake

    n = round(800_000 * scale) // 27
    folder = tempfile.TemporaryDirectory(prefix="twigma-bench-", dir=os.environ.get("TMPDIR"))
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

    def bits(x: np.ndarray) -> int:
        """Return what hangs on every bit and takes no longer than reading them."""
        return int(np.bitwise_xor.reduce(x.reshape(-1).view(np.uint32)))

    def ours() -> list[int]:
        return [bits(lake.read_arrays("embeddings", month).vectors) for month in months]

    def theirs() -> list[int]:
        _ = folder  # lives as long as its files are read
        listed = (pl.read_parquet(root / f"{month}.parquet")["vector"] for month in months)
        return [bits(column.list.explode().to_numpy()) for column in listed]

    return Work(
        f"opening and reading all vectors of 27 months, {27 * n:,} × {WIDTH}",
        "polars list column",
        5,
        ours,
        theirs,
        lambda a, b: sum(x != y for x, y in zip(a, b, strict=True)),
        0,
    )


MAUVE_SCRIPT = """
import itertools, sys
from mauve import compute_mauve
sets = [np.load(f"{number}.npy") for number in range(int(sys.argv[1]))]
def all_pairs():
    found = []
    for a, b in itertools.combinations(sets, 2):
        found.append(compute_mauve(p_features=a, q_features=b, num_buckets=int(sys.argv[2])))
    return found
found, took = timed(all_pairs)
np.savez("out.npz", p=[f.p_hist for f in found], q=[f.q_hist for f in found], mauve=[f.mauve for f in found])
print(json.dumps(took))
"""


def divergences(scale: float, cells: int = CLUSTERS) -> Work:
    """Quantized divergences of all pairs of four sets, beside mauve-text (in an environment of its own: GPL).

    Ours fits one joint quantizer, as the paper did, from ten starts and then over all rows; mauve-text fits
    one for each pair, from five starts on 256 rows a cell. So the scores differ; what must agree is the score
    of the same histograms, but for the steps in which its curve is drawn (its default of 25, ours 100).
    """
    from scipy.stats import spearmanr

    from twigma_core.analysis.codebook import fit_codebook
    from twigma_core.analysis.divergence import js_divergence, kl_divergence, mauve_score

    n = round(20_000 * scale)
    rng = np.random.default_rng(7)
    sets = {str(i): vectors(n, 20 + i, rng.dirichlet(np.full(50, 0.5))) for i in range(4)}

    def ours(rows: int = n) -> np.ndarray:
        _, table = fit_codebook(sets, sizes=(cells,), per_source=rows)
        counts = [of.sort("cell")["pictures"].to_numpy() for of in table.partition_by("source")]
        for p, q in itertools.permutations(counts, 2):
            kl_divergence(p, q), js_divergence(p, q)
        return np.array([mauve_score(p, q) for p, q in itertools.combinations(counts, 2)])

    ours(min(n, 100))  # what is imported at the first call: the peer's imports are not timed either

    def theirs() -> Elsewhere:
        python = peer("mauve-text", MAUVE)
        took, out = run_elsewhere(python, TIMED + MAUVE_SCRIPT, sets, [str(len(sets)), str(cells)])
        return Elsewhere(out, took)

    def apart(_: np.ndarray, theirs: dict[str, np.ndarray]) -> float:
        ours = [mauve_score(p, q) for p, q in zip(theirs["p"], theirs["q"], strict=True)]
        return float(np.abs(np.array(ours) - theirs["mauve"]).max())

    def more(ours: np.ndarray, theirs: dict[str, np.ndarray]) -> dict[str, float]:
        return {
            "most that scores by joint and by own quantizer differ": float(
                np.abs(ours - theirs["mauve"]).max()
            ),
            "rank correlation of the pairs": float(spearmanr(ours, theirs["mauve"]).statistic),
        }

    return Work(
        f"quantized divergences, all pairs of 4 sets of {n:,} × {WIDTH}, k = {cells}",
        MAUVE,
        10,
        ours,
        theirs,
        apart,
        0.02,
        more,
    )


WORKS: dict[str, Callable[[float], Work]] = {
    "pairs": pairs,
    "neighbors": neighbors,
    "neighbors_sklearn": neighbors_sklearn,
    "kmeans": kmeans,
    "identical": identical,
    "opening": opening,
    "divergences": divergences,
    "divergences_50": partial(divergences, cells=MOST_CELLS),
}
