"""What X's rules let go out, checked on the very table that is about to be written.

X lets ids be shared, not content: no text, no author, nothing of a post that is gone. `mask_captions` takes
names and links out of captions (a model may read them off a picture); `check_policy` trusts nobody and looks
at all columns and rows again. Which columns a profile has is said in `table`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl
import polars.selectors as cs

from twigma_core.release.table import COLUMNS

NAME = r"(^|[^\w@])@\w{1,15}"
"""A user name of X, with the character before it: an address of mail is none."""
LINK = r"(?i)(https?://|www\.|\bt\.co/|pic\.twitter\.com/)\S+"
MASK = "…"

_CONTENT = frozenset({"text", "full_text", "tweet", "note_tweet", "hashtags", "alt_text", "lang", "url"})
_AUTHOR = frozenset(
    {"author_id", "author", "user_id", "user", "username", "user_name", "screen_name", "name", "followers"}
)
_COUNTS = frozenset({"like_count", "quote_count", "reply_count", "retweet_count"})
_PLAIN = frozenset({"id", "image_id", "image_name", "month"})
"""Columns of text that hold no sentence."""


class PolicyError(ValueError):
    """A table must not be released; the message names each column or row, the rule and the cure."""


@dataclass(frozen=True)
class Refusal:
    """One breach of the rules.

    Attributes:
        column: where.
        rows: how many rows; None where the column itself may not be there.
        why: the rule, and what to do.
        example: id of the first such post; empty for a whole column.
    """

    column: str
    rows: int | None
    why: str
    example: str = ""

    def __str__(self) -> str:
        where = "" if self.rows is None else f" in {self.rows:,} row(s), first post {self.example}"
        return f"column {self.column}{where}: {self.why}"


def mask_captions(table: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return the table with user names and links in its captions masked, and how many captions had any."""
    caption = pl.col("all_captions")
    masked = caption.str.replace_all(NAME, f"${{1}}@{MASK}").str.replace_all(LINK, MASK)
    changed = table.with_columns(masked)
    return changed, int((changed["all_captions"] != table["all_captions"]).sum())


def check_policy(
    table: pl.DataFrame,
    profile: str,
    withdrawn: Collection[str] = (),
    texts: pl.DataFrame | None = None,
) -> list[Refusal]:
    """Return all that forbids the release of a table; empty if nothing does.

    Args:
        table: what is about to be written.
        profile: the profile that it claims to be.
        withdrawn: ids of posts that X or their authors have taken back.
        texts: columns tweet_id and text: what the posts say, which no column may repeat.
    """
    wanted = COLUMNS[profile]
    found = [Refusal(name, None, _why(name, profile)) for name in table.columns if name not in wanted]
    missing = f"profile {profile} has it, and the table does not"
    found += [Refusal(name, None, missing) for name in wanted if name not in table.columns]
    if "id" not in table.columns:
        return found
    if table["id"].dtype != pl.String:
        return [*found, Refusal("id", None, f"ids are text, not {table['id'].dtype}: a number loses digits")]
    gone = pl.col("id").is_in(list(withdrawn))
    found += _rows(table, "id", gone, "the post was taken back; carry deletions through the lake first")
    sentences = [name for name in table.select(cs.string()).columns if name not in _PLAIN]
    for name in sentences:
        found += _rows(table, name, pl.col(name).str.contains(NAME), "it holds a user name")
        found += _rows(table, name, pl.col(name).str.contains(LINK), "it holds a link")
    if texts is not None:
        said = texts.select(id="tweet_id", _said=pl.col("text").str.strip_chars()).unique("id")
        beside = table.join(said, on="id", how="left", maintain_order="left")
        for name in sentences:
            same = (pl.col(name).str.strip_chars() == pl.col("_said")) & (pl.col("_said") != "")
            found += _rows(beside, name, same, "it repeats the post's text, which is content")
    return found


def require_policy(
    table: pl.DataFrame,
    profile: str,
    withdrawn: Collection[str] = (),
    texts: pl.DataFrame | None = None,
) -> None:
    """Pass a table that may go out.

    Raises:
        PolicyError: see `check_policy`; every breach is in the message.
    """
    if found := check_policy(table, profile, withdrawn, texts):
        raise PolicyError("release: refused; " + "; ".join(map(str, found)))


def _rows(table: pl.DataFrame, column: str, breach: pl.Expr, why: str) -> list[Refusal]:
    bad = table.filter(breach)
    return [Refusal(column, bad.height, why, bad["id"][0])] if bad.height else []


def _why(name: str, profile: str) -> str:
    low = name.lower()
    if low in _CONTENT:
        return "content of posts; X lets ids be shared, not content"
    if low in _AUTHOR:
        return "tells who posted; X lets ids be shared, not accounts"
    if low in _COUNTS and profile == "ids_strict":
        return "numbers of posts; only profile paper_compat repeats them, by your own choice"
    return f"profile {profile} does not have it"
