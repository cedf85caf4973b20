"""The graph as declared: names, cuts, and what every asset must say of itself."""

from __future__ import annotations

import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.asset_backfill import AssetBackfillData

from twigma_core.figures import FIGURES
from twigma_core.tables import SCHEMAS
from twigma_dagster.definitions import defs
from twigma_dagster.graph import batches, phases
from twigma_dagster.resources import build_resources
from twigma_dagster.settings import Settings

GRAPH = defs.resolve_asset_graph()
NODES = {key.path[-1]: GRAPH.get(key) for key in GRAPH.materializable_asset_keys}
MONTHLY = """raw_tweets tweets tweet_media tweet_counts snapshots images embeddings captions nsfw_scores
    dataset drops fingerprints lookalikes summaries
    clusters projection divergences variation_metrics neighbors""".split()
BY_CORPUS = "reference_images reference_embeddings reference_summaries".split()
BY_TEXT = "texts text_embeddings".split()
WHOLE = """hashtags hashtag_candidates archive_files tombstones release_2023 release_2023_comparison
    cluster_model cluster_themes cluster_nsfw cluster_trends cluster_sensitivity projection_model codebook
    divergence_matrix divergence_robustness variation_table pair_distances prompt_variation text_variation
    engagement inspirations
    annotation_tasks annotations annotation_concordance paper_comparison release report catalog""".split()
GPU = {"embeddings", "captions", "reference_embeddings", "text_embeddings"}
FIGURE_NAMES = [f"figure_{n}" for n in "1b 1c 2a 2b 2c 2d 3a 3b 3c 3d 4a 4b 4c 4d 4e".split()]


def test_every_asset_of_the_design_is_there_and_no_other() -> None:
    assert set(NODES) == {*MONTHLY, *BY_CORPUS, *BY_TEXT, *WHOLE, *FIGURE_NAMES}
    assert list(FIGURES) == FIGURE_NAMES


@pytest.mark.parametrize(
    ("names", "first", "count"),
    [(MONTHLY, "2021-01", None), (BY_CORPUS, "laion", 3), (BY_TEXT, "captions", 6)],
)
def test_partitions(names: list[str], first: str, count: int | None) -> None:
    for name in names:
        cut = NODES[name].partitions_def
        assert cut, name
        keys = cut.get_partition_keys()
        assert keys[0] == first, name
        assert count is None or len(keys) == count, name
    assert not any(NODES[name].partitions_def for name in [*WHOLE, *FIGURE_NAMES])


@pytest.mark.parametrize("name", sorted(NODES))
def test_every_asset_says_what_it_is(name: str) -> None:
    node = NODES[name]
    assert node.description
    assert len(node.description) > 40
    assert node.owners
    assert node.kinds
    assert node.code_version
    assert node.group_name != "default"
    if name in SCHEMAS:
        columns = node.metadata["dagster/column_schema"].columns
        assert [column.name for column in columns] == SCHEMAS[name].column_names()
        assert all(column.description for column in columns), "every column is explained"


def test_only_model_steps_are_marked_for_the_gpu_lane() -> None:
    marked = {
        key.path[-1]
        for asset in defs.assets or []
        if isinstance(asset, dg.AssetsDefinition) and asset.op.tags.get("twigma/compute") == "gpu"
        for key in asset.keys
    }
    assert marked == GPU
    assert all(NODES[name].pools == {"gpu"} for name in GPU)


def test_every_step_names_its_lane() -> None:
    made = [*(defs.assets or []), *(defs.asset_checks or [])]
    ops = {asset.op for asset in made if isinstance(asset, dg.AssetsDefinition) and asset.is_executable}
    assert len(ops) > 100
    assert [op.name for op in ops if op.tags.get("twigma/compute") not in ("cpu", "gpu")] == []


def test_every_table_has_a_schema_check_that_blocks() -> None:
    checked = {key.asset_key.path[-1] for key in GRAPH.asset_check_keys if key.name == "schema"}
    assert checked == set(SCHEMAS)


def test_all_that_runs_by_itself_ships_stopped() -> None:
    for name in ("month_schedule", "refresh_schedule", "deletions_schedule"):
        schedule = defs.resolve_schedule_def(name)
        assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
        assert schedule.description
    assert defs.resolve_sensor_def("keep_current").default_status == dg.DefaultSensorStatus.STOPPED


def test_a_backfill_of_months_is_of_these_months_only() -> None:
    months = ["2021-02", "2021-03"]
    with dg.DagsterInstance.ephemeral() as instance:
        asked = AssetBackfillData.from_asset_partitions(
            GRAPH, months, [dg.AssetKey(name) for name in MONTHLY], instance, time.time(), False
        )
    assert {key.path[-1] for key in asked.target_subset.asset_keys} == set(MONTHLY)
    for name in MONTHLY:
        subset = asked.target_subset.get_partitions_subset(dg.AssetKey(name))
        assert sorted(subset.get_partition_keys()) == months, name


def test_phases_respect_the_graph() -> None:
    done: set[str] = set()
    for phase in phases(GRAPH):
        assert len({NODES[name].partitions_def for name in phase}) == 1
        for name in phase:
            assert {key.path[-1] for key in NODES[name].parent_keys} <= done | set(phase)
        done |= set(phase)
    assert done == set(NODES)
    months = ["2021-01", "2021-02"]
    assert {batch.partition for batch in batches(GRAPH, months) if "tweets" in batch.assets} == set(months)


def test_resources_take_the_settings_of_their_names() -> None:
    """None is left out: what is set reaches what acts on it."""
    address = "http://127.0.0.1:8000"
    settings = Settings(
        home=Path("/home"), texts="t", media_base=address, connections=7, budget=3.0, clusters=4
    )
    made = build_resources(settings)
    assert address in made["study"].notice  # type: ignore[attr-defined]
    for kind in made.values():
        for name in set(type(kind).model_fields) & set(dir(settings)):
            assert str(getattr(kind, name)) == str(getattr(settings, name)), f"{type(kind).__name__}.{name}"
    policy = made["pictures"].policy()  # type: ignore[attr-defined]
    assert (policy.connections, policy.per_host) == (7, 7)
