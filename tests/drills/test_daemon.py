"""The daemon is killed in the middle of a backfill and started again: every month is built, none twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRun
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.launcher.base import WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from tests.dagster.conftest import ROOT, environment_of, run_twigma
from tests.dagster.deployment import end
from tests.drills.counts import FULL
from twigma_core.collect import hashtags
from twigma_core.collect.pages import PageStore
from twigma_core.lake import Lake
from twigma_dagster import launcher
from twigma_dagster.launcher import WatchedRunLauncher

MONTHS = ["2021-01", "2021-02", "2021-03"]
ASSETS = ("raw_tweets", "tweets", "tweet_media")


@contextmanager
def daemon(home: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run Dagster's daemon until the block ends."""
    command = [sys.executable, "-m", "dagster._daemon", "run", "-w", "workspace.yaml"]
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment_of(home), stdout=file, stderr=file, start_new_session=True
        )
    try:
        yield process
    finally:
        end(process)


def request(instance: dg.DagsterInstance) -> None:
    """Ask for a backfill, as the UI does."""
    from twigma_dagster.definitions import defs

    asked = PartitionBackfill.from_asset_partitions(
        backfill_id="drill",
        asset_graph=defs.resolve_asset_graph(),
        partition_names=MONTHS,
        asset_selection=[dg.AssetKey(name) for name in ASSETS],
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(asked)


def wait(what: str, until: object, log: Path, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not until():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"{what}: {log.read_text()[-3000:]}"
        time.sleep(0.2)


def started(**info: object) -> DagsterRun:
    tags = {GRPC_INFO_TAG: json.dumps(info)} if info else {}
    return DagsterRun(job_name="month", run_id="5f5f5f5f-aaaa-4aaa-8aaa-aaaaaaaaaaaa", tags=tags)


def test_a_run_whose_server_is_gone_is_given_up_at_the_second_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = WatchedRunLauncher().check_run_worker_health
    gone = started(host="localhost", socket=str(tmp_path / "nobody"))
    assert look(gone).status == WorkerStatus.RUNNING
    assert look(started()).status == WorkerStatus.RUNNING, "nobody can be asked: a build of the command line"
    assert look(gone).status == WorkerStatus.RUNNING, "the two looks must follow each other"
    assert look(gone).status == WorkerStatus.NOT_FOUND
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(launcher, "_ANSWER_S", 0.3)
        slow = started(host="127.0.0.1", port=silent.getsockname()[1])
        assert {look(slow).status for _ in range(3)} == {WorkerStatus.RUNNING}, "slow is not gone"


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not FULL, reason="two starts of the daemon and four runs: make drills")
def test_a_backfill_goes_on_when_its_daemon_was_killed(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "daemon.log"
    assert run_twigma(home, "settings").returncode == 0, "makes the home"
    lake = Lake(home / "lake")
    lake.write("hashtags", hashtags.reviewed())
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        instance.get_runs(limit=1)
        request(instance)

        def statuses() -> list[dg.DagsterRunStatus]:
            return [run.status for run in instance.get_runs()]

        with daemon(home, log) as first:
            wait("no run began", lambda: dg.DagsterRunStatus.STARTED in statuses(), log)
            os.killpg(first.pid, signal.SIGKILL)
            first.wait()
            before = {run.run_id: run.tags["dagster/partition"] for run in instance.get_runs()}
        with daemon(home, log):
            ended = (BulkActionStatus.COMPLETED_SUCCESS, BulkActionStatus.COMPLETED_FAILED)

            def over() -> bool:
                backfill = instance.get_backfill("drill")
                return backfill is not None and backfill.status in ended

            wait("the backfill did not end", over, log)
        runs = list(instance.get_runs())
        found = instance.get_backfill("drill")
    by_status = Counter((run.tags["dagster/partition"], run.status.value) for run in runs)
    print(f"daemon: killed with {len(before)} runs asked for; in the end {dict(by_status)}")
    assert found and found.status == BulkActionStatus.COMPLETED_SUCCESS, by_status
    for month in MONTHS:
        assert by_status[month, "SUCCESS"] == 1, by_status
        assert all(lake.has(name, month) for name in ASSETS)
        tokens = [(page.window, page.token) for page in PageStore(lake, month).pages()]
        assert len(tokens) == len(set(tokens)), "no page was bought twice"
    assert {run.status for run in runs} <= {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}
    assert not list(home.rglob("*.tmp"))
