from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

from twigma_core import tables
from twigma_core.analysis.annotation import make_tasks
from twigma_core.analysis.concordance import concordance

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
        ami = adjusted_mutual_info_score(part["cluster"], part["group"])
        assert found["adjusted_mutual_information", who]["value"] == pytest.approx(ami)
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
    together = []
    for who in "ab":
        groups = joined.filter(annotator=who, cluster=2)["group"].to_list()
        together.append(np.mean([x == y for i, x in enumerate(groups) for y in groups[:i]]))
    kept = found["kept_together", "cluster 2"]
    assert kept["value"] == pytest.approx(np.mean(together)) and kept["low"] < kept["value"] < kept["high"]
    rows = joined.filter(annotator="a").select("cluster", "group").rows()
    apart = [x[1] == y[1] for i, x in enumerate(rows) for y in rows[:i] if x[0] != y[0]]
    one = values(concordance(tasks, told.filter(annotator="a"), themes, draws=2))
    assert one["kept_together_chance", "all"]["value"] == pytest.approx(np.mean(apart))
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
    assert nobody.height == 9
    stranger = annotated(tasks, 1.0, "a").with_columns(image_id=pl.lit("x") + pl.col("image_id"))
    assert concordance(tasks, stranger, themes).equals(nobody)


def test_a_cluster_that_people_split_shows_by_its_pairs(tasks: pl.DataFrame, themes: pl.DataFrame) -> None:
    rows = [
        (who, image_id, ["art"], f"{label}{'ab'[place % 2] if label == 1 else ''}")
        for who in "xy"
        for place, (image_id, label) in enumerate(tasks.select("image_id", "cluster").iter_rows())
    ]
    told = pl.DataFrame(rows, schema=["annotator", "image_id", "keywords", "group"], orient="row")
    found = values(concordance(tasks, told, themes))
    assert found["kept_together", "cluster 2"]["value"] == 1
    assert found["kept_together", "cluster 1"]["value"] < 0.6
    assert found["kept_together_chance", "all"]["value"] == 0


def test_intervals_hold_the_agreement_that_annotators_of_a_known_accuracy_have() -> None:
    """Clusters of ten, two annotators right with probability 0.8: the mean over many worlds is the truth."""
    clusters = pl.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(100)],
            "month": "2021-01",
            "cluster": [1 + i % 10 for i in range(100)],
        }
    )
    tasks = make_tasks(clusters)
    truth = tasks["cluster"].to_numpy()
    themes = pl.DataFrame({"cluster": [1], "word": ["none"]})
    rng = np.random.default_rng(0)

    def world() -> pl.DataFrame:
        frames = []
        for who in "ab":
            seen = np.where(rng.random(100) < 0.8, truth, rng.integers(1, 11, 100))
            group = pl.Series(seen).cast(pl.String)
            frames.append(
                tasks.select("image_id", annotator=pl.lit(who), group=group, keywords=pl.lit(["x"]))
            )
        return pl.concat(frames)

    worlds = [world() for _ in range(15)]
    tables_of = [values(concordance(tasks, told, themes, draws=50)) for told in worlds]
    for measure in (
        "adjusted_rand",
        "adjusted_mutual_information",
        "annotators_adjusted_rand",
        "kept_together",
    ):
        rows = [found[measure, "all"] for found in tables_of]
        true = np.mean([row["value"] for row in rows])
        held = np.mean([row["low"] <= true <= row["high"] for row in rows])
        assert held >= 0.7, measure
        assert np.mean([row["high"] - row["low"] for row in rows]) < 0.5


groups = st.one_of(st.none(), st.sampled_from(["g", "h", "G"]))
notes = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.integers(0, 12), st.lists(st.sampled_from(["cat", "castle", "x"])), groups
    ),
    max_size=30,
    unique_by=lambda row: row[:2],
)


@settings(max_examples=25, deadline=None)
@given(notes)
def test_any_annotations_give_defined_measures(rows: list[tuple]) -> None:
    clusters = pl.DataFrame(
        {"image_id": [f"i{i}" for i in range(10)], "month": "2021-01", "cluster": [1, 2, 2, 3, 3] * 2}
    )
    schema = dict(tables.empty("annotations").schema)
    told = pl.DataFrame([(a, f"i{i}", k, g) for a, i, k, g in rows], schema=schema, orient="row")
    themes = pl.DataFrame({"cluster": [1, 2], "word": ["cats", "castle"]})
    table = concordance(make_tasks(clusters), told, themes, draws=8)
    known = table.drop_nulls("low")
    assert ((known["low"] <= known["value"]) & (known["value"] <= known["high"])).all()
    assert table.filter(scope="all").height == 9
    assert table["value"].drop_nulls().is_between(-1, 1).all()
