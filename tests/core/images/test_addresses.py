"""Whole columns of addresses are judged as single ones are."""

from __future__ import annotations

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from twigma_core.images.addresses import name_others, names_another
from twigma_core.sample.media import media_name

IDS = st.one_of(st.integers(0, 2**64 - 1).map(str), st.sampled_from(["", "-1", "a", "007"]))
NAMES = st.one_of(
    st.tuples(st.integers(0, 2**64 - 1).map(str), st.integers(0, 2**24 - 1)).map(
        lambda pair: media_name(*pair)
    ),
    st.text("AZaz09_-.é", max_size=20),
)
URLS = st.one_of(
    st.none(),
    st.tuples(
        st.sampled_from(
            ["https://pbs.twimg.com/media/", "http://pbs.twimg.com/media/", "https://x/media/", ""]
        ),
        NAMES,
        st.sampled_from([".jpg", "", "?format=jpg&name=large", ".tar.gz", "/b.jpg"]),
    ).map("".join),
)
OWN = st.integers(0, 2**64 - 1).map(
    lambda number: (str(number), f"https://pbs.twimg.com/media/{media_name(str(number))}.jpg")
)


@given(st.lists(st.one_of(st.tuples(IDS, URLS), OWN), max_size=8))
@example([("5", f"https://pbs.twimg.com/media/{media_name('6')}.jpg")])
def test_a_column_is_judged_as_its_rows(rows: list[tuple[str, str | None]]) -> None:
    ids, urls = (
        (pl.Series(values, dtype=pl.String) for values in zip(*rows, strict=True))
        if rows
        else (pl.Series([], dtype=pl.String),) * 2
    )
    assert name_others(ids, urls).to_list() == [names_another(*row) is not None for row in rows]
