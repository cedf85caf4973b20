"""Carrying deletions through the lake: what is tombstoned leaves every file, and a search for what is left.

What belongs here: taking posts, accounts and pictures out of pages, shards, tables and files, and finding
traces. What does not: which ones (`collect.tombstones`), and computing anew what rested on them: that is the
graph's ordinary work, for what was touched has another content and so all that read it is out of date.

A finished release never changes: the next one leaves out what is gone and lists it in `changes.csv`, and
those before it are then removed (`release.package`); `released` says which still hold any.

The frozen models hold no picture: centroids of clusters and of codebooks are means over thousands. The map's
sample does hold pictures' vectors, so those rows go; its version stays, and labels do not move.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import zstandard

from twigma_core import tables
from twigma_core.collect.compliance import INBOX, OPT_OUT
from twigma_core.collect.documents import dumps, loads
from twigma_core.collect.pages import PAGES, PageStore
from twigma_core.collect.replies import TOP as HYDRATED
from twigma_core.collect.tombstones import Finder, Gone, without
from twigma_core.images.arrived import arrived_files
from twigma_core.images.download import JOURNAL, SHARDS, shard_folder, tidy
from twigma_core.images.shards import repack
from twigma_core.lake import ArrayTable, Lake
from twigma_core.release.package import PARQUET, RELEASES, read_release_table

SAID = ("tables/tombstones/", f"{INBOX}/", OPT_OUT, f"{RELEASES}/")
"""Files whose business it is to name what must be gone; a release tells those who hold the one before it."""
_WITH_VECTORS = "summaries"
"""Table that keeps a sample of vectors without their ids: its months are removed, and made anew."""
_BY_ROW = ("vectors", "coordinates")
"""Arrays whose row i is of row i of the table; of the others, none is of single pictures."""
_DERIVED = ("figures", "report", "review", "outbox", "records", "journal")
"""Folders of files that the graph makes anew."""
_PICTURED = ("figures/figure_4c.", "figures/figure_4e.", "report/", "review/")
"""Those that show pictures without naming them: they go when a picture has gone."""


@dataclass
class Purged:
    """What a purge took away.

    Attributes:
        counts: by what it is: posts on pages, rows, pictures, shards, files.
        months: months that lost something.
    """

    counts: Counter[str] = field(default_factory=Counter)
    months: set[str] = field(default_factory=set)


def purge(lake: Lake, gone: Gone) -> Purged:
    """Take what must be gone out of every file of the lake; a second call finds nothing more to do.

    A purge that is killed is taken up by the next call: what is gone already costs a search only.
    """
    done = Purged()
    if not gone:
        return done
    gone = _with_pictures(lake, gone)
    pictures = _orphans(lake, gone)
    finder = Finder(Gone(gone.posts, gone.authors, pictures))
    _pages(lake, gone, done)
    _hydrated(lake, gone, done)
    for name in tables.SCHEMAS:
        if name not in ("tombstones", "raw_tweets", "images"):
            keys: list[str | None] = [None] if lake.has(name) else list(lake.partitions(name))
            for key in keys:
                _table(lake, name, key, gone.posts | gone.authors | pictures, done)
    for month in lake.partitions("images"):
        _shards(lake, month, pictures, finder, done)
    for month in sorted(done.months):
        # A sample of vectors may be of a later month's copy too, but then that month lost a row itself.
        for file in lake.list_files(f"tables/{_WITH_VECTORS}"):
            if file.rpartition("/")[2].startswith(f"{month}."):
                lake.remove(file)
                done.counts["files"] += 1
    for month in lake.list_folders(SHARDS):
        _arrived(lake, month, finder, done)
    _files(lake, finder, pictures, done)
    return done


def _with_pictures(lake: Lake, gone: Gone) -> Gone:
    """Add the media ids of posts whose tombstones were written before their pictures were known."""
    media = lake.scan("tweet_media").filter(pl.col("tweet_id").is_in(gone.posts)).select("image_id").collect()
    return Gone(gone.posts, gone.authors, gone.pictures | frozenset(media["image_id"]))


def _orphans(lake: Lake, gone: Gone) -> frozenset[str]:
    """Return the pictures that only posts which are gone showed."""
    staying = (
        lake.scan("tweet_media")
        .filter(pl.col("image_id").is_in(gone.pictures), ~pl.col("tweet_id").is_in(gone.posts))
        .select("image_id")
        .collect()
    )
    return gone.pictures - frozenset(staying["image_id"])


def _pages(lake: Lake, gone: Gone, done: Purged) -> None:
    for month in lake.list_folders(PAGES):
        if not re.match(tables.MONTH, month):
            continue
        store = PageStore(lake, month)
        changed, dropped = store.remove(gone)
        done.counts["posts on pages"] += len(dropped)
        done.months |= {month} if changed else set()
        if changed and lake.has("raw_tweets", month):
            lake.write("raw_tweets", store.table(), month, lake.provenance("raw_tweets", month))


def _hydrated(lake: Lake, gone: Gone, done: Purged) -> None:
    """Take posts out of the replies to lookups; what became of each id stands beside them, and goes too."""
    compressor = zstandard.ZstdCompressor(level=6, write_checksum=True)
    for source in lake.list_folders(HYDRATED):
        for name in lake.list_folders(f"{HYDRATED}/{source}"):
            top = f"{HYDRATED}/{source}/{name}"
            touched = False
            for kind in lake.list_folders(top):
                for file in lake.list_files(f"{top}/{kind}"):
                    if not file.endswith(".json.zst"):
                        continue
                    body, _ = loads(_plain(file, lake.read_bytes(file)))
                    smaller, _ = without(body, gone) if isinstance(body, dict) else (body, set())
                    if smaller != body:
                        lake.write_bytes(file, compressor.compress(dumps(smaller)))
                        done.counts["replies to lookups"] += 1
                        touched = True
            for file in lake.list_files(top) if touched else ():
                lake.remove(file)


def _table(lake: Lake, name: str, key: str | None, ids: frozenset[str], done: Purged) -> None:
    """Take the rows that name an id out of a partition, and the ids out of its lists."""
    texts = [column for column, kind in tables.empty(name).schema.items() if kind == pl.String]
    lists = [column for column, kind in tables.empty(name).schema.items() if kind == pl.List(pl.String)]
    frame = lake.read(name, key)
    names = [column for column in texts if column.endswith("_id")]
    named = pl.any_horizontal(pl.lit(False), *(pl.col(column).is_in(ids) for column in names))
    stays = frame.select((~named).fill_null(True).alias("stays"))["stays"]
    smaller = frame.filter(stays)
    smaller = smaller.with_columns(
        pl.col(column).list.filter(~pl.element().is_in(ids)) for column in lists if column == "first_posts"
    )
    if smaller.equals(frame):
        return
    done.counts["rows"] += frame.height - smaller.height
    if key:
        done.months.add(key)
    stored = lake.read_arrays(name, key)
    keep = stays.to_numpy()
    arrays = {
        label: np.array(array[keep]) if label in _BY_ROW else np.array(array)
        for label, array in stored.arrays.items()
    }
    value = ArrayTable(smaller, arrays) if arrays else smaller
    lake.write(name, value, key, lake.provenance(name, key))


def _shards(lake: Lake, month: str, pictures: frozenset[str], finder: Finder, done: Purged) -> None:
    """Rewrite the shards of a month that hold pictures which are gone, then its ledger."""
    ledger, folder = lake.read("images", month), shard_folder(month)
    kept = ledger.filter(~pl.col("image_id").is_in(pictures))
    named = set(kept["shard"])
    unnamed = [one for one in lake.list_files(folder) if one.endswith(".tar") and one not in named]
    begun = lake.exists(f"{folder}/{JOURNAL}")
    if begun:
        begun = not finder.find(_plain(JOURNAL, lake.read_bytes(f"{folder}/{JOURNAL}")))
    # Shards that no ledger names yet are of a run that was stopped and goes on, unless it had what is gone.
    if kept.height == ledger.height and (begun or not unnamed):
        return
    with lake.hold(folder):
        if kept.height < ledger.height:
            done.months.add(month)
            done.counts["pictures"] += ledger.height - kept.height
            packed = repack(lake, folder, kept)
            lake.write("images", packed, month, lake.provenance("images", month))
            kept = packed
        done.counts["shards"] += len(tidy(lake, month, kept))


def _arrived(lake: Lake, month: str, finder: Finder, done: Purged) -> None:
    """Remove what a stopped run had fetched, where anything of it is gone: the next one fetches the rest."""
    folder = shard_folder(month)
    named = [file for file in arrived_files(lake, folder) if finder.find(lake.read_bytes(file))]
    if named:
        with lake.hold(folder):
            for file in named:
                lake.remove(file)
                done.counts["files"] += 1


def _files(lake: Lake, finder: Finder, pictures: frozenset[str], done: Purged) -> None:
    """Remove files of the graph that name what is gone; take rows out of returned sheets."""
    for folder in _DERIVED:
        named = [
            file
            for file in _walk(lake, folder)
            if finder.find(_plain(file, lake.read_bytes(file)))
            or (done.counts["pictures"] and file.startswith(_PICTURED))
        ]
        if named and folder == "outbox":  # sheets refer to pictures by number
            named = list(_walk(lake, folder))
        for file in named:
            lake.remove(file)
            done.counts["files"] += 1
    for file in _walk(lake, "inbox/annotations"):
        data = lake.read_bytes(file)
        if finder.find(data):
            lake.write_bytes(file, _sheet_without(data, finder))
            done.counts["sheets"] += 1


def _sheet_without(data: bytes, finder: Finder) -> bytes:
    """Return a returned sheet without the rows, or the tasks of a Label Studio export, that name an id."""
    if data.lstrip()[:1] in (b"[", b"{"):
        body, _ = loads(data)
        if isinstance(body, list):
            return dumps([one for one in body if not finder.find(dumps(one))])
    return b"".join(line for line in data.splitlines(keepends=True) if not finder.find(line))


# ---------------------------------------------------------------- what is left


def traces(lake: Lake, gone: Gone) -> list[str]:
    """Return where something is left of what must be gone, file by file; empty where nothing is.

    Every file of the lake is read but those that say what must be gone: ids are looked for in text, JSON,
    Parquet (all columns and the metadata), names of tar members and of files, media ids also as the names of
    X's files encode them. Each member of a shard must be a picture that the month's ledger names, byte for
    byte, and the ledger may only name pictures of posts that are here.
    """
    gone = _with_pictures(lake, gone)
    finder = Finder(Gone(gone.posts, gone.authors, _orphans(lake, gone)))
    found = []
    for file in _walk(lake, ""):
        if not file.startswith(SAID):
            data = _plain(file, lake.read_bytes(file))
            named = finder.find(file.encode()) | finder.find(data)
            found += [f"{file} names {', '.join(sorted(named)[:3])}"] if named else []
    for name in tables.SCHEMAS:
        if name != "tombstones":
            found += _rows_left(lake, name, gone)
    for month in lake.partitions("images"):
        found += _bytes_left(lake, month)
    return found


def released(lake: Lake, gone: Gone) -> list[str]:
    """Return the releases in the lake whose table holds a post that must be gone."""
    return [
        version
        for version in lake.list_folders(RELEASES)
        if lake.exists(f"{RELEASES}/{version}/{PARQUET}")
        and read_release_table(lake, version)["id"].is_in(list(gone.posts)).any()
    ]


def _rows_left(lake: Lake, name: str, gone: Gone) -> Iterator[str]:
    """Yield rows of a table whose id columns name an id, short ones too."""
    columns = [one for one in tables.empty(name).columns if one.endswith("_id")]
    ids = {one: gone.authors if one == "author_id" else gone.posts for one in columns if "image" not in one}
    for column, wanted in ids.items():
        rows = lake.scan(name).filter(pl.col(column).is_in(wanted)).select(pl.len()).collect().item()
        if rows:
            yield f"{name}: {rows} rows by {column}"


def _bytes_left(lake: Lake, month: str) -> Iterator[str]:
    """Yield shards of a month that hold a picture which the ledger does not name, and pictures of no post."""
    ledger = lake.read("images", month)
    if lake.has("tweet_media", month):
        extra = ledger.join(lake.read("tweet_media", month), on="image_id", how="anti")
        if extra.height:
            yield f"images/{month}: {extra.height} pictures of no post here, e.g. {extra['image_id'][0]}"
    named = set(ledger.filter(pl.col("status") == "ok")["sha256"])
    for file in lake.list_files(shard_folder(month)):
        if not file.endswith(".tar"):
            continue
        with tarfile.open(fileobj=io.BytesIO(lake.read_bytes(file))) as shard:
            for member in shard:
                stream = shard.extractfile(member)
                if stream and hashlib.sha256(stream.read()).hexdigest() not in named:
                    yield f"{file} holds {member.name}, which the ledger does not name"


def _walk(lake: Lake, folder: str) -> Iterator[str]:
    """Yield every file below a folder of the lake."""
    yield from (file.lstrip("/") for file in lake.list_files(folder))
    for name in lake.list_folders(folder):
        yield from _walk(lake, f"{folder}/{name}".lstrip("/"))


def _plain(file: str, data: bytes) -> bytes:
    """Return what can be searched of a file's bytes: uncompressed, or nothing of what holds numbers only."""
    if file.endswith(".zst"):
        try:
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        except zstandard.ZstdError:
            return data
    if file.endswith((".npy", ".jpg", ".png", ".duckdb")):
        return b""
    if file.endswith(".tar"):
        with tarfile.open(fileobj=io.BytesIO(data)) as shard:
            return "\n".join(shard.getnames()).encode()
    if file.endswith((".parquet", ".arrow")):
        return _parquet_text(file, data)
    return data


def _parquet_text(file: str, data: bytes) -> bytes:
    buffer = io.BytesIO(data)
    read: Any = pl.read_parquet if file.endswith(".parquet") else pl.read_ipc
    frame: pl.DataFrame = read(buffer)
    texts = []
    for column in frame.iter_columns():
        flat = column.explode() if isinstance(column.dtype, pl.List) else column
        if flat.dtype in (pl.String, pl.Int64, pl.UInt64):
            texts.append("\n".join(flat.drop_nulls().unique().cast(pl.String)))
    metadata = pl.read_parquet_metadata(io.BytesIO(data)) if file.endswith(".parquet") else {}
    metadata.pop("ARROW:schema", None)
    return "\n".join([*texts, *metadata.values()]).encode()
