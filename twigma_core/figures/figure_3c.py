"""Figure 3(c): do longer prompts give pictures that differ less?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twigma_core.figures.inputs import count_of, interval, need, need_columns, number, p_text
from twigma_core.figures.style import COLUMN_WIDTH, INK, colour, finish, in_style, new_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Distance between a prompt's pictures, by its length"
ABOUT = (
    "Mean distance between the pictures of one prompt against the prompt's number of words: a dot a prompt, "
    "the trend as means of prompts of similar length, and Kendall's rank correlation."
)
TABLES: dict[str, tuple[str, ...]] = {
    "prompt_variation": (
        *("prompt_id", "words", "pictures", "mean_distance"),
        *("kendall_tau", "tau_low", "tau_high", "p_value"),
    )
}

_GROUP = 12  # fewest prompts that a point of the trend stands for


def table(prompt_variation: pl.DataFrame) -> pl.DataFrame:
    """Return the dots and the trend, told apart by `panel`.

    Columns: panel ("prompt" or "trend"), prompt_id, words, pictures, mean_distance, low, high, prompts,
    kendall_tau, tau_low, tau_high, p_value. A trend row is the mean over `prompts` prompts of similar
    length, at their mean number of words, with its 95 % interval (Student's t).
    """
    need_columns("figure_3c", "prompt_variation", prompt_variation, TABLES["prompt_variation"])
    need("figure_3c", "prompt_variation", prompt_variation, "prompts with two or more pictures")
    dots = (
        prompt_variation.select(TABLES["prompt_variation"])
        .sort("words", "prompt_id")
        .with_columns(pl.lit("prompt").alias("panel"), pl.col("words").cast(pl.Float64))
    )
    columns = ["panel", "prompt_id", "words", "pictures", "mean_distance", "low", "high", "prompts"]
    rows = pl.concat([dots, _trend(dots)], how="diagonal_relaxed")
    return rows.select(*columns, "kendall_tau", "tau_low", "tau_high", "p_value")


def _trend(dots: pl.DataFrame) -> pl.DataFrame:
    """Return means over groups of prompts of similar length; prompts of one length are never parted."""
    from scipy.stats import t

    groups = int(np.clip(dots.height // _GROUP, 1, 8))
    words = dots["words"].to_numpy()
    cuts = np.unique(np.quantile(words, np.linspace(0, 1, groups + 1)[1:-1])) if groups > 1 else np.array([])
    found = []
    for group in np.unique(np.searchsorted(cuts, words, side="left")):
        part = dots.filter(pl.Series(np.searchsorted(cuts, words, side="left") == group))
        values = part["mean_distance"].to_numpy()
        half = (
            float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
            if len(values) > 1
            else None
        )
        mean = float(values.mean())
        found.append(
            {
                "panel": "trend",
                "words": float(part["words"].mean()),  # type: ignore[arg-type]
                "pictures": int(part["pictures"].sum()),
                "mean_distance": mean,
                "low": None if half is None else mean - half,
                "high": None if half is None else mean + half,
                "prompts": len(values),
            }
        )
    return pl.DataFrame(found, schema_overrides={"low": pl.Float64, "high": pl.Float64})


@in_style
def draw(prompt_variation: pl.DataFrame, *, synthetic: bool = False) -> Figure:
    """Return a dot a prompt, the trend with 95 % intervals, and Kendall's tau in the caption.

    Raises:
        ValueError: no prompt has two pictures.
    """
    from matplotlib.ticker import MaxNLocator

    rows = table(prompt_variation)
    dots, trend = rows.filter(panel="prompt"), rows.filter(panel="trend")
    figure = new_page(COLUMN_WIDTH, 1.95)
    axes = figure.subplots()
    axes.grid()
    axes.scatter(
        dots["words"],
        dots["mean_distance"],
        s=9 if dots.height < 1_000 else 3,
        color=colour("diffusiondb"),
        alpha=0.6 if dots.height < 1_000 else 0.2,
        linewidths=0,
        rasterized=dots.height > 3_000,
        label="a prompt",
    )
    at, mean = trend["words"].to_numpy(), trend["mean_distance"].to_numpy()
    low, high = (trend[end].fill_null(trend["mean_distance"]).to_numpy() for end in ("low", "high"))
    axes.errorbar(
        at,
        mean,
        yerr=np.vstack([mean - low, high - mean]),
        color=INK,
        marker="s",
        markersize=3,
        elinewidth=1,
        label="mean of prompts of similar length",
    )
    axes.set_xlabel("words of the prompt")
    axes.set_ylabel("mean distance of its pictures")
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
    lowest, highest = axes.get_ylim()
    axes.set_ylim(lowest, highest + 0.2 * (highest - lowest))
    axes.legend(loc="upper left", ncols=2, columnspacing=1.0)
    first = dots.row(0, named=True)
    tau = number(first["kendall_tau"], 2)
    caption = (
        f"{count_of(dots.height, 'prompt')}, {count_of(int(dots['pictures'].sum()), 'picture')}. "
        f"Kendall's τ = {tau} {interval(first['tau_low'], first['tau_high'], 2)}, "
        f"{p_text(first['p_value'])}. "
        "Bars and brackets are 95 % intervals."
    )
    return finish(figure, _title(first), caption, synthetic=synthetic)


def _title(first: dict[str, float | None]) -> str:
    p, low, high = first["p_value"], first["tau_low"], first["tau_high"]
    if p is None or p >= 0.05:
        return TITLE
    if high is not None and high < 0:
        return "Longer prompts give pictures that differ less"
    if low is not None and low > 0:
        return "Longer prompts give pictures that differ more"
    return TITLE
