"""Fetching the pictures of a month: the ledger says what became of each, the shards hold the files.

What belongs here: which pictures are asked for, in which order they are packed, and the ledger. What does
not: the network (`fetch`), opening (`decode`), the tar files (`shards`).

Pictures are fetched side by side but packed in the order of their ids, so that the same month gives the
same shards whatever the network did. After each shard the rows so far go to a journal beside it, and what
has come in since lies in files of its own (`arrived`); a run that was killed goes on from there, and ends
with what an undisturbed run would have left.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import polars as pl

from twigma_core import tables
from twigma_core.images.addresses import name_others, names_another, same_picture
from twigma_core.images.arrived import Arrived, arrived_files
from twigma_core.images.fetch import Fetcher, FetchPolicy, Outcome
from twigma_core.images.progress import Progress
from twigma_core.images.shards import MAX_BYTES, Place, ShardWriter, prune, repack
from twigma_core.lake import Lake

log = logging.getLogger(__name__)

PERMANENT = ("unavailable", "refused", "undecodable")
"""Statuses that another try would not change."""

_NOT_ASKED = "not asked for yet: only other pictures were"
SHARDS = "shards/images"
JOURNAL = "journal.parquet"
"""File beside a month's shards, with what a run that was stopped has settled."""
_SMALLEST = 4096  # what a held picture counts for at least, so that a queue of tiny ones is bounded too
_UNDER_WAY = 4
"""Pictures under way for each connection: one that waits to be tried again does not idle a connection."""


def shard_folder(month: str) -> str:
    """Return the folder of a month's shards, relative to the lake's root."""
    return f"{SHARDS}/{month}"


def download(
    media: pl.DataFrame,
    ledger: pl.DataFrame | None,
    lake: Lake,
    month: str,
    *,
    policy: FetchPolicy | None = None,
    only: Collection[str] | None = None,
    progress: Progress | None = None,
    say: Callable[[str], object] = log.info,
    shard_bytes: int = MAX_BYTES,
) -> pl.DataFrame:
    """Fetch the pictures of a month that the ledger does not settle, and return the new ledger.

    A row of `ledger` that is ok, or that failed for good, stands and costs no request; pictures whose last
    error was a passing one are tried again. Rows of pictures that `media` no longer names are left out, and
    shards that hold such a picture are rewritten without it.

    Args:
        media: columns image_id and url, one or more rows a picture (table tweet_media does).
        ledger: table images of the month as it stands, or None.
        lake: where the shards go, below `shard_folder(month)`.
        month: such as "2021-01".
        policy: what may be asked and how hard; the default asks X's hosts only.
        only: fetch these pictures alone, those that failed for good included; the others keep their rows.
        progress: called with (pictures done, pictures to do).
        say: told of waits and of what must be fetched again.
        shard_bytes: size at which a shard is closed: the memory that packing takes.

    Returns:
        Table images: one row a picture, sorted by image_id. Once it has been written, `tidy` removes the
        shards that it does not name, and the journal.

    Raises:
        RuntimeError: another run fetches this month's pictures now.
        LookupError: `only` names a picture that `media` does not have.
    """
    with lake.hold(shard_folder(month)):
        wanted = _wanted(media)
        if strange := sorted(set(only or ()) - set(wanted["image_id"])):
            raise LookupError(f"images/{month}: no post of the month has picture {', '.join(strange[:5])}")
        known = _known_rows(wanted, ledger, lake, month, say)
        rows = {
            image_id: known[image_id]
            for image_id, url in wanted.iter_rows()
            if image_id in known and _stands(known[image_id], url, only)
        }
        if only is not None:
            for image_id, url in wanted.iter_rows():
                if image_id not in rows and image_id not in only:
                    rows[image_id] = _row(image_id, month, Outcome("failed", _NOT_ASKED, url))
        todo = [(image_id, url) for image_id, url in wanted.iter_rows() if image_id not in rows]
        before = {image_id: row["attempts"] for image_id, row in known.items()}
        here = Arrived(lake, shard_folder(month))
        packer = _Packer(lake, month, rows, before, shard_bytes, here)
        # Who names pictures wants those that failed for good asked for again.
        again = PERMANENT if only is not None else ()
        _run(_fetch_in_order(todo, policy or FetchPolicy(), packer, here, again, progress, say))
        packer.close()
        result = _ledger(packer.rows)
        if ledger is None or ledger["image_id"].is_in(result["image_id"]).all():
            return result
        return repack(lake, shard_folder(month), result)


def failed(ledger: pl.DataFrame) -> list[str]:
    """Return the media ids of a ledger whose picture was not had, for good or not, sorted."""
    return ledger.filter(pl.col("status") != "ok")["image_id"].sort().to_list()


def tidy(lake: Lake, month: str, ledger: pl.DataFrame) -> list[str]:
    """Remove the shards that a month's ledger does not name, and its journal; return the shards removed.

    To be called once the ledger has been written.
    """
    for file in (f"{shard_folder(month)}/{JOURNAL}", *arrived_files(lake, shard_folder(month))):
        lake.remove(file)
    return prune(lake, shard_folder(month), set(ledger["shard"]))


def _wanted(media: pl.DataFrame) -> pl.DataFrame:
    """Return (image_id, url), one row a picture: of several addresses one that names the picture's own id."""
    asked = media.select("image_id", "url").unique()
    return (
        asked.with_columns(lies=name_others(asked["image_id"], asked["url"]))
        .sort("image_id", "lies", "url", nulls_last=True)
        .unique("image_id", keep="first", maintain_order=True)
        .select("image_id", "url")
    )


def _ledger(rows: dict[str, dict[str, Any]]) -> pl.DataFrame:
    schema = tables.empty("images").schema
    frame = pl.DataFrame([rows[key] for key in sorted(rows)], schema=schema, orient="row")
    return tables.conform("images", frame)


def _known_rows(
    wanted: pl.DataFrame, ledger: pl.DataFrame | None, lake: Lake, month: str, say: Callable[[str], object]
) -> dict[str, dict[str, Any]]:
    """Return what is known of each wanted picture, from the ledger and a killed run's journal.

    A picture that is stored beats one that is not; of two rows alike the journal's counts, which is never the
    older one. A row whose shard is gone is no knowledge.
    """
    present = set(lake.list_files(shard_folder(month)))
    ids = set(wanted["image_id"])
    best: dict[str, dict[str, Any]] = {}
    for frame in (ledger, _read_journal(lake, month)):
        for row in [] if frame is None else frame.iter_rows(named=True):
            image_id = row["image_id"]
            if image_id not in ids:
                continue
            if row["status"] == "ok" and row["shard"] not in present:
                say(f"images/{month}: shard {row['shard']} is gone, fetching {image_id} again")
                continue
            other = best.get(image_id)
            if other is None or row["status"] == "ok" or other["status"] != "ok":
                best[image_id] = row | {"month": month}
    return best


def _stands(row: dict[str, Any], url: str | None, only: Collection[str] | None) -> bool:
    """Say whether a known row needs no request."""
    if row["status"] == "ok":
        return True
    if only is not None:
        return row["image_id"] not in only
    # A refusal that cost no request is judged anew: the address or the policy may have changed.
    return row["status"] in PERMANENT and row["attempts"] > 0 and same_picture(row["url"], url)


def _read_journal(lake: Lake, month: str) -> pl.DataFrame | None:
    try:
        return pl.read_parquet(io.BytesIO(lake.read_bytes(f"{shard_folder(month)}/{JOURNAL}")))
    except FileNotFoundError:
        return None


def _row(
    image_id: str, month: str, outcome: Outcome, place: Place | None = None, before: int = 0
) -> dict[str, Any]:
    info = outcome.info
    return {
        "image_id": image_id,
        "month": month,
        "url": outcome.url,
        "status": outcome.status,
        "reason": outcome.reason,
        "http_status": outcome.http_status,
        "attempts": outcome.attempts + before,
        "sha256": info.sha256 if info else None,
        "pixel_sha256": info.pixel_sha256 if info else None,
        "bytes": info.bytes if info else None,
        "format": info.format if info else None,
        "width": info.width if info else None,
        "height": info.height if info else None,
        "shard": place.shard if place else None,
        "offset": place.offset if place else None,
        "fetched_at": datetime.now(UTC),
    }


class _Packer:
    """Turns outcomes, in order, into shards and ledger rows."""

    def __init__(
        self,
        lake: Lake,
        month: str,
        rows: dict[str, dict[str, Any]],
        before: dict[str, int],
        shard_bytes: int,
        here: Arrived,
    ) -> None:
        self.rows = dict(rows)
        self._here = here
        self._lake, self._month, self._before = lake, month, before
        self._writer = ShardWriter(lake, shard_folder(month), shard_bytes)
        self._open: dict[str, tuple[str, Outcome]] = {}

    def add(self, image_id: str, outcome: Outcome) -> None:
        if outcome.info is None:
            self.rows[image_id] = self._row(image_id, outcome)
            return
        name = f"{image_id}.{'jpg' if outcome.info.format == 'JPEG' else outcome.info.format.lower()}"
        places = self._writer.add(name, outcome.take_body())
        self._place(places)
        self._open[name] = (image_id, outcome)

    def close(self) -> None:
        self._place(self._writer.close())

    def _place(self, places: list[Place]) -> None:
        if not places:
            return
        for place in places:
            image_id, outcome = self._open.pop(place.name)
            self.rows[image_id] = self._row(image_id, outcome, place)
        buffer = io.BytesIO()
        _ledger(self.rows).write_parquet(buffer)
        self._lake.write_bytes(f"{shard_folder(self._month)}/{JOURNAL}", buffer.getvalue())
        self._here.settled(self.rows.keys())

    def _row(self, image_id: str, outcome: Outcome, place: Place | None = None) -> dict[str, Any]:
        return _row(image_id, self._month, outcome, place, self._before.get(image_id, 0))


async def _fetch_in_order(
    todo: list[tuple[str, str | None]],
    policy: FetchPolicy,
    packer: _Packer,
    here: Arrived,
    again: Collection[str],
    progress: Progress | None,
    say: Callable[[str], object],
) -> None:
    """Fetch side by side, hand over in order; bodies that wait for their turn are bounded in bytes."""
    queue: asyncio.Queue[tuple[str, asyncio.Task[Outcome]]] = asyncio.Queue()
    under_way = asyncio.Semaphore(policy.connections * _UNDER_WAY)
    held = 0
    room = asyncio.Event()
    room.set()

    async def one(fetcher: Fetcher, image_id: str, url: str | None) -> Outcome:
        nonlocal held
        try:
            other = names_another(image_id, url)
            if other:
                reason = f"the file name is that of media id {other}: not this picture's address"
                outcome = Outcome("refused", reason, url)
            elif (kept := here.get(image_id)) and same_picture(kept.url, url) and kept.status not in again:
                outcome = kept
            else:
                outcome = await fetcher.fetch(url)
                if outcome.attempts and outcome.status in ("ok", *PERMANENT):
                    here.add(image_id, outcome)
        finally:
            under_way.release()
        held += outcome.in_memory + _SMALLEST
        if held >= policy.held_bytes:
            room.clear()
        return outcome

    async def start_all(fetcher: Fetcher) -> None:
        # A started picture never waits for room, only the next one to start does: the first in the queue
        # is always under way, so the packer always moves on and makes room.
        for image_id, url in todo:
            await room.wait()
            await under_way.acquire()
            queue.put_nowait((image_id, asyncio.create_task(one(fetcher, image_id, url))))

    async with Fetcher(policy, say) as fetcher:
        starter = asyncio.create_task(start_all(fetcher))
        try:
            for done in range(len(todo)):
                image_id, task = await queue.get()
                outcome = await task
                held -= outcome.in_memory + _SMALLEST
                if held < policy.held_bytes:
                    room.set()
                packer.add(image_id, outcome)
                if progress is not None:
                    progress(done + 1, len(todo))
            await starter
        finally:
            starter.cancel()
            while not queue.empty():
                queue.get_nowait()[1].cancel()


def _run(work: Any) -> None:
    """Run a coroutine to its end, also where a loop is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()
