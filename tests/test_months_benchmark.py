"""The benchmark of months, small: posts are dealt evenly, and a lake that differs is seen."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from benchmarks import months
from benchmarks.months_world import dealt, months_from
from twigma_core.collect import hashtags
from twigma_core.lake import Lake
from twigma_dagster.settings import Settings


def test_posts_are_dealt_into_any_months() -> None:
    wanted = months_from("2021-11", 4)
    assert wanted == ["2021-11", "2021-12", "2022-01", "2022-02"]
    world = dealt(wanted, 5)
    assert world.months == wanted and world.posts.height == 20
    assert (world.posts["created_at"].dt.strftime("%Y-%m") == world.posts["month"]).all()
    assert world.posts["tweet_id"].is_sorted() and world.posts["tweet_id"].is_unique().all()
    assert set(world.posts["media_ids"].explode()) == set(world.media["media_id"])
    with pytest.raises(ValueError, match="the sample has"):
        dealt(wanted, 10_000)


def test_what_was_built_is_told_with_what_it_took(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, source="archive", archive=str(tmp_path), clip_model="sample")
    found = months.build(settings, [], ("hashtags",))
    assert found["made"] == [["hashtags", None]] and found["ran"] == 1
    assert 0 < found["steps"] < found["wall"] and found["cpu"] > 0
    again = months.build(settings, [], ("hashtags",))
    assert (again["made"], again["ran"], again["steps"]) == ([], 0, 0)


def test_lakes_that_differ_are_seen(tmp_path: Path) -> None:
    one, other = Lake(tmp_path / "one"), Lake(tmp_path / "other")
    listed = hashtags.reviewed()
    one.write("hashtags", listed)
    other.write("hashtags", listed)
    assert months.differ(one, other, ("hashtags",)) == []
    other.write("hashtags", listed.with_columns(note=pl.lit("changed")))
    assert months.differ(one, other, ("hashtags",)) == ["hashtags/None"]
