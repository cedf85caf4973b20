"""Build the whole graph headless, one run a partition, with live progress; then say what came of it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import dagster as dg
import polars as pl
from rich.console import Console
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
from twigma_dagster.graph import Batch, batches, is_current

QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


class BuildFailed(RuntimeError):
    """A run failed; the message names its assets, partition and cause."""


def build(
    definitions: dg.Definitions, instance: dg.DagsterInstance, lake: Lake, months: list[str], console: Console
) -> int:
    """Materialize all that is not up to date for these months; return the number of steps that ran.

    Raises:
        BuildFailed: a step failed. What had been built stays, and the next call goes on from there.
    """
    job = definitions.resolve_implicit_global_asset_job_def()
    plan = list(batches(definitions, months))
    columns = (
        TextColumn("{task.description:<44}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    ran = 0
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        task = progress.add_task("checking what is there", total=sum(len(batch.assets) for batch in plan))
        for batch in plan:
            stale = tuple(name for name in batch.assets if not is_current(lake, name, batch.partition))
            progress.advance(task, len(batch.assets) - len(stale))
            if stale:
                run(job, instance, Batch(stale, batch.partition), lambda name: _step(progress, task, name))
                ran += len(stale)
        progress.update(task, description="done")
    return ran


def _step(progress: Progress, task: object, name: str) -> None:
    progress.update(task, advance=1, description=name)  # type: ignore[arg-type]


def run(
    job: dg.JobDefinition, instance: dg.DagsterInstance, batch: Batch, on_asset: Callable[[str], None]
) -> None:
    """Execute one batch as a Dagster run in this process, recorded in the instance.

    Raises:
        BuildFailed: a step or a blocking check failed.
    """
    run_id = str(uuid.uuid4())
    place = f" {batch.partition}" if batch.partition else ""

    def listen(entry: dg.EventLogEntry, _: str) -> None:
        event = entry.dagster_event
        if event and event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key:
            on_asset(event.asset_key.path[-1] + place)

    instance.event_log_storage  # noqa: B018  the storage must exist before a listener is added
    instance.add_event_listener(run_id, listen)
    result = job.execute_in_process(
        run_config=QUIET,
        instance=instance,
        partition_key=batch.partition,
        asset_selection=[dg.AssetKey(name) for name in batch.assets],
        raise_on_error=False,
        run_id=run_id,
    )
    if not result.success:
        raise BuildFailed("\n".join([f"run {run_id}{place} failed:", *failures(result)]))


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """Return a line for each failed step of a run: the step and the error's own message."""
    lines = []
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            while error and error.cause:
                error = error.cause
            lines.append(f"  {event.step_key}: {error.message.strip() if error else 'failed'}")
    return lines or ["  a blocking asset check did not pass; see the run in the UI"]


def report_findings(findings: pl.DataFrame, console: Console) -> bool:
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


def report_built(lake: Lake, names: list[str], console: Console) -> None:
    """Print how many partitions and rows of each table there are."""
    shown = Table(title="Built", title_justify="left")
    for column in ("tables", "partitions", "rows"):
        shown.add_column(column, justify="left" if column == "tables" else "right")
    for name in names:
        keys = lake.partitions(name)
        if keys or lake.has(name):
            shown.add_row(name, str(len(keys) or 1), f"{lake.scan(name).select(pl.len()).collect().item():,}")
    console.print(shown)


def seconds_since(start: float) -> str:
    """Return the time since `start` for a person."""
    return f"{time.monotonic() - start:.0f} s"
