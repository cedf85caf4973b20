"""Exact nearest neighbours by cosine similarity: blocked products, screened in 8 bits where that pays.

Here: the search. Not here: the tables of neighbours (`neighbors`).

The k best of m rows need all m products, so their speed is the speed of the matrix product. Processors with
8-bit multiply-add instructions multiply integers several times as fast as floats. So rows are rounded to 8
bits first, and only those that the rounding error does not rule out are compared in float32. The bound on
that error holds for all neighbours of 50,000 queries together but for a probability below 1e-6, and nothing
in it changes from run to run: the result is that of the float32 product.

Where FAISS sees a GPU, it searches there, and its best rows are compared once more here: of equals the
earlier row comes first, as on the CPU.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from twigma_core.analysis.faiss_device import index_on_gpus

if TYPE_CHECKING:
    import faiss
    import torch

_QUERIES_PER_BLOCK = 1024
_BASE_PER_BLOCK = 8192
_SCREENED_PER_BLOCK = 4096
_PAIRS_PER_BLOCK = 512
_GROUP = 64
_MOST_CANDIDATES = 256
_ENOUGH_TO_SCREEN = 10**10
_QUERIES_A_COLUMN = 3  # turning the base costs as many products as it has columns, and each saves two thirds
_DEVIATIONS = 8.0
_FLOAT_ERROR = 1e-5
_SPARE = 16
_FILLING = -(2**31)
"""Product with a row that only fills the last group up."""


def topk(queries: np.ndarray, base: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find each query's k most similar rows of `base`, exactly.

    Args:
        queries: (n, d) float; rows are normalised here.
        base: (m, d) float.
        k: neighbours; with m < k, all m are returned.

    Returns:
        Cosine similarities (n, min(k, m)) float32, most similar first, and row numbers of `base`, int64. Of
        equals, the earlier row comes first.

    Raises:
        ValueError: no row in `base`, k below 1, different widths, a zero or non-finite row.
    """
    import torch

    if k < 1:
        raise ValueError(f"k={k} neighbours: at least 1 is needed")
    b = torch.from_numpy(_unit_rows(base, "base"))
    if not len(b):
        raise ValueError("no picture to compare with: the base has no row; materialize its embeddings first")
    if np.ndim(queries) != 2 or np.shape(queries)[1] != b.shape[1]:
        raise ValueError(
            f"queries are of shape {np.shape(queries)} and the base of {tuple(b.shape)}: they come from "
            "different models"
        )
    k = min(k, len(b))
    similarities = np.empty((len(queries), k), dtype=np.float32)
    indices = np.empty((len(queries), k), dtype=np.int64)
    index = index_on_gpus(b.numpy())
    screen = _Screen.of(b) if index is None and _screening_pays(len(queries), b) else None

    def search(start: int) -> None:
        rows = slice(start, start + _QUERIES_PER_BLOCK)
        block = torch.from_numpy(_unit_rows(queries[rows], "queries", start, len(queries)))
        with torch.inference_mode():
            if index is not None:
                values, numbers = _by_index(index, block, b, k)
            else:
                found = screen.topk(block, b, k) if screen else None
                values, numbers = found or _by_products(block, b, k)
        similarities[rows], indices[rows] = values, numbers

    threads = torch.get_num_threads()
    workers = threads if index is None else 1
    # A block a thread: torch's own threads wait for one another in each of a block's many small steps, by
    # spinning, which on a busy machine took seven times the CPU seconds.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(search, range(0, len(queries), _QUERIES_PER_BLOCK)))
    finally:
        torch.set_num_threads(threads)
    return np.clip(similarities, -1, 1), indices


def _screening_pays(n: int, b: torch.Tensor) -> bool:
    import torch

    fast = (
        torch.backends.cpu.get_cpu_capability().startswith("AVX512") and torch.backends.mkldnn.is_available()
    )
    enough = n * b.numel() >= _ENOUGH_TO_SCREEN and n >= _QUERIES_A_COLUMN * b.shape[1]
    return fast and hasattr(torch, "_int_mm") and enough


# ---------------------------------------------------------------- by FAISS, on GPUs


def _by_index(
    index: faiss.Index, block: torch.Tensor, b: torch.Tensor, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of the index, (n, k) each, of some more than that: those near a tie change places."""
    _, numbers = index.search(block.numpy(), min(k + _SPARE, len(b)))
    found = np.einsum("nd,nkd->nk", block.numpy(), b.numpy()[numbers])
    order = np.lexsort((numbers, -found), axis=1)[:, :k]
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(numbers, order, axis=1)


# ---------------------------------------------------------------- float32 throughout


def _by_products(block: torch.Tensor, b: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of all products, (n, k) each."""
    import torch

    products = torch.empty(len(block), min(_BASE_PER_BLOCK, len(b)))
    parts = []
    for first in range(0, len(b), _BASE_PER_BLOCK):
        part = b[first : first + _BASE_PER_BLOCK]
        if len(part) < products.shape[1]:
            products = torch.empty(len(block), len(part))
        torch.mm(block, part.T, out=products)
        values, rows = _best_of(products, k)
        parts.append((values, rows + first))
    found = torch.cat([values for values, _ in parts], dim=1).numpy()
    numbers = torch.cat([rows for _, rows in parts], dim=1).numpy()
    order = np.lexsort((numbers, -found), axis=1)[:, :k]
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(numbers, order, axis=1)


def _best_of(products: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k best columns of each row, (values, columns); fewer if there are fewer columns.

    Columns are taken in groups of 64: the k best lie in the k groups with the largest maxima, and only those
    are searched.
    """
    import torch

    n, columns = products.shape
    groups = columns // _GROUP
    if groups <= 2 * k:
        values, index = torch.topk(products, min(k, columns), dim=1)
        return values, index
    head = products[:, : groups * _GROUP].view(n, groups, _GROUP)
    best = torch.topk(head.amax(dim=2), k, dim=1).indices
    inside = torch.gather(head, 1, best.unsqueeze(2).expand(-1, -1, _GROUP)).reshape(n, -1)
    number = (best.unsqueeze(2) * _GROUP + torch.arange(_GROUP)).reshape(n, -1)
    tail = products[:, groups * _GROUP :]
    inside = torch.cat([inside, tail], dim=1)
    rest = torch.arange(groups * _GROUP, columns).expand(n, -1)
    number = torch.cat([number, rest], dim=1)
    values, position = torch.topk(inside, k, dim=1)
    return values, torch.gather(number, 1, position)


# ---------------------------------------------------------------- screened in 8 bits


@dataclass(frozen=True)
class _Screen:
    """A base whose rows, turned by a random rotation, are rounded to 8 bits, with one step for each 64 rows.

    So the best of 64 is found among the integers: turning all products into floats would cost a fifth more.

    With q and b for the turned unit rows, and δ for their rounding errors, q·b is the product of the rounded
    rows + q·δb + δq·b − δq·δb. Given q, a uniformly random rotation leaves b's part at right angles to q with
    a uniformly random direction, and so |δq·b| ≤ |δq·q| + t |δq| / √(d − 1) but for a probability below
    2 exp(−t²/2) (concentration on the sphere); likewise for q·δb. The rest is bounded by |δq| |δb|.

    Attributes:
        rotation: (d, d) orthogonal.
        integers: (m', d) int8; m' is m filled up to whole groups of 64.
        steps: (m' / 64,) float32.
        rows: m.
        along: largest |δb·b|.
        error: largest |δb|.
    """

    rotation: torch.Tensor
    integers: torch.Tensor
    steps: torch.Tensor
    rows: int
    along: float
    error: float

    @classmethod
    def of(cls, b: torch.Tensor) -> _Screen:
        """Turn and round a base of unit rows."""
        import torch

        d = b.shape[1]
        generator = torch.Generator().manual_seed(0)
        rotation = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0].float()
        filled = -(-len(b) // _GROUP) * _GROUP
        integers = torch.zeros(filled, d, dtype=torch.int8)
        steps = torch.zeros(filled // _GROUP)
        along = error = 0.0
        for first in range(0, len(b), _BASE_PER_BLOCK):
            part = torch.zeros(min(_BASE_PER_BLOCK, filled - first), d)
            given = b[first : first + len(part)]
            part[: len(given)] = given @ rotation
            rows = slice(first, first + len(part))
            groups = slice(first // _GROUP, rows.stop // _GROUP)
            rounded, steps[groups] = _rounded(part.view(-1, _GROUP, d))
            wrong = part - (rounded * steps[groups, None, None]).view(-1, d)
            integers[rows] = rounded.view(-1, d)
            along = max(along, float((wrong * part).sum(dim=1).abs().max()))
            error = max(error, float(wrong.norm(dim=1).max()))
        return cls(rotation, integers, steps, len(b), along, error)

    def topk(self, block: torch.Tensor, b: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the k best rows of `b` for each query of a block; None if too few can be ruled out."""
        import torch

        turned = block @ self.rotation
        integers, steps = _rounded(turned)
        error = self.allowed_error(turned, integers, steps)
        best = torch.full((len(block), k), -torch.inf)
        # memory that is asked for anew in each round costs as much as the sums
        room = torch.empty(len(block) * min(_SCREENED_PER_BLOCK, len(self.integers)), dtype=torch.int32)
        found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for first in range(0, len(self.integers), _SCREENED_PER_BLOCK):
            part = slice(first, first + _SCREENED_PER_BLOCK)
            grouped = self._products(integers, part, room).view(len(block), -1, _GROUP)
            scale = self.steps[first // _GROUP :][: grouped.shape[1]]
            largest = grouped.amax(dim=2) * scale
            # maxima of different groups are of different rows: the k-th best is at least the k-th of them
            best = torch.topk(torch.cat([best, largest], dim=1), k, dim=1).values
            least = best[:, -1] - 2 * error
            query, group = torch.nonzero(largest >= least[:, None], as_tuple=True)
            products = grouped[query, group]
            inside = products * scale[group, None]
            possible = (inside >= least[query, None]) & (products > _FILLING)
            hit, column = torch.nonzero(possible, as_tuple=True)
            found.append((query[hit], first + group[hit] * _GROUP + column, inside[hit, column]))
            if len(hit) > _MOST_CANDIDATES * len(block):
                return None
        query, row, score = (torch.cat(parts) for parts in zip(*found, strict=True))
        left = score >= (best[:, -1] - 2 * error)[query]
        if int(left.sum()) > _MOST_CANDIDATES * len(block):
            return None
        return _best_candidates(block, b, query[left], row[left], k)

    def allowed_error(
        self, turned: torch.Tensor, integers: torch.Tensor, steps: torch.Tensor
    ) -> torch.Tensor:
        """Return by how much each query's scores can be off, (n,), in units of its step as the scores are."""
        wrong = turned - integers * steps[:, None]
        own = wrong.norm(dim=1)
        spread = min(1.0, _DEVIATIONS / max(1, turned.shape[1] - 1) ** 0.5)
        error = (wrong * turned).sum(dim=1).abs() + self.along + spread * (own + self.error)
        return (error + own * self.error + _FLOAT_ERROR) / steps

    def _products(self, integers: torch.Tensor, part: slice, room: torch.Tensor) -> torch.Tensor:
        """Return the products of rounded queries with part of the base, integers."""
        import torch

        base = self.integers[part]
        products = room[: len(integers) * len(base)].view(len(integers), len(base))
        torch._int_mm(integers, base.T, out=products)
        products[:, self.rows - part.start :] = _FILLING
        return products


def _rounded(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each x[i] as 8-bit integers and its step: int8 of the shape of x, (n, ...), and (n,)."""
    import torch

    steps = x.abs().flatten(1).amax(dim=1) / 127
    return torch.round(x / steps.view(-1, *[1] * (x.ndim - 1))).to(torch.int8), steps


def _best_candidates(
    block: torch.Tensor, b: torch.Tensor, query: torch.Tensor, row: torch.Tensor, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of (query, row) pairs by their float32 products; each query has k at least."""
    number, of = query.numpy(), row.numpy()
    queries, rows = block.numpy(), b.numpy()
    value = np.empty(len(number), dtype=np.float32)
    for start in range(0, len(number), _PAIRS_PER_BLOCK):
        some = slice(start, start + _PAIRS_PER_BLOCK)
        np.einsum("ij,ij->i", queries[number[some]], rows[of[some]], out=value[some])
    order = np.lexsort((of, -value, number))
    first = np.searchsorted(number[order], np.arange(len(block)))
    taken = order[first[:, None] + np.arange(k)]
    return value[taken], of[taken]


def _unit_rows(x: np.ndarray, name: str, start: int = 0, total: int | None = None) -> np.ndarray:
    """Return a copy of `x` with rows of length 1, float32, refusing rows without a direction."""
    x = np.array(x, dtype=np.float32, order="C")
    if x.ndim != 2:
        raise ValueError(f"{name} must be an (n, d) array, not of shape {x.shape}")
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    bad = ~(np.isfinite(norms) & (norms > 0)).ravel()
    if bad.any():
        raise ValueError(
            f"{int(bad.sum())} of {len(x) if total is None else total} {name} are zero, NaN or infinite, "
            f"first at row {start + int(bad.argmax())}: they have no cosine similarity"
        )
    x /= norms
    return x
