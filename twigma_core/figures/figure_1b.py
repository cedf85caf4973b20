"""Figure 1(b): how many posts and pictures each month brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from twigma_core.figures.inputs import count, count_of, need, need_columns
from twigma_core.figures.style import (
    COLUMN_WIDTH,
    FAINT,
    INK,
    MUTED,
    SOURCE_COLOURS,
    finish,
    in_style,
    new_page,
)
from twigma_core.figures.timeline import month_axis, month_index, months_between

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Posts and unique pictures by month"
ABOUT = (
    "Posts collected in each month (bars), and the unique pictures first posted in it (dots). A cross marks "
    "a month whose posts or pictures are not built, which is not the same as none."
)
_MARKS = {"posts": MUTED, "pictures": SOURCE_COLOURS["twigma"]}
TABLES: dict[str, tuple[str, ...]] = {"tweets": ("month",), "dataset": ("month",)}


def table(tweets: pl.DataFrame, dataset: pl.DataFrame) -> pl.DataFrame:
    """Return one row a month from the first to the last: month, posts, pictures.

    Null is a month that the table of posts or pictures has no row of: it was not built, or held none.
    """
    for name, frame in (("tweets", tweets), ("dataset", dataset)):
        need_columns("figure_1b", name, frame, TABLES[name])
    need("figure_1b", "tweets", tweets, cure="materialize tweets for at least one month")
    posts = tweets.group_by("month").len("posts")
    pictures = dataset.group_by("month").len("pictures")
    counts = posts.join(pictures, on="month", how="full", coalesce=True).with_columns(
        pl.col("posts", "pictures").cast(pl.Int64)
    )
    months = sorted(counts["month"])
    every = pl.DataFrame({"month": months_between(months[0], months[-1])})
    return every.join(counts, on="month", how="left").sort("month")


@in_style
def draw(tweets: pl.DataFrame, dataset: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return bars of posts and dots of unique pictures over months.

    Raises:
        ValueError: there are no posts.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    rows = table(tweets, dataset)
    x = [month_index(month) for month in rows["month"]]
    figure = new_page(COLUMN_WIDTH, 1.75)
    axes = figure.subplots()
    axes.grid(axis="y")
    drawn = [
        (at, posts, pictures)
        for at, (_, posts, pictures) in zip(x, rows.rows(), strict=True)
        if posts is not None
    ]
    axes.bar(
        [at for at, _, _ in drawn],
        [posts for _, posts, _ in drawn],
        width=0.72,
        color=FAINT,
        edgecolor="#A8A8A8",
        label="posts",
    )
    axes.plot(
        x,
        [float("nan") if pictures is None else pictures for pictures in rows["pictures"]],
        color=SOURCE_COLOURS["twigma"],
        marker="o",
        markersize=3,
        label="unique pictures",
    )
    month_axis(axes, x[0], x[-1])
    top = max(*rows["posts"].drop_nulls(), *rows["pictures"].drop_nulls(), 1)
    axes.set_ylim(0, top * 1.2)
    missing = {name: [at for at, n in zip(x, rows[name], strict=True) if n is None] for name in _MARKS}
    if any(missing.values()):
        axes.plot([], [], "x", color=MUTED, markersize=4, label="not built")
    for name, tint in _MARKS.items():
        height = (0.04 if name == "posts" else 0.12) * top
        axes.plot(missing[name], [height] * len(missing[name]), "x", color=tint, markersize=4, zorder=5)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count(int(value))))
    axes.set_ylabel("number per month")
    axes.legend(loc="upper left", ncols=3, labelcolor=INK, columnspacing=1.2)
    caption = (
        f"{count_of(int(rows['posts'].sum()), 'post')}, "
        f"{count_of(int(rows['pictures'].sum()), 'unique picture')}, "
        f"{count_of(len(drawn), 'month')}. A picture counts in the month of its first posting."
        + _said("posts collected", rows, "posts")
        + _said("pictures in the dataset", rows, "pictures")
    )
    return finish(figure, _title(rows.drop_nulls("posts")), caption, synthetic=synthetic)


def _said(what: str, rows: pl.DataFrame, column: str) -> str:
    """Return a sentence that names the months without any, or counts them where they are many."""
    months = rows.filter(pl.col(column).is_null())["month"].to_list()
    if not months:
        return ""
    named = ", ".join(months) if len(months) <= 3 else f"{len(months)} months"
    return f" No {what} (not built, or none): {named}."


def _title(rows: pl.DataFrame) -> str:
    """Return what is seen: growth or decline only where Kendall's tau over months bears it out."""
    from scipy.stats import kendalltau

    if rows.height < 5:
        return TITLE
    tau, p = kendalltau(range(rows.height), rows["posts"].to_list())
    first, last = rows["posts"][0], rows["posts"][-1]
    if not p < 0.05:
        return TITLE
    verb = "rise" if tau > 0 else "fall"
    return (
        f"Posts {verb} from {count(first)} to {count(last)} a month" if (last > first) == (tau > 0) else TITLE
    )
