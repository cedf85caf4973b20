"""Prompts and texts: the planted rank correlation, the match in words, and both tables."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import pdist
from scipy.stats import kendalltau

from twigma_core.analysis.prompts import (
    kendall_interval,
    match_words,
    matched_texts,
    prompt_variation,
    text_variation,
)
from twigma_core.lake import ArrayTable


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def prompt_world(effect: float, prompts: int = 120, seed: int = 0) -> tuple[pl.DataFrame, ArrayTable]:
    """Prompts of 3 to 40 words, four pictures each, whose spread is exp(-effect * words)."""
    rng = np.random.default_rng(seed)
    words = rng.integers(3, 40, size=prompts)
    owner = np.repeat(np.arange(prompts), 4)
    noise = rng.normal(size=(len(owner), 16)) * 0.3 * np.exp(-effect * words)[owner, None]
    x = unit(unit(rng.normal(size=(prompts, 16)))[owner] + noise).astype(np.float32)
    ids = [f"prompt-{p}" for p in owner]
    images = pl.DataFrame(
        {
            "image_id": [str(i) for i in range(len(owner))],
            "corpus": "diffusiondb",
            "prompt_id": ids,
            "prompt": [" ".join(["word"] * words[p]) for p in owner],
        }
    )
    table = images.select("image_id", "corpus", "prompt_id")
    return images, ArrayTable(table, {"vectors": x})


def test_longer_prompts_vary_less_where_that_is_planted() -> None:
    images, stored = prompt_world(effect=0.03)
    frame = prompt_variation(images, {"diffusiondb": stored})
    assert frame.height == 120 and frame["pictures"].unique().to_list() == [4]
    row = frame.filter(prompt_id="prompt-7").row(0, named=True)
    assert row["mean_distance"] == pytest.approx(pdist(stored.vectors[28:32]).mean(), rel=1e-5)
    expected = kendalltau(frame["words"], frame["mean_distance"])
    assert row["kendall_tau"] == pytest.approx(expected.statistic)
    assert row["p_value"] == pytest.approx(expected.pvalue)
    assert row["tau_high"] < -0.2 and row["tau_low"] < row["kendall_tau"]


def test_no_effect_is_found_where_none_is_planted() -> None:
    images, stored = prompt_world(effect=0.0)
    row = prompt_variation(images, {"diffusiondb": stored}).row(0, named=True)
    assert row["tau_low"] < 0 < row["tau_high"] and row["p_value"] > 0.05


def test_pictures_without_a_known_prompt_belong_to_none() -> None:
    images, stored = prompt_world(effect=0.03, prompts=3)
    nameless = images.with_columns(
        pl.when(pl.col("prompt_id") == "prompt-1").then(None).otherwise("prompt").alias("prompt")
    )
    frame = prompt_variation(nameless, {"diffusiondb": stored})
    assert frame["prompt_id"].to_list() == ["prompt-0", "prompt-2"]
    assert frame["kendall_tau"].to_list() == [None, None]
    assert prompt_variation(images, {}).is_empty()
    lone = ArrayTable(stored.table[:1], {"vectors": stored.vectors[:1]})
    assert prompt_variation(images, {"diffusiondb": lone}).is_empty()


@pytest.mark.parametrize("rho", [0.0, -0.6])
def test_kendall_intervals_cover(rho: float) -> None:
    rng = np.random.default_rng(1)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        z = rng.normal(size=(n, 2))
        return np.round(4 * z[:, 0]), rho * z[:, 0] + np.sqrt(1 - rho**2) * z[:, 1]

    truth, hits = kendalltau(*draw(50_000)).statistic, 0
    for _ in range(150):
        low, high = kendall_interval(*draw(60))
        assert low is not None and high is not None
        hits += low <= truth <= high
    assert hits >= 134
    assert kendall_interval(np.ones(9), np.arange(9.0)) == (None, None)


def test_kendall_intervals_are_nearly_the_jackknifes_where_ties_are_many() -> None:
    rng = np.random.default_rng(0)
    a = np.minimum(rng.geometric(0.5, 80), 4)
    b = np.round(2 * (a + 0.7 * rng.normal(size=80)))
    without = np.array([kendalltau(np.delete(a, i), np.delete(b, i)).statistic for i in range(80)])
    error = np.sqrt(79 / 80 * np.square(without - without.mean()).sum())
    low, high = kendall_interval(a, b)
    assert low is not None and high is not None
    half = (np.arctanh(high) - np.arctanh(low)) / 2 * (1 - kendalltau(a, b).statistic ** 2)
    assert half == pytest.approx(1.959964 * error, rel=0.03)


def test_words_are_matched_exactly_first_then_nearby() -> None:
    words = np.array([10, 10, 11, 9, 30, 31, 50])
    assert words[match_words(np.array([10]), words)].tolist() == [10]
    assert sorted(words[match_words(np.array([10, 10, 10, 10, 10]), words)]) == [9, 10, 10, 11]
    assert words[match_words(np.array([33]), words)].tolist() == [31]  # within a tenth, the nearer
    assert len(match_words(np.array([40, 70]), words)) == 0
    assert len(match_words(np.array([], dtype=int), words)) == 0


def test_text_sources_are_matched_to_the_prompts() -> None:
    rng = np.random.default_rng(0)

    def source(n: int, low: int, high: int, spread: float) -> ArrayTable:
        x = unit(np.eye(24)[0] + spread * rng.normal(size=(n, 24)))
        return ArrayTable(pl.DataFrame({"words": rng.integers(low, high, size=n)}), {"vectors": x})

    texts = {
        "prompts": source(300, 8, 16, 0.5),
        "captions": source(3000, 4, 30, 0.5),
        "haiku": source(200, 9, 13, 0.1),
        "book": source(50, 200, 300, 0.5),
    }
    matched = matched_texts(texts)
    prompts, captions = matched["prompts"][1], matched["captions"][1]
    assert np.array_equal(np.sort(prompts), np.sort(captions))  # enough captions of every length
    rows = {row["source"]: row for row in text_variation(texts).iter_rows(named=True)}
    assert rows["haiku"]["high"] < rows["prompts"]["low"]
    assert rows["captions"]["low"] < rows["prompts"]["value"] < rows["captions"]["high"]
    assert (rows["book"]["n"], rows["book"]["value"], rows["book"]["mean_words"]) == (0, None, None)
    assert text_variation({}).is_empty()
    alone = text_variation({"haiku": texts["haiku"]}).row(0, named=True)
    assert alone["n"] == 200
