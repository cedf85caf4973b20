from __future__ import annotations

import base64
import csv
import io
import json
import xml.etree.ElementTree as ElementTree

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twigma_core.analysis.annotation import (
    LABEL_STUDIO_CONFIG,
    label_studio_tasks,
    make_tasks,
    project_files,
    sheet_csv,
)


@pytest.fixture(scope="module")
def tasks() -> pl.DataFrame:
    rows = [(f"i{i:03d}", "2021-01" if i % 2 else "2021-02", 1 + i % 3) for i in range(90)]
    rows += [(f"z{i}", "2021-02", 4) for i in range(4)]
    return make_tasks(pl.DataFrame(rows, schema=["image_id", "month", "cluster"], orient="row"), seed=3)


def test_tasks_are_ten_a_cluster_shuffled_and_repeatable(tasks: pl.DataFrame) -> None:
    sizes = dict(tasks.group_by("cluster").len().iter_rows())
    assert sizes == {1: 10, 2: 10, 3: 10, 4: 4}
    assert tasks["task"].to_list() == list(range(1, 35))
    assert tasks["cluster"].to_list() != sorted(tasks["cluster"])
    whole = tasks.select("image_id", "month", "cluster")
    again = make_tasks(whole.sample(fraction=1, shuffle=True, seed=5), seed=1)
    assert again.equals(make_tasks(whole, seed=1)) and not again.equals(make_tasks(whole, seed=2))


def test_what_was_handed_out_stays_when_months_come_in_or_labels_change(
    tasks: pl.DataFrame,
) -> None:
    grown = pl.concat(
        [
            tasks.select("image_id", "month", "cluster"),
            pl.DataFrame(
                {"image_id": [f"n{i}" for i in range(20)], "month": "2021-03", "cluster": [1, 4] * 10}
            ),
        ]
    )
    renamed = grown.with_columns(cluster=pl.col("cluster").replace({1: 2, 2: 1}))
    for clusters in (grown, renamed):
        again = make_tasks(clusters, seed=3, previous=tasks)
        stay = again.head(34)
        assert stay.select("task", "image_id").equals(tasks.select("task", "image_id"))
        present = dict(clusters.select("image_id", "cluster").iter_rows())
        assert stay["cluster"].to_list() == [present[i] for i in stay["image_id"]]
        assert again["cluster"][34:].to_list() == [4] * 6 and again["task"][34:].to_list() == list(
            range(35, 41)
        )
    gone = make_tasks(grown.filter(pl.col("image_id") != tasks["image_id"][33]), seed=3, previous=tasks)
    assert 34 not in gone["task"].to_list(), "a number is not given to another picture"
    anew = make_tasks(grown, seed=4, previous=tasks)
    assert anew.equals(make_tasks(grown, seed=4)) and anew["task"].to_list() == list(range(1, 41))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=40), st.integers(1, 5))
def test_tasks_of_any_clusters(rows: list[tuple[int, bool]], per_cluster: int) -> None:
    ids = [str(i) for i in range(len(rows))]
    schema = {"image_id": pl.String, "month": pl.String, "cluster": pl.Int64}
    whole = pl.DataFrame(
        {"image_id": ids, "month": "2021-01", "cluster": [c for c, _ in rows]}, schema=schema
    )
    early = whole.filter(pl.Series([there for _, there in rows], dtype=pl.Boolean))
    before = make_tasks(early, per_cluster)
    after = make_tasks(whole, per_cluster, previous=before)
    assert set(before["image_id"]) <= set(after["image_id"])
    assert after["task"].is_unique().all() and after["image_id"].is_unique().all()
    for label, size in whole.group_by("cluster").len().iter_rows():
        assert after.filter(cluster=label).height == min(size, per_cluster)


def test_a_sheet_is_blinded(tasks: pl.DataFrame) -> None:
    sheet = sheet_csv(tasks, {tasks["image_id"][0]: "pictures/one, first.jpg"}, annotator="ann")
    rows = list(csv.DictReader(io.StringIO(sheet)))
    assert list(rows[0]) == ["annotator", "image_id", "picture", "keywords", "group"]
    assert [row["image_id"] for row in rows] == tasks["image_id"].to_list()
    assert rows[0]["picture"] == "pictures/one, first.jpg" and rows[0]["annotator"] == "ann"


def test_a_label_studio_project_has_all_it_needs_and_no_cluster(tasks: pl.DataFrame) -> None:
    pictures = {image_id: f"jpeg of {image_id}".encode() for image_id in tasks["image_id"]}
    files = project_files(tasks, pictures, "lake/inbox", unsafe=3)
    assert len(files) == 4 + 34
    imported = json.loads(files["label_studio/tasks.json"])
    assert [task["data"]["image_id"] for task in imported] == tasks["image_id"].to_list()
    assert set(imported[0]) == {"id", "data"} and set(imported[0]["data"]) == {"image", "image_id", "number"}
    config = ElementTree.fromstring(files["label_studio/config.xml"])
    names = {element.get("name"): element.tag for element in config.iter() if element.get("name")}
    assert names == {"picture": "Image", "keywords": "TextArea", "group": "TextArea"}
    for element in config.iter("TextArea"):
        assert element.get("toName") == "picture"
    variables = {v[1:] for e in config.iter() for v in str(e.get("value", "")).split() if v.startswith("$")}
    assert variables <= set(imported[0]["data"]), "all that the interface shows is in the tasks"
    assert config.attrib == ElementTree.fromstring(LABEL_STUDIO_CONFIG).attrib
    for task in imported:
        kind, _, data = task["data"]["image"].partition(";base64,")
        number, image_id = task["data"]["number"], task["data"]["image_id"]
        assert kind == "data:image/jpeg" and base64.b64decode(data) == pictures[image_id]
        assert files[f"pictures/{number:03d}.jpg"] == pictures[image_id]
    rows = list(csv.DictReader(io.StringIO(files["sheet.csv"].decode())))
    assert [row["picture"] for row in rows] == [f"pictures/{n:03d}.jpg" for n in range(1, 35)]
    readme = files["README.txt"].decode()
    assert "lake/inbox" in readme and "3 of the 34 pictures are probably not safe" in readme
    assert "Be warned" not in project_files(tasks, pictures)["README.txt"].decode()


def test_a_picture_that_is_not_at_hand_is_named(tasks: pl.DataFrame) -> None:
    with pytest.raises(KeyError, match=r"34 of 34, first .*, have no address; add them to image_urls"):
        label_studio_tasks(tasks, {})
    all_but_one = dict.fromkeys(tasks["image_id"][1:].to_list(), b"x")
    with pytest.raises(KeyError, match=f"1 of 34, first {tasks['image_id'][0]}, have no picture"):
        project_files(tasks, all_but_one)
