"""What Dagster adds to the functions that it calls, and what a month costs on top of those before.

    python -m benchmarks.months                        # 27 months of the sample's posts; docs/performance.md
    python -m benchmarks.months --months 3 --posts 4   # small

The sample's posts are dealt into as many months, and its server brings them in. Two comparisons, each side a
process of its own with an empty lake of its own:

- orchestration: the monthly part of the graph, built by `twigma build`'s own code and by a plain script that
  calls the same functions and writes the same tables; that the tables are equal is checked;
- a month on top: the whole graph built for all months but the last, then the last added to it, beside the
  whole graph built for all months at once; that the monthly tables are equal is checked.

Seconds are of the clock and of the processor; on a machine that does other work the second are to be trusted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console

from benchmarks.months_world import ASSETS, FIRST, dealt, in_script, months_from
from benchmarks.paper_size import durations
from benchmarks.processes import ROOT, machine
from twigma_core.lake import Lake
from twigma_core.sample.server import ServerOptions, serve_in_thread
from twigma_dagster import headless
from twigma_dagster.cli import configure_dagster
from twigma_dagster.definitions import build_defs
from twigma_dagster.partitions import PARTITIONS
from twigma_dagster.settings import Settings

FIRST_MONTH = "2021-01"
Figures = dict[str, Any]


def settings_of(home: Path, server: str, references: Path) -> Settings:
    """Return settings of a platform in `home` that collects from a sample server."""
    return Settings(home=home, source="sample", x_api=server, media_base=server, references=str(references))


def build(settings: Settings, months: list[str], only: tuple[str, ...] = ()) -> Figures:
    """Build the graph, or some assets of it, and return what it took and what it made.

    Raises:
        RuntimeError: something failed; the message says what.
    """
    definitions, lake = build_defs(settings), Lake(settings.lake_root)
    configure_dagster(settings)
    with headless.dagsters_storage() as instance:
        before = {run.run_id for run in instance.get_runs()}
        with _timed() as figures:
            outcome = headless.build(definitions, instance, lake, months, Console(quiet=True), only=only)
        own, checks = durations(instance, before)
        made = _made(instance, before)
    if outcome.failed:
        raise RuntimeError("; ".join(outcome.failed[:5]))
    return figures | {"steps": sum(own), "checks": checks, "ran": outcome.ran, "made": made}


def _made(instance: dg.DagsterInstance, before: set[str]) -> list[list[str | None]]:
    """Return [asset, partition] of all that was materialized by runs other than those of `before`."""
    found = []
    for run in instance.get_runs():
        if run.run_id in before:
            continue
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            assert entry.dagster_event
            key = entry.dagster_event.asset_key
            assert key
            found.append([key.path[-1], entry.dagster_event.partition])
    return found


@contextmanager
def _timed() -> Iterator[Figures]:
    figures: Figures = {}
    begun, busy = time.monotonic(), time.process_time()
    yield figures
    figures |= {"wall": time.monotonic() - begun, "cpu": time.process_time() - busy}


def script(settings: Settings, months: list[str]) -> Figures:
    """Build the monthly part of the graph in a script and return what it took."""
    with _timed() as figures:
        in_script(settings, months)
    return figures


def versions(lake: Lake, names: tuple[str, ...]) -> dict[str, str]:
    """Return the data version of each partition of these tables: a hash of its content."""
    found: dict[str, str] = {}
    for name in names:
        keys: list[str | None] = [*lake.partitions(name)] or [None]
        found |= {f"{name}/{key}": lake.provenance(name, key).data_version for key in keys}
    return found


def differ(one: Lake, other: Lake, names: tuple[str, ...]) -> list[str]:
    """Return the partitions of these tables whose content two lakes do not share."""
    left, right = versions(one, names), versions(other, names)
    return sorted(key for key in left.keys() | right.keys() if left.get(key) != right.get(key))


def _child(home: Path, server: str, references: Path, months: list[str], what: str) -> Figures:
    command = [sys.executable, "-m", "benchmarks.months", "--home", str(home), "--server", server]
    command += ["--references", str(references), "--work", what, "--of", *months]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{what} failed:\n{done.stderr[-3000:]}")
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


WORKS: dict[str, Callable[[Settings, list[str]], Figures]] = {
    "script": script,
    "monthly": lambda settings, months: build(settings, months, ASSETS),
    "whole": build,
}


def orchestration(folder: Path, server: str, references: Path, months: list[str]) -> Figures:
    """Return what the script and Dagster took for the same tables.

    Raises:
        AssertionError: the tables are not the same.
    """
    plain = _child(folder / "script", server, references, months, "script")
    dagster = _child(folder / "monthly", server, references, months, "monthly")
    ours, theirs = (Lake(folder / name / "lake") for name in ("script", "monthly"))
    same = tuple(name for name in ASSETS if name not in FIRST)
    different = differ(ours, theirs, same)
    assert not different, f"the script's tables are not Dagster's: {different[:5]}"
    return {"script": plain, "dagster": dagster, "partitions": len(versions(theirs, same))}


def on_top(folder: Path, server: str, references: Path, months: list[str]) -> Figures:
    """Return what all months but the last took, the last on top, and all at once, the whole graph each time.

    Raises:
        AssertionError: the months' pictures are not the same both ways, or the last month's run made
            another month anew.
    """
    before = _child(folder / "grown", server, references, months[:-1], "whole")
    added = _child(folder / "grown", server, references, months, "whole")
    at_once = _child(folder / "at_once", server, references, months, "whole")
    again = [made for made in added["made"] if made[1] in months[:-1]]
    assert not again, f"made anew: {again[:5]}"
    different = differ(Lake(folder / "grown/lake"), Lake(folder / "at_once/lake"), ("dataset", "drops"))
    assert not different, f"grown month by month the dataset is another one: {different[:5]}"
    return {"before": before, "added": added, "at_once": at_once}


def main(arguments: list[str] | None = None) -> Figures:
    """Run both comparisons and print them, or do one side of one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--months", type=int, default=27)
    parser.add_argument("--posts", type=int, default=40, help="posts of a month")
    parser.add_argument("--skip", choices=["orchestration", "on_top"], nargs="*", default=[])
    parser.add_argument("--references", type=Path, help="folder of corpora; default: the sample's")
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--server", help=argparse.SUPPRESS)
    parser.add_argument("--work", choices=list(WORKS), help=argparse.SUPPRESS)
    parser.add_argument("--of", nargs="+", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.work:
        settings = settings_of(asked.home, asked.server, asked.references)
        figures = WORKS[asked.work](settings, asked.of)
        print(json.dumps(figures))
        return figures
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}")
    months = months_from(FIRST_MONTH, asked.months + 1)
    world = dealt(months, asked.posts)
    found: Figures = {}
    with (
        tempfile.TemporaryDirectory(prefix="months.") as name,
        serve_in_thread(world, ServerOptions(empty_pages=False)) as server,
    ):
        folder = Path(name)
        references = asked.references or folder / "references"
        if not asked.references:
            world.export_references(references)
        if "orchestration" not in asked.skip:
            found["orchestration"] = orchestration(folder, server.url, references, months[:-1])
            _show_orchestration(found["orchestration"])
        if "on_top" not in asked.skip:
            found["on_top"] = on_top(folder, server.url, references, months)
            _show_on_top(found["on_top"], asked.months)
    return found


def _show_orchestration(found: Figures) -> None:
    plain, dagster = found["script"], found["dagster"]
    print(f"script:  {plain['wall']:.1f} s, CPU {plain['cpu']:.1f} s")
    print(
        f"Dagster: {dagster['wall']:.1f} s, CPU {dagster['cpu']:.1f} s: the steps' own "
        f"{dagster['steps']:.1f}, checks {dagster['checks']:.1f}, around them "
        f"{dagster['wall'] - dagster['steps'] - dagster['checks']:.1f}"
    )
    for name in ("wall", "cpu"):
        print(f"over the script, {name}: {dagster[name] / plain[name] - 1:+.0%}", flush=True)
    each = (dagster["cpu"] - plain["cpu"]) / found["partitions"]
    print(f"CPU that Dagster and the checks add to each of {found['partitions']} partitions: {each:.3f} s")


def _show_on_top(found: Figures, months: int) -> None:
    for name in ("before", "added", "at_once"):
        took = found[name]
        print(f"{name:8} {took['wall']:.1f} s, CPU {took['cpu']:.1f} s, {took['ran']} materializations")
    for name in ("wall", "cpu"):
        ratio = found["added"][name] / found["at_once"][name]
        print(f"a month on top / all at once, {name}: {ratio:.3f} = {ratio * months:.1f} / {months}")
    made = Counter("of the month" if key else "of the whole" for _, key in found["added"]["made"])
    print(f"made for the last month: {dict(made)}", flush=True)
    whole = sorted(asset for asset, _ in found["added"]["made"] if asset not in PARTITIONS)
    print(f"whole-dataset assets among them: {', '.join(whole)}")


if __name__ == "__main__":
    main()
