"""Whether the choice of measure matters: planted orders, their agreement, and what cannot be fitted."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

from tests.core.analysis.made import summarise, unit
from twigma_core.analysis.codebook import Codebook
from twigma_core.analysis.divergence import divergence_table
from twigma_core.analysis.robustness import GENERATED, divergence_robustness, in_words
from twigma_core.analysis.summary import EmbeddingSummary

CODEBOOK = Codebook.from_centroids({4: unit(4, 8, 5), 10: unit(10, 8, 6)})
SHIFTS = {"twigma": 3.0, "diffusiondb": 4.0, "artbench": -3.0, "laion": -5.0}


def world(shifts: dict[str, float], n: int = 300) -> dict[str, EmbeddingSummary]:
    return {
        source: summarise(unit(n, 8, seed, shift), CODEBOOK)
        for seed, (source, shift) in enumerate(shifts.items())
    }


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    sources = world(SHIFTS)
    return divergence_robustness(sources, divergence_table(sources), sizes=(4, 10, 500), seeds=(0, 1))


def test_every_measure_size_and_seed_is_there_for_every_pair(frame: pl.DataFrame) -> None:
    of_histograms = [
        f"{measure}, {cells} cells, {quantizer}"
        for measure in ("kl", "js", "mauve")
        for cells, quantizers in ((4, ["frozen codebook"]), (10, ["frozen codebook"]), (500, []))
        for quantizer in [*quantizers, "seed 0", "seed 1"]
    ]
    others = ["frechet", "frechet_corrected", "kernel", "precision", "recall", "density", "coverage"]
    assert set(frame["variant"]) == {*of_histograms, *others}
    assert frame.group_by("variant").len()["len"].unique().to_list() == [12]
    smoothing = frame.filter(pl.col("cells").is_not_null()).select("measure", "smoothing").unique()
    assert dict(smoothing.iter_rows()) == {"kl": 0.5, "js": 0.0, "mauve": 0.0}
    fitted = frame.filter(pl.col("seed").is_not_null(), pl.col("cells") == 10)
    assert fitted["n_p"].unique().to_list() == [300] and fitted["low"].null_count() == 0


def test_a_planted_order_is_found_whatever_the_measure(frame: pl.DataFrame) -> None:
    known = frame.filter(pl.col("rank").is_not_null())
    assert known["claim_holds"].all()
    assert known["kendall_tau"].min() > 0.5  # type: ignore[operator]
    generated = known.filter(pl.col("source_p").is_in(GENERATED) & pl.col("source_q").is_in(GENERATED))
    human = known.filter(~pl.col("source_p").is_in(GENERATED) & ~pl.col("source_q").is_in(GENERATED))
    assert pl.concat([generated, human])["rank"].max() <= 4, "eight pairs are of one kind and the other"  # type: ignore[operator]


def test_agreement_is_kendalls_with_the_papers_kl(frame: pl.DataFrame) -> None:
    def values(variant: str) -> np.ndarray:
        return frame.filter(variant=variant).sort("source_p", "source_q")["value"].to_numpy()

    reference = values("kl, 10 cells, frozen codebook")
    for variant, sign in (("frechet", 1), ("coverage", -1), ("mauve, 4 cells, seed 1", -1)):
        expected = kendalltau(sign * values(variant), reference).statistic
        assert frame.filter(variant=variant)["kendall_tau"].unique().item() == pytest.approx(expected)
    assert frame.filter(variant="kl, 10 cells, frozen codebook")[
        "kendall_tau"
    ].unique().item() == pytest.approx(1)


def test_seeds_give_quantizers_of_their_own(frame: pl.DataFrame) -> None:
    found = [frame.filter(variant=f"js, 10 cells, seed {seed}")["value"].to_list() for seed in (0, 1)]
    assert found[0] != found[1]


def test_what_cannot_be_fitted_says_so_in_the_table(frame: pl.DataFrame) -> None:
    rows = frame.filter(pl.col("cells") == 500)
    assert rows.height == 3 * 2 * 12
    assert rows.select("value", "low", "high", "rank", "kendall_tau", "claim_holds").null_count().row(0) == (
        (rows.height,) * 6
    )
    assert rows["reason"].unique().to_list() == [
        "500 cells need 4000 pictures, 8 a cell; 300 from each of 4 sources are 1200"
    ]


def test_the_sentences_say_what_holds_and_what_does_not(frame: pl.DataFrame) -> None:
    said = in_words(frame)
    assert said["what stays the same"].startswith("in 25 of 25 variants")
    assert "where it does not hold" not in said
    assert "500 cells" in said["not computed"]
    sources = world({"twigma": 1.0, "diffusiondb": -1.0, "artbench": 1.0, "laion": -2.0})
    turned = divergence_robustness(sources, divergence_table(sources), sizes=(4,), seeds=(0,))
    other = in_words(turned)
    assert other["what stays the same"].startswith("in 0 of ")
    assert "frechet" in other["where it does not hold"]


def test_sources_without_pictures_are_no_crash() -> None:
    sources = world(SHIFTS) | {"laion": summarise(np.zeros((0, 8)), CODEBOOK)}
    frame = divergence_robustness(sources, divergence_table(sources), sizes=(4,), seeds=(0,))
    assert frame["rank"].null_count() == frame.height
    assert in_words(frame)["what stays the same"] == "no variant could be computed for every pair of sources"
    assert divergence_robustness({}, divergence_table({}), sizes=(4,)).is_empty()
