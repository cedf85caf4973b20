"""The words of the sample world: six text sources to compare prompts with, and the texts of posts.

What belongs here: small grammars that write texts; none is copied from anywhere. The sources are made to
differ in how variable they are, as the paper found (Section 4.1, Figure 3d): captions, prompts and tweets
speak of everything, news of a part of it, haiku and the book of little. They keep to the small CLIP's
words, so that its text tower can tell them apart. What does not: which posts there are (``posts``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from twigma_core.sample.drawing import COLORS, DIGITAL_STYLES, THEMES, describe, random_scene

PER_SOURCE = 250


def _one(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def caption(rng: np.random.Generator) -> str:
    """Return a caption of any picture that can be drawn."""
    return describe(random_scene(rng), int(rng.integers(2, 6)))


def prompt(rng: np.random.Generator) -> str:
    """Return a prompt as people write them for digital pictures of any kind."""
    scene = random_scene(rng, styles=DIGITAL_STYLES)
    return describe(scene, int(rng.integers(2, 6)))


def tweet(rng: np.random.Generator) -> str:
    """Return a remark about any picture, with what cleaning must take away: a hashtag, a link."""
    said = describe(random_scene(rng), int(rng.integers(1, 5)))
    ending = _one(rng, ["", " #art", " #drawing", " https://t.co/example", " so cute"])
    return f"{said}{ending}"


def haiku(rng: np.random.Generator) -> str:
    """Return three short lines on one subject: winter, water, the moon."""
    first = _one(
        rng, ["a winter sea", "a plain winter sea", "winter on the sea", "a white sea in winter", "winter"]
    )
    color = _one(rng, ["white", "blue", "black", "teal"])
    second = _one(
        rng,
        [
            f"a landscape with a {color} sea",
            f"the sea in {color} and white",
            f"a {color} moon on a {color} sea",
        ],
    )
    third = _one(
        rng, ["a white moon", "the moon on the sea", "birds on the sea", "birds and a moon", "birds"]
    )
    return f"{first} / {second} / {third}{_one(rng, ['', ' in winter', ' in winter colors'])}"


def book(rng: np.random.Generator) -> str:
    """Return a sentence of a tale that never leaves its wizard and his castle."""
    color = _one(rng, ["purple", "black", "blue"])
    place = _one(rng, ["a castle", "a black castle", "a purple castle", "the magical castle", "the castle"])
    night = _one(rng, ["", " in midnight colors", " in royal colors", " on a plain background"])
    held = _one(rng, ["a star", "the moon", "a moon and a star", "lightning"])
    return f"a magical {color} wizard on {place} with {held}{night}"


def news(rng: np.random.Generator) -> str:
    """Return a report from town: streets, bridges, cars and machines in any colour."""
    theme = _one(rng, ["city", "machines"])
    subject = _one(rng, THEMES[theme])
    color = _one(rng, list(COLORS))
    extra = _one(rng, ["", " with birds", " with a balloon", " with a rainbow"])
    place = _one(rng, ["", " on a plain background", " in ocean colors", " on a street", " in a city"])
    return (
        f"{_one(rng, ['a photo of ', 'a film print of ', ''])}a city with a {color} {subject}{extra}{place}"
    )


_GRAMMARS: dict[str, Callable[[np.random.Generator], str]] = {
    "captions": caption,
    "haiku": haiku,
    "prompts": prompt,
    "tweets": tweet,
    "news": news,
    "book": book,
}

VARIABLE, NARROW = ("captions", "prompts", "tweets"), ("haiku", "book")


def text_sources(seed: int, prompts: Sequence[str]) -> list[dict[str, str]]:
    """Return `PER_SOURCE` texts of each source as rows of source and text.

    Args:
        seed: of all randomness; each source has its own stream.
        prompts: the prompts of the prompt corpus, which begin the source "prompts".
    """
    rows = []
    for number, (source, grammar) in enumerate(_GRAMMARS.items()):
        rng = np.random.default_rng([seed, 10, number])
        texts = list(prompts) if source == "prompts" else []
        texts += [grammar(rng) for _ in range(PER_SOURCE - len(texts))]
        rows += [{"source": source, "text": text} for text in texts]
    return rows


# ---------------------------------------------------------------- posts

_OPENINGS = (
    "Made this today:",
    "Tonight's experiment,",
    "New piece:",
    "Good morning! Here is",
    "I asked for something simple and got",
    "Series 3 of 10:",
    "What do you think of",
    "Could not stop looking at",
    "Another try at",
    "My first:",
)
_JAPANESE = ("今日の作品", "新しい絵ができました", "AIに描いてもらいました")
ODD_TEXTS: tuple[str, ...] = (
    "<script>alert('art')</script> what a title",
    "=SUM(A1:A9) of all my sketches",
    "@everyone look, a whole\nnew line and a tab\there",
)
"""Texts that a table, a page or a spreadsheet must survive; each is posted once."""


def post_text(rng: np.random.Generator, subjects: Sequence[str], lang: str) -> str:
    """Return what a user writes above pictures of ``subjects``, without hashtags and links."""
    if lang == "ja":
        return _one(rng, _JAPANESE)
    if not subjects:
        return _one(
            rng, ["Thoughts on art and machines, a thread.", "Which model do you use?", "No picture today."]
        )
    named = " and ".join(dict.fromkeys(subjects))
    return f"{_one(rng, _OPENINGS)} {named}{_one(rng, ['', ' ✨', '!', ' & more'])}"
