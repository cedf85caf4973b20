"""Time and memory of each asset at the size of the paper, and how both grow with the pictures.

    python -m benchmarks.paper_size                        # 10k, 80k and 805,650 pictures
    python -m benchmarks.paper_size --pictures 10000       # one size

A lake is laid out as the assets upstream of `dataset` would leave it (`paper_world`); references are always
those of the paper. From there on the real assets are materialized by Dagster with their checks, each asset
in a process of its own, one month after the other. Seconds are those of the asset's own steps. Memory is the
most that the process held (VmHWM, with what it mapped of the vectors' files), and how much of it was its own
and could not have been given back (the most of RssAnon, looked at every 20 ms).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import dagster as dg
import numpy as np

from benchmarks import paper_world
from benchmarks.processes import ROOT, machine
from twigma_core.lake import Lake
from twigma_dagster import headless
from twigma_dagster.definitions import build_defs
from twigma_dagster.graph import Batch, phases
from twigma_dagster.partitions import MONTHS
from twigma_dagster.settings import Settings

MIB = 2**20
SIZES = (10_000, 80_000, paper_world.PICTURES)
LIMIT = 8 * 2**30


@dataclass(frozen=True)
class Cost:
    """What an asset took.

    Attributes:
        asset: its name; several for one step that makes several.
        partitions: made.
        seconds: of its own steps, all partitions together.
        checks: seconds of its checks.
        slowest: seconds of the slowest partition.
        wall: seconds of the runs, what Dagster does around the steps included.
        cpu: processor seconds of the runs on all cores: what other work on the machine changes least.
        peak: largest resident memory, bytes.
        own: of it, not mapped from files.
        before: resident memory before the first step.
    """

    asset: str
    partitions: int
    seconds: float
    checks: float
    slowest: float
    wall: float
    cpu: float
    peak: int
    own: int
    before: int


def settings_of(home: Path) -> Settings:
    """Return settings of a lake in this folder that nothing collects into."""
    (home / "archive").mkdir(parents=True, exist_ok=True)
    return Settings(
        home=home, source="archive", archive=str(home / "archive"), clip_model="sample", blip_model="sample"
    )


def steps(definitions: dg.Definitions) -> list[tuple[str, ...]]:
    """Return the assets that are not laid out, in order, those of one step together."""
    graph, given = definitions.resolve_asset_graph(), set(paper_world.laid_out())
    found: dict[tuple[str, ...], None] = {}
    for assets in phases(graph):
        for name in assets:
            made = tuple(
                sorted(key.path[-1] for key in graph.get(dg.AssetKey(name)).execution_set_asset_keys)
            )
            if not given & set(made):
                found[made] = None
    return list(found)


def materialize(home: Path, assets: Sequence[str]) -> Cost:
    """Materialize the assets of one step, with their checks, in all partitions that there are.

    Raises:
        RuntimeError: a step or a blocking check failed; the message says which and why.
    """
    settings = settings_of(home)
    definitions, lake = build_defs(settings), Lake(settings.lake_root)
    job = definitions.resolve_implicit_global_asset_job_def()
    cut = definitions.resolve_asset_graph().get(dg.AssetKey(assets[0])).partitions_def
    keys: list[str | None] = [None]
    if cut is not None:
        keys = [*lake.partitions("tweets")] if cut == MONTHS else [*cut.get_partition_keys()]
    memory = _Memory()
    outcome = headless.Outcome()
    with dg.DagsterInstance.ephemeral() as instance, memory:
        begun, busy = time.monotonic(), time.process_time()
        for key in keys:
            headless.run(job, instance, Batch(tuple(assets), key), outcome, lambda _: None)
        wall, cpu = time.monotonic() - begun, time.process_time() - busy
        own, checks = durations(instance)
    if outcome.failed:
        raise RuntimeError("; ".join(outcome.failed[:5]))
    return Cost(
        asset=", ".join(assets),
        partitions=len(keys),
        seconds=sum(own),
        checks=checks,
        slowest=max(own),
        wall=wall,
        cpu=cpu,
        peak=_status("VmHWM"),
        own=memory.most,
        before=memory.before,
    )


def durations(instance: dg.DagsterInstance, but: Collection[str] = ()) -> tuple[list[float], float]:
    """Return the seconds of each step that made assets and of all checks, in all runs `but` some."""
    own, checks = [], 0.0
    for run in instance.get_runs():
        if run.run_id in but:
            continue
        entries = [entry.dagster_event for entry in instance.all_logs(run.run_id) if entry.dagster_event]
        makers = {
            one.step_key for one in entries if one.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION
        }
        for event in entries:
            if event.event_type == dg.DagsterEventType.STEP_SUCCESS:
                seconds = event.step_success_data.duration_ms / 1000
                if event.step_key in makers:
                    own.append(seconds)
                else:
                    checks += seconds
    return own, checks


class _Memory:
    """Looks at this process's own memory until the block ends."""

    def __init__(self) -> None:
        self.before, self.most = _status("VmRSS"), 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, _status("RssAnon"))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _status(field: str) -> int:
    """Return a field of /proc/self/status in bytes. (ru_maxrss starts from that of the parent process.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"/proc/self/status has no {field}")


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return b of values ~ sizes^b: the least-squares slope of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-3)), 1)[0])


def measure(pictures: int, folder: Path, only: Sequence[str] = ()) -> list[Cost]:
    """Lay a lake out and return what each asset costs on it, each in a process of its own."""
    home = folder / f"{pictures}"
    if not (home / "lake").exists():
        begun = time.monotonic()
        _call(home, "--lay-out", str(pictures))
        print(f"{pictures:,} pictures laid out in {time.monotonic() - begun:.0f} s", flush=True)
    found = []
    for assets in steps(build_defs(settings_of(home))):
        if only and not set(only) & set(assets):
            continue
        cost = Cost(**json.loads(_call(home, "--step", *assets).splitlines()[-1]))
        found.append(cost)
        print(_line(cost), flush=True)
    return found


def _call(home: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.paper_size", "--home", str(home), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def _line(cost: Cost) -> str:
    over = "  over 8 GiB" if cost.peak > LIMIT else ""
    return (
        f"  {cost.asset[:44]:44} {cost.partitions:2} × {cost.seconds:8.2f} s (slowest {cost.slowest:7.2f}, "
        f"checks {cost.checks:6.2f}, runs {cost.wall:8.2f}, CPU {cost.cpu:8.2f})  "
        f"{cost.peak / MIB:6.0f} MiB, own {cost.own / MIB:6.0f}, {cost.before / MIB:.0f} before{over}"
    )


def show_growth(costs: dict[int, list[Cost]]) -> None:
    """Print a table: of each asset, time and memory at each size, and the exponents of both."""
    sizes = sorted(costs)
    by_asset = {
        cost.asset: [one for size in sizes for one in costs[size] if one.asset == cost.asset]
        for cost in costs[sizes[-1]]
    }
    columns = [f"{size:,}: s | CPU s | MiB" for size in sizes]
    if len(sizes) > 1:
        columns += ["exponent of CPU s | of MiB"]
    if len(sizes) > 2:
        columns += ["between the last two, CPU s | MiB"]
    header = f"| asset | {' | '.join(columns)} |"
    print(header)
    print("|---" * (header.count("|") - 1) + "|")
    for name, found in by_asset.items():
        if len(found) < len(sizes):
            continue
        cells = [f"{one.seconds:.1f} | {one.cpu:.1f} | {one.peak / MIB:.0f}" for one in found]
        for part in (slice(None), slice(-2, None))[: len(sizes) - 1]:
            for values in ([one.cpu for one in found], [one.peak for one in found]):
                cells.append(f"{exponent(sizes[part], values[part]):.2f}")
        print(f"| `{name}` | {' | '.join(cells)} |")


def main(arguments: list[str] | None = None) -> None:
    """Measure the sizes and print the table, or do one step of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--only", nargs="+", default=[], help="assets; the lake must hold what they read")
    parser.add_argument("--folder", type=Path, help="keep the lakes here; a lake that is there is used")
    parser.add_argument("--json", type=Path, help="file for the figures; figures that it holds are kept")
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--lay-out", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.lay_out:
        print(paper_world.lay_out(Lake(settings_of(asked.home).lake_root), asked.lay_out))
        return
    if asked.step:
        print(json.dumps(asdict(materialize(asked.home, asked.step))))
        return
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}")
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="paper_size."))
    costs: dict[int, list[Cost]] = {}
    if asked.json and asked.json.exists():
        known = json.loads(asked.json.read_text())
        costs = {int(size): [Cost(**one) for one in found] for size, found in known.items()}
    try:
        for pictures in asked.pictures:
            new = measure(pictures, folder, asked.only)
            made = {one.asset for one in new}
            costs[pictures] = [one for one in costs.get(pictures, []) if one.asset not in made] + new
            if asked.json:
                asked.json.write_text(
                    json.dumps({size: [asdict(o) for o in found] for size, found in costs.items()})
                )
        show_growth(costs)
    finally:
        if not asked.folder:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
