"""What runs by itself, as Dagster's own scheduler and queue evaluate it, with the clock set at will."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.test_utils import create_run_for_test, create_test_daemon_workspace_context, freeze_time
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._scheduler.scheduler import ScheduleIterationTimes, launch_scheduled_runs

from tests.dagster.conftest import ROOT
from twigma_core import tables
from twigma_core.collect import hashtags
from twigma_core.lake import Lake
from twigma_dagster.automation import keep_current, missed, months_before, unsettled
from twigma_dagster.definitions import build_defs
from twigma_dagster.settings import Settings

LAUNCHER = "\nrun_launcher: {module: dagster._core.test_utils, class: MockedRunLauncher}\n"


@dataclass
class Clockwork:
    """A deployment whose time a test sets: its instance has our `dagster.yaml`, but starts no run."""

    instance: dg.DagsterInstance
    context: WorkspaceProcessContext
    lake: Lake
    times: dict[str, ScheduleIterationTimes]

    def start(self, name: str, when: datetime) -> None:
        """Start a schedule at a time."""
        with freeze_time(when):
            location = self.context.create_request_context().code_locations[0]
            repository = next(iter(location.get_repositories().values()))
            self.instance.start_schedule(repository.get_schedule(name))

    def tick(self, when: datetime) -> list[dg.DagsterRun]:
        """Let the scheduler look at the clock once; return the runs that it asked for, oldest first."""
        before = {run.run_id for run in self.instance.get_runs()}
        with freeze_time(when):
            list(launch_scheduled_runs(self.context, logging.getLogger("ticks"), when, self.times))
        new = [run for run in self.instance.get_runs() if run.run_id not in before]
        return sorted(new, key=lambda run: run.tags.get("dagster/partition", ""))

    def end_all(self) -> None:
        """Let every run be over."""
        for run in self.instance.get_runs():
            if not run.is_finished:
                self.instance.report_run_canceled(run)


@pytest.fixture(scope="module")
def clockwork(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clockwork]:
    home = tmp_path_factory.mktemp("clockwork")
    (home / "dagster").mkdir()
    (home / "dagster" / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text() + LAUNCHER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWIGMA_HOME", str(home))
        target = ModuleTarget("twigma_dagster.definitions", None, str(ROOT), "twigma")
        with (
            dg.DagsterInstance.from_config(str(home / "dagster")) as instance,
            create_test_daemon_workspace_context(target, instance) as context,
        ):
            yield Clockwork(instance, context, Lake(home / "lake"), {})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def asked(runs: list[dg.DagsterRun]) -> list[str | None]:
    return [run.tags.get("dagster/partition") for run in runs]


@pytest.mark.parametrize(
    ("when", "one", "two"),
    [
        ("2022-01-03", "2021-12", "2021-11"),
        ("2021-03-31", "2021-02", "2021-01"),
        ("2024-03-01", "2024-02", "2024-01"),
    ],
)
def test_the_months_before_a_day(when: str, one: str, two: str) -> None:
    assert (months_before(at(when), 1), months_before(at(when), 2)) == (one, two)


def test_a_month_comes_once_whatever_the_clock_does(clockwork: Clockwork) -> None:
    clockwork.start("month_schedule", at("2021-04-20"))
    assert asked(clockwork.tick(at("2021-05-02T23:00"))) == [], "not yet"
    assert asked(clockwork.tick(at("2021-05-03T04:01"))) == ["2021-04"]
    assert asked(clockwork.tick(at("2021-05-03T04:02"))) == [], "once"
    clockwork.end_all()
    collected(clockwork, "2021-04")
    assert asked(clockwork.tick(at("2021-07-20"))) == ["2021-05", "2021-06"], "missed ticks are made up for"
    collected(clockwork, "2021-05", "2021-06")
    assert asked(clockwork.tick(at("2021-05-10"))) == [], "the clock was set back"
    assert asked(clockwork.tick(at("2021-08-03T05:00"))) == ["2021-07"], "and forth"
    assert {run.job_name for run in clockwork.instance.get_runs()} == {"month"}
    clockwork.end_all()


def test_a_long_gap_is_a_backfill_that_a_person_begins(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    assert missed(lake, at("2022-12-03")) == []
    lake.write("raw_tweets", tables.empty("raw_tweets"), "2022-04")
    assert missed(lake, at("2022-12-03")) == [
        "2022-05",
        "2022-06",
        "2022-07",
        "2022-08",
        "2022-09",
        "2022-10",
    ]
    assert missed(lake, at("2023-01-03")) == [], "another month more"


def test_a_month_that_somebody_runs_already_is_left_to_them(clockwork: Clockwork) -> None:
    collected(clockwork, "2021-08")
    clockwork.start("month_schedule", at("2021-09-20"))
    other = queued(clockwork, "2021-09")
    assert clockwork.tick(at("2021-10-03T05:00")) == []
    assert ticked(clockwork, "month_schedule") == "a run of 2021-09 is under way"
    clockwork.instance.report_run_canceled(other)
    clockwork.end_all()


def test_a_clock_far_ahead_asks_for_no_month_that_has_not_been(clockwork: Clockwork) -> None:
    clockwork.start("month_schedule", at("2098-12-20"))
    assert clockwork.tick(at("2099-01-03T05:00")) == []
    assert "has not ended by this machine's clock" in ticked(clockwork, "month_schedule")


def test_engagement_is_refreshed_once_a_month_later(clockwork: Clockwork) -> None:
    clockwork.start("refresh_schedule", at("2021-03-20"))
    assert clockwork.tick(at("2021-04-03T09:00")) == []
    assert ticked(clockwork, "refresh_schedule") == "2021-02 is refreshed, or not collected"
    row = {"tweet_id": "1", "snapshot": 0, "month": "2021-03", "taken_at": at("2021-04-03"), "like_count": 1}
    first = pl.DataFrame([{**dict.fromkeys(tables.empty("snapshots").columns), **row}])
    clockwork.lake.write("snapshots", first, "2021-03")
    runs = clockwork.tick(at("2021-05-03T09:00"))
    assert asked(runs) == ["2021-03"]
    assert runs[0].run_config == {"ops": {"snapshots": {"config": {"refresh": True}}}}
    clockwork.end_all()
    clockwork.lake.write("snapshots", first.with_columns(snapshot=pl.lit(1)), "2021-04")
    assert clockwork.tick(at("2021-06-03T09:00")) == []
    assert ticked(clockwork, "refresh_schedule") == "2021-04 is refreshed, or not collected"


def test_a_missed_refresh_is_made_up_for(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    columns = dict.fromkeys(tables.empty("snapshots").columns)
    for month, snapshot in {"2022-01": 0, "2022-02": 1, "2022-03": 0, "2022-04": 0, "2022-05": 0}.items():
        row = {"tweet_id": "1", "snapshot": snapshot, "month": month, "taken_at": at("2023-01-01")}
        lake.write("snapshots", pl.DataFrame([{**columns, **row}]), month)
    assert unsettled(lake, at("2022-06-03")) == ["2022-03", "2022-04"], "05 ended only now"
    assert unsettled(lake, at("2022-03-03")) == ["2022-01"], "of none that was refreshed, one alone"


def test_deletions_are_asked_for_daily_one_run_at_a_time(clockwork: Clockwork) -> None:
    clockwork.start("deletions_schedule", at("2021-05-10"))
    runs = clockwork.tick(at("2021-05-11T03:00"))
    assert [run.job_name for run in runs] == ["deletions"]
    assert runs[0].run_config == {"ops": {"tombstones": {"config": {"x": True}}}}
    assert clockwork.tick(at("2021-05-12T03:00")) == []
    assert ticked(clockwork, "deletions_schedule") == "a run is under way"
    clockwork.end_all()


def test_the_queue_never_starts_two_runs_of_one_month(clockwork: Clockwork) -> None:
    for partition in ("2021-01", "2021-01", "2021-02"):
        queued(clockwork, partition)
    list(QueuedRunCoordinatorDaemon(interval_seconds=1).run_iteration(clockwork.context))
    by = defaultdict(list)
    for run in clockwork.instance.get_runs():
        if not run.is_finished:
            by[run.tags["dagster/partition"]].append(run.status)
    assert Counter(by["2021-01"]) == {dg.DagsterRunStatus.STARTING: 1, dg.DagsterRunStatus.QUEUED: 1}
    assert by["2021-02"] == [dg.DagsterRunStatus.STARTING], "another month goes on beside it"
    clockwork.end_all()


def test_the_sensor_asks_for_what_is_out_of_date_and_waits_for_what_runs(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, source="archive", archive=str(tmp_path))
    definitions = build_defs(settings)
    resources = {name: one for name, one in (definitions.resources or {}).items() if name != "lake_io"}

    def requests(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
        context = dg.build_sensor_context(instance=instance, definitions=definitions, resources=resources)
        found = keep_current(context)
        return [one for one in found if isinstance(one, dg.RunRequest)]  # type: ignore[union-attr]

    with dg.DagsterInstance.ephemeral() as instance:
        first = requests(instance)
        named = {key.path[-1] for one in first for key in one.asset_selection or []}
        assert "hashtags" in named and not named & {"raw_tweets", "tombstones"}, "it buys nothing"
        assert [one.run_key for one in requests(instance)] == [one.run_key for one in first], "the same, once"
        Lake(settings.lake_root).write("hashtags", hashtags.reviewed())
        later = {key.path[-1] for one in requests(instance) for key in one.asset_selection or []}
        assert "hashtags" not in later
        create_run_for_test(instance, job_name="month", status=dg.DagsterRunStatus.STARTED)
        assert requests(instance) == [], "it waits"


def collected(clockwork: Clockwork, *months: str) -> None:
    """Put whole months of no posts into the lake."""
    for month in months:
        clockwork.lake.write("raw_tweets", tables.empty("raw_tweets"), month)


def queued(clockwork: Clockwork, partition: str) -> dg.DagsterRun:
    """Put a run of a month into the queue, as the UI does."""
    location = clockwork.context.create_request_context().code_locations[0]
    job = next(iter(location.get_repositories().values())).get_full_job("month")
    return create_run_for_test(
        clockwork.instance,
        job_name="month",
        status=dg.DagsterRunStatus.QUEUED,
        tags={"dagster/partition": partition},
        remote_job_origin=job.get_remote_origin(),
        job_code_origin=job.get_python_origin(),
    )


def ticked(clockwork: Clockwork, name: str) -> str:
    """Return why a schedule's latest tick asked for nothing."""
    location = clockwork.context.create_request_context().code_locations[0]
    schedule = next(iter(location.get_repositories().values())).get_schedule(name)
    ticks = clockwork.instance.get_ticks(schedule.get_remote_origin_id(), schedule.selector_id)
    return str(ticks[0].skip_reason)
