"""The tables of divergences: every measure of every pair, and of every month."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable

import polars as pl
import pytest

from tests.core.analysis.made import summarise, unit
from twigma_core.analysis import divergence
from twigma_core.analysis.codebook import Codebook
from twigma_core.analysis.summary import EmbeddingSummary


def world(codebook: Codebook) -> dict[str, EmbeddingSummary]:
    return {
        "twigma": summarise(unit(400, 8, 0, shift=1), codebook),
        "diffusiondb": summarise(unit(300, 8, 1, shift=1.2), codebook),
        "laion": summarise(unit(500, 8, 2, shift=-1), codebook),
    }


CODEBOOK = Codebook.from_centroids({4: unit(4, 8, 5), 10: unit(10, 8, 6)})


def test_divergence_matrix_orders_the_sources() -> None:
    frame = divergence.divergence_table(world(CODEBOOK))
    names = {"kl", "kl_4", "js", "js_4", "mauve", "mauve_4", "frechet", "frechet_corrected", "kernel"}
    names |= {"precision", "recall", "density", "coverage"}
    assert set(frame["measure"]) == names and frame.height == 6 * len(names)
    assert frame.filter(measure="kl").select(pl.col("cells").unique()).item() == 10
    assert frame.filter(measure="kl")["smoothing"].unique().to_list() == [0.5]
    got = {(r["source_p"], r["source_q"], r["measure"]): r for r in frame.iter_rows(named=True)}
    for name in names - set(divergence.SIMILARITIES) - {"mauve_4"}:
        near, far = got["twigma", "diffusiondb", name], got["twigma", "laion", name]
        assert near["high"] < far["low"], name
    for name in divergence.SIMILARITIES:
        near, far = got["twigma", "diffusiondb", name], got["twigma", "laion", name]
        assert near["value"] > far["value"], name
    for name in divergence.SYMMETRIC:
        there, back = got["twigma", "laion", name], got["laion", "twigma", name]
        assert [there[key] for key in ("value", "low", "high")] == [
            back[key] for key in ("value", "low", "high")
        ]
        assert (there["n_p"], back["n_p"]) == (400, 500)
    assert got["twigma", "laion", "recall"]["n_p"] == 400, "manifolds are of equal numbers"
    for name, turned in (("precision", "recall"), ("recall", "precision")):
        for p, q in itertools.permutations(("twigma", "diffusiondb", "laion"), 2):
            assert got[p, q, name]["value"] == got[q, p, turned]["value"]
    assert got["twigma", "diffusiondb", "density"] != got["diffusiondb", "twigma", "density"]
    assert got["twigma", "laion", "frechet"]["value"] == got["laion", "twigma", "frechet"]["value"]
    assert got["twigma", "laion", "kl"]["value"] != got["laion", "twigma", "kl"]["value"]
    only = divergence.divergence_matrix(world(CODEBOOK), measure="js")
    assert set(only["measure"]) == {"js", "js_4"}


def test_month_divergences_go_both_ways() -> None:
    sources = world(CODEBOOK)
    references = {"diffusiondb": sources["diffusiondb"], "laion": sources["laion"]}
    frame = divergence.month_divergences("2022-08", sources["twigma"], references)
    matrix = divergence.divergence_matrix(sources, "kl")
    for corpus in references:
        here = frame.filter(corpus=corpus)
        there = matrix.filter(source_p="twigma", source_q=corpus, measure="kl")["value"].item()
        back = matrix.filter(source_p=corpus, source_q="twigma", measure="kl")["value"].item()
        assert here.filter(measure="kl")["value"].item() == there
        assert here.filter(measure="kl_reverse")["value"].item() == back
        assert here.filter(pl.col("cells").is_not_null())["n_month"].unique().to_list() == [400]
    assert divergence.month_divergences("2022-08", sources["twigma"], {}).is_empty()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_month_of_few_pictures_has_rows(n: int) -> None:
    frame = divergence.month_divergences("2021-01", summarise(unit(n, 8, 0), CODEBOOK), world(CODEBOOK))
    assert frame.height == 3 * (4 * 2 + 3 + 4)
    histograms, others = (frame.filter(pl.col("cells").is_null() == flag) for flag in (False, True))
    assert histograms["value"].count() == (0 if n == 0 else histograms.height)
    assert others["value"].count() == (0 if n < 2 else 2 * 3)  # frechet and kernel
    missing = frame.filter(pl.col("value").is_null() | pl.col("low").is_null())
    assert missing.height == frame.height - (3 if n == 2 else 0), "the kernel has an interval from two on"
    assert missing["reason"].null_count() == 0, "what is missing says why"


def test_summaries_that_do_not_compare_are_refused_by_name() -> None:
    x = unit(30, 8, 0)
    other = Codebook.from_centroids({4: unit(4, 8, 7)})
    with pytest.raises(ValueError, match="twigma and laion are summarised with codebooks"):
        divergence.divergence_matrix({"twigma": summarise(x, CODEBOOK), "laion": summarise(x, other)})
    with pytest.raises(ValueError, match="codebooks none and none"):
        divergence.divergence_matrix({"twigma": summarise(x), "laion": summarise(x)})
    with pytest.raises(ValueError, match=r"differ in width \(8, 5\)"):
        divergence.divergence_matrix({"twigma": summarise(x), "laion": summarise(x[:, :5])}, "kernel")
    with pytest.raises(ValueError, match="no measure named 'klx'"):
        divergence.divergence_matrix({"twigma": summarise(x), "laion": summarise(x)}, "klx")


def test_the_names_that_outsiders_import() -> None:
    """Names and arguments that notebooks and outside checks rely on."""
    from twigma_core.analysis import summary, variation

    expected: list[tuple[Callable[..., object], list[str]]] = [
        (variation.mean_pairwise_distance, ["x"]),
        (variation.inverse_explained_variance, ["x"]),
        (variation.product_of_marginal_variances, ["x"]),
        (variation.quantized_entropy, ["counts"]),
        (summary.EmbeddingSummary.from_embeddings, ["x", "ids", "codebook", "sample_size"]),
        (divergence.kl_divergence, ["p_counts", "q_counts", "smoothing"]),
        (divergence.js_divergence, ["p_counts", "q_counts"]),
        (divergence.mauve_score, ["p_counts", "q_counts"]),
        (divergence.frechet_distance, []),
        (divergence.kernel_distance, ["x", "y"]),
        (divergence.divergence_matrix, ["summaries", "measure"]),
    ]
    for function, names in expected:
        assert list(inspect.signature(function).parameters)[: len(names)] == names, function
    members = ("count", "mean_pairwise_distance", "inverse_explained_variance", "save", "load", "entropy")
    one = summarise(unit(9, 4, 0))
    assert all(hasattr(one, name) for name in (*members, "product_of_marginal_variances"))
