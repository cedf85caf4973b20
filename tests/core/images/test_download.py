"""The downloader against a real loopback server: outcomes, retries, limits, and the ledger."""

from __future__ import annotations

import asyncio
import base64
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl
import pytest

from twigma_core.images.addresses import size_ladder
from twigma_core.images.arrived import Arrived
from twigma_core.images.decode import describe_picture
from twigma_core.images.download import download, shard_folder, tidy
from twigma_core.images.fetch import FetchPolicy
from twigma_core.images.shards import iter_pictures
from twigma_core.lake import Lake

MONTH = "2021-01"
ROOT = Path(__file__).resolve().parents[3]


def address(name: str) -> str:
    return f"https://pbs.twimg.com/media/{name}.jpg"


def media_of(*names: str) -> pl.DataFrame:
    return pl.DataFrame({"image_id": list(names), "url": [address(name) for name in names]})


@pytest.fixture
def lake(tmp_path: Any) -> Lake:
    return Lake(tmp_path)


@pytest.fixture
def policy(site: Any) -> FetchPolicy:
    return FetchPolicy(
        rewrite=site.rewrite(),
        backoff_s=0.01,
        longest_wait_s=0.1,
        attempts=3,
        deadline_s=0.6,
        max_bytes=50_000,
    )


def statuses(ledger: pl.DataFrame) -> dict[str, str]:
    return dict(ledger.select("image_id", "status").iter_rows())


def row_of(ledger: pl.DataFrame, image_id: str) -> dict[str, Any]:
    return ledger.row(by_predicate=pl.col("image_id") == image_id, named=True)


def test_pictures_are_stored_described_and_read_back(
    site: Any, lake: Lake, policy: FetchPolicy, make_picture: Callable[..., bytes]
) -> None:
    files = {f"{n:03}": make_picture(n, "PNG" if n % 5 == 0 else "JPEG") for n in range(60)}
    site.pages = {f"/media/{name}": (200, {}, data) for name, data in files.items()}
    seen: list[tuple[int, int]] = []
    media = media_of(*files)
    twice = pl.concat([media, media])  # the same picture in two posts is fetched once
    ledger = download(
        twice, None, lake, MONTH, policy=policy, progress=lambda *n: seen.append(n), shard_bytes=40_000
    )
    assert dict(iter_pictures(lake, ledger)) == files
    assert seen[-1] == (60, 60) and len(seen) == 60
    assert set(site.asked) == {f"/media/{name}?format=jpg&name=orig" for name in files}
    assert site.connections <= policy.connections
    assert ledger["shard"].n_unique() > 1
    for row in ledger.iter_rows(named=True):
        info = describe_picture(files[row["image_id"]])
        assert {
            key: row[key] for key in ("sha256", "pixel_sha256", "format", "width", "height", "bytes")
        } == {**vars(info)}
        assert (row["status"], row["http_status"], row["attempts"]) == ("ok", 200, 1)
        assert row["url"].startswith("https://pbs.twimg.com/")  # not the address it was rewritten to


def test_a_second_run_asks_for_nothing_and_the_same_pictures_give_the_same_ledger(
    site: Any, lake: Lake, policy: FetchPolicy, make_picture: Callable[..., bytes], tmp_path: Any
) -> None:
    names = [f"{n:03}" for n in range(30)]

    def slow_first(handler: Any) -> None:  # the first to be asked for comes last
        time.sleep(0.2)
        body = make_picture(0)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    site.pages = {f"/media/{name}": (200, {}, make_picture(n)) for n, name in enumerate(names)}
    first = download(media_of(*names), None, lake, MONTH, policy=policy, shard_bytes=20_000)
    asked = site.asked.total()
    again = download(media_of(*names), first, lake, MONTH, policy=policy)
    assert site.asked.total() == asked
    assert again.equals(first)
    site.pages["/media/000"] = slow_first
    elsewhere = download(
        media_of(*reversed(names)), None, Lake(tmp_path / "other"), MONTH, policy=policy, shard_bytes=20_000
    )
    assert elsewhere.drop("fetched_at").equals(first.drop("fetched_at"))


def test_permanent_errors_are_asked_once_and_passing_ones_retried(
    site: Any, lake: Lake, policy: FetchPolicy, make_picture: Callable[..., bytes]
) -> None:
    good = make_picture(1)
    answers = iter([(503, {}, b""), (429, {"Retry-After": "0"}, b""), (200, {}, good)])

    def flaky(handler: Any) -> None:
        status, headers, body = next(answers)
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    site.pages = {
        "/media/flaky": flaky,
        "/media/gone": (410, {}, b""),
        "/media/forbidden": (403, {}, b""),
        "/media/down": (500, {}, b""),
        "/media/moved": (302, {"Location": "http://169.254.169.254/"}, b""),
    }
    ledger = download(
        media_of("flaky", "gone", "forbidden", "missing", "down", "moved"), None, lake, MONTH, policy=policy
    )
    assert statuses(ledger) == {
        "flaky": "ok",
        "gone": "unavailable",
        "forbidden": "unavailable",
        "missing": "unavailable",
        "down": "failed",
        "moved": "refused",
    }
    assert row_of(ledger, "flaky")["attempts"] == 3
    assert row_of(ledger, "gone")["attempts"] == 1 and row_of(ledger, "gone")["http_status"] == 410
    assert row_of(ledger, "missing")["attempts"] == len(policy.sizes)  # each size once
    assert max(n for path, n in site.asked.items() if "missing" in path) == 1
    assert row_of(ledger, "down")["attempts"] == policy.attempts
    assert "redirect" in row_of(ledger, "moved")["reason"]

    # The next run asks for the passing error alone.
    site.asked.clear()
    site.pages["/media/down"] = (200, {}, make_picture(2))
    after = download(
        media_of("flaky", "gone", "forbidden", "missing", "down", "moved"), ledger, lake, MONTH, policy=policy
    )
    assert set(site.asked) == {"/media/down?format=jpg&name=orig"}
    assert statuses(after) == statuses(ledger) | {"down": "ok"}
    assert row_of(after, "down")["attempts"] == policy.attempts + 1
    assert row_of(after, "flaky") == row_of(ledger, "flaky")


def test_only_the_named_pictures_are_fetched(
    site: Any, lake: Lake, policy: FetchPolicy, make_picture: Callable[..., bytes]
) -> None:
    site.pages = {"/media/b": (404, {}, b""), "/media/c": (200, {}, make_picture(3))}
    first = download(media_of("a", "b", "c"), None, lake, MONTH, policy=policy, only={"b"})
    assert statuses(first) == {"a": "failed", "b": "unavailable", "c": "failed"}
    assert "not asked" in row_of(first, "a")["reason"] and row_of(first, "a")["attempts"] == 0
    site.pages["/media/b"] = (200, {}, make_picture(4))
    second = download(media_of("a", "b", "c"), first, lake, MONTH, policy=policy, only={"b"})
    assert statuses(second) == {"a": "failed", "b": "ok", "c": "failed"}
    third = download(media_of("a", "b", "c"), second, lake, MONTH, policy=policy)
    assert statuses(third) == {"a": "unavailable", "b": "ok", "c": "ok"}


def test_an_address_that_names_another_picture_is_not_asked_for(
    site: Any, lake: Lake, policy: FetchPolicy, make_picture: Callable[..., bytes]
) -> None:
    def named(media_id: int) -> str:
        raw = media_id.to_bytes(8, "big") + b"xyz"
        return f"https://pbs.twimg.com/media/{base64.urlsafe_b64encode(raw).decode().rstrip('=')}.jpg"

    ids = ["1354143047324299264", "1354143047324299265"]
    urls = [(ids[0], named(7)), (ids[0], named(int(ids[0]))), (ids[1], named(7))]
    media = pl.DataFrame(urls, schema=["image_id", "url"], orient="row")
    site.pages = {
        url.removeprefix("https://pbs.twimg.com")[:-4]: (200, {}, make_picture(1)) for _, url in urls
    }
    ledger = download(media, None, lake, MONTH, policy=policy)
    assert statuses(ledger) == {ids[0]: "ok", ids[1]: "refused"}, "of two addresses the honest one"
    assert "media id 7" in row_of(ledger, ids[1])["reason"] and site.asked.total() == 1


def test_a_host_that_asks_to_wait_is_left_alone_by_all(
    site: Any, lake: Lake, make_picture: Callable[..., bytes]
) -> None:
    """A 429 with Retry-After holds back every picture of the host, and the log says for how long."""
    times: list[float] = []

    def busy_at_first(handler: Any) -> None:
        times.append(time.monotonic())
        first = len(times) == 1
        handler.send_response(429 if first else 200)
        if first:
            handler.send_header("Retry-After", "9")
        body = b"" if first else make_picture(1)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    names = [f"{n}" for n in range(8)]
    site.pages = {f"/media/{name}": busy_at_first for name in names}
    said: list[str] = []
    policy = FetchPolicy(rewrite=site.rewrite(), connections=1, longest_wait_s=0.5)
    ledger = download(media_of(*names), None, lake, MONTH, policy=policy, say=said.append)
    assert set(ledger["status"]) == {"ok"} and ledger["attempts"].sum() == 9
    assert times[1] - times[0] >= 0.5, "nobody asked meanwhile"
    assert said == ["pbs.twimg.com asks to wait (HTTP 429); pictures go on in 0 s"]


def test_a_server_that_is_down_is_not_asked_for_every_picture(site: Any, lake: Lake) -> None:
    names = [f"{n:03}" for n in range(200)]
    site.pages = {f"/media/{name}": (503, {}, b"") for name in names}
    policy = FetchPolicy(rewrite=site.rewrite(), attempts=1, connections=2, give_up_after=5)
    ledger = download(media_of(*names), None, lake, MONTH, policy=policy)
    asked = site.asked.total()
    assert set(ledger["status"]) == {"failed"} and 5 <= asked <= 5 + 2 * 4
    assert ledger["attempts"].sum() == asked
    assert "pictures in a row had failed; a later run tries again" in ledger["reason"][-1]
    download(media_of(*names), ledger, lake, MONTH, policy=policy)
    assert site.asked.total() > asked, "the next run begins anew"


def test_two_runs_do_not_fetch_one_month_at_once(site: Any, lake: Lake, policy: FetchPolicy) -> None:
    with (
        lake.hold(shard_folder(MONTH)),
        pytest.raises(RuntimeError, match="written by another run"),
    ):
        download(media_of("a"), None, lake, MONTH, policy=policy)
    with pytest.raises(LookupError, match="no post of the month has picture b"):
        download(media_of("a"), None, lake, MONTH, policy=policy, only=["b"])
    assert not site.asked


def test_a_smaller_size_is_taken_where_the_original_is_too_large(
    site: Any, lake: Lake, policy: FetchPolicy, make_picture: Callable[..., bytes]
) -> None:
    small = make_picture(6)
    site.pages = {
        "/media/big?format=jpg&name=orig": (200, {}, bytes(policy.max_bytes + 1)),
        "/media/big?format=jpg&name=large": (200, {}, b"\xff\xd8\xff broken"),
        "/media/big?format=jpg&name=medium": (200, {}, small),
    }
    ledger = download(media_of("big"), None, lake, MONTH, policy=policy)
    row = row_of(ledger, "big")
    assert (row["status"], row["attempts"], row["url"][-11:]) == ("ok", 3, "name=medium")
    assert dict(iter_pictures(lake, ledger)) == {"big": small}


KILLED = """
import os, signal, sys
import polars as pl
from twigma_core.images.download import download
from twigma_core.images.fetch import FetchPolicy
from twigma_core.lake import Lake
base, folder, at, *names = sys.argv[1:]
flush, done = os.fsync, []
def kill_at(file):
    done.append(file)
    if len(done) == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
    flush(file)
os.fsync = kill_at
media = pl.DataFrame({"image_id": names, "url": [f"https://pbs.twimg.com/media/{n}.jpg" for n in names]})
policy = FetchPolicy(rewrite={"pbs.twimg.com": base}, connections=4)
download(media, None, Lake(folder), "2021-01", policy=policy, shard_bytes=15_000)
"""


@pytest.mark.parametrize("write", [1, 2, 3, 4, 9, 14])
def test_a_killed_run_goes_on_where_it_was_and_ends_as_an_undisturbed_one(
    write: int, site: Any, lake: Lake, policy: FetchPolicy, make_picture: Callable[..., bytes], tmp_path: Any
) -> None:
    """Killed as it writes: a shard or the journal, before the bytes or before the name is on disk."""
    policy = replace(policy, deadline_s=60.0)  # a loaded machine is slow, and no request shall be repeated
    names = [f"{n:03}" for n in range(40)]
    site.pages = {f"/media/{name}": (200, {}, make_picture(n)) for n, name in enumerate(names)}
    other = Lake(tmp_path / "other")
    whole = download(media_of(*names), None, other, MONTH, policy=policy, shard_bytes=15_000)
    site.asked.clear()
    command = [sys.executable, "-c", KILLED, site.base, str(lake.root), str(write), *names]
    assert subprocess.run(command, cwd=ROOT, timeout=120).returncode == -signal.SIGKILL
    journal = f"{shard_folder(MONTH)}/journal.parquet"
    stored: list[str] = []
    if lake.exists(journal):
        stored = pl.read_parquet(lake.read_bytes(journal))["image_id"].to_list()
    assert (len(stored) > 0) == (write > 3)
    here = Arrived(lake, shard_folder(MONTH))
    there = {name for name in here.ids if here.get(name)} | set(stored)
    asked = {path.split("?")[0][-3:] for path in site.asked}
    assert there <= asked and len(asked - there) <= 4 * 4, "all but what was under way"

    site.asked.clear()
    resumed = download(media_of(*names), None, lake, MONTH, policy=policy, shard_bytes=15_000)
    assert {path.split("?")[0][-3:] for path in site.asked} == set(names) - there
    assert max(site.asked.values(), default=1) == 1
    assert resumed.drop("fetched_at").equals(whole.drop("fetched_at"))
    assert tidy(lake, MONTH, resumed) == []
    kept = {path.name for path in Path(str(lake.path(shard_folder(MONTH)))).iterdir()} - {".lock"}
    assert kept == {PurePosixPath(shard).name for shard in resumed["shard"]}, "no temporary file is left"


def test_a_picture_whose_shard_is_gone_is_fetched_again(
    site: Any, lake: Lake, policy: FetchPolicy, make_picture: Callable[..., bytes]
) -> None:
    site.pages = {"/media/a": (200, {}, make_picture(7))}
    first = download(media_of("a"), None, lake, MONTH, policy=policy)
    lake.remove(first["shard"][0])
    second = download(media_of("a"), first, lake, MONTH, policy=policy)
    assert dict(iter_pictures(lake, second)) == {"a": site.pages["/media/a"][2]}
    assert site.asked.total() == 2


def test_it_runs_where_an_event_loop_runs_already_and_with_nothing_to_do(
    site: Any, lake: Lake, policy: FetchPolicy, make_picture: Callable[..., bytes]
) -> None:
    site.pages = {"/media/a": (200, {}, make_picture(8))}

    async def notebook() -> pl.DataFrame:
        return download(media_of("a"), None, lake, MONTH, policy=policy)

    assert asyncio.run(notebook())["status"].to_list() == ["ok"]
    assert download(media_of("a").clear(), None, lake, MONTH, policy=policy).height == 0


def test_bodies_that_wait_for_their_turn_are_bounded(
    site: Any, lake: Lake, make_picture: Callable[..., bytes]
) -> None:
    """While the first picture hangs, no more are asked for than fit into the memory allowed."""
    names = [f"{n:03}" for n in range(200)]
    seen: list[int] = []

    def hanging(handler: Any) -> None:
        time.sleep(0.4)
        seen.append(site.asked.total())
        body = make_picture(0)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    site.pages = {f"/media/{name}": (200, {}, make_picture(1)) for name in names} | {"/media/000": hanging}
    policy = FetchPolicy(rewrite=site.rewrite(), connections=4, held_bytes=100_000)
    ledger = download(media_of(*names), None, lake, MONTH, policy=policy)
    assert set(ledger["status"]) == {"ok"} and ledger.height == 200
    assert seen[0] <= 100_000 // 4096 + 4 * policy.connections


def test_size_ladder_knows_only_x_media() -> None:
    assert size_ladder(address("a_-B"), ["orig", "small"]) == [
        "https://pbs.twimg.com/media/a_-B?format=jpg&name=orig",
        "https://pbs.twimg.com/media/a_-B?format=jpg&name=small",
    ]
    for other in ("https://video.twimg.com/media/a.mp4", "https://pbs.twimg.com/profile/a.jpg", address("a")):
        assert size_ladder(other, [] if other == address("a") else ["orig"]) == [other]
