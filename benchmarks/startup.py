"""The first things a user waits for: `make demo`, the same again, and `make ui` to the drawn graph.

    python -m benchmarks.startup                      # docs/performance.md shows it
    python -m benchmarks.startup --rounds 1 --only ui

All in a home of its own, after the installation: `twigma demo` is what `make demo` runs, `twigma ui` what
`make ui` does. The page is loaded by a real Chromium that is open before the clock starts, as a user's is,
and counts as there when the graph's groups are drawn.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import results
from benchmarks.processes import ROOT, machine, tree_cpu

if TYPE_CHECKING:
    from playwright.sync_api import Page

PATIENCE = 300.0


def command(*arguments: str) -> list[str]:
    """Return the command `twigma` with these arguments."""
    return [sys.executable, "-m", "twigma_dagster.cli", *arguments]


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a user with this home who has set nothing else."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TWIGMA_", "DAGSTER_"))}
    return {**kept, "TWIGMA_HOME": str(home), "HF_HUB_OFFLINE": "1"}


def demo(home: Path) -> float:
    """Run `twigma demo`; return its seconds.

    Raises:
        RuntimeError: it failed; the message holds the end of what it printed.
    """
    begun = time.monotonic()
    done = subprocess.run(
        command("demo"), cwd=ROOT, env=environment(home), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"twigma demo ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr}")
    return time.monotonic() - begun


@contextmanager
def browser_page() -> Iterator[Page]:
    """Open a page of a Chromium.

    Raises:
        RuntimeError: there is none.
    """
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise RuntimeError("no Chromium on this machine: apt-get install chromium, or leave out `ui`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page(viewport={"width": 1800, "height": 1050})
            page.add_init_script("localStorage.setItem('communityNux', '1')")  # else a dialog covers it
            yield page
        finally:
            browser.close()


def ui(home: Path, page: Page) -> dict[str, float]:
    """Start `twigma ui` and look at it; return the seconds to the first answer and to the drawn graph.

    The CPU seconds that it has used until then say more on a busy machine; the browser's are not among them.

    Raises:
        RuntimeError: it ended or does not answer; the message holds the end of what it printed.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = home / "ui.log"
    begun = time.monotonic()
    with log.open("w") as out:
        process = subprocess.Popen(
            command("ui", "--port", str(port)), cwd=ROOT, env=environment(home), stdout=out, stderr=out
        )
    try:
        address = f"http://127.0.0.1:{port}"
        while not _answers(address):
            if process.poll() is not None or time.monotonic() - begun > PATIENCE:
                raise RuntimeError(f"twigma ui does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        answered = time.monotonic() - begun
        draw(page, address)
        return {"answers": answered, "drawn": time.monotonic() - begun, "CPU": tree_cpu(process.pid)}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def draw(page: Page, address: str) -> int:
    """Load the graph's page and wait for its groups; return how many are drawn."""
    page.goto(f"{address}/asset-groups")
    groups = page.locator("svg[class*=AssetGraphExplorer] foreignObject")
    groups.first.wait_for(timeout=1000 * PATIENCE)
    return groups.count()


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(f"{address}/server_info", timeout=5).read()
    except (OSError, urllib.error.URLError):
        return False
    return True


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, and return the seconds of each round."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="starts of the UI, and second runs of the demo")
    parser.add_argument(
        "--only", choices=["demo", "ui"], help="without the other; the UI is of an empty home"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args(arguments)
    print(machine())
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="twigma-bench-") as folder:
        home = Path(folder)
        if asked.only != "ui":
            found["demo, first"] = [demo(home)]
            found["demo, again"] = [demo(home) for _ in range(asked.rounds)]
        if asked.only != "demo":
            with browser_page() as page:
                for _ in range(asked.rounds):
                    for name, seconds in ui(home, page).items():
                        found.setdefault(f"ui, {name}", []).append(seconds)
    for name, rounds in found.items():
        each = ", ".join(f"{seconds:.1f}" for seconds in rounds)
        print(f"  {name:<14} {statistics.median(rounds):6.1f} s  (rounds {each})")
    results.keep("startup", found, asked.json)
    return found


if __name__ == "__main__":
    main()
