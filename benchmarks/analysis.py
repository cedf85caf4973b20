"""The analysis beside the libraries of the field: same input, same answer, taking turns.

    python -m benchmarks.analysis                      # all works at full size; docs/performance.md shows it
    python -m benchmarks.analysis --scale 0.02 pairs   # one work, small

`analysis_works` says what is compared. Each round runs ours and then the peer's; medians over rounds are
printed with the ratio (peer / ours) and what it should be. Wall seconds count what a person waits; CPU
seconds change less where other work wants the cores. Memory is what a side took on top of what was there
before it. Each work checks that the two answers agree and says how far they are apart.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.analysis_works import WORKS, Elsewhere, Work
from benchmarks.processes import machine

MIB = 2**20


def take_turn(side: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """Return a side's answer, and what it took: wall and CPU seconds, and MiB."""
    before = _mark_memory()
    wall, cpu = time.perf_counter(), time.process_time()
    answer = side()
    took = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    took["mib"] = (_most_memory() - before) / MIB
    return (answer.value, answer.took) if isinstance(answer, Elsewhere) else (answer, took)


def compare(work: Work, rounds: int) -> dict[str, Any]:
    """Run a work's two sides in turn and return medians of what they took, ratios, and how far apart.

    Raises:
        AssertionError: the answers are farther apart than they may be.
    """
    sides = {"ours": work.ours, "peer": work.theirs}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    apart, more = 0.0, {}
    for _ in range(rounds):
        answers = []
        for name, side in sides.items():
            answer, took = take_turn(side)
            answers.append(answer)
            taken[name].append(took)
        apart = max(apart, work.apart(*answers))
        more = work.more(*answers)
        assert apart <= work.most, (
            f"{work.name}: ours and {work.peer} differ by {apart:.3g}, over {work.most}"
        )

    def median(name: str, what: str) -> float:
        return statistics.median(took[what] for took in taken[name])

    found: dict[str, Any] = {"work": work.name, "peer_is": work.peer, "rounds": rounds}
    found |= {name: {what: median(name, what) for what in turns[0]} for name, turns in taken.items()}
    found["ratio"] = median("peer", "seconds") / median("ours", "seconds")
    found["cpu_ratio"] = median("peer", "cpu_seconds") / median("ours", "cpu_seconds")
    found |= {"aim": work.aim, "apart": apart, "most_apart": work.most, "more": more}
    return {**found, "load": results.load(), "turns": taken}


def show(row: dict[str, Any]) -> None:
    """Print a work's result."""
    print(f"{row['work']}, load {row['load']}")
    for name, who in (("ours", "ours"), ("peer", row["peer_is"])):
        took = row[name]
        print(
            f"  {who:<32} {took['seconds']:8.3g} s  {took['cpu_seconds']:8.3g} CPU s  {took['mib']:7.0f} MiB"
        )
    met = "met" if row["ratio"] >= row["aim"] else "short"
    print(f"  ratio {row['ratio']:.1f} (of CPU seconds {row['cpu_ratio']:.1f}), aim {row['aim']}: {met}")
    more = "".join(f"; {name} {value:.4g}" for name, value in row["more"].items())
    print(f"  answers apart by {row['apart']:.1g}, at most {row['most_apart']:.1g}{more}", flush=True)


def _mark_memory() -> int:
    """Let the kernel forget the most memory that this process had; return what it has, in bytes.

    Where the kernel knows no such thing, the most is that since the start.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _most_memory() -> int:
    return _memory("VmHWM")


def _memory(field: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Run the works that are named, all by default; print what each says and return it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("works", nargs="*", choices=[*WORKS, []], help="default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of rows")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], choices=list(WORKS), help="works to leave out")
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args(arguments)
    print(machine())
    found = []
    for name in asked.works or WORKS:
        if name not in asked.without:
            found.append(compare(WORKS[name](asked.scale), asked.rounds))
            show(found[-1])
    results.keep("analysis", found, asked.json)
    return found


if __name__ == "__main__":
    main()
