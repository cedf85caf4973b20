"""How far a long fetch is, in the words of a step's log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with (pictures done, pictures to do)."""


def say_progress(
    say: Callable[[str], object],
    what: str,
    every_s: float = 10.0,
    over_s: float = 120.0,
    clock: Callable[[], float] = time.monotonic,
) -> Progress:
    """Return a callback that says now and then how far it is, how fast, and how long it will take yet.

    Args:
        say: takes a line.
        what: what is under way, such as "images/2021-01".
        every_s: seconds between two lines; the last picture is always said.
        over_s: the speed is that of so many seconds past, since waits come and go.
        clock: seconds, for tests.
    """
    start = clock()
    marks = deque([(start, 0)])

    def progress(done: int, total: int) -> None:
        now = clock()
        if now - marks[-1][0] < every_s and done < total:
            return
        while len(marks) > 1 and now - marks[1][0] >= over_s:
            marks.popleft()
        then, before = marks[0]
        marks.append((now, done))
        speed = (done - before) / max(now - then, 1e-9)
        if done < total:
            left = in_words((total - done) / speed) if speed else "unknown"
            say(f"{what}: {done:,} of {total:,} ({done / total:.0%}), {speed:.1f} a second, {left} left")
        else:
            say(f"{what}: {total:,} of {total:,} in {in_words(now - start)}")

    return progress


def in_words(seconds: float) -> str:
    """Return a duration as people say it: "45 s", "7 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
