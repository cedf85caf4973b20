"""Keeping within X's published limits, so that a 429 is the exception.

One `Pacer` an endpoint. It holds back a request until the least pause since the last one is over, until
fewer than the allowed number lie in the last window, and until the moment that X's own headers name once
they say that nothing remains. Waits are counted by a clock that nobody sets, and X's moments are told from
the time in the same reply, so a clock of this machine that is wrong or set anew neither holds a request for
ever nor lets it go too early.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

WINDOW_S = 900.0
"""X counts requests in windows of 15 minutes."""
_WORTH_SAYING_S = 5.0

Say = Callable[[str], object]


class Pacer:
    """The pace of one endpoint.

    Args:
        pause_s: least seconds between two requests.
        limit: requests allowed in a window; None for no limit.
        clock: seconds that only ever grow; `time.monotonic` by default.
        sleep: waits, for tests.
    """

    def __init__(
        self,
        pause_s: float,
        limit: int | None,
        clock: Callable[[], float] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._pause_s, self._limit = pause_s, limit
        self._clock, self._sleep = clock or time.monotonic, sleep
        self._sent: deque[float] = deque(maxlen=limit or 1)
        self._closed_until = 0.0

    def wait(self, say: Say, longest_s: float) -> None:
        """Wait until a request may go out, saying until when where that is long; then count it as sent.

        Args:
            say: told of a wait of more than some seconds.
            longest_s: never wait longer than this: a server's clock may be wrong.
        """
        now = self._clock()
        over = self._sent[-1] + self._pause_s if self._sent else now
        full = bool(self._limit) and len(self._sent) == self._limit
        room = max(self._sent[0] + WINDOW_S if full else now, self._closed_until)
        seconds = min(max(over, room) - now, longest_s)
        if seconds > _WORTH_SAYING_S:
            say(f"X's limit of requests in 15 minutes is reached; {until(seconds)}")
        if seconds > 0:
            self._sleep(seconds)
        self._sent.append(self._clock())

    def told(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of a reply that nothing remains of the window, and when it ends."""
        try:
            nothing_left = int(headers["x-rate-limit-remaining"]) <= 0
        except (KeyError, ValueError):  # not said, or not in numbers
            return
        seconds = until_reset(headers)
        if nothing_left and seconds is not None:
            self._closed_until = self._clock() + seconds + 1.0


def until_reset(headers: Mapping[str, str]) -> float | None:
    """Return the seconds from a reply until X's limit resets, none below 0; None where it does not say.

    Both moments are X's own, if the reply has its time.
    """
    try:
        reset = float(headers["x-rate-limit-reset"])
    except (KeyError, ValueError):
        return None
    try:
        now = parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        now = time.time()
    return max(reset - now, 0.0) if math.isfinite(reset) else None


def until(seconds: float) -> str:
    """Say a wait in words, with its end: "waiting 540 s, until 12:34:56 UTC"."""
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    return f"waiting {seconds:.0f} s, until {end:%H:%M:%S} UTC"


CLOCK_S = 300.0
"""Seconds that this machine's clock may differ from X's: a month is over by the clock, and only once."""


def clock_drift(headers: Mapping[str, str]) -> str | None:
    """Say by how much this machine's clock is wrong, by the time in an answer; None where it is right.

    By a clock that is ahead, a month that has not ended would count as collected for ever.
    """
    try:
        ahead = time.time() - parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None
    if abs(ahead) <= CLOCK_S:
        return None
    where = "ahead of" if ahead > 0 else "behind"
    return f"this machine's clock is {abs(ahead):,.0f} s {where} X's; set it right, then run again"
