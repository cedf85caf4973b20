"""A month of the sample, from collection to release, built by processes that may be killed at any moment.

The sample's server runs in the process of the test, so that what is asked of it is counted across kills.
The builds are processes of their own (`multiprocessing`'s fork server, which imports Dagster and torch once),
with the home, the SQLite storage and the settings that `twigma build` would have.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from urllib.parse import parse_qs

import dagster as dg
import polars as pl

from tests.dagster.small_world import lay_out_references
from twigma_core.collect.pages import COUNTS, PAGES, PageStore
from twigma_core.images.arrived import Arrived
from twigma_core.images.download import JOURNAL, shard_folder
from twigma_core.lake import Lake
from twigma_core.sample.server import Running, serve_in_thread
from twigma_core.sample.world import World, load
from twigma_dagster.partitions import PARTITIONS

MONTH = "2021-01"
COLLECTED = ("hashtags", "archive_files", "raw_tweets", "tweets", "tweet_media", "snapshots", "tweet_counts")
SEEN = ("images", "embeddings", "captions", "fingerprints", "lookalikes", "nsfw_scores", "dataset", "drops")
RELEASED = ("tombstones", "clusters", "projection", "release")
MODELS = ("cluster_model", "projection_model")
ASSETS = (*COLLECTED, *SEEN, *RELEASED)
STAGES = ("raw_tweets", "tweets", "images", "embeddings", "captions", "dataset", "release")

CONTEXT = multiprocessing.get_context("forkserver")
# Without what runs Polars when it is imported: threads do not live on in a forked process.
CONTEXT.set_forkserver_preload(
    [f"twigma_dagster.{name}" for name in ("headless", "cli", "automation", "executors", "io")]
    + [f"twigma_dagster.assets.{name}" for name in ("features", "comparison", "figures", "themes")]
    + ["twigma_core.models.clip", "twigma_core.models.blip", "twigma_core.images.download"]
    + ["statsmodels.stats.proportion", "twigma_core.release.package", "sklearn.decomposition", "faiss"]
    + ["transformers.models.blip.modeling_blip", "mlcroissant"]
)


@dataclass(frozen=True)
class Home:
    """A home folder in which the month is built.

    Attributes:
        folder: TWIGMA_HOME, with the lake and Dagster's own storage.
        variables: environment of its builds.
    """

    folder: Path
    variables: dict[str, str]

    @property
    def lake(self) -> Lake:
        return Lake(self.variables.get("TWIGMA_LAKE") or self.folder / "lake")

    def start(self, only: Iterable[str] = ASSETS, dies_at: int = 0) -> ForkServerProcess:
        """Start a build; with `dies_at` it kills itself at that one of its changes to files of the home."""
        process = CONTEXT.Process(target=build, args=(self.variables, tuple(only), dies_at))
        process.start()
        return process

    def build(self, only: Iterable[str] = ASSETS) -> str:
        """Build, and return what failed; empty if all went well."""
        process = self.start(only)
        process.join()
        said = self.folder / "failed.txt"
        failed = said.read_text() if said.exists() else ""
        said.unlink(missing_ok=True)
        return failed if process.exitcode == 0 else f"exit {process.exitcode} {failed}"

    def files(self) -> set[str]:
        """Return every file of the lake, hidden ones too, but those of the references and frozen models."""
        root = Path(str(self.lake.root))
        found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        return {path for path in found if "reference" not in path and not path.startswith("models/")}

    def versions(self) -> dict[str, str]:
        """Return the data version of each table of the month."""
        keys = {name: MONTH if name in PARTITIONS else None for name in ASSETS}
        return {
            name: self.lake.provenance(name, key).data_version
            for name, key in keys.items()
            if name != "release"  # names files with the moment and the run in them; see `released`
        }

    def released(self) -> dict[str, str]:
        """Return the sha256 of each file of the release but the lineage, which names the run."""
        sums = self.lake.read_bytes("releases/1.0.0/SHA256SUMS").decode().splitlines()
        found = (line.split("  ") for line in sums)
        return {path: digest for digest, path in found if path != "provenance.json"}

    def stage(self) -> str:
        """Return the first of the steps in `STAGES` whose table is not there."""
        return next((name for name in STAGES if not _has(self.lake, name)), "the end")

    def whole(self) -> None:
        """Read every table that is there, with its arrays."""
        for name in ASSETS:
            if _has(self.lake, name):
                self.lake.read_arrays(name, MONTH if name in PARTITIONS else None)

    def unfinished(self) -> list[str]:
        """Return the runs that Dagster takes to be going on, and the slots of pools that are held."""
        with dg.DagsterInstance.from_config(str(self.folder / "dagster")) as instance:
            storage = instance.event_log_storage
            runs = [run.run_id for run in instance.get_runs() if not run.is_finished]
            pools = [storage.get_concurrency_info(key) for key in storage.get_concurrency_keys()]
        return runs + [f"pool {pool.concurrency_key}" for pool in pools if pool.active_slot_count]

    def left_behind(self) -> list[str]:
        """Return temporary files anywhere in the home, and in the folder for those of the system."""
        strange = re.compile(r"\.tmp|\.part$|tmp[a-z0-9_]{8}|-journal$|/journal/|journal\.parquet")
        found = [str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()]
        return sorted(path for path in found if strange.search(f"/{path}"))


def _has(lake: Lake, name: str) -> bool:
    return lake.has(name, MONTH if name in PARTITIONS else None)


@dataclass(frozen=True)
class Ground:
    """The month built once, undisturbed, and what that took.

    Attributes:
        folder: where homes are made.
        server: the sample's server, which counts.
        home: the undisturbed one.
        seconds: that the build took.
        changes: to files of the home that it made.
        asked: what the server was asked.
    """

    folder: Path
    server: Running
    home: Home
    seconds: float
    changes: int
    asked: Counter[tuple[str, str]]

    def fresh(self, name: str, lake: Path | None = None) -> Home:
        """Return a new home that has the frozen models and nothing else; forget what was asked so far.

        Args:
            name: of its folder.
            lake: a folder for its lake, if that is not in the home.
        """
        made = _home(self.folder / name, self.server.url, self.folder / "references")
        if lake:
            made.variables["TWIGMA_LAKE"] = str(lake)
        tables = (lake or made.folder / "lake") / "tables"
        for table in MODELS:
            shutil.copytree(self.home.folder / "lake" / "tables" / table, tables / table)
        self.server.asked.clear()
        return made

    def repeated(self) -> list[tuple[str, str]]:
        """Return what the server was asked more often than by the undisturbed build, pages and pictures."""
        return sorted((Counter(self.server.asked) - self.asked).elements())


def _home(folder: Path, server: str, references: Path) -> Home:
    folder.mkdir(parents=True)
    variables = {
        "TWIGMA_HOME": str(folder),
        "TWIGMA_X_API": server,
        "TWIGMA_MEDIA_BASE": server,
        "TWIGMA_REFERENCES": str(references),
        "HF_HUB_OFFLINE": "1",
        "TMPDIR": str(folder / "tmp"),
    }
    (folder / "tmp").mkdir()
    return Home(folder, variables)


@contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    """Build the month once, undisturbed."""
    lay_out_references(folder / "references", 1)  # so few that the map needs no UMAP
    with serve_in_thread(_some_posts(load())) as server:
        home = _home(folder / "undisturbed", server.url, folder / "references")
        first = CONTEXT.Process(target=int)  # imports what all of them need
        first.start()
        first.join()
        started = time.monotonic()
        assert home.build((*ASSETS, *MODELS, "reference_images", "reference_embeddings")) == ""
        seconds, changes = time.monotonic() - started, int((home.folder / "changes.txt").read_text())
        yield Ground(folder, server, home, seconds, changes, Counter(server.asked))


def _some_posts(world: World) -> World:
    """Return a world with no more posts of the month than two pages hold."""
    later = pl.col("created_at") >= datetime(2021, 2, 1, tzinfo=UTC)
    month = world.posts.filter(~later).sort("created_at").head(120)
    return replace(world, posts=pl.concat([month, world.posts.filter(later)]))


def build(variables: dict[str, str], only: tuple[str, ...], dies_at: int) -> None:
    """Build the month, as a process of its own; ends with 1 and names what failed in failed.txt."""
    clean = {name for name in os.environ if name.startswith(("TWIGMA_", "DAGSTER_"))}
    for name in clean:
        del os.environ[name]
    os.environ.update(variables)
    tempfile.tempdir = None
    home = Path(variables["TWIGMA_HOME"])
    changes = _count_changes(str(home), dies_at)

    from rich.console import Console

    from twigma_dagster import cli, headless
    from twigma_dagster.definitions import build_defs

    settings = cli.prepare()
    with headless.dagsters_storage() as instance:
        lake, quiet = Lake(settings.lake_root), Console(quiet=True)
        outcome = headless.build(build_defs(settings), instance, lake, [MONTH], quiet, only=only)
    (home / "changes.txt").write_text(str(len(changes)))
    if outcome.failed or outcome.skipped:
        (home / "failed.txt").write_text("\n".join([*outcome.failed, *outcome.skipped]))
        sys.exit(1)


def _count_changes(below: str, dies_at: int) -> list[str]:
    """Keep what this process opens for writing, makes, renames and removes below a folder.

    At the change number `dies_at` it kills itself, as `kill -9` does, before the change is made.
    """
    seen: list[str] = []

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            changes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        else:
            changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")
        if changes and str(arguments[0]).startswith(below):
            seen.append(event)
            if len(seen) == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(listen)
    return seen


def stored_pictures(lake: Lake) -> set[str]:
    """Return the pictures of which the lake knows for good what became of them."""
    journal = f"{shard_folder(MONTH)}/{JOURNAL}"
    known = [lake.read("images", MONTH)] if lake.has("images", MONTH) else []
    known += [pl.read_parquet(lake.read_bytes(journal))] if lake.exists(journal) else []
    arrived = Arrived(lake, shard_folder(MONTH))
    return {one for frame in known for one in frame["image_id"]} | {
        one for one in arrived.ids if arrived.get(one)
    }


def requests_of_stored_pages(lake: Lake) -> set[tuple[str, str, str]]:
    """Return (endpoint, query, token) of each page that is stored."""
    places = (("search/all", PAGES), ("counts/all", COUNTS))
    return {
        (endpoint, page.query, page.token or "")
        for endpoint, folder in places
        for page in PageStore(lake, MONTH, folder).pages()
    }


def request_of(asked: tuple[str, str]) -> tuple[str, str, str]:
    """Return (endpoint, query, token) of a request for a page."""
    given = parse_qs(asked[1])
    return asked[0], given["query"][0], given.get("next_token", [""])[0]
