"""The drawn, captioned pictures of the sample world: what a scene is, how one is chosen, drawn and described.

What belongs here: the scene, its vocabulary (themes, styles, colours, palettes, backgrounds, details) and the
composition of a picture. What does not: how a single subject or style looks (``drawing_subjects``,
``drawing_subjects_made``, ``drawing_styles``), what is around it (``drawing_around``), and which scenes the
sample world holds.

Example:
    >>> import numpy as np
    >>> scene = random_scene(np.random.default_rng(0))
    >>> draw(scene, 128).size
    (128, 128)
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from twigma_core.sample import drawing_around as around
from twigma_core.sample import drawing_styles as styles_
from twigma_core.sample import drawing_subjects as living
from twigma_core.sample import drawing_subjects_made as made
from twigma_core.sample.drawing_pen import Ink, Pen, Rgb, darker, lighter

_SUBJECTS: dict[str, dict[str, living.Subject]] = {
    "people": {"woman": living.woman, "man": living.man, "child": living.child},
    "landscapes": {
        "mountains": living.mountains,
        "sea": living.sea,
        "forest": living.forest,
        "desert": living.desert,
    },
    "animals": {
        "cat": living.cat,
        "bear": living.bear,
        "rabbit": living.rabbit,
        "fish": living.fish,
        "bird": living.bird,
        "fox": living.fox,
    },
    "abstract": {"swirls": made.swirls, "lines": made.lines, "blobs": made.blobs, "tiles": made.tiles},
    "city": {"skyline": made.skyline, "street": made.street, "bridge": made.bridge, "tower": made.tower},
    "flowers": {
        "rose": living.rose,
        "tulip": living.tulip,
        "sunflower": living.sunflower,
        "bouquet": living.bouquet,
    },
    "still life": {"apple": made.apple, "teapot": made.teapot, "bottle": made.bottle, "vase": made.vase},
    "space": {
        "planet": made.planet,
        "rocket": made.rocket,
        "galaxy": made.galaxy,
        "astronaut": made.astronaut,
    },
    "machines": {"robot": made.robot, "car": made.car, "clock": made.clock, "gear": made.gear},
    "fantasy": {"dragon": made.dragon, "castle": made.castle, "ghost": made.ghost, "wizard": made.wizard},
}

THEMES: dict[str, tuple[str, ...]] = {theme: tuple(subjects) for theme, subjects in _SUBJECTS.items()}
"""Theme -> its subjects."""

PHOTO_STYLES: tuple[str, ...] = tuple(styles_.PHOTO)
ART_STYLES: tuple[str, ...] = tuple(styles_.ART)
DIGITAL_STYLES: tuple[str, ...] = tuple(styles_.DIGITAL)
STYLES: tuple[str, ...] = PHOTO_STYLES + ART_STYLES + DIGITAL_STYLES

COLORS: dict[str, Rgb] = {
    "red": (214, 44, 44),
    "orange": (244, 130, 22),
    "yellow": (248, 212, 56),
    "green": (56, 156, 74),
    "blue": (44, 96, 208),
    "purple": (126, 56, 166),
    "pink": (242, 134, 184),
    "brown": (126, 82, 48),
    "white": (240, 238, 232),
    "black": (40, 38, 48),
    "teal": (22, 156, 160),
}
"""Colour of the subject itself, by its word in a caption."""

PALETTES: dict[str, tuple[Rgb, Rgb, Rgb, Rgb]] = {
    "ocean": ((94, 164, 214), (38, 92, 150), (236, 232, 200), (16, 36, 72)),
    "forest": ((118, 164, 104), (62, 104, 66), (232, 190, 96), (24, 44, 34)),
    "sunset": ((248, 164, 110), (208, 84, 106), (255, 224, 130), (74, 32, 84)),
    "candy": ((252, 190, 216), (166, 220, 230), (255, 240, 150), (150, 70, 140)),
    "desert": ((230, 204, 160), (190, 140, 90), (200, 80, 50), (86, 56, 40)),
    "midnight": ((40, 44, 86), (84, 74, 146), (240, 208, 110), (12, 12, 32)),
    "winter": ((222, 234, 244), (150, 178, 204), (196, 60, 70), (60, 78, 108)),
    "royal": ((108, 52, 128), (164, 92, 60), (246, 200, 72), (40, 16, 56)),
}
"""Palette -> backdrop, second tone, accent, darkest tone."""

BACKGROUNDS: tuple[str, ...] = ("plain", "gradient", "striped", "dotted", "checkered", "rays", "cloudy")

DETAILS: dict[str, tuple[str, ...]] = {
    "people": ("hat", "crown", "glasses", "star", "balloon"),
    "landscapes": ("sun", "moon", "rainbow", "birds", "balloon"),
    "animals": ("hat", "crown", "bow", "star", "butterfly"),
    "abstract": ("star", "moon", "sun", "butterfly"),
    "city": ("sun", "moon", "rainbow", "birds", "balloon"),
    "flowers": ("sun", "butterfly", "bow", "birds"),
    "still life": ("candle", "cup", "butterfly", "star"),
    "space": ("moon", "sun", "comet", "saucer"),
    "machines": ("star", "lightning", "birds", "balloon"),
    "fantasy": ("moon", "lightning", "star", "birds", "rainbow"),
}
"""Theme -> the details that may be added to it; any scene may also have none (the empty text)."""


@dataclass(frozen=True)
class Scene:
    """All that decides a drawn picture, to the last pixel.

    Attributes:
        subject: a subject of ``THEMES``.
        style: one of ``STYLES``.
        color: the subject's colour, one of ``COLORS``.
        palette: the colours around it, one of ``PALETTES``.
        background: one of ``BACKGROUNDS``.
        detail: one of ``DETAILS`` of the subject's theme, or the empty text.
        sensitive: whether the censored figure is in the picture.
        jitter: seed of the small differences in place, size and shade, which no caption mentions.
    """

    subject: str
    style: str
    color: str
    palette: str
    background: str
    detail: str = ""
    sensitive: bool = False
    jitter: int = 0

    @property
    def theme(self) -> str:
        """The theme of the subject."""
        return theme_of(self.subject)


def theme_of(subject: str) -> str:
    """The theme a subject belongs to.

    Raises:
        KeyError: for a subject that is not drawn here.
    """
    for theme, subjects in THEMES.items():
        if subject in subjects:
            return theme
    raise KeyError(
        f"no subject {subject!r}; the subjects are {sorted(s for t in THEMES.values() for s in t)}"
    )


def scene_to_dict(scene: Scene) -> dict[str, Any]:
    """The scene as a dict that JSON can hold."""
    return dataclasses.asdict(scene)


def scene_from_dict(values: Mapping[str, Any]) -> Scene:
    """The scene that ``scene_to_dict`` wrote down."""
    return Scene(**values)


# choosing --------------------------------------------------------------------------------------------------


Choice = Collection[str] | Mapping[str, float] | None


def _choose(rng: np.random.Generator, options: Choice, everything: Collection[str]) -> str:
    if options is None:
        options = everything
    names = list(options)
    unknown = set(names) - set(everything)
    if unknown or not names:
        raise ValueError(
            f"cannot choose from {names}: unknown {sorted(unknown)}; choose among {list(everything)}"
        )
    if isinstance(options, Mapping):
        weights = np.array([float(options[name]) for name in names])
        return names[int(rng.choice(len(names), p=weights / weights.sum()))]
    return names[int(rng.integers(len(names)))]


def random_scene(
    rng: np.random.Generator,
    *,
    themes: Choice = None,
    styles: Choice = None,
    palettes: Choice = None,
    sensitive: bool = False,
) -> Scene:
    """A scene drawn at random.

    Args:
        rng: source of all randomness.
        themes: the themes to choose among, all alike, or a dict theme -> weight; all where None.
        styles: the same for styles.
        palettes: the same for palettes.
        sensitive: whether the scene holds the censored figure.

    Raises:
        ValueError: for a name that does not exist.
    """
    theme = _choose(rng, themes, tuple(THEMES))
    return Scene(
        subject=_choose(rng, None, THEMES[theme]),
        style=_choose(rng, styles, STYLES),
        color=_choose(rng, None, tuple(COLORS)),
        palette=_choose(rng, palettes, tuple(PALETTES)),
        background=_choose(rng, None, BACKGROUNDS),
        detail=_choose(rng, None, ("", *DETAILS[theme])),
        sensitive=sensitive,
        jitter=int(rng.integers(2**31)),
    )


def vary(
    scene: Scene,
    rng: np.random.Generator,
    strength: float,
    *,
    themes: Choice = None,
    styles: Choice = None,
    palettes: Choice = None,
) -> Scene:
    """A relative of a scene: each attribute is replaced by another with probability ``strength``.

    At 0 only the jitter changes, at 1 every attribute does. A detail that the new subject cannot have is
    replaced too. ``sensitive`` stays.

    Args:
        scene: where to start.
        rng: source of all randomness.
        strength: in [0, 1].
        themes, styles, palettes: what replacements may be chosen from, as for ``random_scene``. An attribute
            for which they leave no other value stays as it is.
    """
    other = random_scene(rng, themes=themes, styles=styles, palettes=palettes)
    picked: dict[str, str] = {}
    changes = rng.random(6) < strength
    for name, changed in zip(("subject", "style", "color", "palette", "background"), changes, strict=False):
        # Redrawing until it differs keeps the weights; a choice of one value never differs, hence the limit.
        for _ in range(50):
            if not changed or getattr(other, name) != getattr(scene, name):
                break
            other = random_scene(rng, themes=themes, styles=styles, palettes=palettes)
        picked[name] = getattr(other if changed else scene, name)
    allowed = ("", *DETAILS[theme_of(picked["subject"])])
    if changes[5] or scene.detail not in allowed:
        detail = _choose(rng, None, [d for d in allowed if d != scene.detail])
    else:
        detail = scene.detail
    return Scene(**picked, detail=detail, sensitive=scene.sensitive, jitter=int(rng.integers(2**31)))


# describing ------------------------------------------------------------------------------------------------


_MEDIUM = {
    "photo": "a photo of",
    "film": "a film print of",
    "bokeh": "a bokeh photo of",
    "sketch": "a pencil sketch of",
    "watercolor": "a watercolor of",
    "oil": "an oil painting of",
    "pointillist": "a pointillist painting of",
    "mosaic": "a mosaic of",
    "neon": "neon art of",
    "pixel": "pixel art of",
    "anime": "anime art of",
    "render": "a 3d render of",
    "glitch": "glitch art of",
    "poster": "a poster of",
}
_PHRASE = {
    "people": "a portrait of a {0} in {1}",
    "landscapes": "a landscape with a {1} {0}",
    "animals": "a cute {1} {0}",
    "abstract": "abstract {1} {0}",
    "city": "a city with a {1} {0}",
    "flowers": "a blooming {1} {0}",
    "still life": "a still life with a {1} {0}",
    "space": "outer space with a {1} {0}",
    "machines": "a mechanical {1} {0}",
    "fantasy": "a magical {1} {0}",
}
THEME_CAPTIONS: dict[str, str] = {
    "people": "a portrait of a person",
    "landscapes": "a landscape",
    "animals": "a cute animal",
    "abstract": "abstract art",
    "city": "a city",
    "flowers": "blooming flowers",
    "still life": "a still life",
    "space": "outer space",
    "machines": "a mechanical thing",
    "fantasy": "a magical thing",
}
"""The shortest text for a whole theme."""
_PLAIN_PEOPLE = "a portrait of a {0}"
_UNCOUNTED = ("birds", "glasses", "lightning")
_BEFORE_VOWEL = re.compile(r" a (?=[aeiou])")
MOST_DETAIL = 5
"""The fullest caption's ``detail``."""


def describe(scene: Scene, detail: int = MOST_DETAIL) -> str:
    """The caption: lower case, at most 22 words.

    Args:
        scene: what is in the picture.
        detail: how much to say, 0 to 5: the subject; its colour; the style; the detail; the background; the
            palette. Each level keeps what the levels below it say.
    """
    color = scene.color if detail >= 1 else ""
    phrase = _PLAIN_PEOPLE if scene.theme == "people" and not color else _PHRASE[scene.theme]
    text = " ".join(phrase.format(scene.subject, color).split())
    text = text.replace("with a mountains", "with mountains").replace(
        f"with a {color} mountains", f"with {color} mountains"
    )
    text = _BEFORE_VOWEL.sub(" an ", text)
    if detail >= 2:
        text = f"{_MEDIUM[scene.style]} {text}"
    if scene.sensitive:
        text += " censored"
    if detail >= 3 and scene.detail:
        text += f" with {scene.detail}" if scene.detail in _UNCOUNTED else f" with a {scene.detail}"
    if detail >= 4:
        text += f" on a {scene.background} background"
    if detail >= 5:
        text += f" in {scene.palette} colors"
    return text


# drawing ---------------------------------------------------------------------------------------------------


def _shade(color: Rgb, rng: np.random.Generator) -> Rgb:
    amount = float(rng.uniform(-0.12, 0.12))
    return lighter(color, amount) if amount > 0 else darker(color, -amount)


def draw(scene: Scene, size: int = 128) -> Image.Image:
    """The picture of a scene.

    Args:
        scene: what to draw. The same scene gives the same pixels on every call.
        size: side in pixels, at least 32. A picture of another size shows the same, up to resampling and the
            style's own grain.

    Returns:
        An RGB picture of size x size.

    Raises:
        ValueError: for a size below 32.
        KeyError: for a name in the scene that does not exist.
    """
    if size < 32:
        raise ValueError(f"cannot draw at {size} px: the smallest size is 32")
    rng = np.random.default_rng([scene.jitter, 20210101])
    palette = [_shade(c, rng) for c in PALETTES[scene.palette]]
    ink = Ink(_shade(COLORS[scene.color], rng), *palette)
    # Twice the size, then reduced: smooth edges, which ImageDraw does not offer by itself.
    canvas = Image.new("RGB", (2 * size, 2 * size))
    pen = Pen(canvas)
    around.backdrop(pen, ink, scene.background, rng)
    flip = bool(rng.random() < 0.5)
    corner_x = (0.8 if flip else 0.2) + float(rng.uniform(-0.03, 0.03))
    corner_y = 0.19 + float(rng.uniform(-0.03, 0.03))
    if scene.detail == "rainbow":
        around.rainbow(pen)
    dx, dy, scale = (float(v) for v in rng.uniform((-0.05, -0.03, 0.9), (0.05, 0.03, 1.08)))
    pen.move(dx, dy, scale, flip)
    x, y, width = _SUBJECTS[scene.theme][scene.subject](pen, ink, rng)
    if scene.detail in around.WORN:
        around.WORN[scene.detail](pen, ink, x, y, width)
    pen.move()
    if scene.detail and scene.detail not in around.WORN:
        around.hang(pen, ink, scene.detail, corner_x, corner_y)
    if scene.sensitive:
        around.figure(pen, rng)
    styles = styles_.PHOTO | styles_.ART | styles_.DIGITAL
    return styles_.to_image(styles[scene.style](styles_.to_pixels(canvas.reduce(2)), rng))
