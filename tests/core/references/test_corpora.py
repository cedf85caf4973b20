"""Reference corpora: real folders and every layout import, and every file is accounted for."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from twigma_core.images.shards import ShardWriter, iter_pictures, prune
from twigma_core.lake import Lake
from twigma_core.references.folder import read_folder
from twigma_core.references.importer import import_corpus, load_corpus, shard_folder
from twigma_core.references.rows import CorpusError, prompt_key, safe_relative


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def fill(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes files, pictures by number, into a new folder."""

    def write(**files: int | str | bytes) -> Path:
        folder = tmp_path / "corpus"
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            data = picture(content) if isinstance(content, int) else content
            path.write_bytes(data.encode() if isinstance(data, str) else data)
        return folder

    return write


def test_every_file_and_every_metadata_row_is_accounted_for(
    fill: Callable[..., Path], tmp_path: Path
) -> None:
    folder = fill(
        **{
            "pictures/a.jpg": 1,
            "pictures/b.JPG": 2,
            "pictures/no row.png": 3,
            "pictures/broken.jpg": b"<html>gone</html>",
            "pictures/large.jpg": bytes(300_000),
            "pictures/other.tiff": b"II*\x00" + bytes(50),
            "readme.md": "not a picture",
            "Metadata.CSV": "\ufeffFile,Title,ARTIST,prompt\n"
            'a.jpg,"one, two",Ann, a red house \n'
            "a.jpg,another,,\n"
            "pictures/b.JPG,,Bob,a red house\n"
            "missing.jpg,lost,,\n"
            "../../etc/passwd,x,,\n"
            "/etc/passwd,x,,\n"
            ",no name,,\n"
            "broken.jpg,broken,,\n",
        }
    )
    lake = Lake(tmp_path / "lake")
    table = import_corpus(lake, "laion", load_corpus("laion", folder), max_bytes=200_000)
    rows = {row["image_id"]: row for row in table.iter_rows(named=True)}
    assert {key: row["status"] for key, row in rows.items()} == {
        "pictures/a.jpg": "ok",
        "pictures/b.JPG": "ok",
        "pictures/no row.png": "ok",
        "pictures/broken.jpg": "undecodable",
        "pictures/large.jpg": "refused",
        "pictures/other.tiff": "undecodable",
        "missing.jpg": "unavailable",
        "refused:row 4": "refused",
        "refused:row 5": "refused",
        "refused:row 6": "refused",
    }
    assert all(row["reason"] for row in rows.values() if row["status"] != "ok")
    a, b = rows["pictures/a.jpg"], rows["pictures/b.JPG"]
    assert (a["title"], a["artist"], a["prompt"]) == ("one, two", "Ann", "a red house")
    assert a["prompt_id"] == b["prompt_id"] == prompt_key("a red house")
    assert rows["pictures/no row.png"]["title"] is None
    assert dict(iter_pictures(lake, table)) == {
        "pictures/a.jpg": picture(1),
        "pictures/b.JPG": picture(2),
        "pictures/no row.png": picture(3),
    }
    again = import_corpus(lake, "laion", load_corpus("laion", folder), max_bytes=200_000)
    assert again.equals(table)
    assert prune(lake, shard_folder("laion"), set(table["shard"])) == []


def test_artbench_reads_class_folders_and_file_names(fill: Callable[..., Path]) -> None:
    folder = fill(
        **{"baroque/jan-steen_the-feast-1660.jpg": 1, "baroque/untitled.jpg": 2, "top_level.jpg": 3}
    )
    rows = {row.image_id: row for row in load_corpus("artbench", folder)}
    feast = rows["baroque/jan-steen_the-feast-1660.jpg"]
    assert (feast.style, feast.artist, feast.title) == ("baroque", "jan-steen", "the-feast-1660")
    assert (rows["baroque/untitled.jpg"].style, rows["baroque/untitled.jpg"].artist) == ("baroque", None)
    assert (rows["top_level.jpg"].style, rows["top_level.jpg"].artist) == (None, None)


def test_diffusiondb_reads_parts_and_its_index(fill: Callable[..., Path]) -> None:
    part = {"x.png": {"p": "a cat", "se": 1, "c": 7.0, "st": 50, "sa": "k_lms"}, "gone.png": {"p": "a dog"}}
    folder = fill(
        **{"part-000001/x.png": 1, "part-000001/part-000001.json": json.dumps(part), "_manifest.json": "[]"}
    )
    rows = {row.image_id: row for row in load_corpus("diffusiondb", folder)}
    assert set(rows) == {"part-000001/x.png", "part-000001/gone.png"}
    assert rows["part-000001/x.png"].prompt == "a cat" and rows["part-000001/gone.png"].path is None
    (folder / "part-000001/part-000001.json").unlink()
    index = pl.DataFrame({"image_name": ["x.png", "far.png"], "prompt": ["a cat", "z"], "seed": [1, 2]})
    index.write_parquet(folder / "metadata.parquet")
    (row,) = load_corpus("diffusiondb", folder)
    assert (row.image_id, row.prompt, row.prompt_id) == ("part-000001/x.png", "a cat", prompt_key("a cat"))


def test_laion_reads_parquet_rows_and_sidecars(fill: Callable[..., Path]) -> None:
    folder = fill(**{"00000/000000007.jpg": 1, "00000/000000007.txt": "beside", "cat.jpg": 2, "plain.jpg": 3})
    assert {row.image_id: row.title for row in load_corpus("laion", folder)} == {
        "00000/000000007.jpg": "beside",
        "cat.jpg": None,
        "plain.jpg": None,
    }
    urls = ["https://a.example/x.jpg", "https://b.example/cat.jpg?w=1", "https://[bad/y.jpg", None]
    pl.DataFrame(
        {
            "URL": urls,
            "TEXT": ["by key", "by name", "nothing", "none"],
            "KEY": ["000000007", None, None, None],
        }
    ).write_parquet(folder / "rows.parquet")
    rows = list(load_corpus("laion", folder))
    titles = {row.image_id: row.title for row in rows if row.path}
    assert titles == {"00000/000000007.jpg": "by key", "cat.jpg": "by name", "plain.jpg": None}
    assert sorted(str(row.title) for row in rows if row.path is None) == ["none", "nothing"]


def tar_of(path: Path, **members: int | str | bytes) -> None:
    """Write a shard as webdataset lays it out."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = picture(content) if isinstance(content, int) else content
            data = data.encode() if isinstance(data, str) else data
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def shards(folder: Path) -> Path:
    """Write two shards of img2dataset: one with its table, in which a download failed, and one without."""
    folder.mkdir()
    names: dict[str, int | str | bytes] = {
        "000000000.jpg": 1,
        "000000000.txt": "old words",
        "000000000.json": "{}",
        "000000002.jpg": b"<html>",
    }
    tar_of(folder / "00000.tar", **names)
    pl.DataFrame(
        {
            "url": [f"https://a.example/{n}.jpg" for n in range(3)],
            "caption": [" a cat ", "a dog", None],
            "key": ["000000000", "000000001", "000000002"],
            "status": ["success", "failed_to_download", "success"],
            "error_message": [None, "HTTP Error 404: Not Found", None],
        }
    ).write_parquet(folder / "00000.parquet")
    (folder / "00000_stats.json").write_text('{"count": 3}')
    texts: dict[str, int | str | bytes] = {
        "b.json": json.dumps({"caption": "from json"}),
        "b.png": 2,
        "c.txt": "alone",
        "d.jpg": bytes(9_000),
    }
    tar_of(folder / "00001.tar", **texts)
    return folder


def test_img2dataset_shards_are_read_where_they_lie(tmp_path: Path) -> None:
    folder, lake = shards(tmp_path / "corpus"), Lake(tmp_path / "lake")
    table = import_corpus(lake, "laion", load_corpus("laion", folder), max_bytes=5_000)
    assert {
        row["image_id"]: (row["status"], row["title"], row["reason"]) for row in table.iter_rows(named=True)
    } == {
        "00000/000000000.jpg": ("ok", "a cat", None),
        "00000/000000001": (
            "unavailable",
            "a dog",
            "00000.tar: failed_to_download: HTTP Error 404: Not Found",
        ),
        "00000/000000002.jpg": ("undecodable", None, table["reason"][2]),
        "00001/b.png": ("ok", "from json", None),
        "00001/c": ("unavailable", "alone", "00001.tar: the shard has texts of it and no picture"),
        "00001/d.jpg": ("refused", None, "larger than 5,000 bytes"),
    }
    assert dict(iter_pictures(lake, table)) == {"00000/000000000.jpg": picture(1), "00001/b.png": picture(2)}


def test_a_shards_captions_are_prompts_in_diffusiondb(tmp_path: Path) -> None:
    folder = shards(tmp_path / "corpus")
    (folder / "loose.jpg").write_bytes(picture(9))
    rows = {row.image_id: row for row in load_corpus("diffusiondb", folder)}
    first = rows["00000/000000000.jpg"]
    assert (first.prompt, first.title, first.prompt_id) == ("a cat", None, prompt_key("a cat"))
    assert rows["loose.jpg"].prompt is None and len(rows) == 7


def test_our_own_shards_are_shards(tmp_path: Path) -> None:
    """Pictures that this platform packed can be another one's corpus."""
    lake = Lake(tmp_path / "lake")
    writer = ShardWriter(lake, "shards/x")
    for number in range(3):
        writer.add(f"{number}.jpg", picture(number))
    writer.close()
    rows = list(load_corpus("artbench", tmp_path / "lake" / "shards" / "x"))
    table = import_corpus(Lake(tmp_path / "other"), "artbench", rows)
    assert [data for _, data in iter_pictures(Lake(tmp_path / "other"), table)] == [
        picture(number) for number in range(3)
    ]


@pytest.mark.parametrize("damage", ["not a tar", "compressed", "no key", "hostile"])
def test_a_shard_that_cannot_be_read_is_named(damage: str, tmp_path: Path) -> None:
    folder = shards(tmp_path / "corpus")
    if damage == "not a tar":
        (folder / "00000.tar").write_bytes(b"<html>gone</html>" * 100)
    elif damage == "compressed":
        (folder / "00000.tar").write_bytes(gzip.compress((folder / "00000.tar").read_bytes()))
    elif damage == "no key":
        pl.DataFrame({"url": ["x"]}).write_parquet(folder / "00000.parquet")
    else:
        tar_of(folder / "00002.tar", **{"../../up.jpg": 1, "/root.jpg": 2})
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        with tarfile.open(folder / "00002.tar", "a") as tar:
            tar.addfile(link)
        found = [row for row in load_corpus("laion", folder) if row.image_id.startswith("00002")]
        assert [row.image_id for row in found] == ["00002/_/_/up.jpg", "00002/root.jpg"]
        assert all(row.path == folder / "00002.tar" for row in found)
        return
    with pytest.raises(CorpusError, match=r"00000\.(tar|parquet)"):
        list(load_corpus("laion", folder))


def test_the_only_table_of_a_folder_counts_whatever_it_is_called(fill: Callable[..., Path]) -> None:
    folder = fill(**{"a.jpg": 1, "my pictures.csv": "path,painter,caption\na.jpg,Ann,a house\n"})
    (row,) = load_corpus("artbench", folder)
    assert (row.artist, row.title) == ("Ann", "a house")
    (folder / "more.csv").write_text("file\na.jpg\n")
    with pytest.raises(CorpusError, match=r"several tables \(more\.csv, my pictures\.csv\); call that of"):
        load_corpus("artbench", folder)


def test_errors_name_corpus_cause_and_cure(fill: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=r"reference_images/laion: folder .*nowhere does not exist; set TWIGMA_R"
    ):
        load_corpus("laion", tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"reference_images/cifar: no such corpus; known: laion"):
        load_corpus("cifar", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match=r"reference_images/artbench: .* holds no pictures"):
        load_corpus("artbench", tmp_path / "empty")
    with pytest.raises(CorpusError, match=r"no column for the file; it has who, what"):
        load_corpus("artbench", fill(**{"labels.csv": "who,what\na,b\n", "a.jpg": 1}))
    (tmp_path / "corpus/labels.csv").unlink()
    with pytest.raises(CorpusError, match=r"x\.json cannot be read"):
        load_corpus("diffusiondb", fill(**{"x.json": "{" * 100_000, "a.jpg": 1}))


@pytest.mark.parametrize(
    "name", ["", "/a.jpg", "../a.jpg", "a/../../b.jpg", "C:\\a.jpg", "..\\a.jpg", "a\0.jpg"]
)
def test_names_that_lead_elsewhere_are_no_relative_paths(name: str) -> None:
    assert safe_relative(name) is None
    assert safe_relative("sub\\b.jpg") == "sub/b.jpg"


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_real_paintings_come_with_their_artists(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "pictures/art/wikiart224"
    table = import_corpus(Lake(tmp_path), "artbench", load_corpus("artbench", folder))
    labels = {row["file"]: row for row in read_csv(folder / "labels.csv")}
    assert table.height == len(list(folder.rglob("*.jpg"))) == 1145
    assert set(table["status"]) == {"ok"}
    for row in table.iter_rows(named=True):
        label = labels.get(row["image_id"], {"artist": "", "style": row["image_id"].split("/")[0]})
        assert (row["artist"] or "", row["style"]) == (label["artist"], label["style"])
    artists = Counter(table["artist"].drop_nulls())
    assert sum(works >= 20 for works in artists.values()) == 25


def test_real_generated_pictures_come_with_their_prompts(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "pictures/ai/dalle2_eudoxia0"
    table = import_corpus(Lake(tmp_path), "diffusiondb", load_corpus("diffusiondb", folder))
    labels = {row["file"]: row["prompt"].strip() for row in read_csv(folder / "prompts.csv")}
    assert set(table["status"]) == {"ok"} and table.height == 441
    assert dict(table.select("image_id", "prompt").iter_rows()) == labels
    assert table["prompt_id"].n_unique() == len(set(labels.values())) == 109


@pytest.mark.parametrize(("name", "count"), [("imagenet_sample", 251), ("flickr8k_100", 100)])
def test_real_photographs_import(name: str, count: int, shared_data: Path, tmp_path: Path) -> None:
    table = import_corpus(
        Lake(tmp_path), "laion", load_corpus("laion", shared_data / "pictures/photo" / name)
    )
    assert table.filter(pl.col("status") == "ok").height == count == table.height
    if name == "flickr8k_100":
        assert table["title"].null_count() == 0


def test_real_laion_rows_without_files_are_unavailable(shared_data: Path) -> None:
    rows = list(load_corpus("laion", shared_data / "laion_rows"))
    source = pl.read_parquet(shared_data / "laion_rows/test_1000.parquet")
    assert len(rows) == source["URL"].n_unique() and all(row.path is None for row in rows)
    assert {row.title for row in rows} <= set(source["TEXT"])


def test_pictures_without_metadata_and_small_real_art_import(shared_data: Path, tmp_path: Path) -> None:
    rows = list(read_folder(shared_data / "pictures/art/artbench32"))
    styles = Counter(row.style for row in rows)
    assert len(rows) == 500 and len(styles) == 10 and None not in styles
