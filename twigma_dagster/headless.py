"""Build the whole graph headless, one run a partition, with live progress; then say what came of it."""

from __future__ import annotations

import logging
import os
import platform
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.execution_result import ExecutionResult
from dagster._core.storage.tags import PARTITION_NAME_TAG
from filelock import FileLock
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from twigma_core.lake import Lake
from twigma_dagster.graph import OUTSIDE, Batch, batches, record, settled, stale, with_inputs

PROCESS_TAG = "twigma/process"
MOST_TIMES = 3
"""Times that a build makes one partition: what it reads may be made anew by the same run of the graph."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Outcome:
    """What a build did.

    Attributes:
        ran: steps that ran and succeeded.
        failed: a line for each failed step: asset, partition, cause.
        skipped: assets (with their partition) that lack something to read because of those.
    """

    ran: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


@contextmanager
def dagsters_storage() -> Iterator[dg.DagsterInstance]:
    """Open Dagster's storage in `DAGSTER_HOME`, one process at a time: two that make it at once break it."""
    with FileLock(Path(os.environ["DAGSTER_HOME"]) / ".lock"):
        instance = dg.DagsterInstance.get()
        instance.get_runs(limit=1)
    with instance:
        yield instance


def build(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    lake: Lake,
    months: list[str],
    console: Console,
    lanes: bool = False,
    talk: bool = False,
    only: Collection[str] = (),
) -> Outcome:
    """Materialize all that is not up to date for these months.

    A step that fails takes only what depends on it along: all else is built, and what had been built
    stays. The next call goes on from there.

    Args:
        definitions: of the graph.
        instance: in which the runs are recorded.
        lake: what is there.
        months: to build.
        console: where progress is shown.
        lanes: let the steps take the lanes of `executors`; else they run in this process, one after the
            other, which saves a build of many small runs the start of worker processes.
        talk: keep on the screen what steps say: what a paid collection costs, when a wait ends.
        only: assets to build and no others; empty is the whole graph.
    """
    close_dead_runs(instance)
    job = definitions.resolve_implicit_global_asset_job_def()
    graph = definitions.resolve_asset_graph()
    plan, resources = list(batches(graph, months)), definitions.resources or {}
    if only:
        plan = [Batch(tuple(name for name in one.assets if name in only), one.partition) for one in plan]
    columns = (
        TextColumn("{task.description:<44}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    outcome = Outcome()
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        task = progress.add_task("checking what is there", total=sum(len(batch.assets) for batch in plan))

        def on_line(line: str) -> None:
            progress.update(task, description=line)
            if talk:
                console.print(line, highlight=False, markup=False, soft_wrap=True)

        execute = run_in_lanes if lanes else partial(run, on_line=on_line)
        passed = 0
        for batch in plan:
            tried: Counter[str] = Counter()
            failed: set[str] = set()
            # What a run of the batch has changed may put others of the batch out of date: look again until
            # none is.
            while True:
                old = stale(lake, batch, resources["models"], resources["posts"])
                wanted = [name for name in old if name not in failed and tried[name] < MOST_TIMES]
                ready = settled(graph, batch, with_inputs(graph, lake, wanted, batch.partition))
                if not ready:
                    break
                tried.update(ready)
                before = {name: record(lake, name, batch.partition) for name in ready}
                chosen = Batch(tuple(ready), batch.partition)
                execute(
                    job,
                    instance,
                    chosen,
                    outcome,
                    lambda name: progress.update(task, advance=1, description=name),
                )
                unchanged = {
                    name for name, made in before.items() if record(lake, name, batch.partition) == made
                }
                failed |= unchanged | (OUTSIDE.keys() & set(ready))
                if not unchanged and len(ready) == len(batch.assets):  # each was made of what is there now
                    wanted = []
                    break
            passed += len(batch.assets)
            progress.update(task, completed=passed)
            outcome.skipped += [_place(name, batch.partition) for name in wanted]
        progress.update(task, description="done")
    return outcome


def close_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs of builds whose process was killed as failed, and free the pool slots they hold.

    Without this a killed build keeps its slot of the GPU lane, and the next one waits for it for ever.
    """
    closed = []
    begun = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=begun)):
        host, _, pid = run.tags.get(PROCESS_TAG, "").rpartition(":")
        if host != platform.node() or Path("/proc", pid).exists():
            continue
        instance.report_run_failed(run, message="the process of this build was killed")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        closed.append(run.run_id)
    return closed


def _place(name: str, partition: str | None) -> str:
    return f"{name}/{partition}" if partition else name


def run(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    batch: Batch,
    outcome: Outcome,
    on_asset: Callable[[str], object],
    on_line: Callable[[str], object] = lambda _: None,
    config: Mapping[str, object] | None = None,
) -> None:
    """Execute one batch as a Dagster run in this process, recorded in the instance; add to `outcome`.

    Args:
        job: what holds the assets.
        instance: where the run is recorded.
        batch: the assets and the partition.
        outcome: what came of it is added here.
        on_asset: told of each asset that was materialized.
        on_line: told of each line that a step logs.
        config: run config of single assets, by their name.
    """
    run_id = str(uuid.uuid4())

    def listen(entry: dg.EventLogEntry) -> None:
        if entry.dagster_event:
            _note(entry.dagster_event, batch, outcome, on_asset)
        elif logging.INFO <= int(entry.level) < logging.ERROR:
            on_line(entry.user_message)

    instance.add_event_listener(run_id, listen)
    result = job.execute_in_process(
        run_config={**QUIET, "ops": {name: {"config": value} for name, value in (config or {}).items()}},
        instance=instance,
        partition_key=batch.partition,
        asset_selection=[dg.AssetKey(name) for name in batch.assets],
        raise_on_error=False,
        run_id=run_id,
        tags=_tags(batch),
    )
    if not result.success:
        outcome.failed += failures(result, batch.partition)


def retry(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    month: str,
    ids: Sequence[str],
    on_line: Callable[[str], object],
) -> Outcome:
    """Fetch pictures of a month again alone, or all that were not had where `ids` names none."""
    close_dead_runs(instance)
    outcome = Outcome()
    config: dict[str, object] = {"only": list(ids)} if ids else {"every_failed": True}
    job = definitions.resolve_implicit_global_asset_job_def()
    batch = Batch(("images",), month)
    run(job, instance, batch, outcome, lambda _: None, on_line, {"images": config})
    return outcome


def run_in_lanes(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    batch: Batch,
    outcome: Outcome,
    on_asset: Callable[[str], object],
) -> None:
    """Execute one batch as a Dagster run whose steps take their lanes; add to `outcome`."""
    code = ReconstructableRepository.for_module("twigma_dagster.definitions", "defs")
    with dg.execute_job(
        code.get_reconstructable_job(job.name),
        instance,
        run_config=QUIET,
        asset_selection=[dg.AssetKey(name) for name in batch.assets],
        raise_on_error=False,
        tags=_tags(batch),
    ) as result:
        for event in result.all_events:
            _note(event, batch, outcome, on_asset)
        if not result.success:
            outcome.failed += failures(result, batch.partition)


def _tags(batch: Batch) -> dict[str, str]:
    process = {PROCESS_TAG: f"{platform.node()}:{os.getpid()}"}
    return process | ({PARTITION_NAME_TAG: batch.partition} if batch.partition else {})


def _note(event: dg.DagsterEvent, batch: Batch, outcome: Outcome, on_asset: Callable[[str], object]) -> None:
    if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key:
        outcome.ran += 1
        on_asset(_place(event.asset_key.path[-1], batch.partition))


def failures(result: ExecutionResult, partition: str | None) -> list[str]:
    """Return a line for each failed step and blocking check of a run: where, and the error's own message."""
    lines = []
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR:
                place = _place(check.asset_key.path[-1], partition)
                lines.append(f"{place}: check {check.check_name}: {check.metadata['seen'].value}")
        elif event.is_step_failure:
            error = event.step_failure_data.error
            while error and error.cause:
                error = error.cause
            if error and error.cls_name != "DagsterAssetCheckFailedError":
                lines.append(f"{_place(str(event.step_key), partition)}: {error.message.strip()}")
    return lines


def show_built(lake: Lake, names: list[str], console: Console) -> None:
    """Print how many partitions and rows of each table there are."""
    shown = Table(title="Built", title_justify="left")
    for column in ("table", "partitions", "rows"):
        shown.add_column(column, justify="left" if column == "table" else "right")
    for name in names:
        keys = lake.partitions(name)
        if keys or lake.has(name):
            shown.add_row(name, str(len(keys) or 1), f"{lake.scan(name).select(pl.len()).collect().item():,}")
    console.print(shown)


def show_pictures(ledger: pl.DataFrame, console: Console) -> None:
    """Print what became of each picture of a ledger, and how many there are of each status."""
    shown = Table()
    for column in ("picture", "status", "requests", "why"):
        shown.add_column(column, overflow="fold")
    for row in ledger.head(50).iter_rows(named=True):
        shown.add_row(row["image_id"], row["status"], str(row["attempts"]), escape(row["reason"] or ""))
    console.print(shown)
    counts = ledger.group_by("status").len().sort("status").iter_rows()
    console.print(", ".join(f"{number} {status}" for status, number in counts), highlight=False)


def show_found(found: pl.DataFrame, console: Console) -> None:
    """Print the pictures that a search found."""
    shown = Table()
    for column in ("rank", "picture", "month", "similarity", "NSFW", "caption"):
        shown.add_column(column, overflow="fold", no_wrap=column != "caption")
    for row in found.iter_rows(named=True):
        score = "" if row["nsfw_score"] is None else f"{row['nsfw_score']:.2f}"
        place = (str(row["rank"]), row["image_id"], row["month"], f"{row['similarity']:.3f}", score)
        shown.add_row(*place, escape(row["caption"]))
    console.print(shown)


def show_findings(findings: pl.DataFrame, console: Console) -> bool:
    """Print what was found beside the truths planted in the sample; say whether all were recovered."""
    shown = Table(title="Findings beside the planted truths (synthetic sample)", title_justify="left")
    for column in ("finding", "planted", "found", "95 % interval", ""):
        shown.add_column(column, overflow="fold")
    for row in findings.iter_rows(named=True):
        interval = "" if row["low"] is None else f"{row['low']:.3g} … {row['high']:.3g}"
        mark = "[green]recovered[/]" if row["recovered"] else "[red]missed[/]"
        shown.add_row(row["finding"], _short(row["planted"]), _short(row["found"]), interval, mark)
    console.print(shown)
    return bool(findings["recovered"].all())


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def show_failures(outcome: Outcome, console: Console) -> None:
    """Print what failed and what could not be built for it."""
    for line in outcome.failed:
        console.print(f"[red]failed[/]   {escape(line)}", highlight=False, soft_wrap=True)
    if outcome.skipped:
        console.print(
            f"[yellow]not built[/] for want of those: {', '.join(outcome.skipped)}", highlight=False
        )


def show_places(lake: Lake, ran: int, seconds: float, console: Console) -> None:
    """Print how long it took and where to look, of what is there."""
    console.print(f"\n{ran} steps ran, {seconds:.0f} s in all.", highlight=False)
    for name, path in (("figures", "figures"), ("report", "report/index.html"), ("release", "releases")):
        if lake.path(path).exists():
            console.print(f"  {name:9} {lake.path(path)}", highlight=False, soft_wrap=True)
    by_hand = f"   (or: duckdb {lake.path('twigma.duckdb')})" if lake.path("twigma.duckdb").exists() else ""
    console.print(
        f"  SQL       twigma sql 'from dataset limit 5'{by_hand}\n  UI        make ui",
        highlight=False,
        soft_wrap=True,
    )
