"""One release after the other: what changed, what may not go out, and none by halves."""

from __future__ import annotations

import io
import multiprocessing
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from tests.core.release import release_drill
from tests.core.release.conftest import ROWS
from tests.core.release.test_package import _tree, _write
from twigma_core.lake import Lake
from twigma_core.release.changes import compare_releases
from twigma_core.release.package import last_release, read_release, read_release_table, write_release
from twigma_core.release.policy import PolicyError, check_policy, mask_captions
from twigma_core.release.table import join_features, release_table

if TYPE_CHECKING:
    from tests.core.release.conftest import World

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.core.release.release_drill"])


def _changes(lake: Lake, version: str) -> list[dict[str, str]]:
    data = lake.read_bytes(f"releases/{version}/changes.csv")
    return pl.read_csv(io.BytesIO(data), infer_schema=False).to_dicts()


def test_the_next_release_says_what_was_added_removed_and_changed(tmp_path: Path, world: World) -> None:
    lake = Lake(tmp_path)
    assert _write(lake, world, rows=50).version == "1.0.0"
    assert not lake.exists("releases/1.0.0/changes.csv")
    ids = world.dataset.sort("created_at")["image_id"]
    another = pl.when(pl.col("image_id") == ids[20]).then(pl.lit("a boat")).otherwise("caption")
    later = replace(
        world, dataset=world.dataset.with_columns(caption=another).filter(pl.col("image_id") != ids[7])
    )
    made = _write(lake, later)
    assert made.version == "1.1.0"
    assert made.changes
    assert [made.changes.count(name) for name in ("added", "removed", "changed")] == [10, 1, 1]
    rows = {row["image_id"]: row for row in _changes(lake, "1.1.0")}
    assert {image for image, row in rows.items() if row["change"] == "added"} == set(ids[50:])
    assert rows[ids[7]] == {"id": ids[7][:-1], "image_id": ids[7], "change": "removed", "columns": ""}
    assert (rows[ids[20]]["change"], rows[ids[20]]["columns"]) == ("changed", "all_captions")
    log = lake.read_bytes("releases/1.1.0/CHANGELOG.md").decode()
    assert "59 pictures. Against 1.0.0: 10 added, 1 removed, 1 changed (all_captions 1)." in log
    assert log.index("## 1.1.0") < log.index("## 1.0.0\n\nThe first release: 50 pictures.")
    assert "changes.csv" in lake.read_bytes("releases/1.1.0/README.md").decode()
    assert _write(lake, replace(later, dataset=later.dataset.head(40))).version == "1.1.1"
    assert read_release_table(lake, "1.0.0").height == 50


def test_the_same_table_makes_no_new_release(tmp_path: Path, world: World) -> None:
    lake = Lake(tmp_path)
    first = _write(lake, world)
    before = _tree(tmp_path)
    again = _write(lake, replace(world, provenance=replace(world.provenance, run_id="later")))
    assert (again.version, again.changes) == ("1.0.0", None)
    assert again.files.equals(first.files)
    assert _tree(tmp_path) == before
    assert _write(lake, world, version="2.0.0").version == "2.0.0"
    assert _changes(lake, "2.0.0") == []


def test_a_finished_release_never_changes(tmp_path: Path, world: World) -> None:
    lake = Lake(tmp_path)
    _write(lake, world, version="1.2.0")
    before = _tree(tmp_path)
    for version in ("1.2.0", "1.1.9"):
        with pytest.raises(ValueError, match=f"{version} is not newer than 1.2.0"):
            _write(lake, world, rows=30, version=version)
    assert _tree(tmp_path) == before
    (tmp_path / "releases/1.2.0/data/twigma.csv").write_text("id\n")
    with pytest.raises(ValueError, match=r"1\.2\.0/data/twigma\.csv is not what SHA256SUMS says"):
        _write(lake, world, rows=30)
    (tmp_path / "releases/1.2.0/data/twigma.csv").unlink()
    with pytest.raises(ValueError, match="not whole"):
        _write(lake, world, rows=30)


def test_another_profile_is_compared_by_the_posts_and_is_a_major_version(
    tmp_path: Path, world: World
) -> None:
    lake = Lake(tmp_path)
    _write(lake, world, rows=50)
    made = _write(lake, world, "paper_compat")
    assert made.version == "2.0.0"
    assert made.changes
    assert (made.changes.count("added"), made.changes.columns) == (10, {})
    said = lake.read_bytes("releases/2.0.0/CHANGELOG.md").decode()
    assert "Columns that are new: image_name, created_at, like_count, quote_count, reply_count, " in said
    assert "that are gone: image_id, month." in said


def test_pictures_of_one_post_without_names_are_counted_each() -> None:
    before = pl.DataFrame({"id": ["1", "1"], "image_name": [None, None], "nsfw_score": [0.1, None]})
    after = pl.DataFrame({"id": ["1", "1", "1"], "image_name": [None] * 3, "nsfw_score": [0.1, 0.2, 0.3]})
    changes = compare_releases(before, after, "1.0.0")
    assert (changes.count("added"), changes.count("changed"), changes.columns) == (1, 1, {"nsfw_score": 1})


def test_a_release_killed_at_any_moment_leaves_the_last_one_untouched(tmp_path: Path, world: World) -> None:
    """kill -9 before each change of the disk in turn; then a run left alone writes the next release."""
    start = tmp_path / "start"
    _write(Lake(start), world, rows=30)
    before = _tree(start)
    inputs = [frame.serialize() for frame in (world.dataset, world.clusters, world.projection)]
    kills, codes = 0, list[int | None]()
    while not codes or codes[-1] == -signal.SIGKILL:
        kills += 1
        root = tmp_path / "lake"
        shutil.copytree(start, root)
        process = PROCESSES.Process(target=release_drill.write, args=(root, inputs, kills))
        process.start()
        process.join(60)
        codes.append(process.exitcode)
        left = _tree(root)
        assert {path: left[path] for path in before if path != "releases/latest.json"} == {
            path: data for path, data in before.items() if path != "releases/latest.json"
        }
        last = last_release(Lake(root))
        assert last and (last.version, last.files["rows"].max()) in (("1.0.0", 30), ("1.1.0", ROWS))
        finished = _write(Lake(root), world)
        assert finished.version == "1.1.0"
        assert set(read_release(Lake(root), "1.1.0")) == set(finished.files["path"])
        assert sorted(p.name for p in (root / "releases").iterdir()) == [
            ".lock",
            "1.0.0",
            "1.1.0",
            "latest.json",
        ]
        shutil.rmtree(root)
    assert codes[-1] == 0
    assert kills > len(finished.files)


def test_what_a_killed_put_left_in_a_bucket_is_no_release(
    s3_lake: Lake, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(s3_lake, world, rows=30)
    real, written = s3_lake.write_bytes, []

    def failing(relative: str, data: bytes) -> object:
        written.append(relative)
        if len(written) == 5:
            raise OSError("connection lost")
        return real(relative, data)

    with monkeypatch.context() as patch:
        patch.setattr(s3_lake, "write_bytes", failing)
        with pytest.raises(OSError, match="connection lost"):
            _write(s3_lake, world)
    assert (last := last_release(s3_lake)) and last.version == "1.0.0"
    assert _write(s3_lake, world).version == "1.1.0"
    assert read_release_table(s3_lake, "1.1.0").height == ROWS


# ---------------------------------------------------------------- what X's rules forbid


@pytest.fixture(scope="module")
def table(world: World) -> pl.DataFrame:
    made = release_table(join_features(world.dataset, world.clusters, world.projection))
    return mask_captions(made)[0]


def test_a_released_table_keeps_the_rules(table: pl.DataFrame, world: World) -> None:
    assert check_policy(table, "ids_strict", ["17"], world.dataset.select("tweet_id", "text")) == []


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ("text", "content of posts"),
        ("author_id", "tells who posted"),
        ("followers", "tells who posted"),
        ("like_count", "only profile paper_compat"),
        ("mood", "profile ids_strict does not have it"),
    ],
)
def test_a_column_too_many_is_refused_by_name(table: pl.DataFrame, column: str, why: str) -> None:
    (refusal,) = check_policy(table.with_columns(pl.lit("x").alias(column)), "ids_strict")
    assert str(refusal).startswith(f"column {column}: ")
    assert why in str(refusal)


def test_a_column_too_few_and_ids_that_are_numbers_are_refused(table: pl.DataFrame) -> None:
    without = table.drop("month").with_columns(pl.col("id").cast(pl.Float64))
    assert [refusal.column for refusal in check_policy(without, "ids_strict")] == ["month", "id"]


@pytest.mark.parametrize(
    ("caption", "why"),
    [
        ("a castle by @painter_007", "user name"),
        ("@painter_007", "user name"),
        ("a sign that says t.co/abc", "link"),
        ("see https://example.org/x", "link"),
        ("a castle, hand drawn #midjourney", "repeats the post's text"),
    ],
)
def test_content_within_a_column_is_refused_with_its_rows(
    table: pl.DataFrame, world: World, caption: str, why: str
) -> None:
    at = pl.col("id") == table["id"][4]
    changed = pl.when(at).then(pl.lit(caption)).otherwise("all_captions")
    texts = pl.DataFrame({"tweet_id": [table["id"][4]], "text": ["a castle, hand drawn #midjourney "]})
    (refusal,) = check_policy(table.with_columns(all_captions=changed), "ids_strict", (), texts)
    assert (refusal.column, refusal.rows, refusal.example) == ("all_captions", 1, table["id"][4])
    assert why in str(refusal)


def test_names_and_links_in_captions_are_masked_and_counted() -> None:
    captions = ["a cat by @Ann_1, from https://t.co/x y", "write to a@example.org", None, "a cat @ night"]
    masked, count = mask_captions(pl.DataFrame({"all_captions": captions}))
    assert masked["all_captions"].to_list() == ["a cat by @…, from … y", *captions[1:]]
    assert count == 1


def test_posts_that_were_taken_back_are_refused_and_older_releases_with_them_go(
    tmp_path: Path, world: World
) -> None:
    lake = Lake(tmp_path)
    _write(lake, world)
    gone = world.dataset["tweet_id"].to_list()[:3]

    def release(dataset: pl.DataFrame) -> tuple[str, tuple[str, ...]]:
        made = write_release(
            lake, dataset, world.clusters, world.projection, world.provenance, withdrawn=gone
        )
        return made.version, made.removed

    before = _tree(tmp_path)
    with pytest.raises(PolicyError, match=r"column id in 3 row\(s\).*taken back"):
        release(world.dataset)
    assert _tree(tmp_path) == before
    kept = world.dataset.filter(~pl.col("tweet_id").is_in(gone))
    assert release(kept) == ("1.0.1", ("1.0.0",))
    assert lake.list_folders("releases") == ["1.0.1"]
    assert {row["id"] for row in _changes(lake, "1.0.1")} == set(gone)
    held = [path for path, data in _tree(tmp_path).items() if any(one.encode() in data for one in gone)]
    assert held == ["releases/1.0.1/changes.csv"]
