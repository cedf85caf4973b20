"""Identical embeddings over months equal brute force, and older vectors are not read to find them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.object_store import ObjectStoreServer
from twigma_core import tables
from twigma_core.images.lookalikes import IDENTICAL, NEAR, WIDTH, Lookalikes, find_lookalikes, fingerprint
from twigma_core.lake import ArrayTable, Lake

MONTHS = ("2021-01", "2021-02", "2021-03")


def embedded(
    x: np.ndarray, month: str, first: int = 0, shas: Sequence[str] | None = None, weights: str = "w"
) -> ArrayTable:
    """Return table embeddings of pictures i0, i1 … with these vectors."""
    table = pl.DataFrame(
        {
            "image_id": [f"i{first + n}" for n in range(len(x))],
            "month": month,
            "sha256": shas or [f"f{first + n}" for n in range(len(x))],
            "model": "m",
            "weights_sha256": weights,
            "settings": "s",
        },
        schema=tables.empty("embeddings").schema,
    )
    return ArrayTable(table, {"vectors": np.asarray(x, np.float32)})


def stacked(parts: Sequence[ArrayTable]) -> ArrayTable:
    prints = [fingerprint(part) for part in parts]
    return ArrayTable(
        pl.concat([one.table for one in prints]),
        {"vectors": np.concatenate([one.vectors for one in prints])},
    )


def run(parts: Sequence[ArrayTable], read: dict[str, set[int]] | None = None) -> list[Lookalikes]:
    """Return what is found in each month when it comes; add the rows that the last month read to `read`."""
    by_month = dict(zip(MONTHS, parts, strict=False))
    seen: dict[str, set[int]] = {} if read is None else read
    found = []

    def read_rows(month: str, rows: Sequence[int]) -> np.ndarray:
        seen.setdefault(month, set()).update(rows)
        return by_month[month].vectors[list(rows)]

    for number, month in enumerate(by_month):
        seen.clear()
        found.append(find_lookalikes(month, stacked(parts[: number + 1]), read_rows))
    return found


def identical_pairs(found: Sequence[Lookalikes]) -> set[tuple[str, str]]:
    every = pl.concat([one.pairs for one in found]).filter("identical")
    return set(every.select("image_id", "other_id").iter_rows())


def components(names: Sequence[str], pairs: set[tuple[str, str]]) -> set[frozenset[str]]:
    group = {name: {name} for name in names}
    for one, other in pairs:
        joined = group[one] | group[other]
        for name in joined:
            group[name] = joined
    return {frozenset(one) for one in group.values()}


@given(st.integers(0, 10**6), st.integers(2, 40), st.sampled_from([1, 2, 5, 40, 768]))
def test_identical_pairs_equal_brute_force(seed: int, n: int, d: int) -> None:
    """Clumps whose members differ by about the threshold, spread over three months."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, d))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    noise = rng.choice([0.0, 3e-4, 1e-3, 1.4e-3, 2e-3], n)[:, None] * rng.standard_normal((n, d)) / np.sqrt(d)
    x = ((centres[rng.integers(0, 4, n)] + noise) * rng.uniform(0.5, 2, (n, 1))).astype(np.float32)
    cuts = sorted(rng.integers(0, n + 1, 2).tolist())
    parts = [
        embedded(x[start:stop], month, start)
        for month, start, stop in zip(MONTHS, [0, *cuts], [*cuts, n], strict=True)
    ]
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    cosine = unit @ unit.T
    names = [f"i{k}" for k in range(n)]
    expected = {(names[i], names[j]) for i in range(n) for j in range(i) if cosine[i, j] >= IDENTICAL - 1e-12}
    found = run(parts)
    assert components(names, identical_pairs(found)) == components(names, expected)
    for one in found:
        tables.conform("lookalikes", one.pairs)


def test_the_fingerprints_are_the_same_on_every_machine() -> None:
    x = np.linspace(-1, 1, 2 * 768).reshape(2, 768)
    vectors = fingerprint(embedded(x, MONTHS[0])).vectors
    assert vectors.shape == (2, WIDTH) and vectors.dtype == np.float32
    assert vectors[0, :4].tolist() == pytest.approx([0.0102596, 0.05145208, 0.0224089, 0.00641799], rel=1e-5)
    distances = np.random.default_rng(0).standard_normal((50, 768))
    unit = distances / np.linalg.norm(distances, axis=1, keepdims=True)
    shadow = fingerprint(embedded(unit, MONTHS[0])).vectors
    far = np.linalg.norm(unit[:, None] - unit[None], axis=2)
    assert (np.linalg.norm(shadow[:, None] - shadow[None], axis=2) <= far + 1e-6).all()


def test_older_vectors_are_read_only_where_they_may_be_the_same() -> None:
    rng = np.random.default_rng(0)
    old = rng.standard_normal((3000, 96)) + 1  # in a cone, as CLIP's embeddings are
    new = rng.standard_normal((500, 96)) + 1
    new[7] = old[1234] * 3 + 1e-4
    read: dict[str, set[int]] = {}
    found = run([embedded(old, MONTHS[0]), embedded(new, MONTHS[1], 3000)], read)[1]
    assert identical_pairs([found]) == {("i3007", "i1234")}
    row = found.pairs.filter("identical").row(0, named=True)
    assert (row["month"], row["other_month"]) == (MONTHS[1], MONTHS[0]) and row["cosine"] >= IDENTICAL
    assert read[MONTHS[0]] == {1234} and len(read[MONTHS[1]]) == 500


def test_copies_are_one_comparison_and_a_file_is_compared_once() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((20_000, 32)).astype(np.float32) + 2
    x[5_000:15_000] = x[0]  # a blank picture posted ten thousand times: 50 million pairs
    x[17_000] = x[16_000] + np.float32(1e-5)
    shas = [f"f{n}" for n in range(len(x))]
    shas[18_000] = shas[18_001] = "same"
    x[18_001] = x[18_000]
    (found,) = run([embedded(x, MONTHS[0], shas=shas)])
    pairs = identical_pairs([found])
    assert pairs == {(f"i{n}", "i0") for n in range(5_000, 15_000)} | {("i17000", "i16000")}


def test_the_same_picture_in_a_second_month_and_vectors_of_another_model_are_no_pairs() -> None:
    x = np.eye(4)
    again = embedded(x[:2], MONTHS[1])
    found = run([embedded(x, MONTHS[0]), again])
    assert all(one.pairs.is_empty() for one in found)
    other = embedded(x, MONTHS[1], 10, weights="another")
    assert run([embedded(x, MONTHS[0]), other])[1].pairs.is_empty()
    assert run([embedded(x, MONTHS[0]), embedded(x, MONTHS[1], 10)])[1].pairs.height == 4


@pytest.mark.parametrize("width", [16, 768], ids=["compared in full", "by a bound"])
@pytest.mark.parametrize("common", [0, 3], ids=["apart", "so alike that the bound tells little"])
def test_near_pairs_are_counted_and_the_closest_listed(width: int, common: float) -> None:
    rng = np.random.default_rng(1)
    x = (common + rng.standard_normal((1500, width))).astype(np.float32)
    x[900:1100] = x[:200] + np.float32(0.05) * rng.standard_normal((200, width)).astype(np.float32)
    x[1100:1110] = x[:10] + np.float32(1e-6)
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    cosine = np.tril(unit @ unit.T, k=-1)
    part = embedded(x, MONTHS[0])
    found = find_lookalikes(MONTHS[0], fingerprint(part), lambda _, rows: part.vectors[list(rows)], listed=7)
    near = (cosine >= NEAR) & (cosine < IDENTICAL)
    assert found.near == near.sum() > 150
    listed = found.pairs.filter(~pl.col("identical"))
    i, j = np.unravel_index(np.where(near, cosine, 0).argmax(), cosine.shape)
    assert listed.row(0)[:3:2] == (f"i{i}", f"i{j}") and listed.height == 7
    assert found.pairs["identical"].sum() == 10


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="embedding of i1 is zero or not finite"):
        fingerprint(embedded(np.array([[1.0, 0], [0, 0]]), MONTHS[0]))
    with pytest.raises(ValueError, match="embedding of i0 is zero or not finite"):
        fingerprint(embedded(np.array([[np.nan, 0], [1.0, 0]]), MONTHS[0]))
    part = embedded(np.eye(3), MONTHS[0])
    with pytest.raises(ValueError, match=r"materialize fingerprints/2021-01 again"):
        find_lookalikes(MONTHS[0], fingerprint(part), lambda _, rows: part.vectors[list(rows)] * 2)
    assert run([embedded(np.empty((0, 8)), MONTHS[0])])[0].pairs.is_empty()


def test_an_object_store_is_asked_for_single_rows(
    s3_lake: Lake, object_store: ObjectStoreServer, make_picture: Callable[..., bytes]
) -> None:
    rng = np.random.default_rng(2)
    old = rng.standard_normal((400, 64)).astype(np.float32)
    new = np.concatenate([old[[17, 300]], rng.standard_normal((5, 64)).astype(np.float32)])
    new[0] *= np.float32(2)
    for month, part in zip(MONTHS, (embedded(old, MONTHS[0]), embedded(new, MONTHS[1], 400)), strict=False):
        s3_lake.write("embeddings", part, month)
        s3_lake.write("fingerprints", fingerprint(part), month)
    prints = s3_lake.read_all_arrays("fingerprints")
    object_store.asked.clear()
    found = find_lookalikes(
        MONTHS[1], prints, lambda month, rows: s3_lake.read_rows("embeddings", month, rows)
    )
    assert identical_pairs([found]) == {("i400", "i17"), ("i401", "i300")}
    spans = [span for _, path, span in object_store.asked if f"{MONTHS[0]}.vectors" in path and span]
    sizes = [int(span.partition("-")[2]) - int(span[6:].partition("-")[0]) + 1 for span in spans]
    assert sorted(sizes) == [256, 4096], "the head of the file and one row of 64 floats"
