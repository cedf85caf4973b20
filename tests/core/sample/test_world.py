"""The plan: it is the same each time, fits together, and stands for the pictures it says."""

from __future__ import annotations

import base64
import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from twigma_core.images.decode import BadPicture, describe_picture
from twigma_core.sample import media, populations
from twigma_core.sample.building import build, quintiles, write
from twigma_core.sample.drawing import theme_of
from twigma_core.sample.world import TABLES, UnknownMedium, World, load


def rows_of(world: World, kind: str) -> list[dict]:
    return world.media.filter(pl.col("kind") == kind).to_dicts()


def test_the_same_seed_gives_the_same_world_and_another_seed_another(built: World) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("sample_conftest", Path(__file__).with_name("conftest.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    again, other = build(7, module.rough_likeness), build(8, module.rough_likeness)
    for name in TABLES:
        assert getattr(again, name).equals(getattr(built, name)), name
        assert not getattr(other, name).equals(getattr(built, name)), name


def test_the_shipped_plan_is_what_the_code_makes_but_for_what_rests_on_floats(world: World) -> None:
    references = pl.DataFrame(populations.references(20210101))
    assert world.references.equals(references)
    pictures = pl.DataFrame(
        populations.posted_pictures(np.random.default_rng([20210101, 4]), references.to_dicts())
    )
    fields = [*media.SCENE_FIELDS, "month", "format", "setting", "near_file"]
    unique = world.media.filter(pl.col("kind") == "unique").select(fields).sort(fields)
    assert unique.equals(pictures.select(fields).sort(fields))


def test_a_world_survives_its_files(built: World, tmp_path: Path) -> None:
    write(built, tmp_path)
    back = load(tmp_path)
    assert all(getattr(back, name).equals(getattr(built, name)) for name in TABLES)
    (tmp_path / "posts.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"posts\.parquet.*python -m twigma_core.sample.world"):
        load(tmp_path)


def test_the_plan_fits_together(world: World) -> None:
    posts = world.posts
    assert posts["tweet_id"].is_unique().all()
    assert world.media["media_id"].is_unique().all()
    assert set(posts["author_id"]) <= set(world.users["author_id"])
    used = posts.explode("media_ids").drop_nulls("media_ids")
    assert set(used["media_ids"]) == set(world.media["media_id"]), "a medium of no post, or of no plan"
    months = posts.select((pl.col("created_at").dt.strftime("%Y-%m") == pl.col("month")).all()).item()
    assert months, "a post outside of its month"
    assert max(len(one) for one in posts["media_ids"].to_list()) <= 4
    per_month = Counter(posts.filter(pl.col("status") == "posted")["month"].to_list()).values()
    assert min(per_month) >= 170 and max(per_month) <= 260
    busiest = Counter(posts["author_id"].to_list()).most_common(1)[0][1]
    assert 0.02 < busiest / posts.height < 0.05, "uneven, but no user may decide the result"


def test_ids_and_names_are_as_x_makes_them(world: World) -> None:
    for row in world.posts.head(50).iter_rows(named=True):
        milliseconds = (int(row["tweet_id"]) >> 22) + media.EPOCH_MS
        assert milliseconds // 1000 == int(row["created_at"].timestamp())
    for media_id, row in list(world.media_rows.items())[:50]:
        name = media.media_url(row).rsplit("/", 1)[1].split(".")[0]
        assert len(name) == 15
        assert int.from_bytes(base64.urlsafe_b64decode(name + "=")[:8], "big") == int(media_id)
        assert media.media_id_of(name) == media_id
    with pytest.raises(ValueError, match="no media name"):
        media.media_id_of("abc")


@pytest.mark.parametrize("which", ["world", "built"])
def test_copies_and_spoiled_files_are_what_they_claim(which: str, request: pytest.FixtureRequest) -> None:
    world: World = request.getfixturevalue(which)
    for copy in rows_of(world, "same_file")[:4]:
        assert world.draw_media(copy["media_id"]) == world.draw_media(copy["source_id"])
    for copy in rows_of(world, "same_pixels"):
        a, b = world.draw_media(copy["media_id"]), world.draw_media(copy["source_id"])
        assert a != b
        assert describe_picture(a).pixel_sha256 == describe_picture(b).pixel_sha256
    for kind in ("truncated", "html"):
        for row in rows_of(world, kind):
            with pytest.raises(BadPicture):
                describe_picture(world.draw_media(row["media_id"]))
    with pytest.raises(UnknownMedium, match="gone"):
        world.draw_media(rows_of(world, "unavailable")[0]["media_id"])
    with pytest.raises(UnknownMedium, match="none with this id"):
        world.draw_media("1")


def test_unique_pictures_are_different_and_redrawn_to_the_byte(world: World) -> None:
    some = [row["media_id"] for row in rows_of(world, "unique")[::40]]
    files = [world.draw_media(media_id) for media_id in some]
    assert len(set(files)) == len(files)
    assert [load().draw_media(media_id) for media_id in some[:5]] == files[:5]
    assert Image.open(io.BytesIO(files[0])).size == (media.SIDE, media.SIDE)


def test_planted_shares_of_themes_hold_exactly(world: World) -> None:
    unique = world.media.filter(pl.col("kind") == "unique")
    themed = unique.with_columns(theme=pl.col("subject").map_elements(theme_of, return_dtype=pl.String))
    for index, month in enumerate(populations.MONTHS):
        counts = themed.filter(pl.col("month") == month)["theme"].value_counts()
        found = {row["theme"]: row["count"] for row in counts.to_dicts()}
        assert found == {key: n for key, n in populations.theme_counts(index).items() if n}


def test_quintiles_are_fifths_in_order() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    found = quintiles(values)
    assert np.bincount(found)[1:].tolist() == [200] * 5
    assert all(values[found == q].max() <= values[found == q + 1].min() for q in range(1, 5))


def test_exported_references_are_folders_that_a_user_could_have(built: World, tmp_path: Path) -> None:
    keep = built.references.group_by("corpus", maintain_order=True).head(6)
    small = World(built.users, built.posts, built.media, keep, built.texts)
    small.export_references(tmp_path)
    for corpus in ("laion", "artbench", "diffusiondb"):
        with open(tmp_path / corpus / "metadata.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["file", "title", "artist", "style", "prompt", "prompt_id"]
        for row in rows:
            describe_picture((tmp_path / corpus / "pictures" / row["file"]).read_bytes())
        assert bool(rows[0]["artist"]) == (corpus == "artbench")
        assert bool(rows[0]["prompt"]) == (corpus == "diffusiondb")
    texts = {
        path.stem: list(csv.DictReader(path.open(newline=""))) for path in (tmp_path / "texts").iterdir()
    }
    assert {len(rows) for rows in texts.values()} == {250}
    assert len(texts) == 6
    first = next((tmp_path / "laion" / "pictures").iterdir())
    before = first.stat().st_mtime_ns
    small.export_references(tmp_path)
    assert first.stat().st_mtime_ns == before, "what is there is not drawn again"
