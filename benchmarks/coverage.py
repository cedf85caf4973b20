"""How often the 95 % intervals of variation and divergence hold the truth, by simulation.

Usage: python -m benchmarks.coverage [--runs 200] [--seed 0] [--small] [--parts embeddings conditions]

Prints Markdown tables; docs/methods.md quotes them. `--small` takes a minute on one core and is what the
tests run. A run draws pictures from a known source, makes summaries of them as the graph does, and asks
whether the interval holds
what it is an interval of: the mean over all draws of so many pictures ("at n"), or the source's own value
("source").
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import kendalltau

from twigma_core.analysis.distances import Interval
from twigma_core.analysis.divergence import js_divergence, kl_divergence, mauve_score
from twigma_core.analysis.frechet import frechet_distance, frechet_intervals
from twigma_core.analysis.groups import contrast
from twigma_core.analysis.histograms import histogram_interval
from twigma_core.analysis.intervals import entropy_interval, metric_intervals
from twigma_core.analysis.kernel import kernel_interval
from twigma_core.analysis.manifolds import manifold_intervals
from twigma_core.analysis.prompts import kendall_interval
from twigma_core.analysis.summary import EmbeddingSummary
from twigma_core.analysis.variation import mean_pairwise_distance, quantized_entropy

Draw = Callable[[int, np.random.Generator], np.ndarray]
MANY = 60_000


@dataclass
class Tally:
    """Intervals of one metric in one setting."""

    intervals: list[Interval] = field(default_factory=list)
    truths: list[float] = field(default_factory=list)

    def add(self, interval: Interval, truth: float) -> None:
        """Count an interval; a truth that is not a number stands for the mean of the values."""
        self.intervals.append(interval)
        self.truths.append(truth)

    @property
    def given(self) -> float:
        """Share of the runs that had an interval."""
        return float(np.mean([interval.low is not None for interval in self.intervals]))

    @property
    def held(self) -> float:
        """Share of the intervals that hold the truth, but for rounding."""
        middle = float(
            np.mean([interval.value for interval in self.intervals if interval.value is not None] or [0])
        )
        held = [
            interval.low - 1e-4 <= (middle if np.isnan(truth) else truth) <= interval.high + 1e-4
            for interval, truth in zip(self.intervals, self.truths, strict=True)
            if interval.low is not None and interval.high is not None
        ]
        return float(np.mean(held)) if held else float("nan")

    def __str__(self) -> str:
        if self.given == 0:
            return "withheld"
        some = "" if self.given == 1 else f", {1 - self.given:.0%} withheld"
        unbounded = np.mean([interval.high == np.inf for interval in self.intervals])
        return f"{self.held:.0%}{some}" + (f", {unbounded:.0%} open" if unbounded else "")


Row = tuple[str, dict[str, Tally]]


def population(d: int, seed: int) -> Draw:
    """Return a source to draw from: clusters about a common direction, as CLIP's embeddings lie."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, d + 1) ** -0.4
    centres = rng.normal(size=(25, d)) * scale
    shares = rng.dirichlet(np.ones(25))
    common = np.zeros(d)
    common[0] = 1.5 * np.linalg.norm(scale)

    def draw(n: int, rng: np.random.Generator) -> np.ndarray:
        x = common + centres[rng.choice(25, n, p=shares)] + 0.7 * scale * rng.normal(size=(n, d))
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    return draw


def summarise(x: np.ndarray) -> EmbeddingSummary:
    return EmbeddingSummary.from_embeddings(x, [str(i) for i in range(len(x))])


def variation(runs: int, seed: int, small: bool) -> Iterator[Row]:
    """Yield the metrics of embeddings: plug-ins at n, corrected ones for the source."""
    grid = [(16, 64), (48, 20)] if small else list(itertools.product((16, 96, 512), (10, 20, 100, 400, 2000)))
    for d, n in grid:
        rng, draw = np.random.default_rng([seed, d, n]), population(d, 1)
        whole = summarise(draw(MANY, rng))
        apart = draw(2_000, rng)
        source = {
            "mean_pairwise_distance": mean_pairwise_distance(apart),
            "inverse_explained_variance_corrected": whole.inverse_explained_variance(),
            "product_of_marginal_variances_corrected": whole.product_of_marginal_variances(),
            "vendi_score_corrected": whole.vendi_score(),
        }
        tallies: dict[str, Tally] = {}
        for _ in range(runs if n < 2000 else runs // 2):
            for name, (interval, _n) in metric_intervals(summarise(draw(n, rng))).items():
                if not name.startswith("quantized"):
                    tallies.setdefault(name, Tally()).add(interval, source.get(name) or np.nan)
        yield f"d = {d}, n = {n}", tallies


def entropies(runs: int, seed: int, small: bool) -> Iterator[Row]:
    """Yield the plug-in entropy at n, and the corrected for the source, of random shares of cells."""
    for k, n in [(10, 60)] if small else list(itertools.product((10, 50, 500), (20, 100, 1000, 10_000))):
        rng, tallies = np.random.default_rng([seed, k, n]), (Tally(), Tally())
        for _ in range(runs):
            p = rng.dirichlet(np.ones(k))
            counts = rng.multinomial(n, p)
            mean = float(np.mean([quantized_entropy(c) for c in rng.multinomial(n, p, 100)]))
            tallies[0].add(entropy_interval(counts), mean)
            tallies[1].add(entropy_interval(counts, corrected=True), quantized_entropy(p))
        names = ("quantized_entropy", "quantized_entropy_corrected")
        yield f"{k} cells, n = {n}", dict(zip(names, tallies, strict=True))


GAPS = {"the same": 0.0, "near": 0.3, "middling": 0.8, "far": 2.0, "nearly disjoint": 4.0}


def histograms(runs: int, seed: int, small: bool) -> Iterator[Row]:
    """Yield KL, JS and MAUVE for the sources; log odds of the cells differ by about the gap."""
    sizes = (
        [(10, 100, 100)]
        if small
        else [
            *((4, 40, 40), (4, 300, 300), (10, 80, 80), (10, 300, 300), (10, 300, 20_000), (10, 2000, 2000)),
            *((50, 400, 400), (50, 2000, 2000), (500, 4000, 4000)),
        ]
    )
    exact: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "kl": lambda p, q: kl_divergence(p, q, smoothing=0),
        "js": js_divergence,
        "mauve": mauve_score,
    }
    for (k, n, m), (word, gap) in itertools.product(sizes, GAPS.items()):
        rng, tallies = np.random.default_rng([seed, k, n, m]), {name: Tally() for name in exact}
        for run in range(runs if k < 500 else runs // 4):
            p = rng.dirichlet(np.full(k, 1.5))
            q = p * np.exp(gap * rng.normal(size=k))
            q /= q.sum()
            counts = rng.multinomial(n, p), rng.multinomial(m, q)
            for name, of_shares in exact.items():
                tallies[name].add(histogram_interval(name, *counts, run), of_shares(p, q))
        yield f"{k} cells, n = {n} and {m}, {word}", tallies


def embeddings(runs: int, seed: int, small: bool) -> Iterator[Row]:
    """Yield Fréchet and kernel for the sources, Fréchet's plug-in at n too, and the manifolds at n."""
    grid = [(16, 4)] if small else list(itertools.product((16, 64), (1, 2, 4, 10, 30)))
    for (d, a_dimension), alike in itertools.product(grid, (True, False)):
        n, first, second = d * a_dimension, population(d, 1), population(d, 1 if alike else 2)
        rng = np.random.default_rng([seed, d, n])
        tallies: dict[str, Tally] = {}
        x, y = (draw(MANY, rng) for draw in (first, second))
        frechet = 0.0 if alike else frechet_distance(summarise(x), summarise(y))
        kernel = 0.0 if alike else kernel_of_many(x, y)
        for _ in range(runs):
            p, q = (summarise(draw(n, rng)) for draw in (first, second))
            found = frechet_intervals(p, q)
            rows = [
                ("frechet, at n", found["frechet"], np.nan),
                ("frechet, source", found["frechet"], frechet),
            ]
            rows += [("frechet_corrected", found["frechet_corrected"], frechet)]
            rows += [("kernel", kernel_interval(p, q), kernel)]
            rows += [(name, interval, np.nan) for name, interval in manifold_intervals(p, q)[0].items()]
            for name, interval, truth in rows:
                tallies.setdefault(name, Tally()).add(interval, truth)
        yield f"d = {d}, n = {n}, {'the same' if alike else 'different'} sources", tallies


def kernel_of_many(x: np.ndarray, y: np.ndarray) -> float:
    """Return the unbiased MMD² under (x·y + 1)³, of more rows than a matrix of all pairs could hold.

    The mean of the kernel is 1 + 3 m·m' + 3 <M, M'> + <T, T'> in the first three moments.
    """

    def moments(a: np.ndarray) -> list[np.ndarray]:
        third = np.zeros((a.shape[1] ** 2, a.shape[1]))
        for start in range(0, len(a), 2000):
            rows = a[start : start + 2000]
            third += np.einsum("ni,nj->nij", rows, rows).reshape(len(rows), -1).T @ rows
        return [np.ones(1), np.sqrt(3) * a.mean(axis=0), np.sqrt(3) * a.T @ a / len(a), third / len(a)]

    def mean(p: list[np.ndarray], q: list[np.ndarray]) -> float:
        return sum(float((a * b).sum()) for a, b in zip(p, q, strict=True))

    def without_itself(a: np.ndarray, of: list[np.ndarray]) -> float:
        n = len(a)
        own = float(((np.einsum("ij,ij->i", a, a) + 1) ** 3).sum())
        return (n * n * mean(of, of) - own) / (n * (n - 1))

    p, q = moments(x), moments(y)
    return without_itself(x, p) + without_itself(y, q) - 2 * mean(p, q)


def conditions(runs: int, seed: int, small: bool) -> Iterator[Row]:
    """Yield distances within and across groups, and Kendall's τ, for the source."""

    def artists(g: int, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
        sizes = rng.integers(2, 12, g)
        owner = np.repeat(np.arange(g), sizes)
        x = rng.normal(size=(g, 16))[owner] + 0.6 * rng.normal(size=(len(owner), 16))
        return x / np.linalg.norm(x, axis=1, keepdims=True), [str(o) for o in owner]

    for g in (30,) if small else (10, 30, 100):
        rng = np.random.default_rng([seed, g])
        tallies: dict[str, Tally] = {}
        whole = contrast(*artists(2_000, rng))
        z = rng.normal(size=(30_000, 2))
        tau = float(kendalltau(np.round(4 * z[:, 0]), -0.2 * z[:, 0] + z[:, 1]).statistic)
        for _ in range(runs):
            found = contrast(*artists(g, rng))
            for name in ("within", "across", "ratio"):
                truth = getattr(whole, name).value
                tallies.setdefault(f"{name} groups", Tally()).add(getattr(found, name), truth)
            z = rng.normal(size=(g, 2))
            ends = kendall_interval(np.round(4 * z[:, 0]), -0.2 * z[:, 0] + z[:, 1])
            tallies.setdefault("Kendall's τ", Tally()).add(Interval(tau, *ends), tau)
        yield f"{g} artists or prompts", tallies


PARTS = (variation, entropies, histograms, embeddings, conditions)


def print_table(rows: Sequence[Row]) -> None:
    names = list(dict.fromkeys(name for _, tallies in rows for name in tallies))
    print("\n| setting | " + " | ".join(names) + " |\n|---" + "|---" * len(names) + "|")
    for setting, tallies in rows:
        cells = [str(tallies[name]) if name in tallies else "–" for name in names]
        print(f"| {setting} | " + " | ".join(cells) + " |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="few settings")
    names = [part.__name__ for part in PARTS]
    parser.add_argument("--parts", nargs="+", choices=names, default=names, help="tables to print")
    given = parser.parse_args(arguments)
    print(f"Share of nominal 95 % intervals that hold the truth: {given.runs} runs, seed {given.seed}")
    for part in PARTS:
        if part.__name__ in given.parts:
            print_table(list(part(given.runs, given.seed, given.small)))


if __name__ == "__main__":
    main()
