from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from twigma_core import tables
from twigma_core.analysis.annotation import (
    LABEL_STUDIO_CONFIG,
    concordance,
    label_studio_tasks,
    make_tasks,
    read_sheets,
    sheet_csv,
)

WORDS = {1: "woman", 2: "castle", 3: "cats"}


@pytest.fixture(scope="module")
def tasks() -> pl.DataFrame:
    rows = [(f"i{i:03d}", "2021-01" if i % 2 else "2021-02", 1 + i % 3) for i in range(90)]
    rows += [(f"z{i}", "2021-02", 4) for i in range(4)]
    return make_tasks(pl.DataFrame(rows, schema=["image_id", "month", "cluster"], orient="row"), seed=3)


@pytest.fixture(scope="module")
def themes() -> pl.DataFrame:
    rows = [
        (label, rank, word) for label, word in WORDS.items() for rank, word in [(1, word), (2, f"{word}x")]
    ]
    return pl.DataFrame(rows, schema=["cluster", "rank", "word"], orient="row")


def annotated(tasks: pl.DataFrame, truthful: float, names: str = "ab", seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for who in names:
        for image_id, label in tasks.select("image_id", "cluster").iter_rows():
            seen = label if rng.random() < truthful else int(rng.integers(1, 4))
            rows.append((who, image_id, [WORDS.get(seen, "thing").rstrip("s"), "art"], f"group {seen}"))
    return pl.DataFrame(rows, schema=["annotator", "image_id", "keywords", "group"], orient="row")


def test_tasks_are_ten_a_cluster_shuffled_and_repeatable(tasks: pl.DataFrame) -> None:
    sizes = dict(tasks.group_by("cluster").len().iter_rows())
    assert sizes == {1: 10, 2: 10, 3: 10, 4: 4}
    assert tasks["task"].to_list() == list(range(1, 35))
    assert tasks["cluster"].to_list() != sorted(tasks["cluster"])
    whole = tasks.select("image_id", "month", "cluster")
    again = make_tasks(whole.sample(fraction=1, shuffle=True, seed=5), seed=1)
    assert again.equals(make_tasks(whole, seed=1)) and not again.equals(make_tasks(whole, seed=2))


def test_sheets_are_blinded_and_come_back(tasks: pl.DataFrame) -> None:
    sheet = sheet_csv(tasks, {tasks["image_id"][0]: "pictures/one, first.jpg"}, annotator="ann")
    rows = list(csv.DictReader(io.StringIO(sheet)))
    assert list(rows[0]) == ["annotator", "image_id", "picture", "keywords", "group"]
    assert [row["image_id"] for row in rows] == tasks["image_id"].to_list()
    studio = label_studio_tasks(tasks, {i: f"http://127.0.0.1/{i}.png" for i in tasks["image_id"]})
    assert set(studio[0]["data"]) == {"image", "image_id"}
    with pytest.raises(KeyError, match="no address for 34 pictures"):
        label_studio_tasks(tasks, {})
    names = {element.get("name") for element in ElementTree.fromstring(LABEL_STUDIO_CONFIG)} - {None}
    assert names == {"picture", "keywords", "group"}
    for row in rows:
        row |= {"keywords": "A Cat;  red   Hat ;a cat", "group": "animals"}
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0], delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    frame, problems = read_sheets([("excel.csv", "\ufeff" + out.getvalue())])
    assert problems == [] and frame.height == 34
    assert frame.row(0, named=True)["keywords"] == ["a cat", "red hat"]


def test_label_studio_export_is_read() -> None:
    def result(name: str, *text: str) -> dict:
        return {"from_name": name, "to_name": "picture", "type": "textarea", "value": {"text": list(text)}}

    export = [
        {
            "id": 1,
            "data": {"image": "u", "image_id": "i1"},
            "annotations": [
                {"completed_by": {"id": 7, "email": "x"}, "result": [result("keywords", "Dog", "sea")]},
                {"completed_by": 8, "result": [result("keywords", "dog"), result("group", "G")]},
            ],
        },
        {"id": 2, "annotations": []},
    ]
    frame, problems = read_sheets([("export.json", json.dumps(export)), ("cut.json", "[{")])
    assert frame.rows() == [("7", "i1", ["dog", "sea"], None), ("8", "i1", ["dog"], "G")]
    assert len(problems) == 2 and "export.json, row 2" in problems[0] and "cut.json" in problems[1]


def test_broken_rows_are_reported_and_the_rest_is_kept() -> None:
    text = (
        "annotator,image_id,keywords,group\n"
        "ann,1,cat;dog;sea;sky,g\n"
        "ann,1,cat,g\n"
        ",2,cat,g\n"
        "ann,3,,\n"
        "ann,4,cat\n"
        "ann,5,cat,g,extra\n"
        "ann,6,,h\n"
    )
    frame, problems = read_sheets([("s.csv", text), ("other.csv", "name,note\nx,y\n"), ("empty.csv", "")])
    assert frame.rows() == [("ann", "1", ["cat", "dog", "sea"], "g"), ("ann", "6", [], "h")]
    assert [p.split(":")[0] for p in problems] == [
        "s.csv, row 2",
        "s.csv, row 3",
        "s.csv, row 4",
        "s.csv, row 5",
        "s.csv, row 6",
        "s.csv, row 7",
        "other.csv",
        "empty.csv",
    ]
    assert "4 keywords; the first 3 are kept" in problems[0] and "no column" in problems[-1]
    assert read_sheets([])[0].equals(tables.empty("annotations"))


def values(table: pl.DataFrame) -> dict[tuple[str, str], dict]:
    return {(row["measure"], row["scope"]): row for row in table.iter_rows(named=True)}


def test_concordance_agrees_with_scikit_learn_and_orders_good_and_bad_annotators(
    tasks: pl.DataFrame, themes: pl.DataFrame
) -> None:
    told = annotated(tasks, 0.7)
    found = values(concordance(tasks, told, themes))
    joined = told.join(tasks.select("image_id", "cluster"), on="image_id")
    for who in "ab":
        part = joined.filter(annotator=who)
        ari = adjusted_rand_score(part["cluster"], part["group"])
        nmi = normalized_mutual_info_score(part["cluster"], part["group"])
        row = found["adjusted_rand", who]
        assert row["value"] == pytest.approx(ari) and row["low"] < ari < row["high"] and row["n"] == 34
        assert found["normalized_mutual_information", who]["value"] == pytest.approx(nmi)
    a, b = (told.filter(annotator=who).sort("image_id") for who in "ab")
    pair = found["annotators_adjusted_rand", "all"]["value"]
    assert pair == pytest.approx(adjusted_rand_score(a["group"], b["group"]))
    jaccard = [
        len(set(x) & set(y)) / len(set(x) | set(y)) for x, y in zip(a["keywords"], b["keywords"], strict=True)
    ]
    assert found["annotators_keyword_jaccard", "all"]["value"] == pytest.approx(np.mean(jaccard))
    hit = joined.filter(pl.col("cluster") < 4)
    own = [WORDS[c].rstrip("s") in words for c, words in hit.select("cluster", "keywords").iter_rows()]
    assert found["keyword_overlap", "all"]["value"] == pytest.approx(sum(own) / joined.height)
    assert found["keyword_overlap", "cluster 4"]["value"] == 0
    assert found["keyword_overlap", "cluster 4"]["high"] is None
    assert found["keyword_overlap", "all"]["low"] > found["keyword_overlap_chance", "all"]["high"]
    random = values(concordance(tasks, annotated(tasks, 0.0), themes))
    assert random["adjusted_rand", "all"]["high"] < found["adjusted_rand", "all"]["low"]
    assert random["adjusted_rand", "all"]["low"] < 0.05


def test_one_annotator_and_nobody(tasks: pl.DataFrame, themes: pl.DataFrame) -> None:
    one = values(concordance(tasks, annotated(tasks, 1.0, "a").filter(pl.col("group") != "group 4"), themes))
    assert one["keyword_overlap", "all"]["value"] == 1.0
    assert one["keyword_overlap_chance", "all"]["value"] == 0.0  # of the other clusters' words, none
    assert one["annotators_adjusted_rand", "all"]["value"] is None
    assert one["adjusted_rand", "all"]["value"] > 0.8
    nobody = concordance(tasks, tables.empty("annotations"), themes)
    assert nobody["n"].to_list() == [0] * nobody.height and nobody["value"].null_count() == nobody.height
    assert nobody.height == 6
    stranger = annotated(tasks, 1.0, "a").with_columns(image_id=pl.lit("x") + pl.col("image_id"))
    assert concordance(tasks, stranger, themes).equals(nobody)
