"""Frames to and from the lake.

An asset says by annotation what it wants of an upstream asset: `pl.DataFrame` (read), `pl.LazyFrame`
(scanned), `ArrayTable` (table and arrays, months stacked), `StackedTable` (the same, vectors not read yet),
or `dict[str, ArrayTable]` (one a partition).
Of several partitions those that exist are read; that none exists is an error which names the asset.
An input that is marked as of earlier months too is read once the runs that make it for those have ended.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, get_origin

import dagster as dg
import polars as pl
from dagster._core.storage.tags import PARTITION_NAME_TAG

from twigma_core.lake import ArrayTable, Lake, MissingPartition
from twigma_core.provenance import Provenance
from twigma_core.stacked import StackedTable
from twigma_dagster.resources import LakeResource

Frame = pl.DataFrame | ArrayTable
EARLIER = "twigma/earlier_months"
"""Metadata of an input of which all months up to the step's own are read."""
LOOK_S = 1.0
"""Seconds between two looks at the runs of earlier months."""


@dataclass(frozen=True)
class Made:
    """A frame on its way to the lake with the record of how it came to be."""

    value: Frame
    provenance: Provenance


class LakeIO(dg.ConfigurableIOManager):
    """Writes a partition whole or not at all, and reads what an input's annotation asks for."""

    lake: LakeResource

    def handle_output(self, context: dg.OutputContext, obj: Made) -> None:
        """Replace the partition of this run in the lake."""
        partition = context.partition_key if context.has_asset_partitions else None
        stored = self.lake.open().write(context.asset_key.path[-1], obj.value, partition, obj.provenance)
        context.add_output_metadata({"dagster/uri": stored.path, "bytes": stored.bytes})

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the upstream partitions as the annotation of the input asks."""
        name = context.asset_key.path[-1]
        keys: list[str | None] = [None]
        if context.has_asset_partitions:
            keys = list(context.asset_partition_keys)
        if context.definition_metadata.get(EARLIER):
            wait_for_earlier(context, name, str(keys[0]))
            keys = up_to(self.lake.open(), name, str(keys[0]))
        wanted = context.dagster_type.typing_type
        return load(self.lake.open(), name, keys, get_origin(wanted) or wanted)


def wait_for_earlier(context: dg.InputContext, name: str, month: str) -> None:
    """Wait until no started run makes table `name` of a month before `month`.

    Months of a backfill run side by side; one that read its elders half made would keep pictures that were
    posted before. Months are started in order and wait for elder ones only, so none waits for another in a
    ring. A month that is still queued is not waited for: what was built without it is then not up to date.
    """
    said = ""
    while runs := makers(context.instance, name, month):
        if runs != said:
            context.log.info(f"{name}: waits for {runs}: earlier months are in the making")
            said = runs
        time.sleep(LOOK_S)


def makers(instance: dg.DagsterInstance, name: str, month: str) -> str:
    """Return the started runs that make table `name` of months before `month`, in words; empty if none."""
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
    found = [
        f"run {run.run_id[:8]} of {run.tags[PARTITION_NAME_TAG]}"
        for run in instance.get_runs(filters=started)
        if run.tags.get(PARTITION_NAME_TAG, month) < month
        and (run.asset_selection is None or dg.AssetKey(name) in run.asset_selection)
    ]
    return ", ".join(sorted(found))


def up_to(lake: Lake, name: str, month: str) -> list[str | None]:
    """Return the months of table `name` that are in the lake, up to `month`; `month` itself in any case."""
    return [*(key for key in lake.partitions(name) if key < month), month]


def existing(lake: Lake, name: str, keys: list[str | None]) -> list[str | None]:
    """Return those of the partitions `keys` of table `name` that are in the lake.

    Raises:
        MissingPartition: none of them is.
    """
    present = set(lake.partitions(name))
    found = [key for key in keys if (key in present if key else lake.has(name))]
    if not found:
        asked = f"{name}/{keys[0]}" if len(keys) == 1 and keys[0] else name
        which = "it is not" if len(keys) == 1 else "no partition is"
        raise MissingPartition(f"{asked}: {which} materialized; materialize {name} first")
    return found


def load(lake: Lake, name: str, keys: list[str | None], wanted: type) -> Any:
    """Return partitions `keys` of table `name` as a DataFrame, LazyFrame, ArrayTable, or dict of those.

    Raises:
        MissingPartition: none of the partitions is in the lake.
    """
    found = existing(lake, name, keys)
    if wanted is dict:
        return {str(key): lake.read_arrays(name, key) for key in found}
    if wanted is StackedTable:
        return lake.stack(name, [str(key) for key in found])
    if wanted is ArrayTable:
        if len(keys) == 1:
            return lake.read_arrays(name, keys[0])
        return lake.read_all_arrays(name, [str(key) for key in found])
    lazy = lake.scan(name, None if found == [None] else [str(key) for key in found])
    return lazy if wanted is pl.LazyFrame else lazy.collect()
