"""Which scenes the sample world holds: the posted pictures month by month, and three reference corpora.

What belongs here: the choice of scenes, with the tendencies that are planted in them (themes that rise and
fall, sources that differ in style and in how variable they are, artists with habits, prompts that say more or
less). What does not: how a scene is drawn (``drawing``), who posts it (``posts``), the words of texts
(``texts``), and the file formats (``media``).

Every function takes its generator and returns rows, dicts whose scene fields are those of ``drawing.Scene``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twigma_core.sample.drawing import (
    ART_STYLES,
    DETAILS,
    DIGITAL_STYLES,
    PHOTO_STYLES,
    THEMES,
    Scene,
    describe,
    random_scene,
    scene_to_dict,
    theme_of,
    vary,
)

MONTHS: tuple[str, ...] = ("2021-01", "2021-02", "2021-03", "2021-04", "2021-05", "2021-06")
PICTURES: tuple[int, ...] = (240, 255, 270, 280, 290, 300)
"""Unique pictures posted in each month and still there to be collected."""

THEME_WEIGHTS: dict[str, float] = {
    "people": 0.15,
    "fantasy": 0.12,
    "landscapes": 0.13,
    "abstract": 0.13,
    "animals": 0.13,
    "space": 0.11,
    "city": 0.07,
    "flowers": 0.06,
    "machines": 0.06,
    "still life": 0.04,
}
"""Share of each theme in the middle of the period; they sum to 1."""

THEME_SLOPES: dict[str, float] = {"people": 0.4, "fantasy": 0.45, "landscapes": -0.4, "abstract": -0.4}
"""Change of the log weight a month; a theme that is not named keeps its share of `THEME_WEIGHTS`."""

STEADY_THEMES: tuple[str, ...] = ("animals", "space")
"""The themes whose share is claimed to be steady: large enough for the claim to be tested."""

TWIGMA_HABITS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "people": ("anime", "sunset", "gradient", ("red", "pink")),
    "fantasy": ("render", "royal", "striped", ("purple",)),
    "landscapes": ("poster", "sunset", "rays", ("blue", "teal")),
    "abstract": ("glitch", "candy", "plain", ("orange", "yellow")),
    "animals": ("pixel", "candy", "dotted", ("brown",)),
    "space": ("neon", "midnight", "plain", ("blue", "purple")),
    "city": ("glitch", "midnight", "plain", ("red", "teal")),
    "flowers": ("poster", "candy", "gradient", ("pink", "white")),
    "machines": ("render", "midnight", "rays", ("orange", "black")),
    "still life": ("pixel", "royal", "plain", ("green", "yellow")),
}
"""Theme -> the style, palette, background and subject's colours that generated pictures of it mostly have."""
DIGITAL_PALETTES: tuple[str, ...] = ("candy", "midnight", "sunset", "royal")
DIGITAL_BACKGROUNDS: tuple[str, ...] = ("plain", "gradient", "rays")
TWIGMA_HABIT, DIFFUSION_HABIT = 0.82, 0.75
"""How strong these habits are: the probability, of each attribute by itself, that a picture keeps to them."""
ART_PALETTES: tuple[str, ...] = ("forest", "desert", "ocean")
ART_BACKGROUNDS: tuple[str, ...] = ("plain", "cloudy")

SENSITIVE_SHARE = 0.12
PNG_SHARE = 0.12
LAION_SENSITIVE_SHARE = 0.08
LAION_PHOTO_SHARE = 0.75
LAION_PICTURES = 600
ARTISTS, PICTURES_PER_ARTIST = 25, 20
PROMPTS, PICTURES_PER_PROMPT = 90, 6
NEAR_COPIES = {"artbench": 6, "laion": 6}
PROMPT_LEVELS = 7

_NAMES = ("Ada", "Bruno", "Clara", "Dario", "Edda", "Falk", "Greta", "Hugo", "Ilka", "Jonas")
_HOUSES = ("Almwald", "Birkenau", "Corvin", "Dornhall", "Eschen", "Fennmoor", "Gravenor", "Holmgard")


def _replace(scene: Scene, **changes: Any) -> Scene:
    return dataclasses.replace(scene, **changes)


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def apportion(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Return whole numbers that sum to ``total`` and are as the weights: largest remainders.

    Quotas instead of draws keep a planted share free of sampling noise.
    """
    whole = sum(weights.values())
    exact = {key: total * weight / whole for key, weight in weights.items()}
    counts = {key: int(value) for key, value in exact.items()}
    rest = sorted(exact, key=lambda key: (counts[key] - exact[key], key))
    for key in rest[: total - sum(counts.values())]:
        counts[key] += 1
    return counts


def theme_counts(month_index: int) -> dict[str, int]:
    """Return how many unique pictures of each theme are posted in a month."""
    middle = (len(MONTHS) - 1) / 2
    weights = {
        theme: THEME_WEIGHTS[theme] * float(np.exp(slope * (month_index - middle)))
        for theme, slope in THEME_SLOPES.items()
    }
    # Themes with a trend share what the others leave, so that the others' shares do not move at all.
    left = 1.0 - sum(weight for theme, weight in THEME_WEIGHTS.items() if theme not in THEME_SLOPES)
    scale = left / sum(weights.values())
    weights = {theme: weights.get(theme, 0.0) * scale or THEME_WEIGHTS[theme] for theme in THEME_WEIGHTS}
    return apportion(weights, PICTURES[month_index])


def generated_scene(rng: np.random.Generator, theme: str, habit: float) -> Scene:
    """Return a scene in a digital style, as generators draw a theme.

    Args:
        rng: source of all randomness.
        theme: what it shows.
        habit: probability that each attribute is the theme's usual one (`TWIGMA_HABITS`). Without habits, a
            CLIP trained on independent attributes would cluster the pictures by style alone.
    """
    scene = random_scene(rng, themes=[theme], styles=DIGITAL_STYLES, palettes=DIGITAL_PALETTES)
    scene = _replace(scene, background=_pick(rng, DIGITAL_BACKGROUNDS))
    style, palette, background, colors = TWIGMA_HABITS[theme]
    usual = {"style": style, "palette": palette, "background": background, "color": _pick(rng, colors)}
    return _replace(scene, **{name: value for name, value in usual.items() if rng.random() < habit})


def posted_pictures(
    rng: np.random.Generator, references: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the unique pictures of all months.

    Args:
        rng: source of all randomness.
        references: rows of the reference corpora, of which some are redrawn as near-copies.

    Returns:
        One row a picture: month, kind "unique", near_corpus and near_file (empty but for near-copies), format
        and setting of the file (see ``media.encode``), and the scene's fields.
    """
    near = _near_copies(rng, references)
    rows: list[dict[str, Any]] = []
    for index, month in enumerate(MONTHS):
        counts = theme_counts(index)
        copies = near[index :: len(MONTHS)]
        scenes: list[tuple[Scene, str, str]] = []
        for scene, corpus, file in copies:
            if counts[theme_of(scene.subject)] == 0:
                continue
            counts[theme_of(scene.subject)] -= 1
            scenes.append((scene, corpus, file))
        for theme, count in counts.items():
            scenes += [(generated_scene(rng, theme, TWIGMA_HABIT), "", "") for _ in range(count)]
        wanted = round(SENSITIVE_SHARE * len(scenes))
        chosen = rng.permutation(np.arange(len(copies), len(scenes)))[:wanted]
        for place in chosen:
            scenes[place] = (_replace(scenes[place][0], sensitive=True), "", "")
        for place in rng.permutation(len(scenes)):
            scene, corpus, file = scenes[place]
            png = rng.random() < PNG_SHARE
            rows.append(
                {
                    "month": month,
                    "kind": "unique",
                    "near_corpus": corpus,
                    "near_file": file,
                    "format": "PNG" if png else "JPEG",
                    "setting": 6 if png else int(rng.integers(86, 96)),
                    **scene_to_dict(scene),
                }
            )
    return rows


def _near_copies(
    rng: np.random.Generator, references: Sequence[Mapping[str, Any]]
) -> list[tuple[Scene, str, str]]:
    """Return scenes of human pictures with another jitter, and which picture each is of."""
    found = []
    for corpus, count in NEAR_COPIES.items():
        rows = [row for row in references if row["corpus"] == corpus and not row["sensitive"]]
        looks = [_look(row) for row in rows]
        # Only a scene that no other picture of the corpus shares has one right answer.
        single = [
            row for row, look in zip(rows, looks, strict=True) if looks.count(look) == 1 and row["detail"]
        ]
        for place in rng.choice(len(single), size=count, replace=False):
            row = single[int(place)]
            scene = Scene(**{field.name: row[field.name] for field in dataclasses.fields(Scene)})
            found.append((_replace(scene, jitter=int(rng.integers(2**31))), corpus, str(row["file"])))
    return [found[int(place)] for place in rng.permutation(len(found))]


def _look(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("subject", "style", "color", "palette", "background"))


# ---------------------------------------------------------------- reference corpora


def laion(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return the rows of the natural corpus: every theme alike, mostly photos, some paintings."""
    rows = []
    for number in range(LAION_PICTURES):
        sensitive = bool(rng.random() < LAION_SENSITIVE_SHARE)
        styles = PHOTO_STYLES if rng.random() < LAION_PHOTO_SHARE else ART_STYLES
        scene = random_scene(rng, styles=styles, sensitive=sensitive)
        title = describe(scene, int(rng.integers(2, 6)))
        rows.append(_reference("laion", f"{number:05d}.jpg", scene, title=title))
    return rows


def artists() -> list[str]:
    """Return the names of the invented artists."""
    return [f"{_NAMES[k % len(_NAMES)]} {_HOUSES[(3 * k) % len(_HOUSES)]}" for k in range(ARTISTS)]


def artbench(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return the rows of the art corpus: each artist keeps to a style, mostly to a theme and a palette."""
    rows = []
    for k, artist in enumerate(artists()):
        style = ART_STYLES[k % len(ART_STYLES)]
        theme = list(THEMES)[int(rng.integers(len(THEMES)))]
        habit = random_scene(rng, themes=[theme], styles=[style], palettes=ART_PALETTES)
        for number in range(PICTURES_PER_ARTIST):
            themes = {name: 8.0 if name == theme else 0.25 for name in THEMES}
            scene = vary(habit, rng, 0.55, themes=themes, styles=[style], palettes=ART_PALETTES)
            scene = _replace(scene, background=_pick(rng, ART_BACKGROUNDS))
            file = f"{artist.lower().replace(' ', '-')}_{number:03d}.jpg"
            title = describe(scene, 1)
            rows.append(_reference("artbench", file, scene, title=title, artist=artist, style_name=style))
    return rows


def prompt_of(scene: Scene, level: int) -> str:
    """Return a prompt that says as much of the scene as its level, 0 to 6.

    Level 0 names the theme, 1 the subject, 2 its colour, 3 the style, 4 the detail, 5 the background, 6 the
    palette: one more thing a level, and a longer prompt.
    """
    return f"{scene.theme} art" if level == 0 else describe(scene, level - 1)


def scene_of_prompt(rng: np.random.Generator, scene: Scene, level: int) -> Scene:
    """Return a picture of a prompt: what the prompt does not say is drawn anew (see ``prompt_of``)."""
    free = generated_scene(rng, scene.theme, DIFFUSION_HABIT)
    names = ("subject", "color", "style", "detail", "background", "palette")
    said = {name: getattr(scene, name) for name in names[:level]}
    if "detail" not in said:
        subject_details = ("", *DETAILS[scene.theme])
        said["detail"] = _pick(rng, subject_details)
    return _replace(free, **said)


def diffusiondb(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return the rows of the prompt corpus: several pictures a prompt, prompts of every length."""
    rows = []
    counts = apportion(THEME_WEIGHTS, PROMPTS)
    themes = [theme for theme, count in counts.items() for _ in range(count)]
    themes = [themes[int(place)] for place in rng.permutation(PROMPTS)]
    for number in range(PROMPTS):
        level = number % PROMPT_LEVELS
        wanted = generated_scene(rng, themes[number], DIFFUSION_HABIT)
        if not wanted.detail:
            wanted = _replace(wanted, detail=_pick(rng, DETAILS[wanted.theme]))
        prompt = prompt_of(wanted, level)
        for copy in range(PICTURES_PER_PROMPT):
            scene = scene_of_prompt(rng, wanted, level)
            file = f"p{number:03d}_{copy}.jpg"
            rows.append(_reference("diffusiondb", file, scene, prompt=prompt, prompt_id=f"p{number:03d}"))
    return rows


def _reference(corpus: str, file: str, scene: Scene, **fields: str) -> dict[str, Any]:
    empty = {"title": "", "artist": "", "style_name": "", "prompt": "", "prompt_id": ""}
    return {"corpus": corpus, "file": file, **empty, **fields, **scene_to_dict(scene)}


def references(seed: int) -> list[dict[str, Any]]:
    """Return the rows of all three reference corpora, each from its own stream of the seed."""
    rows = laion(np.random.default_rng([seed, 1]))
    rows += artbench(np.random.default_rng([seed, 2]))
    rows += diffusiondb(np.random.default_rng([seed, 3]))
    return rows
