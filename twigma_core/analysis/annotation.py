"""People's words and groups for pictures, and how they agree with the clusters (paper, Section 3, Figure 4c).

Here: the choice of pictures, the sheet and the Label Studio project that go out, reading both back, and
the agreement. Not here: the clusters (`clusters`) and their words (`themes`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from twigma_core import tables

SHEET_COLUMNS = ("annotator", "image_id", "picture", "keywords", "group")
MAX_KEYWORDS = 3

LABEL_STUDIO_CONFIG = """<View>
  <Image name="picture" value="$image"/>
  <Header value="Three keywords for this picture, separated by semicolons"/>
  <TextArea name="keywords" toName="picture" maxSubmissions="1" rows="1"/>
  <Header value="Your own group for it: the same name for pictures that belong together"/>
  <TextArea name="group" toName="picture" maxSubmissions="1" rows="1"/>
</View>
"""


def make_tasks(clusters: pl.DataFrame, per_cluster: int = 10, seed: int = 0) -> pl.DataFrame:
    """Return table `annotation_tasks`: random pictures of each cluster, shuffled (paper, Section 3).

    Args:
        clusters: table `clusters`: image_id, month, cluster.
        per_cluster: pictures of each cluster; all of a smaller one.
        seed: seed of the choice and the order.
    """
    rng = np.random.default_rng(seed)
    # sorted first, so that the choice does not depend on the order in which the months were read
    ordered = clusters.select("image_id", "month", "cluster").unique("image_id").sort("image_id")
    chosen = []
    for label in ordered["cluster"].unique().sort():
        members = ordered.filter(pl.col("cluster") == label)
        size = min(per_cluster, members.height)
        chosen.append(members[rng.choice(members.height, size=size, replace=False)])
    if not chosen:
        return tables.empty("annotation_tasks")
    every = pl.concat(chosen)
    shuffled = every[rng.permutation(every.height)].with_row_index("task", offset=1)
    return tables.conform("annotation_tasks", shuffled.select("task", "image_id", "month", "cluster"))


def sheet_csv(tasks: pl.DataFrame, pictures: Mapping[str, str] | None = None, annotator: str = "") -> str:
    """Return a sheet to fill in: annotator, image_id, picture, keywords (a; b; c), group. No cluster on it.

    Args:
        tasks: table `annotation_tasks`.
        pictures: where to look at each picture (file or address), by image id.
        annotator: pseudonym to fill in beforehand.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(SHEET_COLUMNS)
    for image_id in tasks.sort("task")["image_id"]:
        writer.writerow([annotator, image_id, (pictures or {}).get(image_id, ""), "", ""])
    return out.getvalue()


def label_studio_tasks(tasks: pl.DataFrame, image_urls: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the tasks to import into a Label Studio project with `LABEL_STUDIO_CONFIG`; no cluster in them.

    Args:
        tasks: table `annotation_tasks`.
        image_urls: address of each picture, by image id.

    Raises:
        KeyError: a picture has no address; the message names it.
    """
    missing = [image_id for image_id in tasks["image_id"] if image_id not in image_urls]
    if missing:
        raise KeyError(f"no address for {len(missing)} pictures, first {missing[0]}: add them to image_urls")
    return [
        {"id": task, "data": {"image": image_urls[image_id], "image_id": image_id}}
        for task, image_id in tasks.sort("task").select("task", "image_id").iter_rows()
    ]


# ---------------------------------------------------------------- reading back


def read_sheets(sheets: Iterable[tuple[str, str]]) -> tuple[pl.DataFrame, list[str]]:
    """Read filled-in sheets and Label Studio's JSON exports.

    Keywords are lower-cased and at most three a picture. A row that cannot be read is left out and
    reported; so are sheets without the columns annotator, image_id, keywords, group.

    Args:
        sheets: name and text of each; a text that starts with "[" is an export of Label Studio.

    Returns:
        Table `annotations`, and the problems: "name, row n: what is wrong", in the sheets' order.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    problems: list[str] = []
    for name, text in sheets:
        text = text.lstrip("\ufeff").lstrip()
        entries = _label_studio_rows(text) if text.startswith("[") else _csv_rows(text)
        for number, entry in entries:
            place = f"{name}, row {number}" if number else name
            if isinstance(entry, str):
                problems.append(f"{place}: {entry}")
                continue
            key = (entry["annotator"], entry["image_id"])
            problem = _problem(entry, key in rows)
            if problem:
                problems.append(f"{place}: {problem}")
            if len(entry["keywords"]) > MAX_KEYWORDS:
                problems.append(
                    f"{place}: {len(entry['keywords'])} keywords; the first {MAX_KEYWORDS} are kept"
                )
                entry["keywords"] = entry["keywords"][:MAX_KEYWORDS]
            if not problem:
                rows[key] = entry
    if not rows:
        return tables.empty("annotations"), problems
    schema: Any = tables.empty("annotations").schema
    return tables.conform("annotations", pl.DataFrame(list(rows.values()), schema=schema)), problems


def _problem(entry: dict[str, Any], seen: bool) -> str | None:
    if not entry["annotator"]:
        return "no annotator; fill in a pseudonym"
    if not entry["image_id"]:
        return "no image_id"
    if seen:
        return f"{entry['annotator']} already has a row for picture {entry['image_id']}; the first is kept"
    if not entry["keywords"] and entry["group"] is None:
        return "neither keywords nor a group"
    return None


def _csv_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    header = text.split("\n", 1)[0]
    # a spreadsheet of a country with a decimal comma saves with semicolons
    delimiter = ";" if header.count(";") > header.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    missing = [c for c in SHEET_COLUMNS if c != "picture" and c not in (reader.fieldnames or [])]
    if missing:
        yield 0, f"no column {', '.join(missing)}; the first line must be {','.join(SHEET_COLUMNS)}"
        return
    try:
        for number, row in enumerate(reader, start=2):
            if None in row or any(row[c] is None for c in SHEET_COLUMNS if c in row):
                yield number, "not as many cells as columns"
                continue
            yield number, _entry(row["annotator"], row["image_id"], row["keywords"], row["group"])
    except csv.Error as error:
        yield 0, f"after line {reader.line_num}: not a CSV sheet ({error}); the rest is not read"


def _label_studio_rows(text: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    try:
        exported = json.loads(text)
    except ValueError as error:
        yield 0, f"not a JSON export of Label Studio: {error}"
        return
    for number, task in enumerate(exported, start=1):
        try:
            image_id = str(task["data"]["image_id"])
            for annotation in task["annotations"]:
                who = annotation["completed_by"]
                who = str(who["id"] if isinstance(who, dict) else who)  # never the e-mail address
                said = {
                    result["from_name"]: "; ".join(result["value"]["text"])
                    for result in annotation["result"]
                    if "text" in result.get("value", {})
                }
                yield number, _entry(who, image_id, said.get("keywords", ""), said.get("group", ""))
        except (KeyError, TypeError) as error:
            yield number, f"not a task of Label Studio: {error!r} is missing or of another type"


def _entry(annotator: str, image_id: str, keywords: str, group: str) -> dict[str, Any]:
    words = [" ".join(word.lower().split()) for word in keywords.replace(",", ";").split(";")]
    return {
        "annotator": annotator.strip(),
        "image_id": image_id.strip(),
        "keywords": list(dict.fromkeys(word for word in words if word)),
        "group": group.strip() or None,
    }


# ---------------------------------------------------------------- agreement


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
    - `adjusted_rand`, `normalized_mutual_information`, for all (mean) and each annotator: the annotator's
      groups against the clusters.
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
    estimates = sheet.measure(np.arange(sheet.pictures))
    drawn = [sheet.measure(rng.integers(0, sheet.pictures, sheet.pictures)) for _ in range(draws)]
    rows = []
    for (measure, scope), value in estimates.items():
        values = np.array([draw[measure, scope] for draw in drawn])
        values = values[np.isfinite(values)]
        half = 1.959964 * float(values.std(ddof=1)) if len(values) > 1 and np.ptp(values) else float("nan")
        known, bounded = np.isfinite(value), np.isfinite(value) and np.isfinite(half)
        floor = -1.0 if "rand" in measure else 0.0
        rows.append(
            {
                "measure": measure,
                "scope": scope,
                "value": value if known else None,
                "low": max(floor, value - half) if bounded else None,
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

    def pictures_of(self, scope: str) -> int:
        """Return the number of pictures that a scope's measures rest on."""
        if scope.startswith("cluster "):
            return int((self.cluster == int(scope.removeprefix("cluster "))).sum())
        if scope in self.groups:
            spoken = set(np.flatnonzero(self.groups[scope] >= 0).tolist()) | set(self.keywords[scope])
            return len(spoken)
        return self.pictures

    def measure(self, drawn: np.ndarray) -> dict[tuple[str, str], float]:
        """Return every measure over the pictures drawn, by measure and scope; NaN where undefined."""
        weight = np.bincount(drawn, minlength=self.pictures)[self.picture] if self.pictures else self.hit
        found: dict[tuple[str, str], float] = {}
        for name, values in (("keyword_overlap", self.hit), ("keyword_overlap_chance", self.chance)):
            found[name, "all"] = _mean(values, weight)
            for label in np.unique(self.cluster):
                inside = self.cluster[self.picture] == label
                found[name, f"cluster {label}"] = _mean(values[inside], weight[inside])
        self._add_agreement(found, drawn)
        return found

    def _add_agreement(self, found: dict[tuple[str, str], float], drawn: np.ndarray) -> None:
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        def compare(score: Callable[..., float], a: np.ndarray, b: np.ndarray) -> float:
            both = (a[drawn] >= 0) & (b[drawn] >= 0)
            return float(score(a[drawn][both], b[drawn][both])) if both.sum() > 1 else float("nan")

        named = sorted(self.groups)
        for measure, score in (
            ("adjusted_rand", adjusted_rand_score),
            ("normalized_mutual_information", normalized_mutual_info_score),
        ):
            each = {who: compare(score, self.groups[who], self.cluster) for who in named}
            found.update({(measure, who): value for who, value in each.items()})
            found[measure, "all"] = _nanmean(list(each.values()))
        pairs = list(combinations(named, 2))
        rand = {pair: compare(adjusted_rand_score, *(self.groups[who] for who in pair)) for pair in pairs}
        jaccard = {pair: self._jaccard(*pair, drawn) for pair in pairs}
        for measure, values in (("annotators_adjusted_rand", rand), ("annotators_keyword_jaccard", jaccard)):
            found[measure, "all"] = _nanmean(list(values.values()))
            for who in named if len(named) > 1 else []:
                found[measure, who] = _nanmean([value for pair, value in values.items() if who in pair])

    def _jaccard(self, one: str, other: str, drawn: np.ndarray) -> float:
        a, b = self.keywords[one], self.keywords[other]
        shared = [int(at) for at in drawn if at in a and at in b]
        return _nanmean([len(a[at] & b[at]) / len(a[at] | b[at]) for at in shared])


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
