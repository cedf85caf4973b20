"""Files of figures: the same bytes every time, and the lineage inside them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from PIL import Image

from twigma_core.figures import FIGURES
from twigma_core.figures.files import THUMBNAIL_BYTES, read_provenance, render, smaller
from twigma_core.figures.pictures import is_veiled, veil
from twigma_core.figures.style import colour, new_page
from twigma_core.provenance import Provenance, Upstream

PROVENANCE = Provenance(
    asset="figure_2c",
    run_id="run <1> & \"two\" ]]> 'three' é 図",
    code_version="0.1.0+abc",
    models={"clip": "f" * 64},
    upstream=tuple(
        Upstream("tweets", f"20{y}-{m:02d}", "d" * 32) for y in range(21, 31) for m in range(1, 13)
    ),
    data_version="e" * 32,
)


@pytest.mark.parametrize("name", list(FIGURES))
def test_every_figure_renders_to_the_same_bytes_with_its_lineage(name: str, frames, extras) -> None:
    module = FIGURES[name]
    few = {"figure_4c": pl.col("cluster") <= 3, "figure_4e": pl.col("rank") <= 8}.get(name, pl.lit(True))
    given = [frames[t].filter(few) if i == 0 else frames[t] for i, t in enumerate(module.TABLES)]
    if name == "figure_4c":
        given[1] = given[1].filter(few)
    first, second = (
        render(module.draw(*given, **extras.get(name, {}), synthetic=True), PROVENANCE) for _ in range(2)
    )
    for one, other in ((first.svg, second.svg), (first.png, second.png), (first.thumbnail, second.thumbnail)):
        assert one == other
    assert read_provenance(first.svg) == read_provenance(first.png) == PROVENANCE
    assert len(first.thumbnail) <= THUMBNAIL_BYTES
    png = Image.open(io.BytesIO(first.png))
    assert round(png.info["dpi"][0]) == 300 and png.width in (990, 2025)
    assert Image.open(io.BytesIO(first.thumbnail)).width > 300
    root = ElementTree.fromstring(first.svg)
    assert root.tag.endswith("svg")
    assert b"<dc:date>" not in first.svg and "Software" not in png.info


def test_rendering_a_figure_again_changes_nothing(frames) -> None:
    figure = FIGURES["figure_3a"].draw(frames["pair_distances"], frames["variation_table"])
    assert render(figure, PROVENANCE) == render(figure, PROVENANCE)


def test_another_process_with_other_settings_writes_the_same_bytes(frames, tmp_path) -> None:
    frames["tweets"].write_parquet(tmp_path / "tweets.parquet")
    frames["divergence_matrix"].write_parquet(tmp_path / "matrix.parquet")
    code = (
        "import sys, hashlib, pathlib, polars as pl, matplotlib; matplotlib.rcParams['font.size'] = 20;"
        "from twigma_core.figures import FIGURES; from twigma_core.figures.files import render;"
        "from twigma_core.provenance import Provenance;"
        "p = Provenance('a', code_version='1'); folder = pathlib.Path(sys.argv[1]);"
        "d = [FIGURES[f].draw(pl.read_parquet(folder / t)) for f, t in"
        " (('figure_1c', 'tweets.parquet'), ('figure_2c', 'matrix.parquet'))];"
        "print(*[hashlib.sha256(r.svg + r.png + r.thumbnail).hexdigest() for r in (render(x, p) for x in d)])"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            check=True,
            capture_output=True,
            text=True,
            timeout=200,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert found[0] == found[1] and len(found[0].split()) == 2


def test_a_smaller_picture_keeps_its_colours_and_its_lineage_if_asked(frames) -> None:
    png = render(FIGURES["figure_3b"].draw(frames["variation_table"]), PROVENANCE).png
    small = smaller(png, 130_000, keep_provenance=True)
    assert read_provenance(small) == PROVENANCE and len(small) < len(png) / 2
    pixels = np.asarray(Image.open(io.BytesIO(small)).convert("RGB")).reshape(-1, 3).astype(int)
    for source in ("laion", "twigma", "artbench"):
        drawn = np.array([int(colour(source)[i : i + 2], 16) for i in (1, 3, 5)])
        assert np.abs(pixels - drawn).max(axis=1).min() <= 6, source
    with pytest.raises(ValueError, match="carries no text chunk 'twigma'"):
        read_provenance(smaller(png, 130_000))


def test_a_thumbnail_of_noise_is_still_small() -> None:
    figure = new_page(3.3, 3.3)
    figure.subplots().imshow(np.random.default_rng(0).random((400, 400, 3)), interpolation="none")
    assert len(render(figure, PROVENANCE).thumbnail) <= THUMBNAIL_BYTES


def test_text_beside_photographs_stays_grey() -> None:
    figure = new_page(3.3, 3.3)
    figure.subplots().imshow(np.random.default_rng(0).random((40, 40, 3)), interpolation="none")
    figure.text(0.01, 0.01, "left to the greys " * 3, color="#606060")
    small = smaller(render(figure, PROVENANCE).png, 190_000)
    foot = np.asarray(Image.open(io.BytesIO(small)).convert("RGB"))[-40:].reshape(-1, 3).astype(int)
    text = foot[foot.sum(axis=1) < 450]
    assert len(text) > 200 and np.ptp(text, axis=1).max() <= 8


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "neither a PNG nor an SVG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "carries no element"),
        (b"\x89PNG\r\n\x1a\n broken", "PNG is broken"),
        (b"<!DOCTYPE s [<!ENTITY a 'b'>]><svg>&a;</svg>", "declares XML entities"),
        (b"<svg><metadata id='twigma-provenance'>{}</metadata></svg>", "cannot be read"),
        (b"<svg><metadata id='twigma-provenance'>[1]</metadata></svg>", "cannot be read"),
    ],
)
def test_foreign_and_broken_files_are_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_provenance(data)


def test_a_png_of_someone_else_carries_no_lineage() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "png")
    with pytest.raises(ValueError, match="carries no text chunk 'twigma'"):
        read_provenance(buffer.getvalue())


def test_a_veiled_picture_keeps_only_64_colours() -> None:
    rng = np.random.default_rng(1)
    coarse = rng.integers(60, 190, (8, 8, 3)).repeat(32, axis=0).repeat(32, axis=1)
    sign = np.indices((256, 256)).sum(axis=0) % 2 * 2 - 1
    detailed = Image.fromarray((coarse + 50 * sign[..., None]).astype(np.uint8))
    plain = Image.fromarray(coarse.astype(np.uint8))
    assert np.abs(np.asarray(veil(detailed), dtype=int) - np.asarray(veil(plain), dtype=int)).max() <= 2
    assert [is_veiled(s) for s in (0.0, 0.49, 0.5, 1.0, None, float("nan"))] == [False, False, *[True] * 4]
