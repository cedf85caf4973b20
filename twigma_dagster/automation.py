"""What runs by itself: jobs, their schedules, and the sensor that keeps up. All ship stopped.

The schedules alone spend money: `month_schedule` collects the month just ended, `refresh_schedule` looks the
posts of the month before up again, once its likes have had a month to settle. `deletions_schedule` asks daily
what must be gone. `keep_current` buys nothing: it builds what is out of date by content, and so brings a new
month, a refresh or a deletion through everything that rests on it, and touches nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import groupby

import dagster as dg

from twigma_core.collect.fields import month_of
from twigma_core.lake import Lake
from twigma_core.provenance import Provenance
from twigma_dagster.graph import FROZEN, Batch, batches, is_current, record, stale, with_inputs
from twigma_dagster.partitions import MONTHS, PARTITIONS
from twigma_dagster.resources import ASKED, LakeResource, Models, Posts

ASKING = ("raw_tweets", "tombstones")
"""These ask X: schedules and people materialize them, never the sensor. `snapshots` asks only to refresh."""
GROUPS = (
    *("collection", "images", "features", "dataset", "references", "themes", "comparison", "engagement"),
    *("annotation", "figures", "release"),
)
UNFINISHED = [
    *(dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING),
    *(dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING),
]
MOST_MISSED = 6
"""Months of missed ticks that are made up for without being told to."""
_PARTITION = "dagster/partition"

month = dg.define_asset_job(
    "month",
    selection=[name for name, cut in PARTITIONS.items() if cut == MONTHS],
    description="Everything of one month: collect, fetch, embed, caption, deduplicate, summarise, compare.",
)
whole = dg.define_asset_job(
    "whole",
    selection=dg.AssetSelection.groups("figures", "release").upstream().downstream()
    - dg.AssetSelection.assets(*PARTITIONS, *FROZEN, "tombstones"),
    description="Every whole-dataset table, figure, release and report. The frozen models stay as they are.",
)
refresh = dg.define_asset_job(
    "refresh", selection=["snapshots"], description="Look a month's posts up again: likes settle."
)
deletions = dg.define_asset_job(
    "deletions",
    selection=["tombstones"],
    description="Take what X and authors say must be gone out of the whole lake, and prove it.",
)


def months_before(when: datetime, number: int) -> str:
    """Return the month that lies `number` months before that of a time; 1 is the month just ended."""
    first = when.replace(day=1)
    for _ in range(number):
        first = (first - timedelta(days=1)).replace(day=1)
    return month_of(first)


def _under_way(instance: dg.DagsterInstance, partition: str) -> bool:
    filters = dg.RunsFilter(statuses=UNFINISHED, tags={_PARTITION: partition})
    return bool(instance.get_runs(filters=filters, limit=1))


@dg.schedule(
    job=month,
    cron_schedule="0 4 3 * *",
    execution_timezone="UTC",
    description="Collects the month just ended, and those that missed ticks left out; not what is here.",
)
def month_schedule(
    context: dg.ScheduleEvaluationContext, lake: LakeResource
) -> list[dg.RunRequest] | dg.SkipReason:
    """Ask for the month just ended, and for those that missed ticks left out.

    Dagster itself makes up for the latest of several missed ticks only.
    """
    when, store = context.scheduled_execution_time, lake.open()
    key = months_before(when, 1)
    if key not in MONTHS.get_partition_keys():
        return dg.SkipReason(f"{key} is not a month of the dataset, or has not ended by this machine's clock")
    reasons, asked = [], []
    for one in [*missed(store, when), key]:
        if _under_way(context.instance, one):
            reasons.append(f"a run of {one} is under way")
        elif all(is_current(store, name, one) for name, cut in PARTITIONS.items() if cut == MONTHS):
            reasons.append(f"{one} is here already")
        else:
            asked.append(dg.RunRequest(run_key=f"month {one}", partition_key=one))
    return asked or dg.SkipReason("; ".join(reasons))


def missed(lake: Lake, when: datetime) -> list[str]:
    """Return the months between the latest that is whole and the one just ended at a time, oldest first.

    A longer gap than `MOST_MISSED` months is no missed tick but a choice: it is a backfill, begun by a person
    who has seen what it costs.
    """
    before = [months_before(when, number) for number in range(2, MOST_MISSED + 3)]
    whole = [key for key in before if lake.has("raw_tweets", key) and is_current(lake, "raw_tweets", key)]
    return sorted(key for key in before if key > whole[0]) if whole else []


@dg.schedule(
    job=refresh,
    cron_schedule="0 8 3 * *",
    execution_timezone="UTC",
    description="Looks the posts of the month before the one just ended up again, once; X charges for each. "
    "Months that missed ticks left out too.",
)
def refresh_schedule(
    context: dg.ScheduleEvaluationContext, lake: LakeResource, posts: Posts
) -> list[dg.RunRequest] | dg.SkipReason:
    """Ask for the months whose likes have had a month to settle."""
    if posts.source not in ASKED:
        return dg.SkipReason("only X has the numbers of today")
    months = unsettled(lake.open(), context.scheduled_execution_time)
    waiting = [key for key in months if _under_way(context.instance, key)]
    if not months or waiting:
        key = months_before(context.scheduled_execution_time, 2)
        return dg.SkipReason(
            f"a run of {waiting[0]} is under way" if waiting else f"{key} is refreshed, or not collected"
        )
    config = {"ops": {"snapshots": {"config": {"refresh": True}}}}
    return [dg.RunRequest(run_key=f"refresh {key}", partition_key=key, run_config=config) for key in months]


def unsettled(lake: Lake, when: datetime) -> list[str]:
    """Return the months to refresh at a time, oldest first: those that are collected and were not refreshed.

    They lie behind the latest that was refreshed, up to the month before the one just ended; that one alone
    where none was refreshed. A longer gap is a choice, as in `missed`.
    """

    def snapshots(key: str) -> int | None:
        if not lake.has("snapshots", key):
            return None
        return max(lake.read("snapshots", key)["snapshot"].to_list(), default=0)

    before = [months_before(when, number) for number in range(2, MOST_MISSED + 3)]
    found = {key: snapshots(key) for key in before}
    refreshed = [key for key in before if found[key]]
    first = refreshed[0] if refreshed else months_before(when, 3)
    return sorted(key for key in before if key > first and found[key] == 0)


@dg.schedule(
    job=deletions,
    cron_schedule="0 2 * * *",
    execution_timezone="UTC",
    description="Asks X daily what is gone, reads the inbox, and takes it out of the lake.",
)
def deletions_schedule(context: dg.ScheduleEvaluationContext, posts: Posts) -> dg.RunRequest | dg.SkipReason:
    """Ask for today's deletions."""
    filters = dg.RunsFilter(job_name="deletions", statuses=UNFINISHED)
    if context.instance.get_runs(filters=filters, limit=1):
        return dg.SkipReason("a run is under way")
    config = {"ops": {"tombstones": {"config": {"x": posts.source in ASKED}}}}
    return dg.RunRequest(run_key=f"deletions {context.scheduled_execution_time:%Y-%m-%d}", run_config=config)


def due(graph: dg.AssetGraph, lake: Lake, models: Models, posts: Posts) -> list[Batch]:
    """Return the runs that what is in the lake calls for next, side by side: one phase of the graph.

    Only months whose pages are whole take part; nothing is collected.
    """
    months = [key for key in lake.partitions("raw_tweets") if is_current(lake, "raw_tweets", key, posts)]
    for _, phase in groupby(batches(graph, months), key=lambda batch: batch.assets):
        found = []
        for batch in phase:
            old = [name for name in stale(lake, batch, models, posts) if name not in ASKING]
            ready = with_inputs(graph, lake, old, batch.partition)
            found += [Batch(tuple(ready), batch.partition)] if ready else []
        if found:
            return found
    return []


def _key(lake: Lake, graph: dg.AssetGraph, batch: Batch) -> str:
    """Return a key of a run's assets and of all that they read: the same run is not asked for twice."""
    digest = hashlib.sha256(repr(batch).encode())
    for record_ in _read(lake, graph, batch):
        digest.update(f"{record_.asset} {record_.partition} {record_.data_version}".encode())
    return digest.hexdigest()[:32]


def _read(lake: Lake, graph: dg.AssetGraph, batch: Batch) -> Iterator[Provenance]:
    parents = {key.path[-1] for name in batch.assets for key in graph.get(dg.AssetKey(name)).parent_keys}
    for name in sorted(parents - set(batch.assets)):
        same = PARTITIONS.get(name) and PARTITIONS.get(name) == PARTITIONS.get(batch.assets[0])
        keys: list[str | None] = [batch.partition] if same else [*lake.partitions(name)] or [None]
        yield from (made for key in keys if (made := record(lake, name, key)))


@dg.sensor(
    asset_selection=dg.AssetSelection.keys(*PARTITIONS) | dg.AssetSelection.groups(*GROUPS),
    minimum_interval_seconds=60,
    description="Builds what is out of date by content, and nothing else. Buys nothing.",
)
def keep_current(
    context: dg.SensorEvaluationContext, lake: LakeResource, models: Models, posts: Posts
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for the next phase of the graph that is out of date, once nothing else runs.

    A run that failed is not asked for again until what it reads has changed.
    """
    if context.instance.get_runs(filters=dg.RunsFilter(statuses=UNFINISHED), limit=1):
        yield dg.SkipReason("runs are under way")
        return
    graph, store = context.repository_def.asset_graph, lake.open()  # type: ignore[union-attr]
    found = due(graph, store, models, posts)
    if not found:
        yield dg.SkipReason("everything is up to date")
    for batch in found:
        yield dg.RunRequest(
            run_key=_key(store, graph, batch),
            asset_selection=[dg.AssetKey(name) for name in batch.assets],
            partition_key=batch.partition,
        )
