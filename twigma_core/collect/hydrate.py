"""Ids to posts through X's lookup, each bought once, and what became of those that are gone.

Every reply is on disk (`replies`) before the next is asked for: a run that was killed goes on behind the last
one, and at most the one call that was under way is made again. Reading ids from files belongs to `ids`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from twigma_core.collect import fields, replies
from twigma_core.collect.budget import Budget, Spend
from twigma_core.collect.ids import Asked
from twigma_core.collect.pages import PAGES
from twigma_core.collect.replies import ACCOUNTS, REPLIES, asked_for, folder_of, stored
from twigma_core.collect.x_api import ACCOUNTS_A_WINDOW, LOOKUP_SIZE, LOOKUPS_A_WINDOW, XApiError, XClient
from twigma_core.lake import Lake

PACE_S = {REPLIES: 900 / LOOKUPS_A_WINDOW, ACCOUNTS: 900 / ACCOUNTS_A_WINDOW}
"""Seconds between two lookups, of posts and of accounts, that keep within X's limits."""

FOUND, WITHHELD = "found", "withheld"
NOT_AUTHORIZED = "not authorized"
STATUSES = (
    *(FOUND, WITHHELD, "deleted", "protected", "suspended", NOT_AUTHORIZED, "unavailable"),
    *("unanswered", "pending", "refused"),
)
"""What becomes of an id; each has exactly one. `found` has a post, and so has most of what is `withheld`."""
OUTCOMES_SCHEMA: dict[str, Any] = {
    "id": pl.String,
    "status": pl.String,
    "reason": pl.String,
    "author_id": pl.String,
    "answered_at": pl.Datetime("us", "UTC"),
}
_BOTH = "X answers the same for posts of protected and of suspended accounts"


@dataclass(frozen=True)
class Plan:
    """What is left to ask for.

    Attributes:
        todo: ids to ask for.
        answered: ids that X has answered for already.
        damaged: files of replies that cannot be read; their ids are asked for again.
    """

    todo: list[str]
    answered: int
    damaged: list[str] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """Requests that it takes."""
        return -(-len(self.todo) // LOOKUP_SIZE)


def plan(lake: Lake, folder: str, ids: Sequence[str]) -> Plan:
    """Return which of the ids are left to ask for, given the replies in a folder of `replies.folder_of`."""
    answered: set[str] = set()
    damaged = []
    for name, body in stored(lake, folder):
        if body is None:
            damaged.append(name)
        else:
            answered |= set(asked_for(body))
    todo = [one for one in dict.fromkeys(ids) if one not in answered]
    return Plan(todo, len(set(ids) & answered), damaged)


def hydrate(
    client: XClient,
    lake: Lake,
    name: str,
    ids: Sequence[str],
    budget: Budget,
    kind: str = REPLIES,
    on_reply: Callable[[int], object] | None = None,
) -> None:
    """Ask X for the ids that have no answer yet, 100 a call; every reply is on disk before the next call.

    Args:
        client: where to ask.
        lake: where replies are kept.
        name: of the file of ids.
        ids: ids of posts, or of accounts.
        budget: asked before each call, and told of what came.
        kind: `REPLIES` for posts, `ACCOUNTS` for accounts.
        on_reply: called with the number of ids asked, once their reply is stored.

    Raises:
        RuntimeError: another process asks X for the same lake.
        Stopped: the budget, X's cap or the account's credit ends it. What was answered so far is kept.
        XApiError: X refused, did not answer within the bounds, or answered for none of the ids.
    """
    folder = folder_of(name, client.source, kind)
    ask, what = (client.tweets, "posts") if kind == REPLIES else (client.users, "accounts")
    with lake.hold(PAGES):  # one token has one pace and one budget, whatever it asks for
        todo = plan(lake, folder, ids).todo
        number = replies.next_number(lake, folder)
        for start in range(0, len(todo), LOOKUP_SIZE):
            batch = todo[start : start + LOOKUP_SIZE]
            budget.allow(f"the next {len(batch)} {what}", Spend(**{what: len(batch)}))
            body = ask(batch)
            if not fields.data(body) and not fields.items(body.get("errors")):
                raise XApiError(
                    f"X's reply says nothing of any of {len(batch)} ids; run again later: the replies so far "
                    "are kept"
                )
            replies.store(lake, folder, number, batch, body)
            budget.add(Spend(**{what: len(fields.data(body))}))
            number += 1
            if on_reply:
                on_reply(len(batch))


# ---------------------------------------------------------------- what became of the ids


def outcomes(lake: Lake, name: str, source: str, asked: Asked) -> pl.DataFrame:
    """Return what became of each id of a file: columns id, status, reason, author_id, answered_at.

    One row an id or text that stands in the file, in its order, the refused ones last; so the numbers by
    status add up to the file's.
    """
    answers: dict[str, tuple[str, str | None, str | None, datetime | None]] = {}
    for _, body in stored(lake, folder_of(name, source)):
        if body:
            answers |= _answers(body)
    accounts: dict[str, tuple[str, str]] = {}
    for _, body in stored(lake, folder_of(name, source, ACCOUNTS)):
        if body:
            accounts |= _accounts(body)
    rows = []
    for one in asked.ids:
        status, reason, author, when = answers.get(one, ("pending", "not asked for yet", None, None))
        author = author or asked.authors.get(one)
        if status == NOT_AUTHORIZED and author in accounts:
            status, reason = accounts[author]
        rows.append((one, status, reason, author, when))
    rows += [(text, "refused", reason, None, None) for text, reason in asked.refused.items()]
    return pl.DataFrame(rows, schema=OUTCOMES_SCHEMA, orient="row")


def unclear_authors(frame: pl.DataFrame) -> list[str]:
    """Return the authors, where known, of posts that X does not show and does not say why."""
    unclear = frame.filter(pl.col("status") == NOT_AUTHORIZED)
    return unclear["author_id"].drop_nulls().unique(maintain_order=True).to_list()


def _answers(body: dict[str, Any]) -> dict[str, tuple[str, str | None, str | None, datetime | None]]:
    """Return status, reason, author and time of each id that a reply was asked for."""
    notes = fields.mapping(body.get(fields.NOTES))
    when = fields.moment(notes.get("retrieved_at"))
    given: dict[str, tuple[str, str | None, str | None]] = {}
    for error in map(fields.mapping, fields.items(body.get("errors"))):
        value = fields.first(error, "resource_id", "value")
        # Errors of what posts refer to have other parameters, and may name an id that was asked for too.
        if error.get("parameter", "ids") in ("ids", "id") and isinstance(value, str):
            given[value] = (*_why(error), None)
    for post in fields.posts(body):
        status, reason = _shown(post)
        known = [fields.identifier(post.get("id"))]
        history = fields.items(fields.first(post, "edit_history_tweet_ids", "edit_history_post_ids"))
        for one in [*map(fields.identifier, history), *known]:
            if one:
                later = None if one == known[0] else f"edited; the post is now {known[0]}"
                given[one] = (status, reason or later, fields.identifier(post.get("author_id")))
    nothing = ("unanswered", "X's reply does not name it", None)
    return {one: (*given.get(one, nothing), when) for one in asked_for(body)}


def _shown(post: dict[str, Any]) -> tuple[str, str | None]:
    withheld = fields.mapping(post.get("withheld"))
    if not withheld:
        return FOUND, None
    countries = ", ".join(map(str, fields.items(withheld.get("country_codes")))) or "some countries"
    grounds = " on grounds of copyright" if withheld.get("copyright") is True else ""
    return WITHHELD, f"in {countries}{grounds}; the post is given all the same"


def _why(error: dict[str, Any]) -> tuple[str, str]:
    """Return the status that an error of X stands for, and X's words."""
    words = fields.text(error.get("detail")) or fields.text(error.get("title")) or "no detail"
    kind = str(error.get("type") or error.get("title")).rpartition("/")[2].lower().replace(" ", "-")
    for status in ("suspended", WITHHELD):
        if status in words.lower():
            return status, words
    if kind in ("resource-not-found", "not-found-error"):
        return "deleted", words
    if kind in ("not-authorized-for-resource", "authorization-error"):
        if "protected" in words.lower():
            return "protected", words
        return NOT_AUTHORIZED, f"{words} {_BOTH}"
    return "unavailable", words


def _accounts(body: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return, of accounts in a reply, the status and reason of those posts that X does not show."""
    found: dict[str, tuple[str, str]] = {}
    for error in map(fields.mapping, fields.items(body.get("errors"))):
        value = fields.first(error, "resource_id", "value")
        if isinstance(value, str):
            status, words = _why(error)
            found[value] = (status, f"the account: {words}")
    for user in map(fields.mapping, fields.data(body)):
        if user.get("protected") is True:
            found[str(user.get("id"))] = ("protected", "the account is protected")
        else:
            reason = "the account is neither protected nor suspended now"
            found[str(user.get("id"))] = (NOT_AUTHORIZED, reason)
    return found
