"""Figure 1(c): the words that posts use most."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import polars as pl

from twigma_core.figures.inputs import count, need, need_columns
from twigma_core.figures.style import (
    COLUMN_WIDTH,
    SMALLEST_POINTS,
    SOURCE_COLOURS,
    finish,
    in_style,
    new_page,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Words that posts use most"
ABOUT = (
    "Words of the posts' texts and hashtags; the larger a word, the more posts hold it. Words that are "
    "mostly hashtags have a colour of their own."
)
TABLES: dict[str, tuple[str, ...]] = {"tweets": ("text",)}

WORDS = 80
SEED = 0
_WIDTH, _HEIGHT = COLUMN_WIDTH, 2.2
_PIXELS_PER_POINT = 4
_LARGEST_POINTS = 26
_LINKS_AND_NAMES = r"(?:https?://|www\.|pic\.twitter\.com/|t\.co/)\S+|@\w+|&(?:amp|lt|gt|quot|#\d+);|^RT\b"
_WORD = r"[\p{L}\p{M}\p{N}][\p{L}\p{M}\p{N}_'’]*"
KINDS = {"mostly hashtags": SOURCE_COLOURS["twigma"], "mostly words of the text": SOURCE_COLOURS["laion"]}


def table(tweets: pl.DataFrame) -> pl.DataFrame:
    """Return the `WORDS` most frequent words: word, count (posts that hold it), share, as_hashtag, drawn.

    Links, user names and stop words are left out, hashtags count as words without their sign, and letters
    are lower case. `as_hashtag` is the share of those posts in which the word is a hashtag. `drawn` is false
    for a word with letters that the figure's font does not have. Posts without text, such as those of the
    2023 release, give no rows.
    """
    from wordcloud import STOPWORDS

    need_columns("figure_1c", "tweets", tweets, TABLES["tweets"])
    need("figure_1c", "tweets", tweets, cure="materialize tweets for at least one month")
    stop = sorted(
        {part for word in STOPWORDS for part in (word, word.replace("'", "’"))} | {"via", "amp", "rt"}
    )
    words = (
        tweets.lazy()
        .select(
            pl.int_range(pl.len()).alias("post"),
            pl.col("text")
            .str.replace_all(_LINKS_AND_NAMES, " ")
            .str.to_lowercase()
            .str.extract_all(f"#?{_WORD}")
            .list.unique()
            .alias("found"),
        )
        .explode("found")
        .group_by("post", pl.col("found").str.strip_prefix("#").alias("word"))
        .agg(pl.col("found").str.starts_with("#").any().alias("hashtag"))
        .filter(pl.col("word").str.len_chars() > 1, ~pl.col("word").is_in(stop))
        .filter(~pl.col("word").str.contains(r"^[\p{N}_'’]+$"))
        .group_by("word")
        .agg(pl.len().cast(pl.Int64).alias("count"), pl.col("hashtag").mean().alias("as_hashtag"))
        .sort("count", "word", descending=[True, False])
        .head(WORDS)
        .collect()
    )
    known = _letters()
    drawn = [all(ord(letter) in known for letter in word) for word in words["word"]]
    share = (pl.col("count") / tweets.height).alias("share")
    return words.select("word", "count", share, "as_hashtag", pl.Series("drawn", drawn, dtype=pl.Boolean))


@in_style
def draw(tweets: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return the word cloud, its words as outlines; where the posts have no text, a page that says so.

    Raises:
        ValueError: there are no posts, or no words that the font can show.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.patches import Patch, PathPatch
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Affine2D

    rows = table(tweets)
    figure = new_page(_WIDTH, _HEIGHT)
    axes = figure.subplots()
    axes.set_axis_off()
    if rows.is_empty():
        axes.text(0.5, 0.5, "no words: these posts came without text", ha="center", va="center")
        return finish(figure, TITLE, f"{count(tweets.height)} posts, none with a word.", synthetic=synthetic)
    shown = rows.filter("drawn")
    need("figure_1c", "tweets", shown, "words in letters that the figure's font has")
    cloud = _layout(dict(shown.select("word", "count").rows()))
    font = FontProperties(fname=_font_file())
    ranks = {word: i for i, word in enumerate(shown["word"])}
    tints = list(KINDS.values())
    tint = {
        word: tints[0 if hashtag >= 0.5 else 1] for word, hashtag in shown.select("word", "as_hashtag").rows()
    }
    for (word, _), size, (row, column), _, _ in cloud.layout_:
        outline = TextPath((0, 0), word, size=size, prop=font)
        ink = outline.get_extents()  # the layout gives the upper left corner of the ink, y downwards
        place = Affine2D().scale(1, -1).translate(column - ink.x0, row + ink.y1)
        patch = PathPatch(place.transform_path(outline), facecolor=tint[word], linewidth=0)
        patch.set_gid(f"word-{re.sub(r'[^a-z0-9]+', '-', word)}-{ranks[word]}")
        axes.add_patch(patch)
    axes.set_xlim(0, cloud.width)
    axes.set_ylim(cloud.height, 0)
    axes.set_aspect("equal")
    axes.legend(
        handles=[Patch(color=tint, label=kind) for kind, tint in KINDS.items()],
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=2,
        handlelength=0.9,
    )
    missing = rows.height - len(cloud.layout_)
    most = rows.row(0, named=True)
    caption = (
        f"{count(tweets.height)} posts; “{most['word']}” is in {count(most['count'])} of them. "
        f"The {len(cloud.layout_)} words that most posts hold, larger for more posts. Links, names and "
        "stop words are left out." + (f" {missing} more are in the table only." if missing else "")
    )
    return finish(figure, TITLE, caption, synthetic=synthetic)


def _layout(counts: dict[str, int]) -> Any:
    from wordcloud import WordCloud

    scale = 72 * _PIXELS_PER_POINT
    cloud = WordCloud(
        font_path=_font_file(),
        width=round((_WIDTH - 0.1) * scale),
        height=round(_HEIGHT * scale),
        prefer_horizontal=1.0,
        min_font_size=round(SMALLEST_POINTS * _PIXELS_PER_POINT),
        max_font_size=_LARGEST_POINTS * _PIXELS_PER_POINT,
        relative_scaling=0.4,
        margin=2 * _PIXELS_PER_POINT,
        random_state=SEED,
        color_func=lambda *_, **__: "#000000",  # colours are ours; the default would start pyplot
        max_words=WORDS,
    )
    return cloud.generate_from_frequencies({word: float(n) for word, n in counts.items()})


def _font_file() -> str:
    from matplotlib import get_data_path

    return f"{get_data_path()}/fonts/ttf/DejaVuSans-Bold.ttf"


def _letters() -> set[int]:
    from matplotlib.ft2font import FT2Font

    return set(FT2Font(_font_file()).get_charmap())
