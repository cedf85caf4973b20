"""Runs as Dagster makes them: repeated, and launched from Dagster's own command line."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._core.test_utils import create_run_for_test
from rich.console import Console

from tests.dagster.conftest import ROOT, Built, environment_of
from tests.dagster.small_world import build, drawn, world
from twigma_core.figures import FIGURES
from twigma_core.journal import Journal
from twigma_core.lake import Lake
from twigma_core.tables import SCHEMAS
from twigma_dagster import headless
from twigma_dagster.definitions import build_defs
from twigma_dagster.graph import FROZEN, Batch
from twigma_dagster.partitions import MONTHS, PARTITIONS
from twigma_dagster.settings import Settings

MONTHLY = [name for name, cut in PARTITIONS.items() if cut == MONTHS]
WHOLE = [name for name in SCHEMAS if name not in PARTITIONS] + [*FIGURES, "report", "catalog"]


def versions(lake: Lake, month: str, names: tuple[str, ...] | list[str]) -> dict[str, str]:
    return {name: lake.provenance(name, month).data_version for name in names}


def files(lake: Lake) -> set[str]:
    root = Path(str(lake.root))
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def copy(sample: Built, tmp_path: Path) -> Built:
    """The built sample in a home of its own, to be changed at will."""
    shutil.copytree(sample.home, tmp_path / "home", ignore=shutil.ignore_patterns("dagster"))
    return Built(tmp_path / "home", Lake(tmp_path / "home" / "lake"), "", {})


def test_a_month_materialized_again_replaces_itself_exactly(copy: Built) -> None:
    before, held = versions(copy.lake, "2021-03", MONTHLY), files(copy.lake)
    settings = Settings(home=copy.home)
    outcome = headless.Outcome()
    with dg.DagsterInstance.ephemeral() as instance:
        job = build_defs(settings).resolve_implicit_global_asset_job_def()
        headless.run(job, instance, Batch(tuple(MONTHLY), "2021-03"), outcome, lambda _: None)
    assert outcome.failed == []
    assert outcome.ran == len(MONTHLY)
    assert versions(copy.lake, "2021-03", MONTHLY) == before
    assert files(copy.lake) == held


def test_a_month_waits_for_elder_months_that_are_being_made(copy: Built) -> None:
    settings, outcome = Settings(home=copy.home), headless.Outcome()
    said: list[str] = []
    images = frozenset([dg.AssetKey("images")])
    with dg.DagsterInstance.local_temp() as instance:

        def begun(month: str, assets: frozenset[dg.AssetKey], status: dg.DagsterRunStatus) -> dg.DagsterRun:
            tags = {PARTITION_NAME_TAG: month}
            return create_run_for_test(instance, asset_selection=assets, status=status, tags=tags)

        started = dg.DagsterRunStatus.STARTED
        elder = begun("2021-01", images, started)
        begun("2021-03", images, started)
        begun("2021-01", frozenset([dg.AssetKey("captions")]), started)
        begun("2021-01", images, dg.DagsterRunStatus.NOT_STARTED)
        job = build_defs(settings).resolve_implicit_global_asset_job_def()
        month = Batch(("dataset", "drops"), "2021-02")
        run = threading.Thread(
            target=headless.run, args=(job, instance, month, outcome, lambda _: None, said.append)
        )
        run.start()
        deadline = time.monotonic() + 60
        while not said and run.is_alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert said == [
            f"images: waits for run {elder.run_id[:8]} of 2021-01: earlier months are in the making"
        ]
        assert outcome.ran == 0
        instance.report_run_failed(elder)
        run.join(60)
    assert outcome.failed == []
    assert outcome.ran == 2


def test_what_changed_upstream_is_built_again_and_nothing_else(copy: Built) -> None:
    captions = copy.lake.read("captions", "2021-05")
    made = copy.lake.provenance("captions", "2021-05")
    copy.lake.write(
        "captions", captions.with_columns(caption=captions["caption"] + " again"), "2021-05", made
    )
    settings = Settings(home=copy.home)
    with dg.DagsterInstance.ephemeral() as instance:
        months = copy.lake.partitions("tweets")
        outcome = headless.build(build_defs(settings), instance, copy.lake, months, Console(quiet=True))
        again = {
            (name, key) for name in SCHEMAS for key in instance.get_materialized_partitions(dg.AssetKey(name))
        }
    assert outcome.failed == []
    assert ("dataset", "2021-05") in again
    assert not [key for key in again if key[1] not in ("2021-05", None)], "no other month was touched"
    assert ("embeddings", "2021-05") not in again


def test_pieces_left_by_a_run_that_was_killed_once_its_table_was_written_are_removed(copy: Built) -> None:
    before = versions(copy.lake, "2021-05", MONTHLY)
    piece = Journal(copy.lake, "captions", "2021-05", "a model")
    piece.add(["a picture"], ["a caption"])
    settings, months = Settings(home=copy.home), copy.lake.partitions("tweets")
    with dg.DagsterInstance.ephemeral() as instance:
        outcome = headless.build(build_defs(settings), instance, copy.lake, months, Console(quiet=True))
    assert (outcome.failed, outcome.ran) == ([], 1)
    assert list(copy.lake.list_files("journal/captions/2021-05")) == []
    assert versions(copy.lake, "2021-05", MONTHLY) == before


def test_a_new_month_touches_itself_and_the_sums_only(tmp_path: Path) -> None:
    months = {"2021-01": {n: drawn(n) for n in range(1, 13)}, "2021-02": {n: drawn(n) for n in range(21, 33)}}
    with world(tmp_path, months) as (settings, lake):
        assert build(settings, ["2021-01"]).failed == []
        before = {name: lake.provenance(name, "2021-01").run_id for name in MONTHLY}
        frozen = {name: lake.provenance(name).run_id for name in FROZEN}
        with dg.DagsterInstance.ephemeral() as instance:
            both = ["2021-01", "2021-02"]
            outcome = headless.build(build_defs(settings), instance, lake, both, Console(quiet=True))
            made = {
                (name, key)
                for name in MONTHLY
                for key in instance.get_materialized_partitions(dg.AssetKey(name))
            }
            times = {
                name: len(instance.fetch_materializations(dg.AssetKey(name), limit=9).records)
                for name in WHOLE
            }
    assert outcome.failed == []
    assert made == {(name, "2021-02") for name in MONTHLY}, "the month, whole, and no other"
    summed = {name for name, count in times.items() if count}
    assert {"figure_1b", "figure_4b", "report"} <= summed, "and what sums up over months"
    assert max(times.values()) == 1, "once, though some turn out to be out of date only when others are made"
    assert outcome.ran < len(MONTHLY) + len(WHOLE), "the references and frozen models stay"
    assert {name: lake.provenance(name, "2021-01").run_id for name in MONTHLY} == before
    assert {name: lake.provenance(name).run_id for name in FROZEN} == frozen, "models stay as they were"
    read = {up.partition for up in lake.provenance("cluster_trends").upstream if up.asset == "clusters"}
    assert read == {"2021-01", "2021-02"}


def test_a_backfill_from_dagsters_own_command_line(copy: Built) -> None:
    before = versions(copy.lake, "2021-02", MONTHLY)
    environment = environment_of(copy.home)
    assert copy.twigma("settings").returncode == 0, "makes the home that DAGSTER_HOME points to"
    initialise = "import dagster as dg; dg.DagsterInstance.get().get_runs(limit=1)"
    subprocess.run([sys.executable, "-c", initialise], env=environment, cwd=ROOT, check=True, timeout=120)
    daemon = subprocess.Popen(
        [sys.executable, "-m", "dagster._daemon", "run", "-w", "workspace.yaml"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    launch = "dagster job backfill -w workspace.yaml -j month --from 2021-02 --to 2021-03 --noprompt".split()
    try:
        done = subprocess.run(
            [sys.executable, "-m", *launch],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        with dg.DagsterInstance.from_config(str(copy.home / "dagster")) as instance:
            runs = _finished(instance, 2)
    finally:
        daemon.send_signal(signal.SIGINT)
        daemon.wait(60)
    assert {run.tags["dagster/partition"] for run in runs} == {"2021-02", "2021-03"}, "one run a month"
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    assert copy.lake.provenance("tweets", "2021-02").run_id in {run.run_id for run in runs}
    assert versions(copy.lake, "2021-02", MONTHLY) == before


def _finished(instance: dg.DagsterInstance, wanted: int, seconds: float = 420) -> list[dg.DagsterRun]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        runs = list(instance.get_runs())
        if len(runs) >= wanted and all(run.is_finished for run in runs):
            return runs
        time.sleep(1)
    raise AssertionError(f"after {seconds} s: {[(run.status, run.tags) for run in instance.get_runs()]}")
