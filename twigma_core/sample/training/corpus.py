"""Freshly drawn, captioned pictures to train and judge the small models on, and the words they use.

What belongs here: drawing a training corpus, the vocabulary, the model card's writing. What does not: the
models and their losses (``clip``, ``blip``, ``nsfw``).
"""

from __future__ import annotations

import hashlib
import io
import json
import string
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twigma_core.sample.drawing import (
    BACKGROUNDS,
    COLORS,
    STYLES,
    THEME_CAPTIONS,
    THEMES,
    Scene,
    describe,
    draw,
    random_scene,
)

SIDE = 64
"""Side in pixels of the pictures the small models see."""
DRAWN = 128
"""Side in pixels of the pictures before they are reduced, as in the sample world."""
CONTEXT = 32
"""Tokens of a caption, with the two special ones."""
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[MASK]", "[DEC]", "[ENC]")

_TRAIN, _HELD_OUT = 0, 1
_CHUNK = 250


@dataclass(frozen=True)
class Corpus:
    """Pictures as (n, SIDE, SIDE, 3) uint8 and the scene behind each."""

    pixels: NDArray[np.uint8]
    scenes: tuple[Scene, ...]

    def captions(self, detail: int = 5) -> list[str]:
        """One caption a picture."""
        return [describe(scene, detail) for scene in self.scenes]

    @property
    def sensitive(self) -> NDArray[np.bool_]:
        """Which pictures hold the censored figure, (n,)."""
        return np.array([scene.sensitive for scene in self.scenes])


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The picture after one JPEG round trip."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _draw_chunk(seed: tuple[int, int, int], n: int) -> tuple[NDArray[np.uint8], list[Scene]]:
    rng = np.random.default_rng(seed)
    scenes, pixels = [], np.empty((n, SIDE, SIDE, 3), np.uint8)
    for k in range(n):
        scene = random_scene(rng, sensitive=bool(rng.random() < 0.15))
        # What the models meet later has been through a JPEG encoder, mostly at 128 px.
        picture = as_jpeg(draw(scene, DRAWN if rng.random() < 0.8 else 256), int(rng.integers(70, 97)))
        pixels[k] = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        scenes.append(scene)
    return pixels, scenes


def drawn_corpus(n: int, seed: int, *, held_out: bool = False, workers: int = 2) -> Corpus:
    """Draw ``n`` random scenes; held-out ones come from another stream of the same seed.

    The result does not depend on ``workers``.
    """
    stream = _HELD_OUT if held_out else _TRAIN
    sizes = [min(_CHUNK, n - start) for start in range(0, n, _CHUNK)]
    seeds = [(seed, stream, k) for k in range(len(sizes))]
    with ProcessPoolExecutor(workers) as pool:
        parts = list(pool.map(_draw_chunk, seeds, sizes))
    return Corpus(np.concatenate([p for p, _ in parts]), tuple(s for _, part in parts for s in part))


def vocabulary() -> list[str]:
    """Every token of the small models: the captions' words whole, all else letter by letter.

    ``[SEP]`` is last: the text tower pools at the largest token id.
    """
    rng = np.random.default_rng(0)
    words: set[str] = {*BACKGROUNDS, *COLORS, *STYLES, *(s for subjects in THEMES.values() for s in subjects)}
    words.update(word for caption in THEME_CAPTIONS.values() for word in caption.split())
    for _ in range(4000):
        for detail in (0, 5):
            words.update(describe(random_scene(rng, sensitive=bool(rng.random() < 0.1)), detail).split())
    letters = list(string.ascii_lowercase + string.digits)
    singles = [c for c in [*letters, *".,!?'-:#@"] if c not in words]
    return [*SPECIAL, *sorted(words), *singles, *("##" + c for c in letters), "[SEP]"]


SUBJECTS = tuple(subject for subjects in THEMES.values() for subject in subjects)
"""All subjects, in the order of their themes."""


def subject_captions() -> list[str]:
    """The shortest caption of every subject, in the order of ``SUBJECTS``."""
    return [describe(Scene(subject, "photo", "red", "ocean", "plain"), 0) for subject in SUBJECTS]


def sha256(path: Path) -> str:
    """The file's sha256 in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_card(folder: Path, weights: str, values: dict[str, Any]) -> None:
    """Write ``card.json`` beside the weights: what the model is, how it was made, how well it does.

    Args:
        folder: where the weights are.
        weights: the weights' file name, whose sha256 and size go into the card.
        values: name, seed, steps, held-out metrics, ...
    """
    path = folder / weights
    card = {
        **values,
        "trained_on": "synthetic pictures drawn by twigma_core.sample.drawing; no photograph, no real post",
        "intended_use": "tests and the demo; says nothing about real pictures",
        "license": "Apache-2.0",
        "weights": weights,
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


def recall_at_1(similarity: NDArray[np.floating[Any]], captions: Sequence[str]) -> float:
    """Share of rows whose best column carries the same caption; ``similarity`` is (n, n)."""
    best = similarity.argmax(axis=1)
    return float(np.mean([captions[int(j)] == captions[i] for i, j in enumerate(best)]))
