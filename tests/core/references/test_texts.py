"""Text sources: real files read whole, cleaning, passages, sampling, and errors that name the cure."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twigma_core.references.texts import TextSourceError, clean, passages, read_texts

REAL = {
    "captions.csv": "captions_flickr8k.csv",
    "haiku.csv": "haiku_sballas8.csv",
    "prompts.csv": "prompts_krea_sd_1k.csv",
    "tweets.csv": "tweets_midjourney_2022-11-08.csv",
    "news.csv": "cnn_dailymail_validation_1000.csv",
    "book.txt": "book_alice_11.txt",
}


@pytest.fixture
def real(shared_data: Path, tmp_path: Path) -> Path:
    for name, target in REAL.items():
        (tmp_path / name).symlink_to(shared_data / "texts" / target)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "column", "rows"),
    [
        ("captions", "caption", 40_455),
        ("haiku", None, 8_248),
        ("prompts", "prompt", 998),
        ("tweets", "Text", 101),
        ("news", "highlights", 1000),
    ],
)
def test_real_files_are_read_whole(source: str, column: str | None, rows: int, real: Path) -> None:
    table = read_texts(source, real, limit=None)
    with (real / f"{source}.csv").open(encoding="utf-8", newline="") as file:
        raw = list(csv.reader(file))
    texts = (
        [row[0] if row else "" for row in raw]
        if column is None
        else [row[raw[0].index(column)] for row in raw[1:]]
    )
    assert len(texts) == rows
    expected = [text for text in map(clean, texts) if text]
    assert table["text"].to_list() == expected
    assert table["words"].to_list() == [len(text.split()) for text in expected]
    assert not table["text"].str.contains(r"https?://|t\.co/").any()
    assert table["text_id"].is_unique().all()


def test_the_real_book_is_cut_into_passages_without_its_frame(real: Path) -> None:
    table = read_texts("book", real)
    whole = " ".join(table["text"])
    assert "Gutenberg" not in whole and "Cheshire" in whole
    assert whole.endswith("happy summer days. THE END")
    assert table["words"].max() <= 50 and table["words"][:-1].min() >= 1  # type: ignore[operator]
    assert table.filter(pl.col("words").is_between(20, 50)).height > 0.9 * table.height
    source = (real / "book.txt").read_text()
    assert re.sub(r"\s+", " ", whole)[500:3000] in re.sub(r"\s+", " ", source)


def test_sampling_is_seeded_ordered_and_bounded(real: Path) -> None:
    whole = read_texts("captions", real, limit=None)
    first, second, other = (read_texts("captions", real, limit=500, seed=seed) for seed in (1, 1, 2))
    assert first.equals(second) and not first.equals(other)
    assert first.height == 500 and first["text_id"].cast(pl.Int64).is_sorted()
    assert first.join(whole, on=["text_id", "text"], how="semi").height == 500


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Look! https://t.co/AbC1 #aiart #midjourney\n nice", "Look! nice"),
        ("#AIart", ""),
        ("see www.example.org/x?y=1#z and pic.twitter.com/abc", "see and"),
        ("Tom &amp; Jerry &lt;3", "Tom & Jerry <3"),
        ("C# is no#hashtag, #日本 is", "C# is no#hashtag, is"),
        ("plain  text\r\nkept.", "plain text kept."),
    ],
)
def test_links_and_hashtags_are_removed(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@given(st.text(alphabet=" ab.!?\n\"'", max_size=600), st.integers(1, 6), st.integers(6, 12))
def test_passages_lose_no_word_and_keep_the_bound(text: str, lower: int, upper: int) -> None:
    found = passages(text, (lower, upper))
    assert " ".join(found).split() == text.split()
    assert all(0 < len(passage.split()) <= upper for passage in found)


def test_columns_files_and_lines(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_bytes(
        b'\xef\xbb\xbfID,Caption\n1,a cat\n2,\n3,#only\n4,"two\nlines",extra\n5,\xff\n'
    )
    table = read_texts("captions", tmp_path)
    assert table["text"].to_list() == ["a cat", "two lines", "\ufffd"]
    assert table["text_id"].to_list() == ["0", "3", "4"]
    pl.DataFrame({"raw": ["r"], "text": ["t"]}).write_parquet(tmp_path / "news-1.parquet")
    (tmp_path / "news-2.txt").write_text("one\n\ntwo\n")
    table = read_texts("news", tmp_path)
    assert table.select("text_id", "text").rows() == [
        ("news-1.parquet:0", "t"),
        ("news-2.txt:0", "one"),
        ("news-2.txt:2", "two"),
    ]


def test_errors_name_source_cause_and_cure(tmp_path: Path) -> None:
    with pytest.raises(TextSourceError, match=r"texts/poems: no such source; known: captions"):
        read_texts("poems", tmp_path)
    with pytest.raises(
        TextSourceError, match=r"texts/haiku: folder .* does not exist; set TWIGMA_REFERENCES"
    ):
        read_texts("haiku", tmp_path / "nowhere")
    with pytest.raises(TextSourceError, match=r"texts/haiku: no file haiku\*\.csv"):
        read_texts("haiku", tmp_path)
    (tmp_path / "haiku.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TextSourceError, match=r"no column for the text; it has a, b"):
        read_texts("haiku", tmp_path)
    (tmp_path / "haiku.csv").write_text("text\n#x\n")
    with pytest.raises(TextSourceError, match=r"no text in haiku\.csv"):
        read_texts("haiku", tmp_path)
    (tmp_path / "haiku.csv").write_text("")
    with pytest.raises(TextSourceError, match=r"no text in haiku\.csv"):
        read_texts("haiku", tmp_path)
    (tmp_path / "tweets.parquet").write_bytes(b"not parquet")
    with pytest.raises(TextSourceError, match=r"cannot be read"):
        read_texts("tweets", tmp_path)
