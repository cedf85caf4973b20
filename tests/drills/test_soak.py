"""Half an hour at five per cent faults in one process: nothing is lost, memory and open files stay flat."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from tests.core.collect import drill
from tests.dagster.deployment import ROOT, end
from tests.drills.counts import count
from tests.drills.soak import contents, whole
from twigma_core.lake import Lake

SECONDS = count(5, 1800)
SHARE = 0.05
GROWTH_MIB = 24
"""Most memory that a process may gain over the soak, by the straight line through what it held."""


@pytest.fixture
def address() -> Iterator[str]:
    """A server in a process of its own, without faults so far."""
    command = [sys.executable, "-m", "tests.drills.faulty_server"]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert server.stdout
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    finally:
        end(server)


def ask(address: str) -> str:
    with urlopen(address, timeout=30) as reply:
        text: str = reply.read().decode()
        return text


def test_memory_and_open_files_stay_flat_and_nothing_is_lost(address: str, tmp_path: Path) -> None:
    drill.collect(tmp_path / "undisturbed", address)
    undisturbed = Lake(tmp_path / "undisturbed")
    assert whole(undisturbed)
    pictures = undisturbed.read("images", drill.MONTH)
    ask(f"{address}/share?{SHARE}")
    command = [sys.executable, "-m", "tests.drills.soak", address, str(SECONDS), str(tmp_path / "soak")]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=SECONDS + 300)
    assert done.returncode == 0
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    requests, faults = map(int, ask(f"{address}/stats").split())
    assert faults > requests * SHARE / 3, "the server was as bad as it was to be"
    wanted = {"versions": contents(undisturbed), "pictures": (pictures["status"] == "ok").sum()}
    lost = [one for one in rounds if any(one[key] != value for key, value in wanted.items())]
    assert not lost, lost[:3]

    settled = rounds[len(rounds) // 5 :]  # the first rounds fill caches
    seconds, mib = (np.array([one[name] for one in settled]) for name in ("seconds", "mib"))
    slope = np.polyfit(seconds, mib, 1)[0]
    growth, opened = slope * (seconds[-1] - seconds[0]), [one["open"] for one in settled]
    again = sum(one["goes"] - 1 for one in rounds)
    print(
        f"soak: {SECONDS} s, {len(rounds)} rounds of {wanted['pictures']} pictures, {requests:,} requests, "
        f"{faults:,} faults ({faults / requests:.1%}), {again} second "
        f"runs; memory {mib[0]:.1f} -> {mib[-1]:.1f} MiB ({mib.min():.1f} to {mib.max():.1f}), "
        f"slope {slope * 3600:+.1f} MiB/h; open files {min(opened)} to {max(opened)}"
    )
    assert growth < GROWTH_MIB, f"{growth:.1f} MiB more"
    assert max(opened) - min(opened) <= 2 and opened[-1] <= opened[0] + 1
