"""kill -9 at random moments of collect → download → embed → caption → release, and on from there."""

from __future__ import annotations

import random
import shutil
import signal
from collections import Counter

from tests.drills.counts import FULL, count
from tests.drills.undisturbed import (
    Ground,
    Home,
    request_of,
    requests_of_stored_pages,
    stored_pictures,
)
from twigma_core.sample.media import media_id_of

KILLS = count(3, 50)
UNDER_WAY = {"media": 4 * 32, "search/all": 1, "counts/all": 1}
"""Requests under way at once at most, by endpoint: what was asked and had not come when the process died."""


def killed(month: Ground, dice: random.Random, number: int) -> Home:
    """Return a home whose build was killed: at a random time, or at a random change to a file."""
    while True:
        home = month.fresh(f"kill-{number}")
        dies_at = dice.randrange(1, month.changes) if number % 2 else 0
        process = home.start(dies_at=dies_at)
        process.join(None if dies_at else dice.uniform(0, month.seconds))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            return home
        shutil.rmtree(home.folder)  # it had ended before


def test_killed_at_any_moment_it_goes_on_and_ends_as_an_undisturbed_run(month: Ground) -> None:
    seed = random.randrange(10**6) if FULL else 7
    dice, stages, again = random.Random(seed), Counter[str](), Counter[str]()
    print(f"\nseed {seed}; undisturbed: {month.seconds:.0f} s, {month.changes} changes to files")
    whole = month.home.versions(), month.home.released(), month.home.files()
    for number in range(KILLS):
        home = killed(month, dice, number)
        stages[home.stage()] += 1
        pages, pictures = requests_of_stored_pages(home.lake), stored_pictures(home.lake)

        assert home.build() == "", f"kill {number} of seed {seed}"
        assert (home.versions(), home.released(), home.files()) == whole
        assert home.left_behind() == []
        assert home.unfinished() == []
        for endpoint, asked in month.repeated():
            again[endpoint] += 1
            if endpoint == "media":
                assert media_id_of(asked.partition(".")[0]) not in pictures, f"kill {number} of seed {seed}"
            else:
                assert request_of((endpoint, asked)) not in pages, f"kill {number} of seed {seed}"
        print(
            f"{number + 1} killed, by the step under way: {dict(stages)}; asked again, because it was "
            f"under way: {dict(again)}",
            flush=True,
        )
        shutil.rmtree(home.folder)
    assert all(times <= KILLS * UNDER_WAY[endpoint] for endpoint, times in again.items())
