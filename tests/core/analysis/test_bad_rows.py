"""Bad vectors to every function that takes any: refused with the reason, or numbers that are numbers.

What is not here is in `test_bad_numbers` (summaries and what is computed from them) and beside the function's
other tests (likes, histograms, annotations).
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twigma_core.analysis
from tests.core.analysis import test_bad_numbers as summaries
from tests.core.analysis.made import unit
from twigma_core import tables
from twigma_core.analysis import (
    cluster_model,
    cluster_sensitivity,
    clusters,
    distances,
    exact_search,
    groups,
    neighbors,
    projection,
    prompts,
    variation_tables,
)
from twigma_core.analysis.codebook import Codebook
from twigma_core.lake import ArrayTable

D = 6
GOOD = unit(20, D, 0).astype(np.float32)
FIT = clusters.fit_kmeans(GOOD, 4, seed=0)
MODEL = cluster_model.freeze(FIT, GOOD)
CODEBOOK = Codebook.from_centroids({4: GOOD[:4], 9: np.concatenate([GOOD[:4], 100 + GOOD[:5]])})
MAP = {
    "pca_mean": np.zeros(D, np.float32),
    "pca_components": np.eye(2, D, dtype=np.float32),
    "vectors": GOOD[:, :2].copy(),
    "coordinates": unit(20, 2, 1).astype(np.float32),
}
MAP_TABLE = pl.DataFrame({"version": ["v"]})
EDGES = np.linspace(0, 2, 11)


def ids(x: np.ndarray) -> list[str]:
    return [str(i) for i in range(len(x))]


def two(x: np.ndarray) -> list[str]:
    return [("a", "b")[i % 2] for i in range(len(x))]


def of_prompts(x: np.ndarray) -> pl.DataFrame:
    stored = ArrayTable(pl.DataFrame({"prompt_id": two(x)}), {"vectors": x})
    texts = pl.DataFrame({"corpus": "diffusiondb", "prompt_id": ["a", "b"], "prompt": ["a cat", "cat"]})
    return prompts.prompt_variation(texts, {"diffusiondb": stored})


def texts_of(x: np.ndarray) -> dict[str, ArrayTable]:
    words = pl.DataFrame({"words": [3] * len(x)}, schema={"words": pl.Int64})
    return {"haiku": ArrayTable(words, {"vectors": x})}


Rows = Callable[[np.ndarray], Any]
NOT_FINITE = "holds? NaN or infinity|zero, NaN or infinite"
ZERO = "zero, NaN or infinite"
TOO_FEW = "smaller than k=4 clusters"
TWO_ROWS = "needs at least 2 rows"
LONG = "normalise the rows to length 1"
NO_BASE = "no picture to compare with"
# What refuses which bad rows, and with what words; everything else gives numbers.
TAKERS: dict[str, tuple[Rows, dict[str, str]]] = {
    "fit_kmeans": (lambda x: clusters.fit_kmeans(x, 4, 0, 2), {"one": TOO_FEW, "none": TOO_FEW}),
    "assign": (lambda x: clusters.assign(x, GOOD[:3]), {}),
    "freeze": (lambda x: cluster_model.freeze(FIT, x).table, {"one": "fitted on 20", "none": "fitted on 20"}),
    "assign_month": (
        lambda x: cluster_model.assign_month(ids(x), x, MODEL.table, MODEL.arrays["centroids"], "2021-01"),
        {},
    ),
    "cluster_sensitivity": (
        lambda x: cluster_sensitivity.cluster_sensitivity(
            x, ["2021-01"] * len(x), GOOD[:3], sizes=(2,), seeds=(1,), starts=1
        ),
        {"none": "no picture; materialize dataset"},
    ),
    "Codebook.assign": (lambda x: CODEBOOK.assign(x, 9), {}),
    "Codebook.counts": (lambda x: CODEBOOK.counts(x), {}),
    "group_distances": (lambda x: groups.group_distances(x, two(x), EDGES), {"long": LONG}),
    "contrast": (lambda x: groups.contrast(x, two(x)), {}),
    "row_mean_distances": (distances.row_mean_distances, {"one": TWO_ROWS, "none": TWO_ROWS}),
    "mean_distance_interval": (distances.mean_distance_interval, {}),
    "distance_histogram": (lambda x: distances.distance_histogram(x, EDGES), {"long": LONG}),
    "topk": (lambda x: exact_search.topk(x, GOOD, 30), {"zero": ZERO}),
    "mean_topk_similarity": (
        lambda x: neighbors.mean_topk_similarity(GOOD, x),
        {"zero": ZERO, "none": NO_BASE},
    ),
    "nearest": (lambda x: neighbors.nearest(GOOD, x, ids(x), 5)[::2], {"zero": ZERO, "none": NO_BASE}),
    "neighbors_table": (
        lambda x: neighbors.neighbors_table("2021-01", ids(x), x, {"laion": (ids(GOOD), GOOD)}),
        {"zero": ZERO},
    ),
    "project": (lambda x: projection.project(MAP, x), {}),
    "far_from_map": (lambda x: projection.far_from_map(MAP, x).astype(float), {}),
    "projection_table": (
        lambda x: projection.projection_table("2021-01", ids(x), x, MAP_TABLE, MAP),
        {},
    ),
    "prompt_variation": (of_prompts, {}),
    "text_variation": (lambda x: prompts.text_variation(texts_of(x)), {}),
    "pair_distances": (
        lambda x: variation_tables.pair_distances({}, {"artbench_same_artist": (x, two(x))}, texts_of(x)),
        {"long": LONG},
    ),
}
BAD = {
    "nan": lambda x, row: _with(x, row, np.nan),
    "infinite": lambda x, row: _with(x, row, -np.inf),
    "zero": lambda x, row: np.where(np.arange(len(x))[:, None] == row, 0, x),
    "one": lambda x, row: x[:1],
    "none": lambda x, row: x[:0],
    "same": lambda x, row: np.repeat(x[:1], len(x), axis=0),
    "long": lambda x, row: 1000 * x,
    "short": lambda x, row: 1e-3 * x,
}


def _with(x: np.ndarray, row: int, value: float) -> np.ndarray:
    x = x.copy()
    x[row, row % x.shape[1]] = value
    return x


def numbers(found: Any) -> Iterator[float]:
    """Yield every number of a result, however deep."""
    if isinstance(found, pl.DataFrame):
        found = found.to_dict(as_series=False)
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        found = vars(found)
    if isinstance(found, np.ndarray):
        found = found.ravel().tolist()
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list | tuple):
        for part in found:
            yield from numbers(part)
    elif isinstance(found, int | float):
        yield found


@pytest.mark.parametrize("name", list(TAKERS))
@settings(max_examples=3, deadline=None)
@given(row=st.integers(0, 19), seed=st.integers(0, 50))
def test_bad_vectors_are_refused_with_the_reason_or_give_numbers(name: str, row: int, seed: int) -> None:
    taker, refused = TAKERS[name]
    good = unit(20, D, seed).astype(np.float32)
    for kind, spoil in BAD.items():
        words = NOT_FINITE if kind in ("nan", "infinite") else refused.get(kind)
        if words is None:
            found = list(numbers(taker(spoil(good, row))))
            assert all(np.isfinite(value) for value in found), kind
            continue
        with pytest.raises(ValueError, match=words) as told:
            taker(spoil(good, row))
        if kind in ("nan", "infinite") and name != "text_variation":  # which draws its texts at random
            assert re.search(rf"\brow {row}\b", str(told.value)), (kind, str(told.value))


@pytest.mark.parametrize(
    "name",
    ["assign", "assign_month", "Codebook.assign", "topk", "neighbors_table", "project", "far_from_map"],
)
def test_vectors_of_another_width_come_from_another_model(name: str) -> None:
    with pytest.raises(ValueError, match=r"different models|a codebook of width 6"):
        TAKERS[name][0](unit(20, D - 1, 0))


def test_more_neighbours_than_there_are_and_more_clusters_than_pictures() -> None:
    similarities, rows = exact_search.topk(GOOD, GOOD[:3], 5)
    assert similarities.shape == rows.shape == (20, 3)
    few = cluster_sensitivity.cluster_sensitivity(GOOD[:1], ["2021-01"], GOOD[:3], sizes=(2, 5))
    assert few.equals(tables.empty("cluster_sensitivity"))
    assert cluster_sensitivity.explain(few, 3) == "k = 3 was not tried."


def test_a_sample_that_is_not_finite_is_refused_by_its_source() -> None:
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="row 3 of the sample of laion holds NaN or infinity; leave it"):
            projection.fit_projection({"laion": (ids(GOOD), _with(GOOD, 3, bad))})
    with pytest.raises(ValueError, match="embeddings of different models: dimensions"):
        projection.fit_projection({"a": (ids(GOOD), GOOD), "b": (ids(GOOD), GOOD[:, :4])})


def test_no_function_that_takes_vectors_is_left_out() -> None:
    """By the name of the argument; what works on sums and counts has its tests elsewhere."""
    vectors = {"x", "queries", "base", "vectors", "vectors_by_source", "text_embeddings"}
    covered = {name.rpartition(".")[2] for name in TAKERS} | {*summaries.OF_ONE, *summaries.OF_TWO}
    covered |= {
        "fit_projection",
        "fit_codebook",
        "check_rows",
        "matched_texts",
        "fitting_sizes",
        "index_on_gpus",
    }
    missing = set()
    for found in pkgutil.iter_modules(twigma_core.analysis.__path__):
        module = importlib.import_module(f"twigma_core.analysis.{found.name}")
        for name, thing in vars(module).items():
            own = inspect.isfunction(thing) and thing.__module__ == module.__name__
            if own and not name.startswith("_") and vectors & set(inspect.signature(thing).parameters):
                missing |= {name} - covered
    assert missing == set()
