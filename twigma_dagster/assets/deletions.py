"""What must be gone: what X and authors say of posts and accounts, carried through the whole lake at once.

What does not belong here: computing anew what rested on what is gone. That is the graph's ordinary work.
"""

from __future__ import annotations

from collections.abc import Collection

import dagster as dg
import polars as pl
from pydantic import Field

from twigma_core.collect import compliance
from twigma_core.collect.tombstones import Gone
from twigma_core.purge import purge
from twigma_dagster.declare import X_POOL, Metadata, table
from twigma_dagster.resources import LakeResource, Posts

GROUP = "collection"
FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


class Ask(dg.Config):
    """Whether X is asked, and how far the hand reaches."""

    forget_runs: bool = Field(
        False,
        description="Delete Dagster's finished runs of the months that lost something, and of whole-dataset "
        "assets: what the UI shows of them has rows and pictures in it",
    )
    x: bool = Field(
        False, description="Ask X which posts and accounts of the lake are gone; else read the inbox"
    )


def _forget_runs(instance: dg.DagsterInstance, months: Collection[str]) -> int:
    """Delete the finished runs that may show what is gone; return how many."""
    found = [
        run
        for run in instance.get_runs(dg.RunsFilter(statuses=FINISHED))
        if run.tags.get("dagster/partition") is None or run.tags["dagster/partition"] in months
    ]
    for run in found:
        instance.delete_run(run.run_id)
    return len(found)


@table("tombstones", group=GROUP, pool=X_POOL, kinds=("json",))
def tombstones(
    context: dg.AssetExecutionContext, config: Ask, lake: LakeResource, posts: Posts
) -> tuple[pl.DataFrame, Metadata]:
    """Read from the lake's inbox: `compliance/tweets`, `compliance/users` and `opt_out.csv`.

    Materializing it takes what it names out of pages, shards, tables and files at once; months that lost
    something are then out of date, and so is all that rests on them. Once in the table, an id stays: it is
    taken out of every page that is collected or imported later.
    """
    store = lake.open()
    if config.x:
        posts.ask_what_is_gone(store, context.log.info)
    found = compliance.read_inbox(store)
    for line in found.bad:
        context.log.warning(f"tombstones: passed over: {line}")
    result = compliance.tombstones(store, found)
    # The table is written before anything is removed: whatever stops this run, the next one goes on.
    store.write("tombstones", result, provenance=None)
    done = purge(store, Gone.of_table(result))
    forgotten = (
        _forget_runs(context.instance, done.months) if config.forget_runs and done.counts.total() else 0
    )
    by = {f"status: {status}": n for status, n in result["status"].value_counts(sort=True).iter_rows()}
    return result, {
        **{f"inbox: {what}": number for what, number in sorted(found.counts.items())},
        **{f"removed: {what}": number for what, number in sorted((+done.counts).items())},
        "runs forgotten": forgotten,
        "months to build anew": ", ".join(sorted(done.months)) or "none",
        **by,
    }
