"""The paper's numbers: all are there, each is read from where it says, and judged rightly."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from twigma_core import tables
from twigma_core.analysis import paper as subject
from twigma_core.analysis import paper_readers as readers


def likes(low5: float = 21.0, robust_low: float = 1.02) -> pl.DataFrame:
    rows = []
    for corpus in ("laion", "artbench"):
        for column in ("paper", "robust"):
            rows += [
                (corpus, column, "mean_likes", "1", 30.0, 28.0, 32.0),
                (corpus, column, "mean_likes", "5", 23.0, low5, 25.0),
                (corpus, column, "rate_ratio", "1", 1.185, 1.17 if column == "paper" else robust_low, 1.2),
                (corpus, column, "rate_ratio", "2", 1.05, 1.04, 1.06),
                (corpus, column, "followers_ratio", "500-5,000", 2.0, 1.9, 2.1),
                (corpus, column, "followers_ratio", "> 5,000", 4.0, 3.9, 4.1),
                (corpus, column, "followers_ratio", "unknown", 1.0, 0.9, 1.1),
            ]
    return pl.DataFrame(
        rows, schema=["corpus", "column", "quantity", "term", "estimate", "low", "high"], orient="row"
    ).with_columns(p_value=pl.when(pl.col("term") == "1").then(1e-9).otherwise(0.02))


def variation() -> pl.DataFrame:
    rows = [
        ("laion", 1.2, 1.18, 1.22),
        ("artbench", 1.0, 0.98, 1.02),
        ("diffusiondb", 0.9, 0.88, 0.92),
        ("twigma", 0.95, 0.92, 0.98),
        ("artbench_same_artist", 0.99, 0.96, 1.02),
        ("diffusiondb_same_prompt", 0.45, 0.43, 0.47),
    ]
    frame = pl.DataFrame(rows, schema=["source", "value", "low", "high"], orient="row")
    return frame.with_columns(metric=pl.lit("mean_pairwise_distance"))


def divergence() -> pl.DataFrame:
    level = {"twigma diffusiondb": 0.4, "diffusiondb twigma": 0.5}
    names = ["twigma", "laion", "artbench", "diffusiondb"]
    rows = []
    for p in names:
        for q in names:
            value = 0.0 if p == q else level.get(f"{p} {q}", 3.0)
            rows.append((p, q, "kl", 10, value, value - 0.1, value + 0.1))
    return pl.DataFrame(
        rows, schema=["source_p", "source_q", "measure", "cells", "value", "low", "high"], orient="row"
    )


def given() -> dict[str, pl.DataFrame]:
    months = [f"2021-{m:02d}" for m in range(1, 7)]
    return {
        "engagement": likes(),
        "variation_table": variation(),
        "divergence_matrix": divergence(),
        "hashtags": pl.DataFrame({"hashtag": [str(i) for i in range(19)]}),
        "cluster_model": pl.DataFrame({"cluster": list(range(1, 9))}),
        "divergence_robustness": pl.DataFrame(
            {"variant": ["a", "a", "b", "c"], "claim_holds": [True, True, False, None]}
        ),
        "dataset": pl.DataFrame(
            {
                "image_id": ["a", "b", "c"],
                "tweet_id": ["1", "1", "2"],
                "month": months[:3],
                "nsfw_score": [0.9, 0.8, 0.1],
            }
        ),
        "clusters": pl.DataFrame({"image_id": ["a", "b", "c"], "cluster": [1, 1, 2]}),
        "tweets": pl.DataFrame({"month": [m for i, m in enumerate(months) for _ in range(10 + i)]}),
        "images": pl.DataFrame(
            {"image_id": ["a", "b", "c", "d"], "status": ["ok", "ok", "ok", "unavailable"]}
        ),
        "tweet_media": pl.DataFrame({"tweet_id": ["1", "1", "2", "3"], "image_id": ["a", "b", "c", "d"]}),
        "codebook": pl.DataFrame(
            {
                "cells": [4] * 4,
                "cell": [0, 0, 1, 1],
                "source": ["laion", "twigma"] * 2,
                "pictures": [90, 10, 10, 90],
            }
        ),
        "prompt_variation": pl.DataFrame(
            {"kendall_tau": [-0.12], "tau_low": [-0.2], "tau_high": [-0.04], "p_value": [0.004]}
        ),
        "text_variation": pl.DataFrame(
            {
                "source": ["captions", "haiku", "prompts", "tweets", "book"],
                "value": [1.0, 0.7, 0.9, 0.95, 0.8],
                "low": [0.9] * 5,
                "high": [1.0] * 5,
            }
        ),
        "projection_model": pl.DataFrame(
            {
                "source": ["twigma"] * 10 + ["diffusiondb", "laion", "artbench"],
                "x": [0.0] * 9 + [4.0, 0.1, 5.0, -3.0],
                "y": [0.0] * 13,
            }
        ),
        "reference_embeddings": pl.DataFrame(
            {"corpus": ["laion"] * 4 + ["artbench"], "nsfw_score": [0.9, 0.1, 0.1, None, 0.9]}
        ),
        "cluster_sensitivity": pl.DataFrame(
            {
                "k": [5, 5, 10, 10, 15, 15, 20],
                "rising": [1, 0, 2, 0, 3, 1, 0],
                "falling": [1, 1, 1, 4, 2, 1, 0],
                "shifting": [0.2, 0.2, 0.3, 0.3, 0.3, 0.3, None],
            }
        ),
        "cluster_trends": pl.DataFrame(
            {"cluster": [1, 1, 2, 3], "trend": ["rising", "rising", "falling", "steady"]}
        ),
    }


def rows_of(table: pl.DataFrame) -> dict[str, dict]:
    return {row["number"]: row for row in table.iter_rows(named=True)}


def test_every_entry_can_be_read_and_says_from_where() -> None:
    numbers = subject.paper_numbers()
    computed = numbers.filter(pl.col("kind") != "outside")
    assert set(computed["how"].str.split(" ").list.first()) == set(readers.READERS)
    assert set(computed["asset"]) <= set(tables.SCHEMAS)
    assert set(subject.needed_assets()) <= set(tables.SCHEMAS)
    assert numbers.filter(pl.col("kind").is_in(["level", "setting", "size"]))["value"].null_count() == 0
    assert numbers.filter(pl.col("kind") == "outside")["note"].null_count() == 0
    assert all(re.search(r"Section|Figure|Table|[Ee]quation|Abstract", place) for place in numbers["place"])
    said = {how: readers.selection(how) for how in computed["how"]}
    assert not [how for how, words in said.items() if not words or re.search(r"[{}]", words)]
    assert said["rows corpus=artbench,status=ok"] == "rows where corpus = artbench, status = ok"
    assert said["distinct style corpus=artbench"] == "distinct style where corpus = artbench"
    assert said["within artbench artbench_same_artist"].endswith("artbench less artbench_same_artist")


COUNT_WORDS = {"half": 0.5, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "ten": 10}
MORE_WORDS = r"seven|eight|nine|twenty|hundreds?|thousands?|[mb]illions?"
LATEX = {r"\\text\{([^}]*)\}": r"\1", r"\\tau": "τ", r"\\gamma": "γ", r"\\beta": "β", r"\\sum": "Σ"}


@pytest.fixture(scope="module")
def paper_text(shared_data: Path) -> str:
    """The paper up to its references, as one line without markup."""
    found = sorted((shared_data.parent / "paper").glob("*.txt"))
    if not found:
        pytest.skip("the paper's text is not beside the shared data")
    text = found[0].read_text().partition("## References")[0]
    for pattern, plain in LATEX.items():
        text = re.sub(pattern, plain, text)
    return re.sub(r"\s+", " ", re.sub(r"</?b>|\*|\$", "", text))


def test_every_number_of_the_paper_is_compared_or_excluded_with_a_reason(paper_text: str) -> None:
    """Quotes and exclusions are struck out of the paper: no number is left, and none of either is idle."""
    quotes = [part for words in subject.paper_numbers()["paper"] for part in words.split(" … ")]
    assert [quote for quote in quotes if quote not in paper_text] == []
    left = paper_text
    for quote in sorted(set(quotes), key=len, reverse=True):
        left = left.replace(quote, "¤")
    excluded = pl.read_csv(Path(__file__).with_name("paper_exclusions.csv"))
    assert excluded["reason"].null_count() == 0
    for pattern in excluded["pattern"]:
        left, times = re.subn(pattern, "¤", left)
        assert times, f"nothing is left to exclude by {pattern}"
    numbers = re.finditer(rf"\d[\d.,]*|\b({'|'.join(COUNT_WORDS)}|{MORE_WORDS})\b", left, flags=re.IGNORECASE)
    missed = [left[max(0, n.start() - 60) : n.end() + 40] for n in numbers]
    assert missed == []


def test_values_and_intervals_stand_in_the_quoted_words() -> None:
    """As they are, in per cent, in millions, or as per cent more than 1; counts of listed things aside."""
    listed = "months|follower bands|groups|clusters|p-value"
    entries = subject.paper_numbers().filter(~pl.col("number").str.contains(listed))
    for row in entries.drop_nulls("value").iter_rows(named=True):
        digits = re.findall(r"\d[\d,]*(?:\.\d+)?", row["paper"])
        said = [float(text.replace(",", "")) for text in digits]
        said += [n for word, n in COUNT_WORDS.items() if re.search(rf"\b{word}\b", row["paper"], re.I)]
        for value in filter(None, (row["value"], row["low"], row["high"])):
            ways = np.array([value, -value, 100 * value, value / 1e6, value / 1e9, 100 * abs(value - 1)])
            assert any(np.isclose(ways, n).any() for n in said), (row["number"], value)


def test_values_are_read_and_judged_on_real_data() -> None:
    found = rows_of(subject.paper_comparison(given(), synthetic=False))
    assert len(found) == subject.paper_numbers().height
    verdicts = {name: row["verdict"] for name, row in found.items()}
    assert found["mean likes, LAION quintile 1"]["value"] == 30.0
    assert verdicts["mean likes, LAION quintile 1"] == "reproduced"
    assert verdicts["rate ratio, ArtBench quintile 2"] == "differs"  # [1.04, 1.06] against [1.11, 1.12]
    assert verdicts["hashtags"] == "reproduced"
    assert verdicts["clusters of TWIGMA"] == "differs" and "8" in found["clusters of TWIGMA"]["because"]
    assert verdicts["pictures"] == "not comparable"
    assert found["pictures"]["because"] == (
        "The data cover 2021-01 … 2021-03 (3), the paper 2021-01 … 2023-03 (27)."
    )
    assert found["posts with downloadable pictures"]["value"] == 2
    assert found["pictures no longer available"]["value"] == 0.25
    assert verdicts["pictures no longer available"] == "reproduced"  # one of four: the interval holds 10 %
    assert verdicts["KL from LAION to ArtBench"] == "differs"
    assert verdicts["volunteer annotators"] == "not comparable"
    assert found["volunteer annotators"]["because"] == "annotations is not materialized or has no row."
    entropy = found["LAION varies most: entropy"]["because"]
    assert entropy == "variation_table has no quantized_entropy of laion."
    assert found["same-prompt distance over random distance"]["value"] == pytest.approx(0.5)
    assert verdicts["same-prompt distance over random distance"] == "reproduced"
    assert found["Kendall's tau of distance and prompt length"]["value"] == -0.12
    assert verdicts["p-value of Kendall's tau"] == "reproduced"
    assert found["predominantly NSFW clusters"]["value"] == 1
    assert found["rising clusters"]["value"] == found["falling clusters"]["value"] == 1
    assert found["follower bands"]["value"] == 3
    robust = found["measure and estimator make no difference"]  # one of two variants that can tell
    assert robust["value"] == pytest.approx(0.5 - 0.95) and robust["verdict"] == "differs"
    kinds = found["similar results with other numbers of clusters"]
    # With k = 10 most fits have falling clusters only; one of four with another k is like that.
    assert kinds["value"] == pytest.approx(0.25 - 0.95) and kinds["verdict"] == "differs"
    nsfw = found["likely NSFW pictures in TWIGMA and LAION"]
    assert nsfw["value"] == pytest.approx(1 / 3 - 0.01) and nsfw["verdict"] == "reproduced"
    near = found["on the map, TWIGMA lies with DiffusionDB"]  # nine of ten
    assert near["value"] == pytest.approx(0.4) and near["verdict"] == "reproduced"
    bounds = [found[f"{end} bound of the middle follower band"]["value"] for end in ("lower", "upper")]
    assert bounds == [500, 5000]
    assert verdicts["p-value of the rate ratio, LAION quintile 1"] == "reproduced"
    assert verdicts["p-value of the rate ratio, LAION quintile 2"] == "differs"
    assert found["clusters with AI-generated pictures"]["value"] == 1  # the cell that is not LAION's


def test_each_row_says_why_in_a_sentence_and_what_the_robust_column_says() -> None:
    found = rows_of(subject.paper_comparison(given(), synthetic=False))
    assert all(re.fullmatch(r".+\.", row["because"]) for row in found.values())
    assert found["rate ratio, ArtBench quintile 1"]["because"] == (
        "The interval here meets the paper's interval. "
        "Robust, with errors clustered by author: 1.185 [1.02, 1.2]."
    )
    assert found["months, by Table 1"]["because"].endswith("begins in January 2021.")
    assert found["clusters of TWIGMA"]["because"] == "The setting here is 8."
    assert found["pictures"]["selection"] == "rows" and found["pictures"]["paper_value"] == 805_650
    assert "column = paper" in found["rate ratio, LAION quintile 1"]["selection"]


def test_sizes_are_compared_over_the_same_months_and_whole_corpora() -> None:
    months = pl.DataFrame({"image_id": subject.MONTHS, "tweet_id": ["1"] * 27, "month": subject.MONTHS})
    corpus = pl.DataFrame({"corpus": ["artbench"] * 59_000 + ["laion"], "status": ["ok"] * 59_001})
    corpus = corpus.with_columns(style=pl.lit("baroque"), prompt_id=pl.lit(None, dtype=pl.String))
    months = months.with_columns(nsfw_score=0.1)
    whole = given() | {"dataset": months, "reference_images": corpus}
    found = rows_of(subject.paper_comparison(whole, synthetic=False))
    assert found["months"]["verdict"] == "reproduced"
    assert found["months"]["because"] == "The number is the same."
    assert found["pictures"]["verdict"] == "differs"
    assert found["pictures"]["because"].startswith("3.35e-05 times the paper's")
    assert found["ArtBench pictures"]["verdict"] == "reproduced"
    assert found["LAION-5B pictures"]["because"] == "A part of the corpus is compared with, not all of it."


def test_directions_are_contrasts_with_the_interval_of_a_difference() -> None:
    found = rows_of(subject.paper_comparison(given(), synthetic=False))
    most = found["LAION varies most: pairwise distance"]
    assert most["value"] == pytest.approx(0.2)
    assert most["low"] == pytest.approx(0.2 - math.hypot(0.02, 0.02))
    assert most["verdict"] == "reproduced"
    assert found["AI pictures vary less than human ones"]["value"] == pytest.approx(1.1 - 0.925)
    half = math.sqrt(2 * 0.02**2 + 0.02**2 + 0.03**2) / 2
    assert found["AI pictures vary less than human ones"]["high"] == pytest.approx(1.1 - 0.925 + half)
    artist = found["same artist varies less"]
    assert artist["verdict"] == "differs" and "not beyond chance" in artist["because"]
    assert found["LAION has a cluster of its own"]["value"] == pytest.approx(0.4)
    apart = found["AI and human pictures are farther apart than TWIGMA and DiffusionDB"]
    assert apart["value"] == pytest.approx(2.5) and apart["verdict"] == "reproduced"
    assert found["posts grow over time"]["verdict"] == "reproduced"
    assert found["captions, prompts and tweets vary more than haiku and book"]["value"] == pytest.approx(0.1)
    # directions are judged by the robust column, not by the paper's
    weak = rows_of(
        subject.paper_comparison(given() | {"engagement": likes(robust_low=0.97)}, synthetic=False)
    )
    assert weak["rate ratio above 1, LAION quintile 1"]["verdict"] == "differs"
    assert found["rate ratio above 1, LAION quintile 1"]["verdict"] == "reproduced"
    entropies = variation().with_columns(metric=pl.lit("quantized_entropy"))
    least = {"variation_table": entropies}
    assert rows_of(subject.paper_comparison(given() | least, synthetic=False))[
        "ArtBench has the least entropy"
    ]["value"] == pytest.approx(0.9 - 1.0)
    turned = variation().with_columns(value=-pl.col("value"), low=-pl.col("high"), high=-pl.col("low"))
    other = rows_of(subject.paper_comparison(given() | {"variation_table": turned}, synthetic=False))
    assert "other way round" in other["LAION varies most: pairwise distance"]["because"]


def test_on_synthetic_data_only_settings_and_directions_are_compared() -> None:
    table = subject.paper_comparison(given(), synthetic=True)
    kinds = dict(subject.paper_numbers().select("number", "kind").iter_rows())
    compared = {kinds[n] for n, v in table.select("number", "verdict").iter_rows() if v != "not comparable"}
    assert compared == {"setting", "direction"}
    row = rows_of(table)["mean likes, LAION quintile 1"]
    assert row["value"] == 30.0 and "Synthetic data" in row["because"]
    assert "synthetic" in rows_of(table)["LAION varies most: pairwise distance"]["because"]


def test_nothing_materialized_or_empty_tables_are_not_comparable_and_no_crash() -> None:
    empty = {name: tables.empty(name) for name in subject.needed_assets()}
    for given_tables in ({}, empty):
        none = subject.paper_comparison(given_tables, synthetic=False)
        assert none["verdict"].cast(pl.String).unique().to_list() == ["not comparable"]
        assert none["because"].null_count() == 0
