"""The reviewed list, its candidates, and the comparison of counts with posts."""

from __future__ import annotations

from datetime import UTC, date, datetime

import polars as pl
import pytest

from twigma_core import tables
from twigma_core.collect import hashtags
from twigma_core.collect.completeness import compare, explain


def posts(*rows: tuple[str, int, list[str]]) -> pl.DataFrame:
    """Table `tweets` from (id, day of 2022, hashtags)."""
    made = []
    for tweet_id, day, tags in rows:
        when = datetime.fromordinal(datetime(2022, 1, 1).toordinal() + day).replace(tzinfo=UTC)
        made.append({"tweet_id": tweet_id, "month": f"{when:%Y-%m}", "created_at": when, "hashtags": tags})
    return pl.DataFrame(made, schema_overrides={"hashtags": pl.List(pl.String)})


def test_the_list_holds_the_six_that_the_papers_text_names():
    frame = hashtags.reviewed()
    assert set(frame["hashtag"]) == {
        *("dalle", "dalle2", "stablediffusion", "midjourney", "aiart", "generativeart")
    }
    assert frame.columns == tables.empty("hashtags").columns


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("dalle,paper,2026-01-01,\ndalle,paper,2026-01-01,", "dalle stands more than once"),
        ("#dalle,paper,2026-01-01,", "without #; write 'dalle'"),
        ("DallE,paper,2026-01-01,", "lower case, without #; write 'dalle'"),
        ("two words,paper,2026-01-01,", "one word"),
        ("dalle,,2026-01-01,", "dalle has no source"),
        ("dalle,paper,last week,", "dalle has no day of review"),
        ("", "no hashtag"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, rows, words):
    path = tmp_path / "hashtags.csv"
    path.write_text("hashtag,source,reviewed,note\n" + rows)
    with pytest.raises(ValueError, match=words):
        hashtags.reviewed(path)


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "hashtags.csv"
    path.write_text("hashtag,note\ndalle,\n")
    with pytest.raises(ValueError, match="no column source, reviewed"):
        hashtags.reviewed(path)


def test_candidates_are_ranked_by_posts_and_growth():
    tweets = posts(
        ("1", 0, ["aiart", "rising", "falling"]),
        ("2", 1, ["aiart", "falling"]),
        ("3", 40, ["aiart", "rising", "rising", "new"]),
        ("4", 41, ["aiart", "rising"]),
    )
    frame = hashtags.candidates(tweets.lazy(), ["aiart"])
    assert frame["hashtag"].to_list() == ["rising", "falling", "new"]
    assert frame["posts"].to_list() == [3, 2, 1] and frame["share"].to_list() == [0.75, 0.5, 0.25]
    assert frame["growth"].to_list() == [2.0, 0.0, None]
    assert frame["first_posts"].to_list()[0] == ["1", "3", "4"]
    many = posts(*[(str(n), n % 28, ["aiart", "x"]) for n in range(50)])
    first = hashtags.candidates(many, ["aiart"])["first_posts"].item()
    assert len(first) == 20 and set(first[:2]) == {"0", "28"}
    assert hashtags.candidates(tables.empty("tweets"), ["aiart"]).is_empty()


def counts(query: str, *numbers: int) -> pl.DataFrame:
    days = [date(2022, 1, 1 + n) for n in range(len(numbers))]
    return pl.DataFrame({"query": [query] * len(numbers), "day": days, "counted": list(numbers)})


def test_a_complete_month_passes_and_a_missing_page_is_found_on_its_day():
    rows = [(f"{day}-{n}", day, ["aiart"]) for day in range(3) for n in range(200)]
    full = compare(counts("(#aiart) x", 203, 201, 200), posts(*rows))
    assert full.columns == tables.empty("tweet_counts").columns
    assert full["collected"].to_list() == [200, 200, 200]
    passed, words = explain(full, 0.02)
    assert passed and "600 of 604" in words

    gap = compare(counts("(#aiart) x", 203, 201, 200), posts(*[row for row in rows if row[0] > "1-150"]))
    passed, words = explain(gap, 0.02)
    assert not passed and "2022-01-01: 203 of 203 missing" in words and "2022-01-03" not in words


def test_a_small_shortfall_on_every_day_shows_in_the_total():
    rows = [(f"{day}-{n}", day, ["aiart"]) for day in range(25) for n in range(19)]
    passed, words = explain(compare(counts("q", *[20] * 25), posts(*rows)), 0.005)
    assert not passed and "in all 25 of 500 missing" in words and words.count("\n") == 1


def test_with_several_queries_a_post_counts_where_its_hashtags_do():
    tweets = posts(("1", 0, ["aiart"]), ("2", 0, ["dalle", "aiart"]), ("3", 1, ["dalle"]))
    both = pl.concat([counts("(#aiart) has:images", 2), counts("(#dalle OR #dalle2) has:images", 1)])
    frame = compare(both, tweets)
    assert frame.select("query", "counted", "collected").rows() == [
        ("(#aiart) has:images", 2, 2),
        ("(#dalle OR #dalle2) has:images", 1, 1),
        ("(#dalle OR #dalle2) has:images", 0, 1),
    ]


def test_without_counts_there_is_nothing_to_compare():
    frame = compare(counts("q"), posts(("1", 0, ["aiart"])))
    assert frame.is_empty() and explain(frame)[0]
