"""The 2023 release: written by the release's own writer and by hand, whole, damaged and lying."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from twigma_core import tables
from twigma_core.collect import ids, release_2023
from twigma_core.collect.archives import read_archive, releases
from twigma_core.collect.imports import import_month, inventory, months
from twigma_core.collect.pages import PageStore
from twigma_core.collect.parse import parse_pages
from twigma_core.lake import Lake
from twigma_core.release.table import COLUMNS, release_table, to_csv

HEADER = list(COLUMNS["paper_compat"])
EPOCH = datetime(2010, 11, 4, 1, 42, 54, 657000, tzinfo=UTC)


def snowflake(when: datetime, low: int) -> int:
    return (int((when - EPOCH).total_seconds() * 1000) << 22) + low


def when_of(n: int) -> datetime:
    return datetime(2022, 8, 30, tzinfo=UTC) + timedelta(hours=n)


def media_id(n: int) -> int:
    return snowflake(when_of(n) - timedelta(minutes=2), 4097 * n + 1)


def name_of(n: int) -> str:
    return base64.urlsafe_b64encode(media_id(n).to_bytes(8, "big") + b"abc").decode().rstrip("=") + ".jpg"


def row(n: int, **other: object) -> dict[str, object]:
    values = {
        "id": snowflake(when_of(n), 4099 * n + 3),
        "image_name": name_of(n),
        "created_at": f"{when_of(n):%Y-%m-%d %H:%M:%S}+00:00",
        "like_count": f"{n}.0",
        "quote_count": "",
        "reply_count": n % 3,
        "all_captions": f"a drawing, number {n}",
        "label_10_cluster": n % 10 + 1,
        "possibly_sensitive": "True" if n % 2 else "False",
        "nsfw_score": f"{n / 100:.2f}",
        "UMAP_dim_1": -n / 3,
        "UMAP_dim_2": n / 7,
    }
    return values | other


def write(path: Path, rows: list[dict[str, object]], header: list[str] = HEADER) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path: Path) -> release_2023.Release:
    return next(release for _, release in releases(path))


def test_what_the_release_writer_wrote_comes_back(tmp_path: Path) -> None:
    """Through `paper_compat`: each column equals the dataset's that it was written from."""
    n = 700
    pictures = pl.DataFrame(
        {
            "image_id": [str(media_id(i)) for i in range(n)],
            # A picture is uploaded before its post, and two pictures share one.
            "tweet_id": [str(snowflake(when_of(i // 2 * 2 + 1), 5)) for i in range(n)],
            "created_at": [when_of(i // 2 * 2 + 1) for i in range(n)],
            "image_name": [name_of(i) for i in range(n)],
            "like_count": [None if i % 7 == 0 else i for i in range(n)],
            "quote_count": [1] * n,
            "reply_count": [2] * n,
            "caption": ["=formula, with a comma" if i == 3 else f'a "quoted" {i}\nline 🎨' for i in range(n)],
            "label_10_cluster": [i % 10 + 1 for i in range(n)],
            "possibly_sensitive": [None if i % 5 == 0 else i % 2 == 0 for i in range(n)],
            "nsfw_score": [i / n for i in range(n)],
            "UMAP_dim_1": [float(i) for i in range(n)],
            "UMAP_dim_2": [-i / 3 for i in range(n)],
        },
        schema_overrides={"created_at": pl.Datetime("us", "UTC")},
    )
    path = tmp_path / "twigma.csv"
    path.write_bytes(to_csv(release_table(pictures, "paper_compat")))
    release = read(path)
    kept, ours = pictures.sort("image_id"), release.table.sort("image_id")
    assert kept["image_id"].equals(ours["image_id"]) and not release.notes and not release.refused
    for theirs, name in {
        **{
            name: name
            for name in ("tweet_id", "created_at", "image_name", "like_count", "possibly_sensitive")
        },
        "label_10_cluster": "cluster",
        "nsfw_score": "nsfw_score",
        "UMAP_dim_1": "x",
        "UMAP_dim_2": "y",
    }.items():
        assert ours[name].to_list() == kept[theirs].to_list(), name
    assert ours["caption"].to_list() == [
        "'" + text if text.startswith("=") else text for text in kept["caption"].to_list()
    ]


def test_its_months_are_posts_and_pictures_with_addresses(tmp_path: Path) -> None:
    path = write(tmp_path / "release.csv", [row(n) for n in range(100)] + [row(100, id=row(99)["id"])])
    assert months(path) == ["2022-08", "2022-09"]
    found = inventory(path).row(0, named=True)
    assert (found["posts"], found["media"], found["broken"], found["note"]) == (100, 101, 0, None)
    lake = Lake(tmp_path / "lake")
    first = import_month(lake, path, "2022-08")
    assert (
        first.height == 1 and first["posts"].sum() == 48 and import_month(lake, path, "2022-08").equals(first)
    )
    import_month(lake, path, "2022-09")
    parsed = parse_pages(PageStore(lake, "2022-09").pages(), "2022-09")
    assert parsed.problems.is_empty()
    with path.open(newline="") as file:
        rows = [one for one in csv.DictReader(file) if one["created_at"] >= "2022-09"]  # independent
    assert parsed.tweets["tweet_id"].to_list() == list(dict.fromkeys(one["id"] for one in rows))
    assert parsed.media["url"].to_list() == [f"https://pbs.twimg.com/media/{o['image_name']}" for o in rows]
    assert parsed.media.filter(tweet_id=str(row(99)["id"]))["position"].to_list() == [0, 1]
    tweet = parsed.tweets.row(0, named=True)
    assert (tweet["like_count"], tweet["reply_count"], tweet["quote_count"]) == (48, 0, None)
    assert tweet["possibly_sensitive"] is False and tweet["text"] == "" and tweet["followers"] is None
    tables.conform("tweets", parsed.tweets)


@pytest.mark.parametrize(
    ("form", "address"),
    [
        (lambda n: name_of(n), True),
        (lambda n: name_of(n).removesuffix(".jpg"), True),
        (lambda n: f"https://pbs.twimg.com/media/{name_of(n)}?name=orig", True),
        (lambda n: str(media_id(n)), False),
        (lambda n: f"{media_id(n)}.jpg", False),
        (lambda n: f"3_{media_id(n)}", False),
        (lambda n: f"{row(n)['id']}_{media_id(n)}.png", False),
    ],
)
def test_the_media_id_is_read_from_each_form_of_the_name(
    tmp_path: Path, form: Callable[[int], str], address: bool
) -> None:
    release = read(write(tmp_path / "r.csv", [row(n, image_name=form(n)) for n in range(12)]))
    assert release.table["image_id"].to_list() == [str(media_id(n)) for n in range(12)]
    assert release.table["tweet_id"].null_count() == 0 and not release.refused
    assert release.table["url"].null_count() == (0 if address else 12)
    assert release.notes == ({} if address else {release_2023.NO_ADDRESS: 12})


def as_float(n: int) -> str:
    return repr(float(int(str(row(n)["id"]))))


def test_ids_that_are_floats_are_refused_and_their_rows_kept_by_media_id(tmp_path: Path) -> None:
    rows = [row(n, id=as_float(n)) for n in range(30)] + [row(n) for n in range(30, 35)]
    path = write(tmp_path / "first_version.csv", rows)
    release = read(path)
    assert release.table.height == 35 and release.table["tweet_id"].null_count() == 30
    assert release.table["month"].null_count() == 0
    lost = f"id {ids.LOST}{release_2023.NO_POST}"
    assert release.notes == {lost: 30}
    assert inventory(path)["note"].to_list() == [f"first_version.csv: 30 rows: {lost}"]
    table = import_month(Lake(tmp_path / "lake"), path, "2022-08")
    assert table.filter(status="corrupt")["reason"].to_list() == [f"first_version.csv: 30 rows: {lost}"]
    posts = parse_pages(read_archive(path)).tweets["tweet_id"].to_list()
    assert posts == [str(row(n)["id"]) for n in range(30, 35)], "not one was guessed"


def test_a_float_is_repaired_only_where_the_name_holds_the_very_id(tmp_path: Path) -> None:
    exact = int(str(row(3)["id"]))
    rows = [
        row(1, id=as_float(1), image_name=f"{row(1)['id']}_{media_id(1)}.jpg"),
        row(2, id="12345.0"),  # exact: below 2**53
        row(3, id=as_float(3), image_name=f"{exact + 1024}_{media_id(3)}.jpg"),  # another float
        row(4, id=as_float(4), image_name=f"{media_id(4)}.jpg"),
        row(5, id="1.58505820012185E+18", image_name=name_of(5)),  # as a spreadsheet shows it
        row(6, id="nan"),
        row(7, id="inf"),
        row(8, id="0x15"),
    ]
    release = read(write(tmp_path / "r.csv", rows))
    assert release.table["tweet_id"].to_list() == [str(row(1)["id"]), "12345", *[None] * 6]
    notes = {what: count for what, count in release.notes.items() if what.startswith("id ")}
    assert notes == {
        f"id {ids.BY_NAME}": 1,
        f"id {ids.EXACT_FLOAT}": 1,
        f"id {ids.LOST}{release_2023.NO_POST}": 3,
        f"id {ids.NO_ID}{release_2023.NO_POST}": 3,
    }


def test_whole_numbers_that_were_floats_before_are_found_by_their_grid(tmp_path: Path) -> None:
    rows = [row(n, id=int(float(int(str(row(n)["id"]))))) for n in range(40)]
    assert sum(rows[n]["id"] == row(n)["id"] for n in range(40)) < 3, "most are changed"
    release = read(write(tmp_path / "r.csv", rows))
    assert release.table["tweet_id"].null_count() == 40
    assert release.notes == {f"id {ids.ON_GRID}{release_2023.NO_POST}": 40}
    sound = read(write(tmp_path / "sound.csv", [*rows[:39], row(39)]))
    assert sound.table["tweet_id"].null_count() == 0, "one off the grid, and it is no grid"


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"image_name": "holiday.jpg"}, release_2023.NO_MEDIA_ID),
        ({"image_name": ""}, release_2023.NO_MEDIA_ID),
        ({"image_name": f"{row(1)['id']}_1.jpg"}, release_2023.NO_MEDIA_ID),
        ({"image_name": "1.585058197848588e+18"}, release_2023.LOST_MEDIA_ID),
        ({"image_name": name_of(500)}, release_2023.NEWER),
        ({"image_name": name_of(0)}, release_2023.AGAIN),
    ],
)
def test_a_row_without_its_picture_is_refused_with_a_reason(
    tmp_path: Path, other: dict[str, object], reason: str
) -> None:
    path = write(tmp_path / "r.csv", [row(0), row(1, **other), row(2)])
    release = read(path)
    assert release.table["image_id"].to_list() == [str(media_id(0)), str(media_id(2))]
    assert release.refused == {reason: 1}
    assert inventory(path)["note"].to_list() == [f"r.csv: 1 row: {reason} (the first on line 3)"]


def test_values_that_are_not_what_they_should_be_are_left_empty_and_counted(tmp_path: Path) -> None:
    junk = {
        "created_at": "in autumn",
        "like_count": "-3",
        "quote_count": "1e3",
        "reply_count": "<NA>",
        "label_10_cluster": "11",
        "possibly_sensitive": "maybe",
        "nsfw_score": "1.5",
        "UMAP_dim_1": "inf",
        "UMAP_dim_2": "east",
    }
    release = read(write(tmp_path / "r.csv", [row(1, **junk)]))
    found = release.table.row(0, named=True)
    assert [found[name] for name in ("like_count", "quote_count", "reply_count", "cluster")] == [None] * 4
    assert [found[name] for name in ("possibly_sensitive", "nsfw_score", "x", "y")] == [None] * 4
    assert found["created_at"].replace(microsecond=0) == when_of(1), "from the id"
    assert release.notes.total() == 8 and all(count == 1 for count in release.notes.values())


def test_columns_stand_in_any_order_and_broken_rows_take_none_along(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", [row(n) for n in range(5)], ["extra", *reversed(HEADER)])
    text = path.read_text().splitlines()
    path.write_text("\n".join([*text[:3], "1,2,3", *text[3:], f'9,"{"x" * 20}']) + "\n")
    release = read(path)
    assert release.table["image_id"].to_list() == [str(media_id(n)) for n in range(5)]
    assert release.refused == {"has 3 cells, the header 13": 1, "has 2 cells, the header 13": 1}


def test_gathered_releases_hold_each_picture_once() -> None:
    assert release_2023.gather([])[0].is_empty()
    one = release_2023.Release(tables.empty("release_2023"))
    assert release_2023.gather([one, one])[1] == {}


def test_an_archive_may_hold_it_among_other_files(tmp_path: Path) -> None:
    write(tmp_path / "release.csv", [row(n) for n in range(3)])
    body = {"data": [{"id": "1554000000000000001", "text": "t", "created_at": "2022-08-02T00:00:00Z"}]}
    (tmp_path / "pages.jsonl").write_text(json.dumps(body) + "\n")
    (tmp_path / "people.csv").write_text("name\nx\n")
    (tmp_path / "cut.csv.gz").write_bytes(b"\x1f\x8b\x08\0")
    assert [source.name for source, _ in releases(tmp_path)] == ["release.csv"]
    assert parse_pages(read_archive(tmp_path)).tweets.height == 4
