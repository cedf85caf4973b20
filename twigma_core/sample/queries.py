"""X's search queries, as far as the sample server speaks them: hashtags, OR, minus, has:, is:, from:, lang:.

What belongs here: from the text of a query to a test of a post. What does not: pages and limits (``server``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Post = Mapping[str, Any]
Test = Callable[[Post], bool]

_TOKEN = re.compile(r"\s*(\(|\)|-(?=[^\s])|\"[^\"]*\"|[^\s()]+)")
MAX_LENGTH = 1024


class BadQuery(ValueError):
    """A query that is not understood; the message says where."""


def compile_query(query: str) -> Test:
    """Return a test of posts (rows of the plan) for a query.

    Words next to each other must all hold, OR binds weaker, a minus negates what follows. Upper and lower
    case make no difference.

    Raises:
        BadQuery: the query is empty, too long, or holds what this server does not know.
    """
    if not query.strip():
        raise BadQuery("the query is empty")
    if len(query) > MAX_LENGTH:
        raise BadQuery(f"the query has {len(query)} characters, more than {MAX_LENGTH}")
    tokens = _TOKEN.findall(query)
    test, rest = _either(tokens)
    if rest:
        raise BadQuery(f"unexpected {rest[0]!r}")
    return test


def _either(tokens: list[str]) -> tuple[Test, list[str]]:
    test, tokens = _all(tokens)
    tests = [test]
    while tokens and tokens[0] == "OR":
        test, tokens = _all(tokens[1:])
        tests.append(test)
    return (lambda post: any(one(post) for one in tests)), tokens


def _all(tokens: list[str]) -> tuple[Test, list[str]]:
    tests = []
    while tokens and tokens[0] not in (")", "OR"):
        test, tokens = _one(tokens)
        tests.append(test)
    if not tests:
        raise BadQuery(f"something is missing before {tokens[0] if tokens else 'the end'!r}")
    return (lambda post: all(one(post) for one in tests)), tokens


def _one(tokens: list[str]) -> tuple[Test, list[str]]:
    head, rest = tokens[0], tokens[1:]
    if head == "-":
        if not rest:
            raise BadQuery("nothing follows the minus")
        test, rest = _one(rest)
        return (lambda post: not test(post)), rest
    if head == "(":
        test, rest = _either(rest)
        if not rest or rest[0] != ")":
            raise BadQuery("a parenthesis is not closed")
        return test, rest[1:]
    return _word(head), rest


def _word(word: str) -> Test:
    low = word.lower()
    if low.startswith("#") and len(low) > 1:
        return lambda post: low[1:] in {tag.lower() for tag in post["hashtags"]}
    if low in ("has:images", "has:media"):
        return lambda post: bool(post["media_ids"])
    if low == "has:hashtags":
        return lambda post: bool(post["hashtags"])
    if low == "is:retweet":
        return lambda post: bool(post["retweet_of"])
    if low.startswith("from:") and len(low) > 5:
        return lambda post: low[5:] in (post["username"], post["author_id"])
    if low.startswith("lang:") and len(low) > 5:
        return lambda post: post["lang"] == low[5:]
    if ":" in low:
        raise BadQuery(f"the operator in {word!r} is not known")
    text = low.strip('"')
    return lambda post: text in post["text"].lower()
