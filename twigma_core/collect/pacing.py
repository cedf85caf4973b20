"""Keeping within X's published limits, so that a 429 is the exception.

One `Pacer` an endpoint. It holds back a request until the least pause since the last one is over, until
fewer than the allowed number lie in the last window, and until the moment that X's own headers name once
they say that nothing remains.
"""

from __future__ import annotations

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
        clock: seconds since the epoch, for tests.
        sleep: waits, for tests.
    """

    def __init__(
        self,
        pause_s: float,
        limit: int | None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._pause_s, self._limit = pause_s, limit
        self._clock, self._sleep = clock, sleep
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
            say(f"X's limit of requests in 15 minutes is reached; {until(seconds, now)}")
        if seconds > 0:
            self._sleep(seconds)
        self._sent.append(self._clock())

    def told(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of a reply that nothing remains of the window, and when it ends."""
        try:
            if int(headers["x-rate-limit-remaining"]) <= 0:
                self._closed_until = float(headers["x-rate-limit-reset"]) + 1.0
        except (KeyError, ValueError):  # not said, or not in numbers
            return


def until(seconds: float, now: float | None = None) -> str:
    """Say a wait in words, with its end: "waiting 540 s, until 12:34:56 UTC"."""
    start = datetime.now(UTC) if now is None else datetime.fromtimestamp(now, UTC)
    return f"waiting {seconds:.0f} s, until {start + timedelta(seconds=seconds):%H:%M:%S} UTC"


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
