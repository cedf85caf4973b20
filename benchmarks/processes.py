"""Running a command and measuring it with all its children; environments for the tools beside ours."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".twigma" / "benchmarks" / "peers"


@dataclass(frozen=True)
class Measured:
    """A command that ran to its end.

    Attributes:
        seconds: wall time from start to end, imports and all.
        rss: largest sum of resident bytes of the process and its descendants.
        pss: the same with pages that they share counted once.
    """

    seconds: float
    rss: int
    pss: int


def measure(
    command: Sequence[str], environment: dict[str, str] | None = None, log: Path | None = None
) -> Measured:
    """Run a command and return how long it took and how much memory its process tree held at most.

    Raises:
        RuntimeError: it failed; the message holds the end of what it printed.
    """
    log = log or Path(os.devnull)
    with log.open("wb") as out:
        start = time.monotonic()
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True
        )
        peak = [0, 0]
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.1):
                for place, now in enumerate(tree_memory(process.pid)):
                    peak[place] = max(peak[place], now)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        code = process.wait()
        seconds = time.monotonic() - start
        done.set()
        watcher.join()
    if code:
        said = log.read_text(errors="replace")[-2000:] if log.is_file() else ""
        raise RuntimeError(f"{' '.join(command)} ended with {code}: {said}")
    return Measured(seconds, *peak)


def tree_memory(pid: int) -> tuple[int, int]:
    """Return (resident, proportional) bytes of a process and its descendants now."""
    rss = pss = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in ("Rss", "Pss"):
                    size = int(value.split()[0]) * 1024
                    rss, pss = (rss + size, pss) if name == "Rss" else (rss, pss + size)
    return rss, pss


def tree_cpu(pid: int) -> float:
    """Return the CPU seconds that a process and its descendants, ended ones included, have used."""
    ticks = 0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """Return a process and its descendants now."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


@contextlib.contextmanager
def running(command: Sequence[str]) -> Iterator[str]:
    """Run a server until the block ends; yield the first line that it prints."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{' '.join(command)} did not start; it ended with {process.wait()}")
        yield line
    finally:
        process.terminate()
        process.wait()


def peer(name: str, *requirements: str) -> Path:
    """Return the Python of an environment that holds another tool, built with uv the first time.

    A tool beside ours pins old packages of its own, so it gets an environment of its own.
    """
    folder = PEERS / name
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if ready.exists() and ready.read_text() == "\n".join(requirements):
        return python
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", "3.11", folder], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", python, *requirements], check=True)
    ready.write_text("\n".join(requirements))
    return python


def machine() -> str:
    """Return the processor, cores and memory of this machine in words."""
    model = "unknown processor"
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {sys.version.split()[0]}"
