"""Our downloader beside img2dataset: the same loopback server, the same pictures, taking turns.

    python -m benchmarks.download                    # the whole comparison; docs/performance.md shows it
    python -m benchmarks.download --rounds 1 --count 300 --no-peer

Both check each picture by decoding it, take sha256, keep the original bytes and write tar shards. A
scenario is a picture size, a latency and a share of faults; in each round ours and the peer's turns follow
one another, each with a server process of its own, and medians over rounds are printed. Pictures per
second are pictures stored over the wall time of the whole command, imports included; memory is the peak
of the process tree. `limit` is what a client that only reads gets from the same server.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks import picture_server, results
from benchmarks.processes import Measured, machine, measure, peer, running

MONTH = "2021-01"
PEER = "img2dataset==1.47.0"


@dataclass(frozen=True)
class Scenario:
    """What is fetched, and how willing the server is."""

    side: int
    count: int
    latency: float = 0.0
    faults: float = 0.0

    def name(self) -> str:
        """Return the scenario in words."""
        return f"{self.side} px, {1000 * self.latency:.0f} ms latency, {self.faults:.0%} faults"


Command = Callable[[str, Path], list[str]]
"""From the server's address and a folder to a command that fetches all pictures into it."""
Read = Callable[[Path], dict[int | None, bytes]]
"""From that folder to the pictures found in it, by their number."""


@dataclass(frozen=True)
class Turn:
    """One run of one tool.

    Attributes:
        stored: pictures stored whose bytes are those that were served.
        wrong: pictures stored with other bytes.
        measured: wall time and memory.
        requests: requests that the server saw.
        connections: connections that it saw.
        serving: seconds from the first request to the last answer.
    """

    stored: int
    wrong: int
    measured: Measured
    requests: int
    connections: int
    serving: float

    @property
    def rate(self) -> float:
        """Pictures stored per second of wall time."""
        return self.stored / self.measured.seconds


def take_turn(scenario: Scenario, command: Command, read: Read) -> Turn:
    """Run a tool against a fresh server; return what it stored and what it cost."""
    server = [sys.executable, "-m", "benchmarks.picture_server", "--side", str(scenario.side)]
    server += ["--latency", str(scenario.latency), "--faults", str(scenario.faults)]
    with tempfile.TemporaryDirectory(prefix="twigma-bench-") as scratch, running(server) as port:
        base, folder = f"http://127.0.0.1:{port}", Path(scratch)
        measured = measure(command(base, folder), log=folder / "log")
        with urllib.request.urlopen(f"{base}/stats") as answer:
            stats = json.load(answer)
        found = read(folder)
    files = picture_server.drawings(scenario.side)
    right = sum(n is not None and data == picture_server.picture(files, n) for n, data in found.items())
    return Turn(
        right, len(found) - right, measured, stats["requests"], stats["connections"], stats["seconds"]
    )


# ---------------------------------------------------------------- ours


def ours(scenario: Scenario, connections: int) -> Turn:
    """Run our downloader."""

    def command(base: str, folder: Path) -> list[str]:
        arguments = [str(folder), base, str(scenario.count), str(connections)]
        return [sys.executable, "-m", "benchmarks.download", "ours", *arguments]

    return take_turn(scenario, command, _read_ours)


def fetch_ours(folder: Path, base: str, count: int, connections: int) -> None:
    """Fetch pictures 0 to `count` into a lake in `folder`, and leave the ledger there."""
    from twigma_core.images.download import download
    from twigma_core.images.fetch import FetchPolicy
    from twigma_core.lake import Lake

    numbers = [f"{number:08d}" for number in range(count)]
    media = pl.DataFrame(
        {"image_id": numbers, "url": [f"https://pbs.twimg.com/media/{n}.jpg" for n in numbers]}
    )
    policy = FetchPolicy(rewrite={"pbs.twimg.com": base}, connections=connections, per_host=connections)
    lake = Lake(folder / "lake")
    lake.write("images", download(media, None, lake, MONTH, policy=policy), MONTH)


def _read_ours(folder: Path) -> dict[int | None, bytes]:
    from twigma_core.images.shards import iter_pictures
    from twigma_core.lake import Lake

    lake = Lake(folder / "lake")
    return {int(name): data for name, data in iter_pictures(lake, lake.read("images", MONTH))}


# ---------------------------------------------------------------- the peer


def img2dataset(scenario: Scenario, connections: int, python: Path, check: bool = True) -> Turn:
    """Run img2dataset with a process for each core, so that it does what ours does.

    Without `check` it stores what comes and opens nothing, which ours never does.
    """

    def command(base: str, folder: Path) -> list[str]:
        urls = [f"{base}/media/{number:08d}?format=jpg&name=orig" for number in range(scenario.count)]
        pl.DataFrame({"url": urls}).write_parquet(folder / "urls.parquet")
        processes = os.cpu_count() or 1
        options = {
            "url_list": str(folder / "urls.parquet"),
            "input_format": "parquet",
            "output_folder": str(folder / "out"),
            "output_format": "webdataset",
            "resize_mode": "no",
            "skip_reencode": True,
            "disable_all_reencoding": not check,
            "compute_hash": "sha256",
            "extract_exif": False,
            "processes_count": processes,
            "thread_count": max(1, connections // processes),
            "number_sample_per_shard": min(1000, -(-scenario.count // processes)),
            "retries": 3,
        }
        script = (
            f"from img2dataset import download\nif __name__ == '__main__':\n    download(**{options!r})\n"
        )
        (folder / "run.py").write_text(script)
        return [str(python), str(folder / "run.py")]

    return take_turn(scenario, command, _read_tars)


def _read_tars(folder: Path) -> dict[int | None, bytes]:
    found: dict[int | None, bytes] = {}
    for file in sorted((folder / "out").glob("*.tar")):
        with tarfile.open(file) as tar:
            for member in tar:
                content = tar.extractfile(member)
                if member.name.endswith(".jpg") and content is not None:
                    data = content.read()
                    found[picture_server.number_of(data)] = data
    return found


# ---------------------------------------------------------------- the limit


def limit(scenario: Scenario, connections: int) -> float:
    """Return the pictures per second that a client gets which reads answers and does nothing with them."""

    async def read(port: int, numbers: list[int]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            writer.write(f"GET /media/{number:08d} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.rpartition(b"Content-Length: ")[2]))
        writer.close()

    async def read_all(port: int) -> float:
        shares = [list(range(first, scenario.count, connections)) for first in range(connections)]
        start = time.monotonic()
        await asyncio.gather(*[read(port, share) for share in shares])
        return scenario.count / (time.monotonic() - start)

    server = [sys.executable, "-m", "benchmarks.picture_server", "--side", str(scenario.side)]
    with running([*server, "--latency", str(scenario.latency)]) as port:
        return asyncio.run(read_all(int(port)))


# ---------------------------------------------------------------- the comparison


def compare(scenario: Scenario, rounds: int, connections: int, python: Path | None) -> dict[str, Any]:
    """Return medians over `rounds` in which the tools take turns, each round from the other end."""
    tools: dict[str, Callable[[], Turn]] = {"ours": lambda: ours(scenario, connections)}
    if python:
        tools["peer"] = lambda: img2dataset(scenario, connections, python)
        tools["peer, opening nothing"] = lambda: img2dataset(scenario, connections, python, check=False)
    turns: dict[str, list[Turn]] = {name: [] for name in tools}
    ceiling = limit(scenario, connections)
    for number in range(rounds):
        for name in list(tools)[:: 1 if number % 2 == 0 else -1]:
            turns[name].append(tools[name]())
    found = {
        name: {
            "rate": statistics.median(turn.rate for turn in taken),
            "rates": [round(turn.rate, 1) for turn in taken],
            "rss": statistics.median(turn.measured.rss for turn in taken),
            "pss": statistics.median(turn.measured.pss for turn in taken),
            "stored": min(turn.stored for turn in taken),
            "wrong": max(turn.wrong for turn in taken),
            "requests": taken[-1].requests,
            "connections": taken[-1].connections,
        }
        for name, taken in turns.items()
    }
    row = {"scenario": scenario.name(), "count": scenario.count, "limit": ceiling, "tools": found}
    return {**row, "load": results.load()}


def show(row: dict[str, Any]) -> None:
    """Print a scenario's result."""
    print(f"\n{row['scenario']}: {row['count']} pictures; limit {row['limit']:.0f}/s; load {row['load']}")
    mine = row["tools"]["ours"]
    for name, found in row["tools"].items():
        print(
            f"  {name:<22} {found['rate']:7.1f} pictures/s  (rounds {found['rates']})"
            f"  {found['rss'] / 2**20:6.0f} MiB RSS  {found['pss'] / 2**20:6.0f} MiB PSS"
            f"  {found['stored']} identical, {found['wrong']} wrong"
            f"  {found['requests']} requests, {found['connections']} connections"
        )
        if found is not mine:
            print(
                f"  {'':<22} ours: {mine['rate'] / found['rate']:.2f}x pictures/s,"
                f" {mine['rss'] / found['rss']:.2f}x RSS, {mine['pss'] / found['pss']:.2f}x PSS",
                flush=True,
            )


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Run the comparison; print what each scenario gave and return it."""
    if arguments is None and sys.argv[1:2] == ["ours"]:
        folder, base, count, connections = sys.argv[2:6]
        fetch_ours(Path(folder), base, int(count), int(connections))
        return []
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--count", type=int, default=6000, help="pictures of 256 px; a fourth of that of 1024"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64, help="at once, for both")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--latencies", type=float, nargs="+", default=[0.0, 0.05], help="seconds")
    parser.add_argument("--faults", type=float, nargs="+", default=[0.0, 0.05], help="shares of answers")
    parser.add_argument("--no-peer", action="store_true", help="ours alone")
    parser.add_argument("--json", type=Path, help="file for the figures")
    chosen = parser.parse_args(arguments)
    python = None if chosen.no_peer else peer("img2dataset", PEER)
    print(f"{machine()}; {'ours alone' if python is None else PEER}; {chosen.connections} connections")
    rows = []
    for side, faults, latency in itertools.product(chosen.sides, chosen.faults, chosen.latencies):
        scenario = Scenario(side, max(chosen.count * 256 // side, 10), latency, faults)
        rows.append(compare(scenario, chosen.rounds, chosen.connections, python))
        show(rows[-1])
    results.keep("download", rows, chosen.json)
    return rows


if __name__ == "__main__":
    main()
