"""The queries that find posts with pictures under the reviewed hashtags, and how they follow the list.

One OR query of all hashtags avoids duplicates at the source and costs less than one a hashtag. A hashtag
that is accepted later is searched for by a query of its own, which leaves out what the others have
brought: the posts of a month are not bought again because the list has grown.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from twigma_core.collect import hashtags
from twigma_core.collect.pages import PageStore

RULES = "has:images -is:retweet"
_WANTED = re.compile(r"\(([^()]*)\)")
_HASHTAG = re.compile(r"#([^\s#()]+)")


@dataclass(frozen=True)
class Search:
    """A query of a month, and the part of the month that it covers; None is the month's own start or end."""

    query: str
    begin: datetime | None = None
    until: datetime | None = None


def build_queries(tags: Sequence[str], limit: int = 1024, without: Collection[str] = ()) -> list[str]:
    """Return the queries that find posts with pictures and any of the hashtags, retweets left out.

    It is one query, split only where it outgrows `limit`. Hashtags are sorted, so their order in the list
    changes no query.

    Args:
        tags: bare hashtags, lower case.
        limit: most characters of a query: 1,024 on full-archive search, 512 on recent search.
        without: hashtags whose posts are there already; as many are excluded as fit.

    Raises:
        ValueError: no hashtag, one that is not bare, or one too long for a query of its own.
    """
    if not tags:
        raise ValueError("no hashtag to search for; add at least one to hashtags.csv")
    groups: list[list[str]] = [[]]
    for tag in sorted(set(tags)):
        hashtags.check(tag)
        if len(_query([tag])) > limit:
            raise ValueError(f"hashtag {tag[:40]!r} does not fit a query of {limit} characters; remove it")
        if groups[-1] and len(_query([*groups[-1], tag])) > limit:
            groups.append([])
        groups[-1].append(tag)
    queries: list[str] = []
    known = sorted(set(without) - set(tags))
    for group in groups:
        left_out: list[str] = []
        for tag in known:
            if len(_query(group, [*left_out, tag])) <= limit:
                left_out.append(tag)
        queries.append(_query(group, left_out))
        known += group
    return queries


def _query(tags: Sequence[str], without: Sequence[str] = ()) -> str:
    words = [f"({' OR '.join('#' + tag for tag in tags)})", *(f"-#{tag}" for tag in without), RULES]
    return " ".join(words)


def hashtags_of(query: str) -> list[str]:
    """Return the hashtags that a query looks for, not those that it excludes."""
    wanted = _WANTED.search(query)
    return _HASHTAG.findall(wanted.group(1)) if wanted else []


def plan(store: PageStore, tags: Sequence[str], limit: int = 1024) -> list[Search]:
    """Return what to search a month for, given what it was searched for already.

    A query that was begun is carried on as it is. Hashtags that no query covers get one of their own. A
    query with a hashtag that is no longer reviewed ends where it was searched to, and its other hashtags
    go on from there.

    Args:
        store: the month's pages.
        tags: the reviewed hashtags.
        limit: most characters of a query.

    Raises:
        ValueError: a query with such a hashtag stopped between two pages: neither going on nor beginning
            anew is free of cost, so a person decides.
    """
    reviewed = set(tags)
    searches: list[Search] = []
    covered: set[str] = set()
    ended: dict[str, datetime] = {}
    for query in store.searched():
        own = set(hashtags_of(query))
        if dropped := sorted(own - reviewed):
            end = _end(store, query, dropped)
            searches.append(Search(query, until=end))
            ended |= dict.fromkeys(own & reviewed, end)
        else:
            begin = min(ended[tag] for tag in own) if own <= ended.keys() else None
            searches.append(Search(query, begin))
            covered |= own
    groups: dict[datetime | None, list[str]] = defaultdict(list)
    for tag in sorted(reviewed - covered):
        if ended.get(tag, store.window[0]) < store.window[1]:
            groups[ended.get(tag)].append(tag)
    for begin, group in groups.items():
        searches += [Search(query, begin) for query in build_queries(group, limit, without=covered)]
    return searches


def _end(store: PageStore, query: str, dropped: list[str]) -> datetime:
    """Return where a query ends that looks for hashtags which have left the list."""
    at = store.checkpoint(query)
    if at.token:
        raise ValueError(
            f"{store.month}: the search of {query[:80]!r} stopped before its page {at.index}, and "
            f"#{', #'.join(dropped)} has left the list of hashtags since; put it back to finish that search, "
            f"or move {store.folder_of(query)} away to begin anew, which buys its posts again"
        )
    return store.span(query)[1]
