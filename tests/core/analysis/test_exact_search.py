from __future__ import annotations

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.neighbors import NearestNeighbors

from twigma_core.analysis import exact_search as subject


def unit(n: int, d: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def like_clip(n: int, d: int, seed: int) -> np.ndarray:
    """Return unit rows in a narrow cone about a mean that has one very large coordinate."""
    spectrum = (np.arange(1, d + 1) ** -0.6).astype(np.float32)
    x = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32) * spectrum
    x[:, 0] += 6
    x[:, d // 2] += 2
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def index_here(base: np.ndarray) -> faiss.Index:
    """Return the index before it goes to GPUs, which testing what is done with it does not need."""
    index = faiss.IndexFlatIP(base.shape[1])
    index.add(base)
    return index


@pytest.fixture(params=["products", "screened", "index"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All ways of the search, in small blocks."""
    if request.param == "index":
        monkeypatch.setattr(subject, "index_on_gpus", index_here)
    monkeypatch.setattr(subject, "_QUERIES_PER_BLOCK", 64)
    monkeypatch.setattr(subject, "_BASE_PER_BLOCK", 2048)
    monkeypatch.setattr(subject, "_SCREENED_PER_BLOCK", 1024)
    monkeypatch.setattr(subject, "_screening_pays", lambda n, b: request.param == "screened")
    return request.param


@pytest.mark.parametrize("make", [unit, like_clip])
@pytest.mark.parametrize(("m", "k"), [(5000, 5), (3001, 24), (700, 5), (70, 5), (64, 1), (3, 5)])
def test_it_agrees_with_scikit_learn(m: int, k: int, make, way: str) -> None:
    queries, base = make(150, 48, 1), make(m, 48, 2)
    most = min(k, m)
    oracle = NearestNeighbors(n_neighbors=most, metric="cosine", algorithm="brute").fit(base)
    distances, rows = oracle.kneighbors(queries)
    similarities, found = subject.topk(queries, base, k)
    assert np.allclose(similarities, 1 - distances, atol=1e-5)
    assert (found == rows).mean() > 0.999
    far, same = subject.topk(queries * 7, base * 3, k)
    assert np.allclose(far, similarities, atol=1e-6) and (same == found).mean() > 0.999


def test_of_equals_an_index_gives_the_earlier_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "index_on_gpus", index_here)
    rows = np.random.default_rng(3).permutation(np.repeat(np.arange(300), 5))
    base = unit(300, 48, 1)[rows]
    _, found = subject.topk(base[:150], base, 3)
    assert found.tolist() == [np.flatnonzero(rows == row)[:3].tolist() for row in rows[:150]]


def test_the_screen_rules_out_almost_all_and_nothing_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, base = unit(100, 384, 1), unit(10_000, 384, 2)
    b = torch.from_numpy(base)
    counted: list[float] = []
    original = subject._best_candidates

    def counting(block, base, query, row, k):
        counted.append(len(query) / len(block))
        return original(block, base, query, row, k)

    monkeypatch.setattr(subject, "_best_candidates", counting)
    found = subject._Screen.of(b).topk(torch.from_numpy(queries), b, 5)
    assert found is not None
    values, rows = found
    every = queries.astype(float) @ base.T.astype(float)
    assert np.array_equal(np.sort(rows, axis=1), np.sort(np.argsort(-every, axis=1)[:, :5], axis=1))
    assert np.allclose(values, np.take_along_axis(every, rows, axis=1), atol=1e-6)
    assert counted[0] < 100, "of 10,000"


def test_its_bound_holds_for_every_pair_and_would_not_with_a_fiftieth_of_it() -> None:
    base, queries = like_clip(3000, 256, 4), like_clip(200, 256, 3)
    b, q = torch.from_numpy(base), torch.from_numpy(queries)
    screen = subject._Screen.of(b)
    turned = q @ screen.rotation
    integers, steps = subject._rounded(turned)
    rounded = screen.integers * screen.steps.repeat_interleave(subject._GROUP)[:, None]
    near = (integers * steps[:, None]).double() @ rounded.double().T
    off = (near[:, :3000] - q.double() @ b.double().T).abs().amax(dim=1)
    allowed = screen.allowed_error(turned, integers, steps) * steps
    assert (off <= allowed).all() and (off > allowed / 50).any()


def test_rows_that_are_all_alike_cannot_be_screened_and_are_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = np.tile(unit(1, 16, 0), (3000, 1))
    b = torch.from_numpy(base)
    assert subject._Screen.of(b).topk(b[:8], b, 5) is None
    monkeypatch.setattr(subject, "_screening_pays", lambda n, b: True)
    similarities, _ = subject.topk(base[:8], base, 5)
    assert np.allclose(similarities, 1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 400),
    st.integers(1, 9),
    st.integers(0, 99),
    st.booleans(),
)
def test_any_shape_equals_a_full_sort(n: int, m: int, k: int, seed: int, screened: bool) -> None:
    queries, base = unit(n, 3, seed), unit(m, 3, seed + 1)
    if screened:
        b = torch.from_numpy(base)
        found = subject._Screen.of(b).topk(torch.from_numpy(queries), b, min(k, m))
        similarities, rows = found or subject.topk(queries, base, k)
    else:
        similarities, rows = subject.topk(queries, base, k)
    full = -np.sort(-(queries.astype(float) @ base.T.astype(float)), axis=1)[:, : min(k, m)]
    assert similarities.shape == rows.shape == full.shape
    assert np.allclose(similarities, full, atol=1e-5)
    assert all(len(set(row)) == len(row) for row in rows.tolist())


values = st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-3, 300.0])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 150), st.data())
def test_rows_of_few_values_with_ties_and_repeats(n: int, m: int, data: st.DataObject) -> None:
    queries = data.draw(arrays(np.float32, (n, 4), elements=values))
    base = data.draw(arrays(np.float32, (m, 4), elements=values))
    if not (np.abs(queries).sum(axis=1).all() and np.abs(base).sum(axis=1).all()):
        with pytest.raises(ValueError, match="zero, NaN or infinite"):
            subject.topk(queries, base, 3)
        return
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries.astype(float), base.astype(float)))
    full = -np.sort(-(a @ b.T), axis=1)[:, : min(3, m)]
    rounded = torch.from_numpy(b.astype(np.float32))
    screened = subject._Screen.of(rounded).topk(torch.from_numpy(a.astype(np.float32)), rounded, min(3, m))
    for similarities, rows in filter(None, (subject.topk(queries, base, 3), screened)):
        assert np.allclose(similarities, full, atol=1e-5)
        assert np.allclose(np.take_along_axis(a @ b.T, rows, axis=1), full, atol=1e-5)


def test_bad_input_is_named() -> None:
    x = unit(4, 8, 0)
    with pytest.raises(ValueError, match="different models"):
        subject.topk(x, unit(3, 5, 0), 1)
    with pytest.raises(ValueError, match="at least 1 is needed"):
        subject.topk(x, x, 0)
    with pytest.raises(ValueError, match="no picture to compare with"):
        subject.topk(x, x[:0], 1)
    broken = x.copy()
    broken[2] = 0
    with pytest.raises(ValueError, match="1 of 4 queries are zero, NaN or infinite, first at row 2"):
        subject.topk(broken, x, 1)
    broken[2] = np.nan
    with pytest.raises(ValueError, match="1 of 4 base are zero, NaN or infinite, first at row 2"):
        subject.topk(x, broken, 1)
    assert subject.topk(x[:0], x, 2)[0].shape == (0, 2)


def test_torch_has_its_threads_back_also_after_an_error() -> None:
    before = torch.get_num_threads()
    subject.topk(unit(5, 8, 1), unit(50, 8, 2), 3)
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match="1 of 5 queries"):
        subject.topk(np.vstack([unit(4, 8, 1), np.zeros((1, 8))]), unit(50, 8, 2), 3)
    assert torch.get_num_threads() == before
