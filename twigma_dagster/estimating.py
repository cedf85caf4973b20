"""What collecting some months from X will cost, printed before it is spent."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from twigma_core.collect.budget import Spend, dollars, total
from twigma_core.collect.hashtags import reviewed
from twigma_core.collect.search import estimate_months
from twigma_core.collect.telling import time_for
from twigma_core.images.progress import in_words as duration
from twigma_core.lake import Lake
from twigma_dagster.resources import Posts

COLUMNS = ("month", "X counts", "here", "to buy", "pages", "dollars", "")


def show_estimates(posts: Posts, lake: Lake, months: list[str], console: Console) -> None:
    """Ask what each month will cost; print it with the sum, the time it takes and what the budget allows.

    Raises:
        XApiError: X refused, or the budget does not even allow to ask.
    """
    budget, client = posts.spending(lake), posts.client(console.print)
    before, free = budget.spend, posts.source == "sample"

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    if not free:
        most = Spend(counts=len(months)).dollars(budget.prices)
        say(f"Asking X for counts: up to {dollars(most)} for each query, of which there is one if it fits.")
    shown = Table(title="What there is to buy", title_justify="left")
    for column in COLUMNS:
        shown.add_column(column, justify="left" if column in ("month", "") else "right")
    found = list(estimate_months(client, lake, months, reviewed()["hashtag"].to_list(), budget))
    for one in found:
        numbers = [f"{number:,}" for number in (one.counted, one.collected, one.posts, one.pages)]
        price = dollars(Spend(one.pages, one.posts).dollars(budget.prices))
        note = one.note or ("complete" if one.complete else "")
        shown.add_row(one.month, *(["", "", "0", "0"] if one.complete else numbers), price, note)
    console.print(shown)
    whole = total(found)
    cost, asked = whole.dollars(budget.prices), Spend(counts=budget.spend.counts - before.counts)
    seconds = time_for(whole.pages, client.pace_s)
    say(
        f"In all {whole.posts:,} posts on {whole.pages:,} pages: {dollars(cost)}, and at least "
        f"{duration(seconds)}."
    )
    if free:
        say("The sample costs nothing.")
        return
    say(
        f"Spent before: {dollars(before.dollars(budget.prices))}. This estimate: "
        f"{dollars(asked.dollars(budget.prices))} for {asked.counts} requests for counts, which are kept."
    )
    if budget.left is not None:
        short = "" if cost <= budget.left else ", which will end it before that: raise TWIGMA_BUDGET"
        say(f"{dollars(budget.left)} of the budget is left{short}.")
