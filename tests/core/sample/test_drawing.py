from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
import pytest

from twigma_core.sample.drawing import (
    ART_STYLES,
    BACKGROUNDS,
    COLORS,
    DETAILS,
    DIGITAL_STYLES,
    PALETTES,
    PHOTO_STYLES,
    STYLES,
    THEMES,
    Scene,
    describe,
    draw,
    random_scene,
    scene_from_dict,
    scene_to_dict,
    theme_of,
    vary,
)

SCENE = Scene("fox", "oil", "orange", "forest", "rays", "hat", jitter=7)


def pixels(scene: Scene, size: int = 64) -> np.ndarray:
    return np.asarray(draw(scene, size)).astype(float)


def test_same_scene_same_pixels() -> None:
    rng = np.random.default_rng(0)
    for style in STYLES:
        scene = random_scene(rng, styles=[style], sensitive=True)
        again = scene_from_dict(json.loads(json.dumps(scene_to_dict(scene))))
        assert again == scene
        assert draw(scene, 96).tobytes() == draw(again, 96).tobytes()
        assert draw(scene, 96).size == (96, 96)
        assert draw(scene, 96).mode == "RGB"


def test_pixels_are_those_that_the_models_were_trained_on() -> None:
    """A change here is a change of the sample world: train the small models again and update the hash."""
    digest = hashlib.sha256()
    for style in ("pixel", "mosaic", "glitch"):  # no blur: the same on every build of Pillow
        digest.update(draw(dataclasses.replace(SCENE, style=style), 64).tobytes())
    assert digest.hexdigest()[:16] == "84fcc637b0ea41b5"


def test_every_attribute_shows() -> None:
    """Each attribute alone changes the picture, more than the jitter's smallest nudge."""
    base = dataclasses.replace(SCENE, style="anime")
    changes: dict[str, list[Any]] = {
        "subject": [s for names in THEMES.values() for s in names if s != "fox"],
        "style": [s for s in STYLES if s != "anime"],
        "color": [c for c in COLORS if c != "orange"],
        "palette": [p for p in PALETTES if p != "forest"],
        "background": [b for b in BACKGROUNDS if b != "rays"],
        "detail": ["", *(d for d in DETAILS["animals"] if d != "hat")],
        "sensitive": [True],
    }
    before = pixels(base)
    for name, values in changes.items():
        for value in values:
            after = pixels(dataclasses.replace(base, **{name: value}))
            changed = np.mean(np.abs(after - before).max(axis=2) > 12)
            assert changed > 0.02, f"{name}={value} is not to be seen"


def test_style_families_do_not_overlap() -> None:
    assert len(STYLES) == len(set(STYLES)) == len(PHOTO_STYLES) + len(ART_STYLES) + len(DIGITAL_STYLES)
    assert len(STYLES) >= 9
    assert 8 <= len(THEMES) <= 10
    subjects = [s for names in THEMES.values() for s in names]
    assert len(subjects) == len(set(subjects))
    assert all(theme_of(s) == theme for theme, names in THEMES.items() for s in names)


def test_captions_say_what_is_there() -> None:
    full = describe(SCENE)
    assert full == "an oil painting of a cute orange fox with a hat on a rays background in forest colors"
    assert describe(SCENE, 0) == "a cute fox"
    rng = np.random.default_rng(1)
    for _ in range(300):
        scene = random_scene(rng, sensitive=bool(rng.random() < 0.5))
        captions = [describe(scene, k) for k in range(6)]
        assert all(scene.subject in c.split() for c in captions)
        assert ("censored" in captions[5].split()) == scene.sensitive
        assert scene.color in captions[1].split()
        assert scene.palette in captions[5].split()
        assert captions[5] == captions[5].lower()
        assert len(captions[5].split()) <= 22
        words = [len(c.split()) for c in captions]
        assert words == sorted(words)


def test_vary_changes_as_much_as_asked() -> None:
    rng = np.random.default_rng(2)
    names = ("subject", "style", "color", "palette", "background")

    def changed(strength: float) -> float:
        relatives = [(s := random_scene(rng), vary(s, rng, strength)) for _ in range(300)]
        return float(np.mean([getattr(a, n) != getattr(b, n) for a, b in relatives for n in names]))

    assert changed(0) == 0
    assert changed(1) == 1
    assert changed(0.3) == pytest.approx(0.3, abs=0.05)
    still = vary(SCENE, rng, 0)
    assert still.jitter != SCENE.jitter
    assert dataclasses.replace(still, jitter=7) == SCENE
    for _ in range(100):
        other = vary(SCENE, rng, 0.8, styles=ART_STYLES)
        assert other.style in ART_STYLES
        assert other.detail in ("", *DETAILS[other.theme])


def test_choices_are_kept_and_weighted() -> None:
    rng = np.random.default_rng(3)
    scenes = [random_scene(rng, themes={"people": 3, "space": 1}, styles=PHOTO_STYLES) for _ in range(800)]
    assert np.mean([s.theme == "people" for s in scenes]) == pytest.approx(0.75, abs=0.06)
    assert {s.style for s in scenes} == set(PHOTO_STYLES)
    with pytest.raises(ValueError, match="unknown \\['cubism'\\]"):
        random_scene(rng, styles=["cubism"])
    with pytest.raises(ValueError, match="smallest size"):
        draw(SCENE, 8)
