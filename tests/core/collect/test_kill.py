"""A collection killed at any moment and run again ends with the same tables, and buys no page twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import polars as pl
import pytest

from tests.core.collect import drill
from twigma_core.collect.pages import PageStore
from twigma_core.lake import Lake
from twigma_core.sample.server import Running, ServerOptions, serve_in_thread
from twigma_core.sample.world import load

KILLS = 30
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.core.collect.drill"])
Asked = list[str | None]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """A month of sixty posts; requests without end, so that no limit comes in between."""
    world = load()
    month = world.posts.filter(pl.col("month") == drill.MONTH).sort("created_at").head(60)
    with serve_in_thread(replace(world, posts=month), ServerOptions(search_limit=10**6)) as running:
        yield running


def start(root: Path, server: Running) -> BaseProcess:
    process = PROCESSES.Process(target=drill.collect, args=(root, server.url), daemon=True)
    process.start()
    return process


def run(root: Path, server: Running) -> None:
    process = start(root, server)
    process.join(60)
    assert process.exitcode == 0


def pages_asked(server: Running, since: int) -> Asked:
    """The page tokens that searches came with since the server had been asked `since` times."""
    queries = [parse_qs(query) for name, query in server.asked[since:] if name.startswith("search")]
    return [query.get("next_token", [None])[0] for query in queries]


def pages_on_disk(root: Path) -> Asked:
    return [page.token for page in PageStore(Lake(root), drill.MONTH).pages() if page.status == "ok"]


def contents(root: Path) -> dict[str, object]:
    """What must be the same: the versions of the tables, and the files of pages and pictures."""
    lake = Lake(root)
    versions = {name: lake.provenance(name, drill.MONTH).data_version for name in drill.TABLES}
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted((root / "shards").rglob("*"))
        if path.is_file()
    }
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return {"versions": versions, "files": files, "names": names}


@pytest.fixture(scope="module")
def undisturbed(
    server: Running, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, object], Asked, int]:
    """An undisturbed run: what it leaves, the pages it asked for, and all its requests."""
    root = tmp_path_factory.mktemp("undisturbed")
    before = len(server.asked)
    run(root, server)
    return contents(root), pages_asked(server, before), len(server.asked) - before


def test_thirty_kills(
    server: Running, undisturbed: tuple[dict[str, object], Asked, int], tmp_path: Path
) -> None:
    expected, all_pages, requests = undisturbed
    assert len(all_pages) == len(set(all_pages)) >= 7 and requests > 50
    rng = np.random.default_rng(20220801)
    in_flight = ended_before = 0
    for number in range(KILLS):
        root, before = tmp_path / str(number), len(server.asked)
        # The moment: so many requests in, and some thousandths of a second after the last of them. Every
        # other one falls among the pages, which are few beside the pictures.
        last = requests if number % 2 else len(all_pages) + 2
        moment, delay = int(rng.integers(0, last)), float(rng.uniform(0, 0.02))
        process = start(root, server)
        while len(server.asked) - before < moment and process.is_alive():
            time.sleep(0.0005)
        time.sleep(delay)
        assert process.pid
        ended_before += not process.is_alive()
        os.kill(process.pid, signal.SIGKILL)
        process.join(10)

        held = pages_on_disk(root)
        first = pages_asked(server, before)
        assert set(held) <= set(first) and len(set(held)) == len(held)
        assert len(first) - len(held) in (0, 1), "at most the page that was on its way"
        in_flight += len(first) - len(held)

        again = len(server.asked)
        run(root, server)
        second = pages_asked(server, again)
        assert second == [token for token in all_pages if token not in held], "each missing page, once"
        # X bills a post once a day, so the page that was on its way is bought once, though asked for twice.
        assert len(set(first) | set(second)) == len(all_pages)
        assert contents(root) == expected
    print(f"{KILLS} kills: {in_flight} while a page was on its way, {ended_before} after the end")
    assert ended_before <= KILLS // 5
