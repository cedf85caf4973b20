"""Files of ids: every form, and every way in which an id gets lost."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from twigma_core.collect import ids
from twigma_core.collect.ids import NoIds, read_ids

A, B, C = "1554000000000000001", "1554000000000000002", "20"


def test_text_lines_addresses_and_a_header(tmp_path: Path) -> None:
    lines = [
        *("id", A, "", f"https://twitter.com/u/status/{B}?s=20", f"https://x.com/u/status/{C}/photo/1"),
        *(A, f" {B} ", "hello", "1.554e18", str(2**63), "nothing \u202e here"),
    ]
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(lines), encoding="utf-8-sig")
    asked = read_ids(file)
    assert asked.ids == [A, B, C] and asked.repeated == 2
    assert asked.refused == {
        "hello": ids.NO_ID,
        "1.554e18": ids.LOST,
        str(2**63): ids.NO_ID,
        "nothing \u202e here": ids.NO_ID,
    }
    file.write_bytes(gzip.compress("\n".join([A, B]).encode()))
    assert read_ids(file).ids == [A, B], "no header, and packed whatever its name says"


@pytest.mark.parametrize("name", ["tweet_id", "id", "post_id"])
def test_a_column_of_a_csv_or_parquet_with_authors(tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame({"n": [1, 2, 3], name: [int(A), int(B), None], "author_id": [7, None, 9]})
    frame.write_csv(tmp_path / "a.csv")
    frame.write_parquet(tmp_path / "a.parquet")
    for file in ("a.csv", "a.parquet"):
        asked = read_ids(tmp_path / file)
        assert asked.ids == [A, B] and asked.authors == {A: "7"} and asked.refused == {"": ids.NO_ID}


def test_floats_of_a_parquet_are_lost_and_not_guessed(tmp_path: Path) -> None:
    pl.DataFrame({"id": [float(A), 20.0, None]}).write_parquet(tmp_path / "a.parquet")
    asked = read_ids(tmp_path / "a.parquet")
    assert asked.ids == ["20"] and asked.remarks == {ids.EXACT_FLOAT: 1}
    assert set(asked.refused.values()) == {ids.LOST, ids.NO_ID}


def test_a_file_that_went_through_floats_as_a_whole_is_refused_as_a_whole(tmp_path: Path) -> None:
    whole = [int(A) + 100_003 * n for n in range(60)]
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(str(int(float(one))) for one in whole))
    asked = read_ids(file)
    assert asked.ids == [] and set(asked.refused.values()) == {ids.ON_GRID}
    file.write_text("\n".join(map(str, whole)))
    assert read_ids(file).ids == [str(one) for one in whole]


def test_the_real_ids_are_all_kept(shared_data: Path, tmp_path: Path) -> None:
    """A third of X's own ids are multiples of 256: that alone must not condemn a file."""
    from twigma_core.collect.archives import read_archive
    from twigma_core.collect.parse import parse_pages

    real = parse_pages(read_archive(shared_data / "tweets")).tweets["tweet_id"].to_list()
    (tmp_path / "ids.txt").write_text("\n".join(real))
    assert read_ids(tmp_path / "ids.txt").ids == real
    assert sum(int(one) % 256 == 0 for one in real) > len(real) / 4


def test_a_release_is_a_folder_or_its_table(tmp_path: Path) -> None:
    (tmp_path / "1.0.0" / "data").mkdir(parents=True)
    pl.DataFrame({"id": [A, B, A]}).write_parquet(tmp_path / "1.0.0" / "data" / "twigma.parquet")
    assert read_ids(tmp_path / "1.0.0").ids == [A, B] == read_ids(tmp_path / "1.0.0/data/twigma.parquet").ids


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"name,age\nx,5\n", "no column id, tweet_id.* its columns are name, age"),
        ("a.txt", b"", "no ids in it"),
        ("none.txt", None, "no file at"),
    ],
)
def test_a_file_without_ids_says_what_to_give(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(NoIds, match=reason):
        read_ids(tmp_path / name)
    with pytest.raises(NoIds, match="name the file that holds the ids"):
        read_ids(tmp_path)
