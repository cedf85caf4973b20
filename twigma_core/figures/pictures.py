"""Pictures on a figure: cut to a square, made small, and blurred where they may not be safe to show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

BLUR_FROM = 0.5
"""NSFW score from which a picture is shown blurred."""

_PER_INCH = 300


def is_veiled(nsfw_score: float | None) -> bool:
    """Return whether a picture of that score is blurred; one without a score is, to be safe."""
    return nsfw_score is None or not nsfw_score < BLUR_FROM


def square(image: Image, pixels: int) -> Image:
    """Return the middle of `image` as an RGB square of `pixels` a side."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    return ImageOps.fit(image.convert("RGB"), (pixels, pixels), method=Resampling.LANCZOS)


def veil(image: Image) -> Image:
    """Return `image` as a square reduced to 8 × 8 blurred colours, from which no detail can be won back."""
    from PIL.Image import Resampling

    few = square(image, 256).resize((8, 8), Resampling.BOX)
    return few.resize((256, 256), Resampling.BICUBIC)


def show_sheet(
    axes: Axes, placed: Iterable[tuple[Image, float, float, float]], width: float, height: float
) -> None:
    """Show pictures on `axes`, whose units are inches with y pointing down, as one image of the whole sheet.

    Args:
        axes: where they are shown.
        placed: (picture, x, y, side): each is cut to a square of `side` with its upper left corner at (x, y).
        width: of the sheet.
        height: of the sheet.
    """
    import numpy as np
    from PIL import Image as pil

    sheet = pil.new("RGB", (round(width * _PER_INCH), round(height * _PER_INCH)), "white")
    for picture, x, y, side in placed:
        sheet.paste(square(picture, round(side * _PER_INCH)), (round(x * _PER_INCH), round(y * _PER_INCH)))
    axes.imshow(
        np.asarray(sheet), extent=(0, width, height, 0), interpolation="none", zorder=0, aspect="auto"
    )
