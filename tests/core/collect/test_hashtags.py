"""The reviewed list, and the candidates for it."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from twigma_core import tables
from twigma_core.collect import hashtags


def posts(*rows: tuple[str, int, list[str]]) -> pl.DataFrame:
    """Table `tweets` from (id, day of 2022, hashtags)."""
    made = []
    for tweet_id, day, tags in rows:
        when = datetime.fromordinal(datetime(2022, 1, 1).toordinal() + day).replace(tzinfo=UTC)
        month, author = f"{when:%Y-%m}", str(int(tweet_id) % 2)
        made.append(
            {"tweet_id": tweet_id, "author_id": author, "month": month, "created_at": when, "hashtags": tags}
        )
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
    assert frame["hashtag"].to_list() == ["rising", "new", "falling"]
    assert frame["posts"].to_list() == [3, 1, 2] and frame["share"].to_list() == [0.75, 0.25, 0.5]
    assert frame["score"].to_list() == pytest.approx([3 * 3 / 2, 1 * 2 / 1, 2 * 1 / 3])
    assert frame["growth"].to_list() == [2.0, None, 0.0]
    assert frame["authors"].to_list() == [2, 1, 2]
    assert frame["first_posts"].to_list()[0] == ["1", "3", "4"]
    many = posts(*[(str(n), n % 28, ["aiart", "x"]) for n in range(50)])
    alone = hashtags.candidates(many, ["aiart"])
    first = alone["first_posts"].item()
    assert len(first) == 20 and set(first[:2]) == {"0", "28"} and alone["score"].item() == 50
    assert hashtags.candidates(tables.empty("tweets"), ["aiart"]).is_empty()
