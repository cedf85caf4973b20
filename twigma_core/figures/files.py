"""How a figure becomes files that know where they come from.

`render` writes SVG, PNG and a thumbnail; `smaller` makes a PNG for a page or a message; `read_provenance`
reads the lineage back out of an SVG or a PNG. Where files are put is the lake's concern; what is drawn, the
figure modules'.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from twigma_core.figures.style import in_style
from twigma_core.provenance import Provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

DOTS_PER_INCH = 300
THUMBNAIL_WIDTH = 960
THUMBNAIL_BYTES = 90_000
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEY = "twigma"
_SVG_ID = "twigma-provenance"


@dataclass(frozen=True)
class Rendered:
    """The files of one figure.

    Attributes:
        svg: vector file, text as outlines; carries the provenance.
        png: raster file at 300 dots per inch; carries the provenance.
        thumbnail: PNG of at most 90 kB for a preview; carries nothing.
    """

    svg: bytes
    png: bytes
    thumbnail: bytes


@in_style
def render(figure: Figure, provenance: Provenance) -> Rendered:
    """Return `figure` as files that carry `provenance`: same figure and provenance, same bytes.

    The provenance is JSON: in the PNG a text chunk "twigma", in the SVG the element
    `<metadata id="twigma-provenance">`.
    """
    record = provenance.to_json()
    png = _save(figure, "png", dpi=DOTS_PER_INCH, metadata={"Software": None, _KEY: record})
    drawn = _save(
        figure,
        "svg",
        dpi=DOTS_PER_INCH,
        metadata={"Date": None, "Creator": None, "Title": figure.get_label() or provenance.asset},
    )
    return Rendered(svg=_with_record(drawn, record), png=png, thumbnail=smaller(png, THUMBNAIL_BYTES))


def smaller(png: bytes, most: int, *, keep_provenance: bool = False) -> bytes:
    """Return a PNG of at most `most` bytes, as wide as that and `THUMBNAIL_WIDTH` allow.

    It carries the provenance of `png` only where asked to: that is some kilobytes.
    """
    from PIL import Image, PngImagePlugin

    full = Image.open(io.BytesIO(png)).convert("RGB")
    note = PngImagePlugin.PngInfo()
    if keep_provenance:
        note.add_text(_KEY, _read_png(png), zip=True)
    width = min(THUMBNAIL_WIDTH, full.width)
    while True:
        small = full.resize(
            (width, max(1, round(full.height * width / full.width))), Image.Resampling.LANCZOS
        )
        buffer = io.BytesIO()
        _few_colours(small).save(buffer, format="png", optimize=True, pnginfo=note)
        if buffer.tell() <= most or width <= 160:
            return buffer.getvalue()
        # bytes grow about as the area does; a little less, so that one step nearly always does
        width = int(width * min(0.95, 0.97 * (most / buffer.tell()) ** 0.5))


def _few_colours(picture: Image.Image) -> Image.Image:
    """Return a picture in 112 of its own colours and 16 greys: text stays grey where photographs take all."""
    from PIL import Image

    # The other methods lose the colours of small marks to the many greys of the text.
    own = picture.quantize(112, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(own.getpalette() or [])[:336], *(17 * (i // 3) for i in range(48))])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def read_provenance(data: bytes) -> Provenance:
    """Return the lineage that an SVG or PNG written by `render` carries.

    Raises:
        ValueError: `data` is neither, is broken, or carries none; the message says which.
    """
    record = _read_png(data) if data.startswith(_PNG_SIGNATURE) else _read_svg(data)
    try:
        return Provenance.from_json(record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"the figure's provenance cannot be read: {error}; render the figure again"
        ) from error


def _save(figure: Figure, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()


def _with_record(svg: bytes, record: str) -> bytes:
    """Return `svg` with the record as the first child of its root element."""
    root = re.search(rb"<svg\b[^>]*>", svg)
    if root is None:  # matplotlib always writes one: a check against a change there
        raise ValueError("matplotlib wrote an SVG without a root element")
    element = f'\n <metadata id="{_SVG_ID}">{escape(record)}</metadata>'.encode()
    return svg[: root.end()] + element + svg[root.end() :]


def _read_png(data: bytes) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"the PNG is broken: {error}") from error
    record = getattr(image, "text", {}).get(_KEY)
    if record is None:
        raise ValueError(f"the PNG carries no text chunk {_KEY!r}: it was not written by this platform")
    return str(record)


def _read_svg(data: bytes) -> str:
    if b"<!ENTITY" in data:
        raise ValueError("the file declares XML entities, which no figure of this platform does; not read")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(f"the file is neither a PNG nor an SVG: {error}") from error
    for element in root:
        if element.get("id") == _SVG_ID:
            return element.text or ""
    raise ValueError(f"the SVG carries no element {_SVG_ID!r}: it was not written by this platform")
