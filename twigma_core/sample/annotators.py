"""Simulated annotators: four people who look at pictures, write keywords and sort them into groups.

What belongs here: how they fill in a sheet, and how much they are bound to agree. What does not: making the
sheets and judging them (``twigma_core.analysis.annotation``, ``concordance``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from twigma_core.sample.drawing import COLORS, STYLES, THEMES, Scene

ANNOTATORS: tuple[str, ...] = ("ana", "ben", "chi", "dev")
ACCURACY = 0.85
"""Probability that an annotator puts a picture into the group of its theme; else into any other."""
KEYWORD_NOISE = 0.1
"""Probability that a keyword is a slip: a word that has nothing to do with the picture."""
KEYWORDS = 3


def groups(themes: Sequence[str], rng: np.random.Generator, accuracy: float = ACCURACY) -> list[str]:
    """Return the group that one annotator gives each picture, by the pictures' true themes."""
    names = list(THEMES)
    chosen = []
    for theme in themes:
        others = [name for name in names if name != theme]
        right = rng.random() < accuracy
        chosen.append(theme if right else others[int(rng.integers(len(others)))])
    return chosen


def fill_sheet(tasks: pl.DataFrame, scenes: Mapping[str, Scene], seed: int = 0) -> pl.DataFrame:
    """Return what all annotators write on a sheet.

    Args:
        tasks: one row a picture, with its `image_id`.
        scenes: the scene behind each image id, as of ``World.scenes``.
        seed: of their slips; each annotator has an own stream.

    Returns:
        Columns annotator, image_id, keywords (separated by ";") and group, as a CSV sheet has them.

    Raises:
        KeyError: for a picture that is not of the sample world.
    """
    ids = tasks["image_id"].to_list()
    missing = [image_id for image_id in ids if image_id not in scenes]
    if missing:
        raise KeyError(f"annotators: {len(missing)} pictures are not of the sample world, e.g. {missing[0]}")
    shown = [scenes[image_id] for image_id in ids]
    rows = []
    for number, annotator in enumerate(ANNOTATORS):
        rng = np.random.default_rng([seed, number])
        chosen = groups([scene.theme for scene in shown], rng)
        for image_id, scene, group in zip(ids, shown, chosen, strict=True):
            words = ";".join(_keywords(scene, rng))
            rows.append({"annotator": annotator, "image_id": image_id, "keywords": words, "group": group})
    schema = {"annotator": pl.String, "image_id": pl.String, "keywords": pl.String, "group": pl.String}
    return pl.DataFrame(rows, schema=schema)


def _keywords(scene: Scene, rng: np.random.Generator) -> list[str]:
    seen = [scene.subject, scene.style, scene.color, scene.palette]
    words = [seen[0], *(seen[1 + int(place)] for place in rng.permutation(3)[: KEYWORDS - 1])]
    anything = [*COLORS, *STYLES, *(subject for subjects in THEMES.values() for subject in subjects)]
    return [anything[int(rng.integers(len(anything)))] if rng.random() < KEYWORD_NOISE else w for w in words]


def expected_agreement(themes: Sequence[str], accuracy: float = ACCURACY, repeats: int = 60) -> float:
    """Return the mean adjusted Rand index of two annotators of this accuracy, by simulation.

    Args:
        themes: true theme of each picture on the sheet.
        accuracy: see `ACCURACY`.
        repeats: pairs of annotators that are simulated.
    """
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng(7)
    values = [
        adjusted_rand_score(groups(themes, rng, accuracy), groups(themes, rng, accuracy))
        for _ in range(repeats)
    ]
    return float(np.mean(values))
