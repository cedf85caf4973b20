"""What a collection costs: prices, what was spent, and the cap that it never crosses.

Spend is read from what is on disk: each page that came from X and each reply of its counts endpoint is a
file, so it is known after any crash, and it is counted as if every page were billed whole. (X itself bills
a post once a UTC day, so asking twice for the page during which a run was killed costs nothing that day.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from twigma_core.collect.page import is_month
from twigma_core.collect.pages import COUNTS, PAGES, PageStore
from twigma_core.collect.replies import ACCOUNTS, REPLIES, bought
from twigma_core.collect.x_api import KEPT, Stopped
from twigma_core.lake import Lake


@dataclass(frozen=True)
class Prices:
    """X's prices in dollars: of a post with all that comes along, a request for counts, an account."""

    post: float = 0.005
    count: float = 0.010
    account: float = 0.010


@dataclass(frozen=True)
class Spend:
    """What was bought from X.

    Attributes:
        pages, posts: of search and of lookup.
        counts: replies of the counts endpoint.
        accounts: that were looked up.
    """

    pages: int = 0
    posts: int = 0
    counts: int = 0
    accounts: int = 0

    def __add__(self, other: Spend) -> Spend:
        return Spend(
            self.pages + other.pages,
            self.posts + other.posts,
            self.counts + other.counts,
            self.accounts + other.accounts,
        )

    def dollars(self, prices: Prices) -> float:
        """Return what it cost."""
        return self.posts * prices.post + self.counts * prices.count + self.accounts * prices.account


def spent(lake: Lake, month: str) -> Spend:
    """Return what was bought from X for a month; archives and the sample cost nothing."""
    pages, posts = PageStore(lake, month).bought()
    counts, _ = PageStore(lake, month, COUNTS).bought()
    return Spend(pages, posts, counts)


def spent_in_all(lake: Lake) -> Spend:
    """Return what was bought from X for all months of a lake, and what was hydrated into it."""
    months = {month for folder in (PAGES, COUNTS) for month in lake.list_folders(folder)}
    months = {month for month in months if is_month(month)}
    posts, accounts = (bought(lake, kind) for kind in (REPLIES, ACCOUNTS))
    hydrated = Spend(posts=posts, accounts=accounts)
    return sum((spent(lake, month) for month in sorted(months)), hydrated)


class Budget:
    """The most that a lake's collections may cost in all, asked before every request.

    Args:
        prices: what X charges.
        cap: dollars; None is no cap.
        so_far: what was bought before.
    """

    def __init__(self, prices: Prices = Prices(), cap: float | None = None, so_far: Spend = Spend()) -> None:
        self.prices, self.cap, self.spend = prices, cap, so_far

    @property
    def left(self) -> float | None:
        """Dollars left; None where there is no cap."""
        return None if self.cap is None else max(0.0, self.cap - self.spend.dollars(self.prices))

    def allow(self, what: str, more: Spend) -> None:
        """Let the next request pass if all that it may bring can be paid for.

        Raises:
            Stopped: it might cost more than is left. The message says what was spent, and how to go on.
        """
        after = (self.spend + more).dollars(self.prices)
        if self.cap is None or after <= self.cap + 1e-9:
            return
        raise Stopped(
            f"the budget of ${self.cap:,.2f} stops it before {what}, which may cost "
            f"{dollars(more.dollars(self.prices))}: {dollars(self.spend.dollars(self.prices))} is spent, on "
            f"{self.spend.posts:,} posts and {self.spend.counts:,} requests for counts in all. {KEPT}; "
            "raise TWIGMA_BUDGET (in the Launchpad: posts.budget) and run again to go on from there"
        )

    def add(self, more: Spend) -> None:
        """Take note of what was bought."""
        self.spend += more


def dollars(amount: float) -> str:
    """Write an amount of dollars; below ten cents with the tenths of a cent that a post costs."""
    return f"${amount:,.3f}" if 0 < amount < 0.1 else f"${amount:,.2f}"


@dataclass(frozen=True)
class Estimate:
    """What a month will cost, from the counts endpoint.

    Attributes:
        month: the month.
        counted: posts that X counts, over all queries.
        collected: of these, posts collected already.
        pages: requests still to be made.
        complete: nothing is left to buy.
        note: what cannot be had; empty if all can.
    """

    month: str
    counted: int
    collected: int
    pages: int
    complete: bool
    note: str = ""

    @property
    def posts(self) -> int:
        """Posts still to be bought."""
        return 0 if self.complete else max(0, self.counted - self.collected)


def total(estimates: Iterable[Estimate]) -> Spend:
    """Return what is still to be bought, in all."""
    left = list(estimates)
    return Spend(sum(one.pages for one in left), sum(one.posts for one in left))
