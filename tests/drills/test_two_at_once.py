"""Two people build the same month at the same moment."""

from __future__ import annotations

import os
from multiprocessing.synchronize import Barrier
from pathlib import Path

import dagster as dg

from tests.drills.counts import count
from tests.drills.undisturbed import ASSETS, CONTEXT, Ground

ROUNDS = count(1, 5)


def open_home(home: str, all_ready: Barrier) -> None:
    os.environ["DAGSTER_HOME"] = home
    from twigma_dagster import headless

    all_ready.wait()
    with headless.dagsters_storage() as instance:
        assert instance.get_runs() == []


def test_four_processes_that_open_a_new_home_at_once(tmp_path: Path) -> None:
    for number in range(3):
        home, all_ready = tmp_path / f"home-{number}", CONTEXT.Barrier(4)
        home.mkdir()
        together = [CONTEXT.Process(target=open_home, args=(str(home), all_ready)) for _ in range(4)]
        for process in together:
            process.start()
        for process in together:
            process.join()
        assert [process.exitcode for process in together] == [0] * 4


def test_two_builds_of_one_month_leave_the_tables_of_one(month: Ground) -> None:
    for number in range(ROUNDS):
        home = month.fresh(f"two-{number}")
        both = [home.start() for _ in range(2)]
        for process in both:
            process.join()
        failed = (home.folder / "failed.txt").read_text() if (home.folder / "failed.txt").exists() else ""
        print(f"\n{number}: exit codes {[process.exitcode for process in both]} {failed}")
        home.whole()
        assert month.repeated() == [], "no page and no picture is asked for twice"
        assert home.left_behind() == []
        assert (home.versions(), home.released(), home.files()) == (
            month.home.versions(),
            month.home.released(),
            month.home.files(),
        )
        assert home.unfinished() == []
        assert [process.exitcode for process in both] == [0, 0]


def test_a_release_waits_for_the_one_that_is_being_written(month: Ground) -> None:
    home = month.fresh("two-releases")
    assert home.build(set(ASSETS) - {"release"}) == ""
    with dg.DagsterInstance.from_config(str(home.folder / "dagster")) as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots("release", 1)
        assert storage.claim_concurrency_slot("release", "another run", "release").is_claimed
        process = home.start(["release"])
        process.join(5)
        assert process.is_alive() and not home.lake.list_folders("releases")
        storage.free_concurrency_slots_for_run("another run")
    process.join()
    assert process.exitcode == 0
    assert home.released() == month.home.released()
