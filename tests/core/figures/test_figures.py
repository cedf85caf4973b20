"""Each figure draws what its table says, fits its page, and says what is seen only where the data do."""

from __future__ import annotations

import inspect
import subprocess
import sys
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from twigma_core.figures import FIGURES
from twigma_core.figures.style import COLUMN_WIDTH, PAGE_WIDTH, SMALLEST_POINTS, in_style
from twigma_core.figures.timeline import month_index
from twigma_core.tables import SCHEMAS, empty

NAMES = list(FIGURES)


@pytest.fixture(scope="session")
def drawn(frames, extras):
    """Return a function from a figure's name to the figure, drawn once."""

    @cache
    def draw(name: str) -> Figure:
        module = FIGURES[name]
        return module.draw(*(frames[t] for t in module.TABLES), **extras.get(name, {}), synthetic=True)

    return draw


@in_style
def texts(figure: Figure) -> list[Text]:
    """Return the texts that are seen: of tick labels, those beyond an axis' limits are made but not drawn."""
    figure.draw_without_rendering()
    hidden: set[Text] = set()
    for axes in figure.axes:
        if not axes.axison:
            hidden |= set(axes.findobj(Text)) - set(axes.texts)
        for axis in (axes.xaxis, axes.yaxis):
            shown = axis._update_ticks()  # type: ignore[union-attr]
            made = {*axis.majorTicks, *axis.minorTicks} - set(shown)
            hidden |= {label for tick in made for label in (tick.label1, tick.label2)}
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and t not in hidden]


@in_style
def extents(figure: Figure) -> list[tuple[str, Bbox]]:
    """Return each text that is seen with its box on the page, in pixels."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in texts(figure)]


def title(figure: Figure) -> str:
    return str(figure.get_label())


@pytest.mark.parametrize("name", NAMES)
def test_signature_follows_the_tables(name: str) -> None:
    module = FIGURES[name]
    for function in (module.table, module.draw):
        positional = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        assert positional == list(module.TABLES)
    for table, columns in module.TABLES.items():
        assert set(columns) <= set(SCHEMAS[table].columns()), table
    assert module.TITLE and module.ABOUT.endswith(".")


@pytest.mark.parametrize("name", NAMES)
def test_fits_its_page(name: str, drawn) -> None:
    figure = drawn(name)
    assert figure.get_size_inches()[0] in (COLUMN_WIDTH, PAGE_WIDTH)
    seen = texts(figure)
    assert any("Synthetic sample" in text.get_text() for text in seen)
    assert min(float(text.get_fontsize()) for text in seen) >= SMALLEST_POINTS
    boxes = extents(figure)
    for words, box in boxes:
        assert box.x0 >= -0.5 and box.x1 <= figure.bbox.x1 + 0.5, f"cut off: {words!r}"
        assert box.y0 >= -0.5 and box.y1 <= figure.bbox.y1 + 0.5, f"cut off: {words!r}"
    for (one, a), (other, b) in combinations(boxes, 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert wide < 1.5 or high < 1.5, f"{one!r} and {other!r} overlap"


@pytest.mark.parametrize("name", NAMES)
def test_only_needed_columns_are_enough_and_empty_tables_are_named(name: str, frames) -> None:
    module = FIGURES[name]
    narrow = [frames[t].select(columns) for t, columns in module.TABLES.items()]
    assert module.table(*narrow).equals(module.table(*(frames[t] for t in module.TABLES)))
    assert module.table(*narrow).write_csv().count("\n") > 1, "a CSV cannot hold lists"
    first = next(iter(module.TABLES))
    with pytest.raises(ValueError, match=rf"{name}: table {first} has no .*; .+"):
        module.draw(*(empty(t) for t in module.TABLES))
    with pytest.raises(ValueError, match=f"{name}: table {first} lacks the columns"):
        module.table(*(frame.drop(frame.columns[0]) if i == 0 else frame for i, frame in enumerate(narrow)))


def test_bars_and_dots_of_1b_are_the_table(drawn, frames) -> None:
    rows = FIGURES["figure_1b"].table(frames["tweets"], frames["dataset"])
    (axes,) = drawn("figure_1b").axes
    assert [bar.get_height() for bar in axes.patches] == rows["posts"].to_list()
    assert axes.lines[0].get_ydata().tolist() == rows["pictures"].to_list()
    assert rows["posts"].sum() == frames["tweets"].height
    assert title(drawn("figure_1b")).startswith("Posts rise from")


def test_1b_tells_a_month_without_data_from_one_without_posts(frames) -> None:
    module = FIGURES["figure_1b"]
    gap = frames["tweets"].filter(pl.col("month") != "2021-04")
    rows = module.table(gap, frames["dataset"].filter(pl.col("month") != "2021-04"))
    assert rows.filter(month="2021-04").row(0) == ("2021-04", None, None)
    half = frames["dataset"].filter(~pl.col("month").is_in(["2021-04", "2021-06"]))
    figure = module.draw(gap, half)
    (axes,) = figure.axes
    assert np.isnan(axes.lines[0].get_ydata()[[3, 5]]).all(), "a month that is not built is not 0 pictures"
    crosses = [
        set(line.get_xdata()) for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())
    ]
    april, june = month_index("2021-04"), month_index("2021-06")
    assert crosses == [{april}, {april, june}]
    assert (
        "No posts collected (not built, or none): 2021-04. No pictures in the dataset (not built, or none):"
        in (" ".join(reversed(_lines(figure))))
    )
    assert "not built" in {text.get_text() for text in texts(figure)}
    level = pl.concat(
        [frames["tweets"].filter(month="2021-09").with_columns(month=pl.lit(m)) for m in _six()]
    )
    assert title(module.draw(level, frames["dataset"].clear())) == module.TITLE


def _six() -> list[str]:
    return [f"2021-{m:02d}" for m in range(1, 7)]


def test_words_of_1c(drawn, frames) -> None:
    rows = FIGURES["figure_1c"].table(frames["tweets"])
    words = dict(rows.select("word", "count").rows())
    assert words["aiart"] == frames["tweets"].height
    assert not {"https", "co", "someone", "amp", "my", "more"} & set(words)
    assert rows.filter(~pl.col("drawn"))["word"].to_list() == ["生成"]
    tags = rows.filter(pl.col("as_hashtag") > 0)
    assert dict(tags.select("word", "as_hashtag").rows()) == {"aiart": 1.0, "midjourney": 1.0}
    castle = frames["tweets"]["text"].str.contains(r"\bcastle\b").sum()
    assert words["castle"] == castle
    (axes,) = drawn("figure_1c").axes
    assert len(axes.patches) == rows["drawn"].sum()
    boxes = [patch.get_window_extent() for patch in axes.patches]
    frame = axes.get_window_extent()
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 and frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes)
    heights = {word: box.height for word, box in zip(rows.filter("drawn")["word"], boxes, strict=True)}
    assert heights["new"] > heights["moon"]
    tints = dict(zip(rows.filter("drawn")["word"], (p.get_facecolor() for p in axes.patches), strict=True))
    assert tints["aiart"] == tints["midjourney"] != tints["castle"] == tints["moon"]


def test_1c_of_posts_without_text_says_so(frames) -> None:
    """The 2023 release holds ids and no text: its report stands, without a word cloud."""
    mute = frames["tweets"].with_columns(text=pl.lit(""))
    module = FIGURES["figure_1c"]
    assert module.table(mute).is_empty()
    written = [text.get_text() for text in texts(module.draw(mute))]
    assert any("no words" in text for text in written)
    assert any(text.startswith(f"{mute.height:,} posts") for text in written)


def test_densities_of_2a(drawn, frames) -> None:
    rows = FIGURES["figure_2a"].table(frames["projection_model"])
    steps = [float(rows[c].unique().sort().diff().median()) for c in ("x", "y")]  # type: ignore[arg-type]
    mass = rows.group_by("source").agg(pl.col("density").sum() * steps[0] * steps[1])["density"]
    assert np.allclose(mass, 1)
    peak = rows.filter(source="laion").sort("density").row(-1, named=True)
    points = frames["projection_model"].filter(source="laion")
    near = ((points["x"] - peak["x"]) ** 2 + (points["y"] - peak["y"]) ** 2 < 1).sum()
    assert near > 60
    assert title(drawn("figure_2a")) == "On the map, TWIGMA overlaps most with DiffusionDB"
    alone = frames["projection_model"].filter(source="twigma")
    assert title(FIGURES["figure_2a"].draw(alone)) == FIGURES["figure_2a"].TITLE


def test_bars_of_2b_are_the_table(drawn, frames) -> None:
    rows = FIGURES["figure_2b"].table(frames["codebook"])
    assert rows["pictures"].sum() == frames["codebook"].filter(cells=4)["pictures"].sum()
    (axes,) = drawn("figure_2b").axes
    order = [int(t.get_text().split()[1]) for t in axes.get_yticklabels()]
    widths = {
        (order[i], container.get_label()): bar.get_width()
        for container in axes.containers
        for i, bar in enumerate(container)
    }
    laion = rows.filter(cluster=1, source="laion")["share_of_cluster"][0]
    assert widths[(1, "LAION")] == pytest.approx(100 * laion)
    assert np.allclose(sum(w for (cluster, _), w in widths.items() if cluster == 3), 100)
    assert title(drawn("figure_2b")).startswith("Each cluster is mostly")
    mixed = frames["codebook"].with_columns(pictures=pl.lit(50, dtype=pl.Int64))
    assert title(FIGURES["figure_2b"].draw(mixed)) == FIGURES["figure_2b"].TITLE


def test_matrix_of_2c(drawn, frames) -> None:
    module = FIGURES["figure_2c"]
    rows = module.table(frames["divergence_matrix"])
    assert rows.height == 16 and rows["measure"].unique().to_list() == ["kl"]
    written = {text.get_text() for text in drawn("figure_2c").axes[0].texts}
    one = rows.filter(source_p="twigma", source_q="laion").row(0, named=True)
    assert f"{one['value']:.2f}" in written
    image = drawn("figure_2c").axes[0].images[0].get_array()
    assert image[3, 0] == one["value"]  # rows and columns: LAION, ArtBench, DiffusionDB, TWIGMA
    assert title(drawn("figure_2c")) == "AI sources are nearer to one another than to human pictures"
    unsure = frames["divergence_matrix"].with_columns(low=pl.lit(0.0))
    assert title(module.draw(unsure)) == module.TITLE
    with pytest.raises(ValueError, match="no rows with measure 'kl' and 10 cells"):
        module.draw(frames["divergence_matrix"].with_columns(cells=pl.lit(4, dtype=pl.Int64)))


def test_likes_of_2d(drawn, frames) -> None:
    module = FIGURES["figure_2d"]
    rows = module.table(frames["neighbors"], frames["engagement"])
    for corpus in ("laion", "artbench"):
        part = rows.filter(panel="similarity", corpus=corpus)
        assert ((part["right"] - part["left"]) * part["value"]).sum() == pytest.approx(1)
        assert part["n"].sum() == frames["neighbors"].filter(corpus=corpus).height
    axes = drawn("figure_2d").axes[1]
    paper = rows.filter(panel="mean_likes", corpus="laion", column="paper").sort("term")
    assert axes.containers[0].lines[0].get_ydata().tolist() == paper["value"].to_list()
    segments = axes.containers[0].lines[2][0].get_segments()
    assert np.allclose([(s[0, 1], s[1, 1]) for s in segments], paper.select("low", "high").to_numpy())
    assert title(drawn("figure_2d")) == "Pictures least similar to human ones receive more likes"
    wide = frames["engagement"].with_columns(
        low=pl.when(pl.col("column").cast(pl.String) == "robust").then(0.5).otherwise("low")
    )
    assert title(module.draw(frames["neighbors"], wide)) == module.TITLE
    none = module.draw(frames["neighbors"].filter(corpus="laion"), frames["engagement"].clear())
    assert any("no likes data" in t.get_text() for t in texts(none))


@pytest.mark.parametrize(
    ("name", "second"), [("figure_3a", "variation_table"), ("figure_3d", "text_variation")]
)
def test_ridges_are_the_table(name: str, second: str, drawn, frames) -> None:
    rows = FIGURES[name].table(frames["pair_distances"], frames[second])
    assert rows.height == 6 * 80
    axes = drawn(name).axes[0]
    first = rows.filter(source=rows["source"][0])
    values, edges, baseline = axes.patches[0].get_data()
    assert np.allclose(
        (values - baseline) / (values - baseline).max(), first["density"] / first["density"].max()
    )
    assert np.allclose(edges[:-1], first["left"])
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == rows.group_by("source", maintain_order=True).first()["mean"].to_list()


def test_titles_of_3a_and_3d_need_intervals_apart(drawn, frames) -> None:
    assert title(drawn("figure_3a")) == "Pictures by one artist or of one prompt are closer together"
    wide = frames["variation_table"].with_columns(low=pl.col("low") - 1, high=pl.col("high") + 1)
    assert title(FIGURES["figure_3a"].draw(frames["pair_distances"], wide)) == FIGURES["figure_3a"].TITLE
    assert title(drawn("figure_3d")) == FIGURES["figure_3d"].TITLE
    ends = {"low": pl.lit(1.5), "high": pl.lit(1.6)}
    top = frames["text_variation"].with_columns(
        **{c: pl.when(source="prompts").then(v).otherwise(c) for c, v in ends.items()}
    )
    found = title(FIGURES["figure_3d"].draw(frames["pair_distances"], top))
    assert found == "Prompts vary more than all other texts"


def test_3b_marks_largest_and_smallest(drawn, frames) -> None:
    rows = FIGURES["figure_3b"].table(frames["variation_table"])
    ranks = rows.filter(metric="mean_pairwise_distance").drop_nulls("rank").select("source", "rank").rows()
    assert dict(ranks) == {"laion": "largest", "diffusiondb_same_prompt": "smallest"}
    (axes,) = drawn("figure_3b").axes
    headings = 6
    bold = [t.get_text() for t in axes.texts if t.get_weight() == "bold"][headings:]
    italic = [t.get_text() for t in axes.texts if t.get_style() == "italic"]
    assert len(bold) == len(italic) == 6 and bold[0] == "1.27" and italic[0] == "0.580"
    equal = frames["variation_table"].with_columns(value=pl.lit(1.0))
    assert FIGURES["figure_3b"].table(equal)["rank"].null_count() == equal.height


def test_dots_and_trend_of_3c(drawn, frames) -> None:
    module = FIGURES["figure_3c"]
    rows = module.table(frames["prompt_variation"])
    dots, trend = rows.filter(panel="prompt"), rows.filter(panel="trend")
    axes = drawn("figure_3c").axes[0]
    assert np.allclose(axes.collections[0].get_offsets(), dots.select("words", "mean_distance").to_numpy())
    assert trend["prompts"].sum() == dots.height
    mean = (trend["mean_distance"] * trend["prompts"]).sum() / dots.height
    assert mean == pytest.approx(dots["mean_distance"].mean())
    assert title(drawn("figure_3c")) == "Longer prompts give pictures that differ less"
    unsure = frames["prompt_variation"].with_columns(p_value=pl.lit(0.2))
    assert title(module.draw(unsure)) == module.TITLE
    assert module.table(frames["prompt_variation"].head(1)).filter(panel="trend")["low"][0] is None


def test_dots_of_4a_are_all_pictures_in_random_order(drawn, frames, monkeypatch) -> None:
    module = FIGURES["figure_4a"]
    rows = module.table(frames["projection"])
    assert set(rows["image_id"]) == set(frames["projection"]["image_id"])
    assert rows["month"].to_list() != sorted(rows["month"])
    assert np.allclose(
        drawn("figure_4a").axes[0].collections[0].get_offsets(), rows.select("x", "y").to_numpy()
    )
    monkeypatch.setattr(module, "MOST_POINTS", 100)
    assert module.table(frames["projection"]).equals(rows.head(100))
    few = module.draw(frames["projection"])
    assert f"100 of {frames['projection'].height:,} pictures" in " ".join(_lines(few))


def _lines(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_4b_draws_the_maximum_likelihood_line(drawn, frames) -> None:
    import statsmodels.api as sm

    module = FIGURES["figure_4b"]
    one = frames["cluster_trends"].filter(cluster=8).sort("month")
    seen, rest = one["pictures"].to_numpy(), (one["total"] - one["pictures"]).to_numpy()
    design = sm.add_constant(np.arange(one.height, dtype=float))
    fit = sm.GLM(np.column_stack([seen, rest]), design, family=sm.families.Binomial()).fit()
    fitted = module.table(one.with_columns(slope=pl.lit(float(fit.params[1]))))["fitted"]
    assert np.allclose(fitted, fit.fittedvalues, rtol=1e-6)
    rows = module.table(frames["cluster_trends"])
    panel = drawn("figure_4b").axes[7]
    dots = panel.containers[0].lines[0].get_ydata()
    assert np.allclose(dots, 100 * rows.filter(cluster=8)["share"])
    assert title(drawn("figure_4b")) == "Share of each cluster over time: rising 8, 9; falling 1, 3, 4"


def test_4c_finds_what_captions_and_annotators_share(frames, drawn) -> None:
    module = FIGURES["figure_4c"]
    given = [frames[t] for t in module.TABLES]
    rows = module.table(*given)
    for row in rows.to_dicts():
        first = row["words"].split(", ")[0]
        assert first in row["shared"].split(", ") and row["annotated"] == 4
        assert "night scene" in row["keywords"].split(", ")
    bold = {t.get_text().rstrip(",") for t in drawn("figure_4c").axes[0].texts if t.get_weight() == "bold"}
    assert set(rows["words"].str.split(", ").list.first()) <= bold
    bare = module.draw(*given[:2], empty("annotations"), empty("annotation_tasks"))
    assert any("No annotations yet" in line for line in _lines(bare))


def test_steps_of_4d_are_the_table(drawn, frames) -> None:
    module = FIGURES["figure_4d"]
    rows = module.table(frames["dataset"], frames["reference_embeddings"])
    assert rows.filter(source="twigma")["pictures"].sum() == frames["dataset"].height
    assert rows.filter(source="laion")["pictures"].sum() == 600
    above = (frames["dataset"]["nsfw_score"] >= 0.5).sum()
    assert rows.filter(pl.col("left") >= 0.5 - 1e-9, source="twigma")["pictures"].sum() == above
    values, edges, _ = drawn("figure_4d").axes[0].patches[0].get_data()
    share = 100 * rows.filter(source="twigma")["share"].to_numpy()
    assert np.allclose(values[share > 0], share[share > 0]) and edges[0] == 0 and edges[-1] == 1
    unscored = frames["reference_embeddings"].with_columns(nsfw_score=pl.lit(None, dtype=pl.Float32))
    alone = module.draw(frames["dataset"], unscored)
    assert title(alone) == "NSFW scores of TWIGMA's pictures"


def test_4e_shows_no_picture_with_a_high_or_unknown_score(drawn, extras, frames) -> None:
    rows = FIGURES["figure_4e"].table(frames["inspirations"])
    assert rows.filter("blurred")["rank"].to_list() == [2, 5] and rows.height == 24
    assert rows.filter("neighbor_blurred")["rank"].to_list() == [3, 7]
    sheet = np.asarray(drawn("figure_4e").axes[0].images[0].get_array())
    gap = 39  # pixels between pairs: 0.13 inches
    side = (sheet.shape[1] - 3 * gap) / 8

    def sharpest(rank: int, human: bool) -> int:
        left = int((rank - 1) * (2 * side + gap) + human * side) + 8
        return np.abs(np.diff(sheet[10:200, left : left + int(side) - 22].astype(int), axis=1)).max()

    veiled = max(sharpest(2, human=False), sharpest(3, human=True))
    shown = min(sharpest(1, False), sharpest(1, True), sharpest(2, human=True), sharpest(3, human=False))
    assert shown > 60 > 3 * veiled, "a sharp edge is left in a blurred picture"


PARTIAL: list[tuple[str, dict[str, Any]]] = [
    ("figure_1b", {"tweets": pl.col("month") == "2021-03", "dataset": pl.col("month") == "2021-03"}),
    ("figure_2a", {"projection_model": pl.col("source") == "laion"}),
    ("figure_2b", {"codebook": pl.col("source") == "twigma"}),
    ("figure_2c", {"divergence_matrix": pl.col("source_p").is_in(["twigma", "laion"])}),
    ("figure_2d", {"neighbors": pl.col("corpus") == "laion"}),
    ("figure_3a", {"pair_distances": pl.col("source") == "twigma", "variation_table": pl.lit(False)}),
    ("figure_3b", {"variation_table": pl.col("source") == "twigma"}),
    ("figure_3c", {"prompt_variation": pl.col("prompt_id") == "p1"}),
    ("figure_3d", {"pair_distances": pl.col("source") == "haiku", "text_variation": pl.lit(False)}),
    ("figure_4a", {"projection": pl.col("month") == "2021-03"}),
    ("figure_4b", {"cluster_trends": pl.col("month") == "2021-03"}),
    ("figure_4c", {"cluster_themes": pl.col("cluster") == 3, "cluster_trends": pl.lit(False)}),
    ("figure_4d", {"reference_embeddings": pl.lit(False)}),
    ("figure_4e", {"inspirations": pl.col("rank") == 1}),
]


@pytest.mark.parametrize(("name", "keep"), PARTIAL, ids=[name for name, _ in PARTIAL])
def test_partial_data_still_draw(name: str, keep: dict[str, Any], frames) -> None:
    module = FIGURES[name]
    part = [frames[t].filter(keep[t]) if t in keep else frames[t] for t in module.TABLES]
    figure = module.draw(*part)
    assert title(figure)
    for words, box in extents(figure):
        assert box.x0 >= -0.5 and box.x1 <= figure.bbox.x1 + 0.5, f"cut off: {words!r}"


def test_figures_are_imported_when_asked_for_and_never_start_pyplot() -> None:
    code = (
        "import sys; from twigma_core.figures import FIGURES; assert 'matplotlib' not in sys.modules;"
        "[FIGURES[name] for name in FIGURES]; assert 'matplotlib' not in sys.modules;"
        "import polars as pl; FIGURES['figure_1c'].draw(pl.DataFrame({'text': ['castle moon', 'castle']}));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    with pytest.raises(KeyError, match=r"no figure named 'figure_9z'; known: figure_1b"):
        FIGURES["figure_9z"]
