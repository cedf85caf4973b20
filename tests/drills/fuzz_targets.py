"""What reads bytes of others, each as a function that takes any bytes and says what became of them.

A check returns `ROWS` (rows came of it, in the schema of their table), `COUNTED` (nothing usable; what is
broken is counted, with a reason) or `REFUSED` (the error that the reader documents). Anything else is a
finding: another exception, a post that is neither row nor reason, a reading that never ends.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

import polars as pl
import zstandard

import twigma_core
from tests.core.images import hostile_files
from tests.drills.mutations import damage, mutate
from twigma_core import tables
from twigma_core.collect import fields, parse
from twigma_core.collect.archives import NotAnArchive, read_archive, releases
from twigma_core.collect.documents import loads
from twigma_core.collect.ids import NoIds, read_ids
from twigma_core.collect.imports import import_month, inventory
from twigma_core.collect.pages import PageStore
from twigma_core.collect.release_2023 import COLUMNS, gather
from twigma_core.images.decode import BadPicture, describe_picture, open_picture, pixel_sha256
from twigma_core.lake import DamagedTable, Lake
from twigma_core.references.importer import import_corpus, load_corpus
from twigma_core.references.rows import CorpusError
from twigma_core.references.texts import TextSourceError, read_texts
from twigma_core.release.attrition import released_pictures

ROWS, COUNTED, REFUSED = "rows", "counted", "refused"
MONTH = "2022-08"
POST = {
    "id": "1554000000000000001",
    "text": "an #aiart 🎨",
    "created_at": "2022-08-02T00:00:00.000Z",
    "author_id": "7",
    "lang": "en",
    "possibly_sensitive": False,
    "public_metrics": {"like_count": 3, "reply_count": 1, "quote_count": 0, "retweet_count": 2},
    "entities": {"hashtags": [{"start": 3, "end": 9, "tag": "aiart"}]},
    "attachments": {"media_keys": ["3_1554000000000000003", "7_9"]},
}
PAGE = {
    "data": [POST],
    "includes": {
        "users": [{"id": "7", "username": "a", "public_metrics": {"followers_count": 9}}],
        "media": [
            {
                "media_key": "3_1554000000000000003",
                "type": "photo",
                "url": "https://pbs.twimg.com/media/FZDhVYtXwAAAAAA.jpg",
                "width": 4,
                "height": 3,
                "alt_text": "b",
            }
        ],
    },
    "errors": [{"title": "Not Found Error", "resource_id": "5"}],
    "meta": {"next_token": "t", "newest_id": "5", "oldest_id": "5", "result_count": 1},
}
SNSCRAPE = {
    "id": 1554000000000000001,
    "date": "2022-08-02T00:00:00+00:00",
    "rawContent": "c",
    "user": {"id": 7, "username": "a", "followersCount": 9},
    "likeCount": 1,
    "hashtags": ["aiart"],
    "media": [{"fullUrl": "https://pbs.twimg.com/media/FZDhVYtXwAAAAAA?format=jpg&name=large"}],
}
_CELLS = "1554000000000000001,FZDhVYtXwAAAAAA.jpg,2022-08-02 00:00:00+00:00,3,0,1.0,a cat,4,True,0.5,1.5,-2.5"


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _csv(*lines: str) -> bytes:
    return "\n".join(lines).encode() + b"\n"


def _parquet(**columns: object) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


def picture(kind: str = "PNG", **options: object) -> bytes:
    """Return a small picture file."""
    return hostile_files.save(hostile_files.picture((24, 16)), kind, **options)


def _tar(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name.replace("__", "."))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


# ---------------------------------------------------------------- checks


def pages(data: bytes, folder: Path) -> str:
    """An API reply, or several in a list: each post is a row or one of `LEFT_OUT`."""
    value, reason = loads(data)
    if reason:
        return REFUSED
    return _posts_add_up(value if isinstance(value, list) else [value])


def _posts_add_up(bodies: list[object]) -> str:
    parsed = parse.parse_pages(bodies, reviewed=["aiart"])  # type: ignore[arg-type]
    return _accounted(parsed, sum(len(list(fields.posts(b))) for b in bodies if isinstance(b, dict)))


def _accounted(parsed: parse.Parsed, posts: int) -> str:
    _conforms("tweets", parsed.tweets)
    _conforms("tweet_media", parsed.media)
    left_out = parsed.problems.filter(pl.col("what").is_in(parse.LEFT_OUT))["count"].sum()
    assert parsed.tweets.height + left_out == posts, (parsed.tweets.height, left_out, posts)
    assert parsed.tweets["media_count"].sum() == parsed.media.height
    return ROWS if parsed.tweets.height else COUNTED


def _conforms(name: str, frame: pl.DataFrame) -> None:
    """Write a frame as its table and read the same again."""
    buffer = io.BytesIO()
    tables.conform(name, frame).write_parquet(buffer)
    buffer.seek(0)
    assert pl.read_parquet(buffer).equals(frame)


def archive(data: bytes, folder: Path, name: str) -> str:
    """A file of an archive, read by itself and as part of a folder, through to posts."""
    file = folder / name
    file.write_bytes(data)
    try:
        found = list(read_archive(file))
    except NotAnArchive:
        found = []
        refused = True
    else:
        refused = False
    assert all(page.body is not None or page.reason for page in found)
    lake = Lake(folder / "lake")
    row = inventory(folder / name, lake).row(0, named=True)
    broken = sum(page.body is None for page in found)
    assert not broken or (row["broken"] and row["note"])
    import_month(lake, file, MONTH)
    stored = list(PageStore(lake, MONTH).pages())
    posts = sum(len(list(fields.posts(page.body))) for page in stored if page.body)
    _accounted(parse.parse_pages(stored, MONTH), posts)
    for release in releases(file):
        _conforms("release_2023", gather([release[1]])[0])
    return REFUSED if refused else ROWS if row["posts"] else COUNTED


def decoded(data: bytes, folder: Path) -> str:
    """A picture file."""
    try:
        info = describe_picture(data)
    except BadPicture as error:
        assert error.reason and "0x" not in error.reason and len(error.reason) < 400
        return REFUSED
    image = open_picture(data)
    assert (image.mode, image.size) == ("RGB", (info.width, info.height))
    assert pixel_sha256(image) == info.pixel_sha256
    return ROWS


def corpus(data: bytes, folder: Path, name: str, file: str, beside: dict[str, bytes]) -> str:
    """A file of a reference corpus, with good ones beside it."""
    for other, content in beside.items():
        (folder / other).write_bytes(content)
    (folder / file).write_bytes(data)
    try:
        rows = list(load_corpus(name, folder))
        frame = import_corpus(Lake(folder / ".lake"), name, rows)
    except CorpusError as error:
        assert str(error)
        return REFUSED
    assert frame.height == len(rows)
    _conforms("reference_images", frame)
    assert frame.filter(pl.col("status") != "ok")["reason"].null_count() == 0
    return ROWS if (frame["status"] == "ok").any() else COUNTED


def texts(data: bytes, folder: Path, file: str) -> str:
    """A file of a text source."""
    (folder / file).write_bytes(data)
    try:
        _conforms("texts", read_texts(file.partition(".")[0], folder))
    except TextSourceError as error:
        assert str(error)
        return REFUSED
    return ROWS


def released(data: bytes, folder: Path, file: str) -> str:
    """A release, ours or of 2023, or a file of ids: as ids to ask for, and as pictures to look for."""
    (folder / file).write_bytes(data)
    try:
        asked = read_ids(folder / file)
        named = released_pictures(folder / file)
    except NoIds as error:
        assert str(error)
        return REFUSED
    assert len(set(asked.ids)) == len(asked.ids) and all(asked.refused.values())
    assert all(fields.identifier(one) for one in asked.ids)
    assert named.columns == ["id", "image_id"] and named["image_id"].is_unique().all()
    return ROWS if asked.ids else COUNTED


def opened(data: bytes, folder: Path) -> str:
    """A table's file in a lake that a notebook opens."""
    place = folder / "tables" / "tweets"
    place.mkdir(parents=True)
    (place / f"{MONTH}.parquet").write_bytes(data)
    lake = twigma_core.open(folder)
    readings: list[Callable[[], object]] = [
        lambda: lake.table("tweets"),
        lake.tables,
        lambda: lake.lake.read("tweets", MONTH),
        lambda: lake.lake.provenance("tweets", MONTH),
    ]
    refused = 0
    for read in readings:
        try:
            read()
        except DamagedTable as error:
            assert str(error).startswith("tweets")
            refused += 1
    return REFUSED if refused else ROWS


# ---------------------------------------------------------------- targets


class Target(NamedTuple):
    """A reader, good files for it, and what to throw into them."""

    check: Callable[[bytes, Path], str]
    seeds: list[bytes]
    mutate: Callable[[bytes, Random], bytes] = mutate

    def run(self, data: bytes, folder: Path) -> str:
        """Check bytes in a folder that is empty before and after."""
        folder.mkdir(exist_ok=True)
        try:
            return self.check(data, folder)
        finally:
            shutil.rmtree(folder)


def _table() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(folder)
        lake.write("tweets", parse.parse_pages([PAGE]).tweets, MONTH)
        return lake.table_path("tweets", MONTH).read_bytes()


def _packed(data: Iterable[bytes]) -> list[bytes]:
    found = list(data)
    return [*found, zstandard.ZstdCompressor().compress(found[0])]


_LINES = [_json(PAGE) + b"\n" + _json(POST | {"id": "1554000000000000002"}) + b"\n", _json(SNSCRAPE) + b"\n"]
_RELEASE = _csv(",".join(COLUMNS), _CELLS)
_SNSCRAPE_CSV = _csv(
    "id,date,rawContent,user,likeCount,hashtags,media",
    "1554000000000000001,2022-08-02T00:00:00+00:00,c,\"User(username='a', id=7, followersCount=9)\",1.0,"
    "\"['aiart']\",\"[Photo(fullUrl='https://pbs.twimg.com/media/FZDhVYtXwAAAAAA?format=jpg')]\"",
)
_IDS_CSV = _csv("id,author_id,image_name", "1554000000000000001,7,FZDhVYtXwAAAAAA.jpg", "1.554e18,,")
_OURS = _csv("id,image_id,likes", "1554000000000000001,1554000000000000003,4")
_SAMPLE = {"a.png": picture(), "b.png": picture()}
_SHARD = _tar(
    a__png=picture(), a__txt=b"a caption", a__json=_json({"caption": "c"}), b__json=_json({"key": "b"})
)
_SHARD_TABLE = _parquet(
    key=["a", "c"], caption=["x", "y"], status=["success", "failed"], error_message=["", "404"]
)

TARGETS: dict[str, Target] = {
    "pages": Target(pages, [_json(PAGE), _json(POST), _json([PAGE, SNSCRAPE])]),
    "archive.jsonl": Target(partial(archive, name="a.jsonl"), _packed(_LINES)),
    "archive.json": Target(partial(archive, name="a.json"), [json.dumps(PAGE, indent=1).encode(), *_LINES]),
    "archive.csv": Target(partial(archive, name="a.csv"), [_RELEASE, _SNSCRAPE_CSV]),
    "picture": Target(
        decoded,
        [
            *(picture(kind) for kind in ("PNG", "JPEG", "WEBP", "GIF")),
            picture("JPEG", progressive=True),
            hostile_files.sixteen_bits(),
            hostile_files.transparent_palette(),
            hostile_files.animated(3),
        ],
    ),
    "folder/metadata.csv": Target(
        partial(corpus, name="artbench", file="metadata.csv", beside=_SAMPLE),
        [_csv("file,title,artist,style", "a.png,x,y,z", "sub\\b.png,,,", "c.png,q,,")],
    ),
    "diffusiondb/part.json": Target(
        partial(corpus, name="diffusiondb", file="part.json", beside=_SAMPLE),
        [_json({"a.png": {"p": "a cat", "se": 1}, "./c.png": {"p": "b"}})],
    ),
    "diffusiondb/metadata.parquet": Target(
        partial(corpus, name="diffusiondb", file="metadata.parquet", beside=_SAMPLE),
        [_parquet(image_name=["a.png", "z.png"], prompt=["a cat", "b"])],
    ),
    "laion/rows.parquet": Target(
        partial(corpus, name="laion", file="rows.parquet", beside=_SAMPLE),
        [_parquet(URL=["https://x.example/a.png", None], TEXT=["a cat", "b"], key=["a", None])],
    ),
    "shard.tar": Target(
        partial(corpus, name="laion", file="00000.tar", beside={"00000.parquet": _SHARD_TABLE}), [_SHARD]
    ),
    "shard.parquet": Target(
        partial(corpus, name="diffusiondb", file="00000.parquet", beside={"00000.tar": _SHARD}),
        [_SHARD_TABLE],
    ),
    "texts.csv": Target(partial(texts, file="haiku.csv"), [_csv("haiku,n", '"an old\npond",1', "x,2")]),
    "texts.txt": Target(partial(texts, file="book.txt"), [b"One. Two three! " * 20]),
    "texts.parquet": Target(
        partial(texts, file="news.parquet"), [_parquet(highlights=["a", None], n=[1, 2])]
    ),
    "release.csv": Target(
        partial(released, file="a.csv"), [_RELEASE, _OURS, _IDS_CSV, b"1554000000000000001\n"]
    ),
    "release.parquet": Target(
        partial(released, file="a.parquet"),
        [
            _parquet(id=["1554000000000000001"], image_id=["1554000000000000003"]),
            _parquet(id=[1.554e18], image_name=["FZDhVYtXwAAAAAA.jpg"]),
        ],
    ),
    # Polars, which reads the lake's own tables, ends the process at some turned bits: docs/reliability.md.
    "lake": Target(opened, [_table()], damage),
}
