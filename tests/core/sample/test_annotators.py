"""Simulated annotators: as accurate as they are said to be, and bound to agree as much as that implies."""

from __future__ import annotations

import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score

from twigma_core.sample import annotators
from twigma_core.sample.world import World


def test_the_sheet_is_filled_by_all_with_the_stated_accuracy(world: World) -> None:
    scenes = world.scenes()
    tasks = pl.DataFrame({"image_id": list(scenes)[:1000]})
    sheet = annotators.fill_sheet(tasks, scenes)
    assert sheet.equals(annotators.fill_sheet(tasks, scenes)), "the same sheet each time"
    assert sheet.height == 1000 * len(annotators.ANNOTATORS)
    assert (sheet["keywords"].str.split(";").list.len() == annotators.KEYWORDS).all()
    for _, mine in sheet.group_by("annotator"):
        right = [scenes[row[0]].theme == row[1] for row in mine.select("image_id", "group").iter_rows()]
        assert sum(right) / len(right) == pytest.approx(annotators.ACCURACY, abs=0.04)
        named = [
            scenes[row[0]].subject in row[1].split(";")
            for row in mine.select("image_id", "keywords").iter_rows()
        ]
        assert sum(named) / len(named) == pytest.approx(1 - annotators.KEYWORD_NOISE, abs=0.04)


def test_expected_agreement_is_what_two_annotators_show(world: World) -> None:
    scenes = world.scenes()
    tasks = pl.DataFrame({"image_id": list(scenes)[:1500]})
    sheet = annotators.fill_sheet(tasks, scenes, seed=5)
    groups = [sheet.filter(pl.col("annotator") == name)["group"] for name in annotators.ANNOTATORS]
    themes = [scenes[image_id].theme for image_id in tasks["image_id"]]
    expected = annotators.expected_agreement(themes, repeats=10)
    assert adjusted_rand_score(groups[0], groups[1]) == pytest.approx(expected, abs=0.05)
    assert annotators.expected_agreement(themes, accuracy=0.1, repeats=5) == pytest.approx(0, abs=0.02)
    assert annotators.expected_agreement(themes, accuracy=1.0, repeats=1) == 1


def test_a_picture_of_elsewhere_is_refused(world: World) -> None:
    with pytest.raises(KeyError, match="not of the sample world"):
        annotators.fill_sheet(pl.DataFrame({"image_id": ["1"]}), world.scenes())
