"""How the sample server behaves beside answering: its limits, faults on demand, and what has changed by now.

What does not belong here: what it answers (`server`).
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class ServerOptions:
    """How the server behaves beside answering.

    Attributes:
        search_limit: requests to search, and as many to counts, in a window; X's is 300.
        lookup_limit: requests to lookup in a window; X's is 3,500.
        window_s: length of the window; X's is 15 minutes.
        min_interval_s: search requests that come closer together get 429; X's is 1, 0 switches it off.
        empty_pages: answer an empty page with a next_token after the first page of each search, as X does
            now and then.
        faults: statuses to answer the first API requests with, such as (503, 429), before any true answer.
        bare_429: leave the rate-limit headers away from every 429.
        accounts: accounts that are "protected" or "suspended" by now, by author id: their posts are found
            by no search, and lookup does not say which of the two it is, as X's does not.
        withheld: posts that are withheld by now, by id, with the countries; they are given all the same.
        gone: posts that are deleted by now, by id, with the reason that a compliance job gives.
        compliance: the token may have compliance jobs; else they are refused.
        clock: the time of day in the world: later posts are not there yet. None shows all of them.
        settle_days: days in which about two thirds of a post's likes come in, by `clock`; 0 has all at once.

    `accounts`, `withheld` and `gone` are looked at anew with each request, so a test may change them.
    """

    search_limit: int = 300
    lookup_limit: int = 3500
    window_s: float = 900.0
    min_interval_s: float = 0.0
    empty_pages: bool = True
    faults: tuple[int, ...] = ()
    bare_429: bool = False
    accounts: Mapping[str, str] = field(default_factory=dict)
    withheld: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gone: Mapping[str, str] = field(default_factory=dict)
    compliance: bool = True
    clock: Callable[[], datetime] | None = None
    settle_days: float = 0.0


@dataclass
class Limiter:
    """Counts requests by endpoint and window; `requests` and `asked`, in order, are what tests read."""

    options: ServerOptions
    faults: list[int] = field(init=False)
    requests: Counter[str] = field(default_factory=Counter)
    asked: list[tuple[str, str]] = field(default_factory=list)
    _windows: dict[str, tuple[float, int]] = field(default_factory=dict)
    _last: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.faults = list(self.options.faults)

    def admit(self, endpoint: str, now: float) -> tuple[int, dict[str, str]]:
        """Return the status (200 to go on) and the rate-limit headers of a request."""
        limit = self.options.lookup_limit if endpoint == "lookup" else self.options.search_limit
        with self._lock:
            self.requests[endpoint] += 1
            start, used = self._windows.get(endpoint, (now, 0))
            if now - start >= self.options.window_s:
                start, used = now, 0
            hurried = endpoint.startswith("search") and now - self._last.get(endpoint, -math.inf) < (
                self.options.min_interval_s
            )
            self._last[endpoint] = now
            status = self.faults.pop(0) if self.faults else 429 if used >= limit or hurried else 200
            used += status == 200
            self._windows[endpoint] = (start, used)
        headers = {
            "x-rate-limit-limit": str(limit),
            "x-rate-limit-remaining": str(max(limit - used, 0)),
            "x-rate-limit-reset": str(math.ceil(start + self.options.window_s)),
        }
        return status, {} if status == 429 and self.options.bare_429 else headers
