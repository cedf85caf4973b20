"""PostgreSQL, which holds Dagster's runs and events, goes away in the middle of a build and comes back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest

from tests.dagster.conftest import ROOT, environment_of
from tests.dagster.deployment import lacking
from tests.drills.collect_month import TABLES
from tests.drills.counts import FULL
from tests.drills.postgres import Postgres, postgres
from twigma_core.lake import Lake

MONTH = "2021-01"
PASSWORD = "a-password-of-the-drill"


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A PostgreSQL server of our own."""
    if why := lacking("initdb", "postgres", "pg_isready"):
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    with postgres(PASSWORD) as running:
        yield running


def start(environment: Mapping[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.drills.collect_month", "collect", MONTH]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(build: subprocess.Popen[str]) -> tuple[int, str]:
    printed, warned = build.communicate(timeout=500)
    assert PASSWORD not in printed + warned
    assert "Traceback" not in warned, warned[-3000:]
    return build.returncode, printed


def versions(lake: Lake) -> dict[str, str | None]:
    keys = {name: MONTH if lake.has(name, MONTH) else None for name in TABLES if lake.partitions(name)}
    return {name: lake.provenance(name, key).data_version for name, key in keys.items()}


def state_is_intact(home: Path, server: Postgres, seen: dg.DagsterRunStatus) -> None:
    """Check that all runs are over, one of them with a status, and that none holds a slot."""
    assert not list(home.rglob("*.tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWIGMA_DATABASE", server.address)
        with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
            runs = list(instance.get_runs())
            assert runs and all(run.is_finished for run in runs), [(run.run_id, run.status) for run in runs]
            assert any(run.status == seen for run in runs)
            pools = {pool.name for pool in instance.event_log_storage.get_pool_limits()}
            held = {p: instance.event_log_storage.get_concurrency_info(p).active_slot_count for p in pools}
            assert not any(held.values()), held


def until_collected(build: subprocess.Popen[str], lake: Lake) -> None:
    """Wait until a build has bought its posts: the middle of it."""
    while not lake.has("raw_tweets", MONTH):
        assert build.poll() is None, build.communicate()
        time.sleep(0.02)


def test_a_database_that_is_gone_for_a_moment_costs_a_step_at_most(server: Postgres, tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = {**environment_of(home), "TWIGMA_DATABASE": server.address}
    build = start(environment)
    until_collected(build, Lake(home / "lake"))
    server.stop()
    time.sleep(0.5)
    server.start()
    status, printed = ended(build)
    if status != 0:  # a statement was under way: its step failed, by name, and the next attempt goes on
        assert status == 1 and "psycopg2.OperationalError" in printed, printed[-2000:]
        status, printed = ended(start(environment))
        assert status == 0, printed[-2000:]
    assert Lake(home / "lake").has("images", MONTH)
    state_is_intact(home, server, dg.DagsterRunStatus.SUCCESS)


@pytest.mark.skipif(not FULL, reason="Dagster tries for half a minute, twice: make drills")
def test_a_build_survives_a_database_that_goes_and_comes_back(server: Postgres, tmp_path: Path) -> None:
    home = tmp_path / "home"
    lake, environment = Lake(home / "lake"), {**environment_of(home), "TWIGMA_DATABASE": server.address}
    build = start(environment)
    until_collected(build, lake)
    server.stop()
    status, printed = ended(build)
    gone = f"the database postgres at 127.0.0.1:{server.port} (TWIGMA_DATABASE) does not answer"
    assert status == 2 and gone in printed, printed[-2000:]
    assert "Start it and run this again" in printed
    assert not lake.has("images", MONTH), "it was stopped in the middle"
    written = versions(lake)

    server.start()
    status, printed = ended(start(environment))
    assert status == 0, printed[-2000:]
    after = versions(lake)
    assert set(after) == {name for name in TABLES if lake.partitions(name)} and "images" in after
    assert written and {name: after[name] for name in written} == written, "what was built stayed"
    state_is_intact(home, server, dg.DagsterRunStatus.FAILURE)  # the one that broke off
