"""Figure 4(e): pictures beside the human pictures that may have inspired them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from twigma_core.figures.inputs import count_of, need, need_columns
from twigma_core.figures.pictures import BLUR_FROM, is_veiled, show_sheet, veil
from twigma_core.figures.style import INK, PAGE_WIDTH, colour, finish, in_style, label, new_sheet, sheet_width

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

TITLE = "TWIGMA pictures beside their nearest human pictures"
ABOUT = (
    "Pairs of a TWIGMA picture (left) and its nearest picture in LAION or ArtBench (right), with the cosine "
    "similarity of their embeddings; pictures with a high NSFW score are blurred."
)
TABLES: dict[str, tuple[str, ...]] = {
    "inspirations": (
        *("rank", "image_id", "corpus", "neighbor_id", "similarity"),
        *("nsfw_score", "neighbor_nsfw_score"),
    )
}

MOST_PAIRS = 24
_COLUMNS = 4
_GAP, _LINE = 0.13, 0.2


def table(inspirations: pl.DataFrame) -> pl.DataFrame:
    """Return the first `MOST_PAIRS` pairs by rank.

    `blurred` and `neighbor_blurred` say whether the figure blurs the picture, and the human picture.
    """
    need_columns("figure_4e", "inspirations", inspirations, TABLES["inspirations"])
    need("figure_4e", "inspirations", inspirations, "pairs")
    rows = inspirations.select(TABLES["inspirations"]).sort("rank").head(MOST_PAIRS)
    return rows.with_columns(
        pl.Series(f"{side}blurred", [is_veiled(score) for score in rows[f"{side}nsfw_score"]], pl.Boolean)
        for side in ("", "neighbor_")
    )


@in_style
def draw(
    inspirations: pl.DataFrame,
    *,
    pictures: Mapping[int, tuple[Image, Image]] | None = None,
    synthetic: bool = False,
) -> Figure:
    """Return a contact sheet, the most similar pair first.

    Args:
        inspirations: see `TABLES`.
        pictures: rank to (TWIGMA picture, human picture). A pair that it lacks shows its frame and score,
            and is counted in the caption.
        synthetic: adds the footnote.

    Raises:
        ValueError: there are no pairs.
    """
    from matplotlib.patches import Rectangle

    rows = table(inspirations)
    at_hand = pictures or {}
    columns = min(_COLUMNS, rows.height)
    room = sheet_width(PAGE_WIDTH)
    side = (room - _GAP * (_COLUMNS - 1)) / _COLUMNS / 2
    lines = -(-rows.height // columns)
    height = lines * (side + _LINE)
    figure, axes = new_sheet(PAGE_WIDTH, height)
    missing = 0
    sheet: list[tuple[Image, float, float, float]] = []
    for number, row in enumerate(rows.to_dicts()):
        x = (number % columns) * (2 * side + _GAP)
        y = (number // columns) * (side + _LINE)
        pair = at_hand.get(row["rank"])
        if pair is None:
            missing += 1
            axes.add_patch(Rectangle((x, y), 2 * side, side, facecolor="#F2F2F2", edgecolor="none"))
            axes.text(x + side, y + side / 2, "no picture at hand", size=6, ha="center", va="center")
        else:
            veiled = (row["blurred"], row["neighbor_blurred"])
            for offset, picture, hide in zip((0.0, side), pair, veiled, strict=True):
                sheet.append((veil(picture) if hide else picture, x + offset, y, side - 0.02))
        axes.add_patch(
            Rectangle(
                (x + side - 0.01, y + side), side - 0.01, 0.025, facecolor=colour(row["corpus"]), linewidth=0
            )
        )
        text = f"{row['similarity']:.3f}" + ("  blurred" if row["blurred"] or row["neighbor_blurred"] else "")
        axes.text(x, y + side + 0.075, text, size=6, weight="bold", va="center", color=INK)
        axes.text(
            x + 2 * side - 0.02,
            y + side + 0.075,
            label(row["corpus"]),
            size=6,
            ha="right",
            va="center",
            color=INK,
        )
    show_sheet(axes, sheet, room, height)
    blurred = int(rows["blurred"].sum()) + int(rows["neighbor_blurred"].sum())
    caption = (
        f"The most similar {rows.height} of {count_of(inspirations.height, 'pair')}; numbers are the "
        "cosine similarity of the two embeddings. Left TWIGMA, right the human picture. "
        f"Pictures blurred, as their NSFW score is {BLUR_FROM} or more, or unknown: {blurred or 'none'}."
        + (f" Pairs whose pictures are not at hand: {missing}." if missing else "")
    )
    return finish(figure, TITLE, caption, synthetic=synthetic)
