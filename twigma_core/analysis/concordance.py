"""How people's words and groups agree with the clusters, and with one another (paper, Figure 4c, right).

Here: table `annotation_concordance`. Not here: making the sheets and reading them back (`annotation`,
`annotation_sheets`), and the measures of agreement between two groupings (`agreement`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from twigma_core import tables
from twigma_core.analysis.agreement import (
    adjusted_mutual_information,
    adjusted_rand,
    normalized_mutual_information,
)

_FLOOR = {"adjusted_rand": -1.0, "adjusted_mutual_information": -1.0, "annotators_adjusted_rand": -1.0}


def concordance(
    tasks: pl.DataFrame,
    annotations: pl.DataFrame,
    cluster_themes: pl.DataFrame,
    seed: int = 0,
    draws: int = 200,
) -> pl.DataFrame:
    """Return table `annotation_concordance`: agreement of annotators with clusters, words and one another.

    Measures, each with a 95 % interval (estimate ± 1.96 bootstrap standard deviations over pictures, cut
    to the measure's range; percentiles are not used, as repeated pictures shift them):

    - `keyword_overlap`, for all and each cluster ("cluster 3"): share of annotated pictures of which a
      keyword holds one of the words of their cluster. `keyword_overlap_chance`: the same with the words of
      the other clusters, averaged: what would come out if the clusters' words said nothing.
    - `adjusted_rand`, `adjusted_mutual_information`, `normalized_mutual_information`, for all (mean) and
      each annotator: the annotator's groups against the clusters. The last is well above 0 by chance where
      groups are many and small.
    - `kept_together`, for all and each cluster: share of the pairs of a cluster's pictures that an annotator
      put in one group, averaged over annotators; low where people split what k-means keeps.
      `kept_together_chance`, for all: the same of pairs from different clusters.
    - `annotators_adjusted_rand`, `annotators_keyword_jaccard`, for all (mean over pairs) and each annotator
      (mean over the pairs with the others): agreement between annotators.

    Args:
        tasks: table `annotation_tasks`.
        annotations: table `annotations`; pictures that are not among the tasks are left out.
        cluster_themes: table `cluster_themes`.
        seed: seed of the bootstrap.
        draws: bootstrap draws.

    Returns:
        The table. Without an interval where all draws agree: a handful of pictures that are all alike says
        nothing of its own error. With nothing annotated, one row a measure with null and n = 0.
    """
    told = annotations.join(tasks.select("image_id", "cluster"), on="image_id", how="inner")
    sheet = _Sheet.of(told, cluster_themes)
    rng = np.random.default_rng(seed)
    once = np.ones(sheet.pictures, dtype=np.int64)
    estimates = sheet.measure(once)
    drawn = [
        sheet.measure(np.bincount(rng.integers(0, sheet.pictures, sheet.pictures), minlength=sheet.pictures))
        for _ in range(draws if sheet.pictures else 0)
    ]
    rows = []
    for (measure, scope), value in estimates.items():
        values = np.array([draw[measure, scope] for draw in drawn])
        values = values[np.isfinite(values)]
        half = 1.959964 * float(values.std(ddof=1)) if len(values) > 1 and np.ptp(values) else float("nan")
        known, bounded = np.isfinite(value), np.isfinite(value) and np.isfinite(half)
        rows.append(
            {
                "measure": measure,
                "scope": scope,
                "value": value if known else None,
                "low": max(_FLOOR.get(measure, 0.0), value - half) if bounded else None,
                "high": min(1.0, value + half) if bounded else None,
                "n": sheet.pictures_of(scope),
            }
        )
    schema: Any = tables.empty("annotation_concordance").schema
    return tables.conform("annotation_concordance", pl.DataFrame(rows, schema=schema))


@dataclass(frozen=True)
class _Sheet:
    """Annotations by picture number, so that pictures can be drawn anew.

    Attributes:
        pictures: number of annotated pictures.
        cluster: (pictures,) their clusters.
        picture: picture number of each row with keywords.
        hit: per such row, whether a keyword holds a word of its cluster.
        chance: per such row, the share of the other clusters of which a keyword holds a word.
        groups: per annotator, (pictures,) group numbers, -1 where there is none.
        keywords: per annotator, the keywords by picture number.
    """

    pictures: int
    cluster: np.ndarray
    picture: np.ndarray
    hit: np.ndarray
    chance: np.ndarray
    groups: dict[str, np.ndarray]
    keywords: dict[str, dict[int, set[str]]]

    @classmethod
    def of(cls, told: pl.DataFrame, cluster_themes: pl.DataFrame) -> _Sheet:
        ids = sorted(told["image_id"].unique().to_list())
        number = {image_id: i for i, image_id in enumerate(ids)}
        cluster = np.zeros(len(ids), dtype=np.int64)
        words: dict[int, set[str]] = {}
        for label, word in cluster_themes.select("cluster", "word").iter_rows():
            words.setdefault(label, set()).add(_singular(word))
        names = sorted(told["annotator"].unique().to_list())
        groups = {name: np.full(len(ids), -1, dtype=np.int64) for name in names}
        keywords: dict[str, dict[int, set[str]]] = {name: {} for name in names}
        codes: dict[tuple[str, str], int] = {}
        picture, hit, chance = [], [], []
        for row in told.iter_rows(named=True):
            at, who = number[row["image_id"]], row["annotator"]
            cluster[at] = row["cluster"]
            if row["group"] is not None:
                groups[who][at] = codes.setdefault((who, row["group"].casefold()), len(codes))
            if row["keywords"]:
                tokens = {_singular(token) for keyword in row["keywords"] for token in keyword.split()}
                keywords[who][at] = {_singular(keyword) for keyword in row["keywords"]}
                picture.append(at)
                hit.append(bool(tokens & words.get(row["cluster"], set())))
                others = [bool(tokens & held) for label, held in words.items() if label != row["cluster"]]
                chance.append(float(np.mean(others)) if others else float("nan"))
        return cls(
            len(ids),
            cluster,
            np.array(picture, dtype=np.int64),
            np.array(hit, dtype=np.float64),
            np.array(chance, dtype=np.float64),
            groups,
            keywords,
        )

    @property
    def labels(self) -> np.ndarray:
        """The clusters of the annotated pictures."""
        return np.unique(self.cluster)

    def pictures_of(self, scope: str) -> int:
        """Return the number of pictures that a scope's measures rest on."""
        if scope.startswith("cluster "):
            return int((self.cluster == int(scope.removeprefix("cluster "))).sum())
        if scope in self.groups:
            spoken = set(np.flatnonzero(self.groups[scope] >= 0).tolist()) | set(self.keywords[scope])
            return len(spoken)
        return self.pictures

    def measure(self, times: np.ndarray) -> dict[tuple[str, str], float]:
        """Return every measure, by measure and scope; NaN where undefined.

        Args:
            times: (pictures,) how often each picture counts.
        """
        weight = times[self.picture]
        found: dict[tuple[str, str], float] = {}
        for name, values in (("keyword_overlap", self.hit), ("keyword_overlap_chance", self.chance)):
            found[name, "all"] = _mean(values, weight)
            for label in self.labels:
                inside = self.cluster[self.picture] == label
                found[name, f"cluster {label}"] = _mean(values[inside], weight[inside])
        self._add_clusters(found, times)
        self._add_annotators(found, times)
        return found

    def _add_clusters(self, found: dict[tuple[str, str], float], times: np.ndarray) -> None:
        """Add the agreement of the annotators' groups with the clusters."""
        for measure, score in _AGAINST_CLUSTERS.items():
            each = {
                who: self._compare(score, groups, self.cluster, times) for who, groups in self.groups.items()
            }
            found.update({(measure, who): value for who, value in each.items()})
            found[measure, "all"] = _nanmean(list(each.values()))
        within: dict[int, list[float]] = {int(label): [] for label in self.labels}
        across = []
        for groups in self.groups.values():
            told = groups >= 0
            for label, values in within.items():
                at = told & (self.cluster == label)
                values.append(_together(groups[at], times[at]))
            across.append(_together_across(groups[told], self.cluster[told], times[told]))
        for label, values in within.items():
            found["kept_together", f"cluster {label}"] = _nanmean(values)
        found["kept_together", "all"] = _nanmean([value for values in within.values() for value in values])
        found["kept_together_chance", "all"] = _nanmean(across)

    def _add_annotators(self, found: dict[tuple[str, str], float], times: np.ndarray) -> None:
        """Add the agreement of the annotators with one another."""
        named = sorted(self.groups)
        pairs = list(combinations(named, 2))
        rand = {
            (one, other): self._compare(adjusted_rand, self.groups[one], self.groups[other], times)
            for one, other in pairs
        }
        jaccard = {pair: _mean(*self._jaccard(*pair, times)) for pair in pairs}
        for measure, values in (("annotators_adjusted_rand", rand), ("annotators_keyword_jaccard", jaccard)):
            found[measure, "all"] = _nanmean(list(values.values()))
            for who in named if len(named) > 1 else []:
                found[measure, who] = _nanmean([value for pair, value in values.items() if who in pair])

    @staticmethod
    def _compare(
        score: Callable[[np.ndarray, np.ndarray], float], a: np.ndarray, b: np.ndarray, times: np.ndarray
    ) -> float:
        both = np.where((a >= 0) & (b >= 0), times, 0)
        return score(np.repeat(a, both), np.repeat(b, both)) if both.sum() > 1 else float("nan")

    def _jaccard(self, one: str, other: str, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the overlap of two annotators' keywords by picture that both described, and its weight."""
        a, b = self.keywords[one], self.keywords[other]
        shared = sorted(a.keys() & b.keys())
        values = np.array([len(a[at] & b[at]) / len(a[at] | b[at]) for at in shared])
        return values, times[shared] if shared else values


_AGAINST_CLUSTERS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "adjusted_rand": adjusted_rand,
    "adjusted_mutual_information": adjusted_mutual_information,
    "normalized_mutual_information": normalized_mutual_information,
}


def _together(groups: np.ndarray, times: np.ndarray) -> float:
    """Return the share of pairs of different pictures that are in one group; NaN where there is no pair."""
    if not len(groups):
        return float("nan")
    own = float(np.square(times).sum())  # a picture drawn twice is no pair with itself
    pairs = float(times.sum()) ** 2 - own
    same = float(np.square(np.bincount(groups, weights=times)).sum()) - own
    return same / pairs if pairs > 0 else float("nan")


def _together_across(groups: np.ndarray, clusters: np.ndarray, times: np.ndarray) -> float:
    """Return the share of pairs from different clusters that are in one group; NaN where there is no pair."""
    if not len(groups):
        return float("nan")
    table = np.zeros((groups.max() + 1, clusters.max() + 1))
    np.add.at(table, (groups, clusters), times)
    pairs = table.sum() ** 2 - np.square(table.sum(axis=0)).sum()
    same = np.square(table.sum(axis=1)).sum() - np.square(table).sum()
    return float(same / pairs) if pairs > 0 else float("nan")


def _singular(word: str) -> str:
    """Return a word without a plural s, so that "cats" meets "cat"."""
    word = word.casefold()
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    known = np.isfinite(values)
    total = weight[known].sum()
    return float((values[known] * weight[known]).sum() / total) if total > 0 else float("nan")


def _nanmean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
