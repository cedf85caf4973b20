"""Two people build the same month at the same moment."""

from __future__ import annotations

from tests.drills.counts import count
from tests.drills.undisturbed import Ground

ROUNDS = count(1, 5)


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
