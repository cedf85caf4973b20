"""Figure 4(c): each cluster by example pictures, its captions' words and annotators' keywords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from twigma_core.figures.inputs import count, count_of, need, need_columns
from twigma_core.figures.pictures import show_sheet
from twigma_core.figures.style import (
    INK,
    MUTED,
    PAGE_WIDTH,
    TREND_COLOURS,
    TREND_MARKS,
    finish,
    in_style,
    new_sheet,
    sheet_width,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

TITLE = "Themes of the clusters, and how their shares change"
ABOUT = (
    "Each cluster's trend, example pictures, the words that set its captions apart, and the keywords of "
    "human annotators; words that both name are bold."
)
TABLES: dict[str, tuple[str, ...]] = {
    "cluster_themes": ("cluster", "rank", "word"),
    "cluster_trends": ("cluster", "month", "pictures", "trend"),
    "annotations": ("annotator", "image_id", "keywords"),
    "annotation_tasks": ("image_id", "cluster"),
}

WORDS = 8
KEYWORDS = 6
EXAMPLES = 5
_ROW, _SIDE, _HEAD = 0.56, 0.5, 0.22
_POINTS = 6.5


def table(
    cluster_themes: pl.DataFrame,
    cluster_trends: pl.DataFrame,
    annotations: pl.DataFrame,
    annotation_tasks: pl.DataFrame,
) -> pl.DataFrame:
    """Return one row a cluster: cluster, pictures, trend, words, keywords, shared, annotated.

    `words` are the first `WORDS` of the captions, `keywords` the `KEYWORDS` that annotators wrote most
    often, `shared` those in both (a plural counts as its singular); all as text, parted by ", ".
    `annotated` counts the cluster's pictures with a keyword. The two annotation tables may be empty.
    """
    given = (cluster_themes, cluster_trends, annotations, annotation_tasks)
    for (name, columns), frame in zip(TABLES.items(), given, strict=True):
        need_columns("figure_4c", name, frame, columns)
    need("figure_4c", "cluster_themes", cluster_themes)
    words = (
        cluster_themes.filter(pl.col("rank") <= WORDS)
        .sort("cluster", "rank")
        .group_by("cluster", maintain_order=True)
        .agg(pl.col("word").alias("words"))
    )
    trends = cluster_trends.group_by("cluster").agg(
        pl.col("pictures").sum(), pl.col("trend").cast(pl.String).first()
    )
    rows = (
        words.join(trends, on="cluster", how="full", coalesce=True)
        .join(_keywords(annotations, annotation_tasks), on="cluster", how="left")
        .sort("cluster")
        .with_columns(
            pl.col("trend").fill_null("unknown"),
            pl.col("words", "keywords").fill_null([]),
            pl.col("annotated").fill_null(0),
        )
    )
    shared = [_shared(w, k) for w, k in rows.select("words", "keywords").rows()]
    return rows.with_columns(pl.Series("shared", shared, dtype=pl.List(pl.String))).select(
        "cluster", "pictures", "trend", pl.col("words", "keywords", "shared").list.join(", "), "annotated"
    )


def _keywords(annotations: pl.DataFrame, tasks: pl.DataFrame) -> pl.DataFrame:
    """Return cluster, keywords (most frequent first), annotated."""
    stem = pl.col("keywords").map_elements(_stem, return_dtype=pl.String).alias("stem")
    told = (
        annotations.select("annotator", "image_id", "keywords")
        .explode("keywords")
        .filter(pl.col("keywords").str.strip_chars().str.len_chars() > 0)
        .join(tasks.select("image_id", "cluster"), on="image_id")
        .with_columns(pl.col("keywords").str.strip_chars().str.to_lowercase())
        .with_columns(stem)
    )
    most = (
        told.group_by("cluster", "stem")
        .agg(pl.len().alias("times"), pl.col("keywords").mode().sort().first())
        .sort("cluster", "times", "keywords", descending=[False, True, False])
        .group_by("cluster", maintain_order=True)
        .agg(pl.col("keywords").head(KEYWORDS))
    )
    annotated = told.group_by("cluster").agg(pl.col("image_id").n_unique().cast(pl.Int64).alias("annotated"))
    return most.join(annotated, on="cluster")


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _shared(words: list[str], keywords: list[str]) -> list[str]:
    """Return the entries of both lists that share a word, plural or not, with the other list."""
    theme = {_stem(word) for word in words}
    human = {_stem(part) for keyword in keywords for part in keyword.split()}
    both = theme & human
    return [w for w in dict.fromkeys([*words, *keywords]) if {_stem(part) for part in w.split()} & both]


@in_style
def draw(
    cluster_themes: pl.DataFrame,
    cluster_trends: pl.DataFrame,
    annotations: pl.DataFrame,
    annotation_tasks: pl.DataFrame,
    *,
    thumbnails: Mapping[int, Sequence[Image]] | None = None,
    synthetic: bool = False,
) -> Figure:
    """Return one row a cluster.

    Args:
        cluster_themes: see `TABLES`, as all tables.
        cluster_trends: a cluster that it lacks has no trend mark.
        annotations: may be empty: the column of keywords is left out then.
        annotation_tasks: may be empty.
        thumbnails: cluster to example pictures, of which the first `EXAMPLES` are shown. They are shown as
            they come: pass those that are not safe through `pictures.veil`.
        synthetic: adds the footnote.

    Raises:
        ValueError: no cluster has words.
    """
    rows = table(cluster_themes, cluster_trends, annotations, annotation_tasks)
    shown = {cluster: list(pictures)[:EXAMPLES] for cluster, pictures in (thumbnails or {}).items()}
    examples = max((len(shown.get(cluster, [])) for cluster in rows["cluster"]), default=0)
    annotated = int(rows["annotated"].sum())
    room = sheet_width(PAGE_WIDTH)
    words_at = 0.78 + examples * (_SIDE + 0.04) + (0.12 if examples else 0)
    keywords_at = words_at + (room - words_at) * (0.56 if annotated else 1.0)
    height = _HEAD + _ROW * rows.height
    figure, axes = new_sheet(PAGE_WIDTH, height)
    for x, head in (
        (0.0, "Cluster"),
        (0.78, "Examples" if examples else ""),
        (words_at, "Words of the captions"),
        (keywords_at, "Annotators' keywords" if annotated else ""),
    ):
        axes.text(x, _HEAD - 0.07, head, size=6.5, weight="bold", color=MUTED)
    sheet: list[tuple[Image, float, float, float]] = []
    for place_in_sheet, row in enumerate(rows.to_dicts()):
        top = _HEAD + place_in_sheet * _ROW
        axes.plot([0, room], [top, top], color="#DDDDDD", linewidth=0.5)
        middle = top + _ROW / 2
        axes.text(0.02, middle, str(row["cluster"]), size=11, weight="bold", va="center")
        tint = TREND_COLOURS[row["trend"]]
        axes.text(
            0.29,
            middle - 0.06,
            f"{TREND_MARKS[row['trend']]} {row['trend']}",
            size=6,
            color=tint,
            va="center",
        )
        if row["pictures"] is not None:
            axes.text(0.29, middle + 0.08, f"n = {count(row['pictures'])}", size=6, color=MUTED, va="center")
        for number, picture in enumerate(shown.get(row["cluster"], [])):
            sheet.append((picture, 0.78 + number * (_SIDE + 0.04), top + (_ROW - _SIDE) / 2, _SIDE))
        shared = set(row["shared"].split(", ")) - {""}
        _flow(axes, row["words"], shared, words_at, middle, keywords_at - words_at - 0.12)
        if annotated:
            _flow(axes, row["keywords"] or "–", shared, keywords_at, middle, room - keywords_at)
    show_sheet(axes, sheet, room, height)
    caption = (
        "▲ rising and ▼ falling at 5 % after Holm's correction. Words set a cluster's captions apart from "
        "all captions, strongest first."
        + (
            f" Keywords of {count_of(annotations['annotator'].n_unique(), 'annotator')} on "
            f"{count_of(annotated, 'picture')}, most frequent first; bold where captions and annotators "
            "agree."
            if annotated
            else " No annotations yet."
        )
    )
    return finish(figure, TITLE, caption, synthetic=synthetic)


def _flow(axes: Axes, words: str, bold: set[str], x: float, middle: float, width: float) -> None:
    """Write words parted by commas within `width` inches, at most three lines, centred on y = `middle`.

    Words that find no room are left to the table, and "…" says so.
    """
    step, space = 0.135, text_width("a a", _POINTS) - text_width("aa", _POINTS)
    lines: list[list[tuple[float, str, bool]]] = [[]]
    at = 0.0
    parts = words.split(", ")
    for number, word in enumerate(parts):
        shown = word + ("," if number < len(parts) - 1 else "")
        wide = text_width(shown, _POINTS, bold=word in bold)
        if at and at + wide > width:
            if len(lines) == 3:
                lines[-1].append((at, "…", False))
                break
            lines.append([])
            at = 0.0
        lines[-1].append((at, shown, word in bold))
        at += wide + space
    for line, content in enumerate(lines):
        y = middle + (line - (len(lines) - 1) / 2) * step
        for offset, shown, strong in content:
            axes.text(
                x + offset,
                y,
                shown,
                size=_POINTS,
                weight="bold" if strong else "normal",
                va="center_baseline",
                color=INK,
            )
