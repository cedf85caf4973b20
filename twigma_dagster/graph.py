"""Which partitions of the graph are up to date, and in which order to build those that are not.

Up to date is a matter of content: a table or figure carries the data version of every partition it was
computed from, and is current while those versions are the ones in the lake.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetNode

from twigma_core.collect import hashtags
from twigma_core.collect.compliance import read_inbox
from twigma_core.collect.pages import PageStore
from twigma_core.figures import FIGURES
from twigma_core.figures.files import read_provenance
from twigma_core.journal import is_clear
from twigma_core.lake import Lake, data_version
from twigma_core.provenance import Provenance
from twigma_core.tables import SCHEMAS, conform
from twigma_dagster.declare import EARLIER_MONTHS, IN_PIECES, TOGETHER
from twigma_dagster.partitions import MONTHS, PARTITIONS
from twigma_dagster.resources import Models, Posts

FROZEN = ("cluster_model", "codebook", "projection_model")
"""Models that months are measured by: a refit moves old labels, so it is a deliberate act."""


GATHERERS = ("report", "catalog", "paper_comparison")
"""Assets that show what is there, and say what is not, rather than wait for all of it."""
OPTIONAL = {"hashtag_candidates": ("tweet_media", "images", "nsfw_scores")}
"""What an asset shows where it is there, and does without where it is not."""
POSTS = {
    "codebook": ("dataset", "embeddings"),
    "divergence_matrix": ("summaries",),
    "divergence_robustness": ("summaries",),
    "variation_table": ("summaries",),
    "pair_distances": ("summaries",),
}
"""What an asset reads of the posts, and does without in a lake that has none: corpora are compared alone."""


def _list_is_as_reviewed(lake: Lake, _: str | None) -> bool:
    return data_version("hashtags", hashtags.reviewed()) == lake.provenance("hashtags").data_version


def _month_is_collected(lake: Lake, month: str | None) -> bool:
    return PageStore(lake, str(month)).is_complete()


def _files_are_as_read(lake: Lake, posts: Posts) -> bool:
    found = conform("archive_files", posts.files(lake))
    return data_version("archive_files", found) == lake.provenance("archive_files").data_version


def _inbox_is_read(lake: Lake, _: str | None) -> bool:
    known = set(lake.read("tombstones").select("kind", "id").iter_rows())
    return read_inbox(lake).rows.keys() <= known


OUTSIDE = {
    "hashtags": _list_is_as_reviewed,
    "raw_tweets": _month_is_collected,
    "tombstones": _inbox_is_read,
}
"""Assets that come from outside the lake, with what says that nothing is to be had there that is not here."""


@dataclass(frozen=True)
class Batch:
    """Assets that one run builds for one partition; None is the whole dataset."""

    assets: tuple[str, ...]
    partition: str | None


def phases(graph: dg.AssetGraph) -> list[tuple[str, ...]]:
    """Return the assets in groups to be built one after the other.

    All assets of a group are partitioned alike, and depend only on one another and on earlier groups.
    """
    waiting = {
        key.path[-1]: graph.get(key) for key in graph.toposorted_asset_keys if graph.get(key).is_executable
    }
    done: set[str] = set()
    order: list[tuple[str, ...]] = []
    while waiting:
        best: list[str] = []
        for cut in {node.partitions_def for node in waiting.values()}:
            ready: list[str] = []
            for name, node in waiting.items():
                parents = {key.path[-1] for key in node.parent_keys}
                if node.partitions_def == cut and parents <= done | set(ready):
                    ready.append(name)
            best = max(best, ready, key=len)
        order.append(tuple(best))
        done |= set(best)
        for name in best:
            del waiting[name]
    return order


def record_path(name: str) -> str:
    """Return where the record of an asset that is neither table nor figure lies in the lake."""
    return f"records/{name}.json"


def record(lake: Lake, name: str, partition: str | None) -> Provenance | None:
    """Return the record that an asset's file in the lake carries; None if there is no such file."""
    if name in SCHEMAS:
        return lake.provenance(name, partition) if lake.has(name, partition) else None
    path = f"figures/{name}.svg" if name in FIGURES else record_path(name)
    if not lake.exists(path):
        return None
    data = lake.read_bytes(path)
    return read_provenance(data) if name in FIGURES else Provenance.from_json(data)


def is_current(lake: Lake, name: str, partition: str | None, posts: Posts | None = None) -> bool:
    """Say whether an asset's partition is in the lake and was computed from all that is there now.

    A frozen model is current once it is there: only a person who materializes it fits it anew.
    """
    made = record(lake, name, partition)
    if made is None or name in FROZEN:
        return made is not None
    if name in OUTSIDE and not OUTSIDE[name](lake, partition):
        return False
    if name in IN_PIECES and not is_clear(lake, name, partition):
        return False
    if name == "archive_files" and posts and not _files_are_as_read(lake, posts):
        return False
    read: dict[str, set[str | None]] = {}
    for up in made.upstream:
        source = record(lake, up.asset, up.partition)
        if source is None or source.data_version != up.data_version:
            return False
        read.setdefault(up.asset, set()).add(up.partition)
    for asset in POSTS.get(name, ()):  # posts that came since
        read.setdefault(asset, set())
    return all(keys == to_read(lake, name, partition, asset) for asset, keys in read.items())


def stale(lake: Lake, batch: Batch, models: Models, posts: Posts) -> list[str]:
    """Return the assets of a batch that are not up to date, or that another model made than is in force.

    Of a step that makes several tables, all of them are where one is: it was stopped between two.
    """
    old = {
        name
        for name in batch.assets
        if not (is_current(lake, name, batch.partition, posts) and models.made(lake, name, batch.partition))
    }
    return [name for name in batch.assets if old & TOGETHER.get(name, {name})]


def to_read(lake: Lake, name: str, partition: str | None, upstream: str) -> set[str | None]:
    """Return the partitions of `upstream` that are there now for an asset's partition to read."""
    if upstream not in PARTITIONS:
        return {None}
    there: set[str | None] = set(lake.partitions(upstream))
    if PARTITIONS.get(name) != PARTITIONS[upstream]:
        return there
    if upstream in EARLIER_MONTHS.get(name, ()):
        return {key for key in there if key and partition and key <= partition}
    return {partition}


def with_inputs(graph: dg.AssetGraph, lake: Lake, names: list[str], partition: str | None) -> list[str]:
    """Return those of the assets `names` that have something to read, in the lake or from one another.

    What gathers results for a reader is built of those that there are. A step that makes several tables is
    left out where not all of them are among `names`.
    """
    found: list[str] = []
    without = {} if lake.partitions("raw_tweets") else POSTS
    for name in names:
        node = graph.get(dg.AssetKey(name))
        parents = [graph.get(key) for key in node.parent_keys]
        if name in GATHERERS or all(
            parent.key.path[-1] in found or _has(lake, parent, node.partitions_def, partition)
            for parent in parents
            if parent.key.path[-1] not in (OPTIONAL | without).get(name, ())
        ):
            found.append(name)
    return [name for name in found if TOGETHER.get(name, {name}) <= set(found)]


def settled(graph: dg.AssetGraph, batch: Batch, names: list[str]) -> list[str]:
    """Return those of the assets `names` that no other of them can put out of date once they are made.

    One that is up to date and reads one of `names` may have to be made anew, and so may all that read it.
    What comes after it is made once that is known, and not twice.
    """
    unsure: set[str] = set()
    for name in batch.assets:  # parents before children
        parents = {key.path[-1] for key in graph.get(dg.AssetKey(name)).parent_keys}
        if parents & unsure or (name not in names and parents & set(names)):
            unsure.add(name)
    return [name for name in names if name not in unsure]


def _has(
    lake: Lake, parent: BaseAssetNode, cut: dg.PartitionsDefinition | None, partition: str | None
) -> bool:
    name = parent.key.path[-1]
    if parent.partitions_def is None or parent.partitions_def == cut:
        return record(lake, name, partition if parent.partitions_def else None) is not None
    return bool(lake.partitions(name))


def batches(graph: dg.AssetGraph, months: list[str]) -> Iterator[Batch]:
    """Yield the runs that build the whole graph for these months, in order."""
    for assets in phases(graph):
        cut = graph.get(dg.AssetKey(assets[0])).partitions_def
        if cut is None:
            yield Batch(assets, None)
            continue
        for key in months if cut == MONTHS else cut.get_partition_keys():
            yield Batch(assets, key)
