"""What a collection tells the person who waits for it: what it will cost, how far it is, when it is done."""

from __future__ import annotations

import sys
import time

from twigma_core.collect.budget import Budget, Estimate, Spend, dollars
from twigma_core.collect.pacing import WINDOW_S, Say
from twigma_core.collect.page import Page
from twigma_core.collect.x_api import REQUESTS_A_WINDOW, XClient
from twigma_core.images.progress import in_words as duration


def in_words(estimate: Estimate, budget: Budget, client: XClient) -> str:
    """Say what a month will cost, how long it takes, and whether the budget allows it."""
    cost = Spend(estimate.pages, estimate.posts).dollars(budget.prices)
    words = (
        f"{estimate.month}: X counts {estimate.counted:,} posts, {estimate.collected:,} are here; about "
        f"{estimate.posts:,} to buy on {estimate.pages:,} pages: {dollars(cost)}, "
        f"about {duration(time_for(estimate.pages, client.pace_s))}"
    )
    if budget.left is None:
        return words
    pays_for = _affordable(budget, client)
    words += f"; {dollars(budget.left)} of the budget is left"
    return words + (f", which pays for {pays_for:,} of them" if pays_for < estimate.pages else "")


def _affordable(budget: Budget, client: XClient) -> int:
    """Return how many full pages can be paid for before the budget ends it."""
    page = client.tier.page_size * budget.prices.post
    return int((budget.left or 0) / page + 1e-9) if page else sys.maxsize


def time_for(pages: int, pace_s: float) -> float:
    """Return the seconds that so many requests take at least, within X's limits."""
    full = pages // REQUESTS_A_WINDOW if pace_s else 0
    return full * WINDOW_S + (pages - full * REQUESTS_A_WINDOW) * pace_s


class Teller:
    """Tells of each page, with what is left to do and when that will be done."""

    def __init__(self, month: str, estimate: Estimate, budget: Budget, client: XClient, say: Say) -> None:
        self._month, self._estimate, self._budget, self._client = month, estimate, budget, client
        self._say = say
        self._start, self._pages, self._posts = time.monotonic(), 0, estimate.collected
        self._before = budget.spend.dollars(budget.prices)

    def page(self, page: Page) -> None:
        self._pages += 1
        self._posts += page.posts
        ahead = max(0, self._estimate.pages - self._pages)
        each = (time.monotonic() - self._start) / self._pages
        left = max(ahead * each, time_for(ahead, self._client.pace_s))
        paid = self._budget.spend.dollars(self._budget.prices) - self._before
        cost = f", {dollars(paid)} so far" if self._budget.prices.post else ""
        self._say(
            f"{self._month}: page {page.index} with {page.posts} posts is on disk; {self._posts:,} of "
            f"about {self._estimate.counted:,} posts{cost}; about {duration(left)} left"
        )
