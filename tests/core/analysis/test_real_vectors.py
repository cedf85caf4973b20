"""Real CLIP vectors (ViT-B/32 of museum works) through every metric, beside plain NumPy and SciPy.

Two collections: 80 works of all kinds from the Met, and 16 portraits.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.linalg
from safetensors.numpy import load_file
from scipy.spatial.distance import cdist, jensenshannon, pdist
from scipy.special import expit
from scipy.stats import entropy
from sklearn.cluster import KMeans
from sklearn.manifold import trustworthiness
from sklearn.metrics import adjusted_rand_score

from tests.core.analysis.made import summarise
from twigma_core.analysis.cluster_model import assign_month, drift_share, freeze
from twigma_core.analysis.clusters import fit_kmeans
from twigma_core.analysis.codebook import Codebook, fit_codebook
from twigma_core.analysis.divergence import MEASURES, SIMILARITIES, divergence_matrix
from twigma_core.analysis.intervals import equal_n_intervals, metric_intervals
from twigma_core.analysis.neighbors import inspirations, neighbors_table
from twigma_core.analysis.projection import fit_projection, project
from twigma_core.analysis.summary import EmbeddingSummary
from twigma_core.models.nsfw import NsfwScorer

CELLS = 4


@pytest.fixture(scope="module")
def vectors(shared_data: Path) -> dict[str, np.ndarray]:
    folders = {name: shared_data / "pictures" / "art" / f"museum_{name}" for name in ("met", "local")}
    found = {
        name: np.load(next(folder.rglob("embeddings.npy"))).astype(np.float64)
        for name, folder in folders.items()
    }
    assert {name: x.shape for name, x in found.items()} == {"met": (80, 512), "local": (16, 512)}
    return found


@pytest.fixture(scope="module")
def codebook(vectors: dict[str, np.ndarray]) -> Codebook:
    return fit_codebook(vectors, (CELLS,))[0]


@pytest.fixture(scope="module")
def summaries(vectors: dict[str, np.ndarray], codebook: Codebook) -> Mapping[str, EmbeddingSummary]:
    """Both collections, and the Met's in two halves, odd and even rows."""
    parts = {**vectors, "even": vectors["met"][::2], "odd": vectors["met"][1::2]}
    return {name: summarise(x, codebook, name) for name, x in parts.items()}


def histogram(x: np.ndarray, codebook: Codebook) -> np.ndarray:
    return np.bincount(cdist(x, codebook.centroids[CELLS]).argmin(axis=1), minlength=CELLS)


@pytest.mark.parametrize("name", ["met", "local"])
def test_variation_equals_a_plain_computation(
    name: str, vectors: dict[str, np.ndarray], codebook: Codebook, summaries: Mapping[str, EmbeddingSummary]
) -> None:
    x, found = vectors[name], metric_intervals(summaries[name])
    sigma = np.linalg.svd(x, compute_uv=False)
    p = sigma**2 / (sigma**2).sum()
    expected = {
        "mean_pairwise_distance": pdist(x).mean(),
        "inverse_explained_variance": sigma.sum() / sigma[0],
        "product_of_marginal_variances": np.exp(np.log(x.std(axis=0, ddof=1)).mean()),
        "vendi_score": np.exp(entropy(p)),
        "quantized_entropy": entropy(histogram(x, codebook)),
    }
    for metric, value in expected.items():
        interval = found[metric][0]
        assert interval.value == pytest.approx(value, rel=1e-6), metric
        assert interval.low < interval.value < interval.high, metric  # type: ignore[operator]
    assert found["mean_pairwise_distance"][0].high < 1.2, "random directions are at 1.41"  # type: ignore[operator]


def test_works_of_all_kinds_are_more_variable_than_portraits(
    summaries: Mapping[str, EmbeddingSummary],
) -> None:
    pair = {name: summaries[name] for name in ("met", "local")}
    equal = equal_n_intervals(pair)
    for metric in ("inverse_explained_variance", "product_of_marginal_variances", "vendi_score"):
        met, local = (equal[name][metric] for name in ("met", "local"))
        assert met[1] == local[1] == 16
        assert met[0].low > local[0].high, metric  # type: ignore[operator]
    met, local = (metric_intervals(pair[name])["mean_pairwise_distance"] for name in ("met", "local"))
    assert met[0].low > local[0].high  # type: ignore[operator]


def test_divergence_equals_a_plain_computation(
    vectors: dict[str, np.ndarray], codebook: Codebook, summaries: Mapping[str, EmbeddingSummary]
) -> None:
    pair = {name: summaries[name] for name in ("met", "local")}
    frame = divergence_matrix(pair, MEASURES).filter(source_p="met")
    found = dict(frame.select("measure", "value").iter_rows())
    x, y = vectors["met"], vectors["local"]
    p, q = histogram(x, codebook), histogram(y, codebook)
    smoothed = p + 0.5, q + 0.5
    c, d = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(c @ d + 1e-12 * np.eye(512)).real
    xx, yy, xy = ((a @ b.T + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    gaps = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    near = np.sort(cdist(x[:16], x[:16]), axis=1)[:, 5]
    inside = cdist(summaries["met"].sample[:16], summaries["local"].sample)
    expected = {
        f"kl_{CELLS}": entropy(*smoothed),
        f"kl_reverse_{CELLS}": entropy(*reversed(smoothed)),
        f"js_{CELLS}": jensenshannon(p, q) ** 2,
        "frechet": np.square(x.mean(axis=0) - y.mean(axis=0)).sum() + np.trace(c + d - 2 * root),
        "kernel": sum(gaps) - 2 * xy.mean(),
    }
    for measure, value in expected.items():
        assert found[measure] == pytest.approx(value, rel=2e-3 if measure == "frechet" else 1e-6), measure
    sample = summaries["met"].sample[:16].astype(np.float64)
    near = np.sort(cdist(sample, sample), axis=1)[:, 5]
    assert found["precision"] == pytest.approx((inside < near[:, None]).any(axis=0).mean())
    assert found["coverage"] == pytest.approx((inside < near[:, None]).any(axis=1).mean())


def test_two_halves_of_a_collection_are_nearer_than_two_collections(
    summaries: Mapping[str, EmbeddingSummary],
) -> None:
    """By every measure of distance; each value is finite, and what has no interval says why.

    Precision and density are of another kind: portraits lie among works of all kinds, not the other way
    round.
    """
    three = {name: summaries[name] for name in ("even", "odd", "local")}
    frame = divergence_matrix(three, MEASURES)
    rows = {(r["source_p"], r["source_q"], r["measure"]): r for r in frame.iter_rows(named=True)}
    for measure in frame["measure"].unique():
        if measure == "frechet_corrected":
            continue
        sign = -1 if measure.removesuffix(f"_{CELLS}") in SIMILARITIES else 1
        value = {(p, q): sign * rows[p, q, measure]["value"] for p, q in itertools.permutations(three, 2)}
        assert all(np.isfinite(list(value.values())))
        for half, other in (("even", "odd"), ("odd", "even")):
            if measure not in ("precision", "density"):
                assert value[half, other] < value[half, "local"], measure
    silent = frame.filter(pl.col("low").is_null(), pl.col("reason").is_null())
    assert silent.is_empty()
    withheld = frame.filter(measure="frechet_corrected")
    assert withheld["value"].null_count() == 6 and "2 a dimension" in withheld["reason"][0]


@pytest.mark.parametrize("k", [4, 10])
def test_clusters_are_as_tight_as_scikit_learns_and_hold_the_portraits_together(
    k: int, vectors: dict[str, np.ndarray]
) -> None:
    x = np.concatenate([vectors["met"], vectors["local"]])
    fit = fit_kmeans(x, k, seed=0)
    theirs = KMeans(k, n_init=20, random_state=0).fit(x)
    distances = cdist(x, fit.centroids)
    assert (fit.labels - 1 == distances.argmin(axis=1)).all()
    assert fit.inertia == pytest.approx(np.square(distances.min(axis=1)).sum(), rel=1e-5)
    assert fit.inertia <= 1.02 * theirs.inertia_
    if k == 4:
        assert adjusted_rand_score(fit.labels, theirs.labels_) > 0.7
        assert np.unique(fit.labels[80:]).size == 1, "sixteen portraits, one cluster"
    assert np.bincount(fit.labels[80:]).max() >= 12


def test_the_drift_measure_tells_real_works_from_noise(
    vectors: dict[str, np.ndarray],
) -> None:
    fit = fit_kmeans(vectors["met"], 4, seed=0)
    model = freeze(fit, vectors["met"])
    centroids, radius = model.arrays["centroids"], model.table["radius_p99"].to_numpy()
    ids = [str(i) for i in range(80)]
    month = assign_month(ids, vectors["met"], model.table, centroids, "1900-01")
    assert month["cluster"].to_list() == fit.labels.tolist()
    at_fit = drift_share(month["distance"].to_numpy(), month["cluster"].to_numpy(), radius)
    assert at_fit <= 4 / 80
    noise = np.random.default_rng(0).normal(size=(50, 512))
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    other = assign_month(ids[:50], noise, model.table, centroids, "1900-02")
    assert drift_share(other["distance"].to_numpy(), other["cluster"].to_numpy(), radius) == 1


def test_neighbours_equal_a_full_sort_and_portraits_find_portraits(vectors: dict[str, np.ndarray]) -> None:
    met, local = vectors["met"], vectors["local"]
    names = [f"met{i}" for i in range(80)]
    corpora = {"met": (names, met), "local": ([f"l{i}" for i in range(16)], local)}
    queries = [f"q{i}" for i in range(16)]
    table = neighbors_table("1900-01", queries, local, corpora)
    for corpus, base in (("met", met), ("local", local)):
        cosine = local @ base.T
        order = np.argsort(-cosine, axis=1)[:, :5]
        part = table.filter(corpus=corpus)
        assert part["similarity"].to_numpy() == pytest.approx(
            np.take_along_axis(cosine, order, axis=1).mean(axis=1), abs=1e-6
        )
        assert part["neighbor_ids"].to_list() == [[corpora[corpus][0][i] for i in row] for row in order]
    of = {name: table.filter(corpus=name)["similarity"] for name in corpora}
    others = (local @ local.T - 2 * np.eye(16)).max(axis=1)  # the nearest but oneself
    assert others.mean() > of["met"].max(), "a portrait is more like another than like the Met's works"  # type: ignore[operator]
    dataset = pl.DataFrame({"image_id": queries, "nsfw_score": [0.0] * 16})
    best = inspirations(table.filter(corpus="met"), dataset, n=3)
    assert best["similarity"].to_list() == pytest.approx(
        np.sort((local @ met.T).max(axis=1))[:-4:-1], abs=1e-6
    )


def test_the_map_keeps_neighbourhoods_and_the_collections_apart(vectors: dict[str, np.ndarray]) -> None:
    given = {name: ([f"{name}{i}" for i in range(len(x))], x) for name, x in vectors.items()}
    table, arrays = fit_projection(given)
    assert table.group_by("source").len().sort("source")["len"].to_list() == [16, 16]
    x = np.concatenate([vectors["met"], vectors["local"]])
    places = project(arrays, x)
    # 0.5 is what places at random have
    assert trustworthiness(x, places, n_neighbors=5) > 0.65
    assert trustworthiness(x, np.random.default_rng(0).permutation(places), n_neighbors=5) < 0.6
    apart = cdist(places[80:], places)
    assert pdist(places[80:]).mean() < 0.9 * apart[:, :80].mean(), "portraits lie together"


def test_the_real_nsfw_head_scores_the_vectors_of_its_clip_and_the_other_refuses(
    vectors: dict[str, np.ndarray], shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twigma_core.models.weights.remember", None)  # what is pinned needs no first use
    folder, clip = shared_data / "weights", "ViT-B-32/openai"
    scorer = NsfwScorer("nsfw_vit_b_32", folder)
    x = np.concatenate([vectors["met"], vectors["local"]])
    scores = scorer.score(x, clip)
    assert np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1
    head = {key: a.astype(np.float64) for key, a in load_file(folder / "nsfw_vit_b_32.safetensors").items()}
    h = (x - head["norm.mean"]) / np.sqrt(head["norm.variance"])
    for layer in (1, 2):
        h = np.maximum(h @ head[f"linear_{layer}.weight"].T + head[f"linear_{layer}.bias"], 0)
    expected = expit(h @ head["linear_3.weight"].T + head["linear_3.bias"])[:, 0]
    assert scores == pytest.approx(expected, abs=1e-4)
    assert np.median(scores) < 1e-3 and (scores < 0.5).all()
    with pytest.raises(ValueError, match=r"96 of 96 rows are not of length 1 \(row 0 has 3\)"):
        scorer.score(3 * x, clip)
    with pytest.raises(
        ValueError, match=r"takes \(n, 768\) embeddings of ViT-L-14/openai, not .*\(96, 512\)"
    ):
        NsfwScorer("nsfw_vit_l_14", folder).score(x, clip)
    with pytest.raises(ValueError, match="trained on embeddings of ViT-B-32/openai, these are of ViT-L-14/o"):
        scorer.score(x, "ViT-L-14/openai")
    with pytest.raises(ValueError, match=r"mean nothing\. Choose the head of the CLIP in use"):
        NsfwScorer("nsfw_vit_l_14", folder).check_clip(clip, None)
