"""The released table: its columns, its ids, and a CSV that no spreadsheet executes."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twigma_core.release.table import (
    COLUMNS,
    describe_columns,
    join_features,
    neutralise_formulas,
    release_table,
    to_csv,
)

if TYPE_CHECKING:
    from tests.core.release.conftest import World

FORMULA_STARTS = "=+-@\t\r"
PAPER = "id image_name created_at like_count quote_count reply_count all_captions label_10_cluster "
PAPER += "possibly_sensitive nsfw_score UMAP_dim_1 UMAP_dim_2"


@pytest.fixture(scope="module")
def joined(world: World) -> pl.DataFrame:
    return join_features(world.dataset, world.clusters, world.projection)


def test_paper_compat_is_the_table_of_2023(joined: pl.DataFrame) -> None:
    table = release_table(joined, "paper_compat")
    assert table.columns == PAPER.split()
    assert table["id"].dtype == pl.String
    assert table["id"].to_list() == [str(1_500_000_000_000_000_001 + i) for i in range(60)]
    assert table["like_count"].to_list()[:5] == [0, 1, 2, None, 4]


def test_ids_strict_is_the_default_and_holds_no_content_of_posts(joined: pl.DataFrame) -> None:
    table = release_table(joined)
    assert tuple(table.columns) == COLUMNS["ids_strict"]
    forbidden = {
        "text",
        "author_id",
        "like_count",
        "reply_count",
        "quote_count",
        "retweet_count",
        "followers",
    }
    assert not forbidden & set(table.columns)
    assert "secret text" not in to_csv(table).decode()
    assert "author-" not in to_csv(table).decode()


def test_pictures_without_a_cluster_stay_and_values_keep_to_their_picture(
    world: World, joined: pl.DataFrame
) -> None:
    table = release_table(joined)
    assert table.height == world.dataset.height
    assert table["label_10_cluster"].null_count() == 1
    for source, key, released in (
        ("clusters", "cluster", "label_10_cluster"),
        ("projection", "x", "UMAP_dim_1"),
    ):
        expected = dict(getattr(world, source).select("image_id", key).iter_rows())
        assert {image: expected.get(image) for image in table["image_id"]} == dict(
            table.select("image_id", released).iter_rows()
        )


def test_a_picture_with_two_labels_is_refused(world: World) -> None:
    with pytest.raises(pl.exceptions.ComputeError):
        join_features(world.dataset, pl.concat([world.clusters] * 2), world.projection)


def test_an_unknown_profile_names_the_known_ones(joined: pl.DataFrame) -> None:
    with pytest.raises(ValueError, match="ids_strict or paper_compat"):
        release_table(joined, "everything")


@pytest.mark.parametrize("profile", sorted(COLUMNS))
def test_every_column_is_described(profile: str) -> None:
    assert all(text for _, _, text in describe_columns(profile))


@given(st.lists(st.one_of(st.none(), st.text()), min_size=1))
def test_no_csv_cell_is_a_formula_and_nothing_is_lost(texts: list[str | None]) -> None:
    frame = pl.DataFrame({"a": texts, "n": range(len(texts))}, schema={"a": pl.String, "n": pl.Int64})
    safe = neutralise_formulas(frame)["a"].to_list()
    for text, cell in zip(texts, safe, strict=True):
        assert cell is None or not cell.startswith(tuple(FORMULA_STARTS))
        assert cell == (f"'{text}" if text and text[0] in FORMULA_STARTS else text)
    rows = list(csv.reader(io.StringIO(to_csv(frame).decode(), newline="")))[1:]
    assert [row[0] for row in rows] == [cell or "" for cell in safe]


@given(st.sampled_from(FORMULA_STARTS), st.text())
def test_each_start_of_a_formula_is_caught(start: str, rest: str) -> None:
    assert neutralise_formulas(pl.DataFrame({"a": [start + rest]})).item() == f"'{start}{rest}"


def test_negative_numbers_stay_numbers() -> None:
    assert to_csv(pl.DataFrame({"x": [-1.5]})) == b"x\n-1.5\n"
