"""How every figure looks: its colours, its page, its title and the lines beneath it.

Here belong the palette (one fixed colour a source, safe for colour-blind readers), the names that sources
and trends are shown by, and the making of a page. What a figure shows belongs in the figure's own module;
how it becomes a file, in `files.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_WIDTH = 3.3
"""Width in inches of a figure that stands in one column."""

PAGE_WIDTH = 6.75
"""Width in inches of a figure that stands across the page."""

INK, MUTED, FAINT = "#222222", "#666666", "#D9D9D9"

# Machine-made pictures are warm, human ones cool, and of either kind one is dark and one is light: told apart
# by colour-blind readers and in grey print (a test simulates both). Conditions are hatched in the colour of
# their source. Of the texts only the prompts have a colour; all are named beside what is drawn.
SOURCE_COLOURS: dict[str, str] = {
    "twigma": "#B04100",
    "diffusiondb": "#E69F00",
    "diffusiondb_same_prompt": "#E69F00",
    "laion": "#005F9E",
    "artbench": "#2AA880",
    "artbench_same_artist": "#2AA880",
    "prompts": "#E69F00",
}
_OTHER = "#7C8FA3"
SOURCE_LABELS: dict[str, str] = {
    "twigma": "TWIGMA",
    "diffusiondb": "DiffusionDB",
    "diffusiondb_same_prompt": "DiffusionDB, same prompt",
    "laion": "LAION",
    "artbench": "ArtBench",
    "artbench_same_artist": "ArtBench, same artist",
    "captions": "Image captions",
    "haiku": "Haiku",
    "prompts": "Prompts",
    "tweets": "Tweets",
    "news": "News",
    "book": "Book chapter",
}
MACHINE_MADE = ("twigma", "diffusiondb")
"""Sources of AI-generated pictures; all other picture sources are human-made."""

TREND_COLOURS: dict[str, str] = {
    "rising": "#B04100",
    "falling": "#005F9E",
    "steady": "#666666",
    "unknown": "#767676",
}
TREND_MARKS: dict[str, str] = {"rising": "▲", "falling": "▼", "steady": "▶", "unknown": "?"}

SMALLEST_POINTS = 6.0
"""Size of the smallest text on any figure."""

_TITLE_POINTS, _CAPTION_POINTS = 8.0, SMALLEST_POINTS
_MARGIN = 0.05  # inches between the canvas' edge and what is written
_STYLE = Path(__file__).with_name("style.mplstyle")

P = ParamSpec("P")
R = TypeVar("R")


def colour(source: str) -> str:
    """Return the fixed colour of `source` as "#RRGGBB"; a greyish blue for a source that has none."""
    return SOURCE_COLOURS.get(source, _OTHER)


def ink_on(background: str) -> str:
    """Return the ink, dark or white, that stands out more on `background` (WCAG's relative luminance)."""
    from matplotlib.colors import to_rgb

    light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(background)]
    luminance = sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), light, strict=True))
    return "white" if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.0661 else INK


def label(source: str) -> str:
    """Return the name that `source` is shown by."""
    return SOURCE_LABELS.get(source, source.replace("_", " "))


def ordered(sources: Sequence[str]) -> list[str]:
    """Return the distinct `sources` in the order that all figures list them in; unknown ones last, sorted."""
    known = [source for source in SOURCE_ORDER if source in set(sources)]
    return known + sorted(set(sources) - set(known))


SOURCE_ORDER = (
    "laion",
    "artbench",
    "artbench_same_artist",
    "diffusiondb",
    "diffusiondb_same_prompt",
    "twigma",
    "captions",
    "tweets",
    "prompts",
    "news",
    "haiku",
    "book",
)


@cache
def _settings() -> dict[str, Any]:
    from matplotlib import rc_params_from_file

    settings = dict(rc_params_from_file(_STYLE, use_default_template=True))
    return {
        name: value for name, value in settings.items() if not name.startswith(("backend", "interactive"))
    }


def in_style(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` such that it runs under the style sheet, whatever the caller's settings are.

    matplotlib's settings belong to the process: two threads must not draw at the same time.
    """

    @wraps(function)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context():
            matplotlib.rcParams.update(_settings())  # type: ignore[arg-type]
            return function(*args, **kwargs)

    return styled


def new_page(width: float, height: float) -> Figure:
    """Return an empty figure that draws off screen, outside of pyplot, and lays out its axes itself.

    Args:
        width: width of the page in inches.
        height: height in inches of what is drawn; `finish` adds the room for title and caption.
    """
    return _off_screen(width, height, "constrained")


def _off_screen(width: float, height: float, layout: Literal["constrained"] | None) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def new_sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure with one bare axes whose units are inches, y pointing down from the upper left corner.

    For what is set like type rather than plotted: a table, a contact sheet. The axes is `width` less the
    page's margins wide and `height` high; it needs no layout.
    """
    figure = _off_screen(width, height, None)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(0, sheet_width(width))
    axes.set_ylim(height, 0)
    return figure, axes


def sheet_width(width: float) -> float:
    """Return the width in inches of what is drawn on a sheet of `width`."""
    return width - 2 * _MARGIN


def finish(figure: Figure, title: str, caption: str, *, synthetic: bool = False) -> Figure:
    """Write the title above and the caption beneath the axes, and return the figure with its layout set.

    Args:
        figure: what `new_page` or `new_sheet` returned, with its axes drawn.
        title: what the figure shows, or what is seen where the data bear it out.
        caption: sample sizes and what is needed to read the figure.
        synthetic: adds the footnote "synthetic sample".
    """
    width, content = (float(side) for side in figure.get_size_inches())
    room = sheet_width(width)
    heading = wrap(title, _TITLE_POINTS, room, bold=True)
    lines = wrap(caption, _CAPTION_POINTS, room)
    if synthetic:
        lines = [*lines, "Synthetic sample: drawn pictures and invented posts, not findings about X."]
    top = len(heading) * _TITLE_POINTS * 1.25 / 72 + 2 * _MARGIN
    bottom = len(lines) * _CAPTION_POINTS * 1.3 / 72 + 2 * _MARGIN
    height = content + top + bottom
    figure.set_size_inches(width, height)
    for number, line in enumerate(heading):
        y = 1 - (_MARGIN + number * _TITLE_POINTS * 1.25 / 72) / height
        figure.text(_MARGIN / width, y, line, size=_TITLE_POINTS, weight="bold", va="top", color=INK)
    for number, line in enumerate(reversed(lines)):
        y = (_MARGIN + number * _CAPTION_POINTS * 1.3 / 72) / height
        footnote = synthetic and number == 0
        figure.text(
            _MARGIN / width,
            y,
            line,
            size=_CAPTION_POINTS,
            va="bottom",
            color=MUTED,
            style="italic" if footnote else "normal",
        )
    figure.set_label(title)
    engine = figure.get_layout_engine()
    if engine is None:
        place = (_MARGIN / width, bottom / height, sheet_width(width) / width, content / height)
        for axes in figure.axes:
            axes.set_position(place)
    else:
        # The layout settles in two passes; frozen after that, so that every file of it is the same.
        engine.set(rect=(0.0, bottom / height, 1.0, 1 - (bottom + top) / height))  # type: ignore[call-arg]
        figure.draw_without_rendering()
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for axes in figure.axes:
            # The solver's last digits depend on memory addresses; the SVG's ids are hashes of all digits.
            solved = axes.get_position(original=True).bounds
            axes.set_position([round(side, 7) for side in solved])  # type: ignore[arg-type]
    return figure


def text_width(text: str, points: float, *, bold: bool = False) -> float:
    """Return the width in inches of `text` set in `points`."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=points, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0]) / 72


def wrap(text: str, points: float, width: float, *, bold: bool = False) -> list[str]:
    """Return `text` as lines that are at most `width` inches wide when set in `points`."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, points, bold=bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def letter(axes: Axes, text: str) -> None:
    """Write `text` as the small bold title of one panel."""
    axes.set_title(text, size=7, weight="bold", loc="left")
