"""Frames to and from the lake.

An asset says by annotation what it wants of an upstream asset: `pl.DataFrame` (read), `pl.LazyFrame`
(scanned), `ArrayTable` (table and arrays, months stacked), or `dict[str, ArrayTable]` (one a partition).
Of several partitions those that exist are read; that none exists is an error which names the asset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_origin

import dagster as dg
import polars as pl

from twigma_core.lake import ArrayTable, Lake, MissingPartition
from twigma_core.provenance import Provenance
from twigma_dagster.resources import LakeResource

Frame = pl.DataFrame | ArrayTable


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
        wanted = context.dagster_type.typing_type
        return load(self.lake.open(), name, keys, get_origin(wanted) or wanted)


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
    if wanted is ArrayTable:
        if len(keys) == 1:
            return lake.read_arrays(name, keys[0])
        return lake.read_all_arrays(name, [str(key) for key in found])
    lazy = lake.scan(name, None if found == [None] else [str(key) for key in found])
    return lazy if wanted is pl.LazyFrame else lazy.collect()
