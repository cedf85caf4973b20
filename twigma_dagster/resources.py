"""What assets need from outside: the lake, the source of posts, pictures, models, reference corpora.

Each is a typed Dagster resource whose defaults come from `settings`, so the Launchpad can override them
for one run. Secrets are read from the environment when they are used, never kept in configuration.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from twigma_core.lake import Lake
from twigma_dagster.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from twigma_core.images.download import FetchPolicy
    from twigma_core.models.blip import Captioner
    from twigma_core.models.clip import ClipEncoder
    from twigma_core.models.nsfw import NsfwScorer


class LakeResource(dg.ConfigurableResource):
    """The lake."""

    root: str

    def open(self) -> Lake:
        """Return the lake at this root."""
        return Lake(self.root)


X_PAGE = 500
"""Posts a page: the most that X gives."""
SAMPLE_PAGE = 100
"""Smaller, so that the sample's months take several pages."""
_FOR_THIS_PROCESS = ExitStack()
atexit.register(_FOR_THIS_PROCESS.close)


@cache
def sample_address() -> str:
    """Start the sample world's server once in this process; return its loopback address."""
    from twigma_core.sample.server import running_server

    return _FOR_THIS_PROCESS.enter_context(running_server())


class Posts(dg.ConfigurableResource):
    """Where posts come from: the sample world's server, X's API, or an archive."""

    source: str
    x_api: str = ""
    archive: str = ""

    def collect(
        self, lake: Lake, month: str, hashtags: list[str], log: Callable[[str], None]
    ) -> pl.DataFrame:
        """Bring in the pages of a month; return table `raw_tweets`. What is already here is not asked for."""
        if self.source == "archive":
            from twigma_core.collect.archives import import_month

            return import_month(lake, self._archive(), month)
        from twigma_core.collect.pages import PageStore
        from twigma_core.collect.x_api import build_queries, search_month

        store = PageStore(lake, month)
        search_month(
            self._client(), store, month, build_queries(hashtags), on_page=lambda page: log(page.where)
        )
        return store.table()

    def count(self, month: str, hashtags: list[str]) -> pl.DataFrame:
        """Return (query, day, counted) for a month; empty for an archive, which has no counts."""
        if self.source == "archive":
            return pl.DataFrame(schema={"query": pl.String, "day": pl.Date, "counted": pl.Int64})
        from twigma_core.collect.x_api import build_queries, count_month

        return count_month(self._client(), build_queries(hashtags), month)

    def _client(self):  # type: ignore[no-untyped-def]
        from twigma_core.collect.x_api import XClient

        if self.source == "sample":
            return XClient("sample", base_url=self.x_api or sample_address(), pace_s=0)
        return XClient(load_settings().token(), base_url=self.x_api or None)

    def _archive(self) -> Path:
        path = Path(self.archive)
        if not path.exists():
            raise SettingsError(f"raw_tweets: the archive {path} does not exist; set TWIGMA_ARCHIVE")
        return path


class Pictures(dg.ConfigurableResource):
    """How pictures are fetched."""

    source: str
    media_base: str = ""

    def policy(self) -> FetchPolicy:
        """Return the fetch policy: X's own hosts only, unless another address is named."""
        from twigma_core.images.download import FetchPolicy

        base = self.media_base or (sample_address() if self.source == "sample" else "")
        return FetchPolicy(rewrite={"pbs.twimg.com": base}) if base else FetchPolicy()


@cache
def _clip(name: str, weights: str, device: str) -> ClipEncoder:
    from twigma_core.models.clip import ClipEncoder

    pretrained = None if name == "sample" or Path(name).exists() else weights
    return ClipEncoder(name, pretrained, device=device)


@cache
def _captioner(name: str, device: str) -> Captioner:
    from twigma_core.models.blip import Captioner

    return Captioner(name, device=device)


@cache
def _scorer(weights: str) -> NsfwScorer:
    from twigma_core.models.nsfw import NsfwScorer

    return NsfwScorer(weights)


class Models(dg.ConfigurableResource):
    """The models, each loaded once in a process."""

    clip: str
    clip_weights: str
    blip: str
    nsfw: str
    device: str = "auto"

    def encoder(self) -> ClipEncoder:
        """Return the CLIP encoder."""
        return _clip(self.clip, self.clip_weights, self.device)

    def captioner(self) -> Captioner:
        """Return the BLIP captioner."""
        return _captioner(self.blip, self.device)

    def scorer(self) -> NsfwScorer:
        """Return the NSFW head."""
        return _scorer(self.nsfw)


class References(dg.ConfigurableResource):
    """Folders of the reference corpora and text sources."""

    folder: str = ""
    texts: str = ""
    limit: int = 100_000
    home: str = ".twigma"

    def corpus(self, name: str) -> Path:
        """Return the folder of a corpus."""
        return self._folder() / name

    def texts_folder(self) -> Path:
        """Return the folder of the text sources."""
        return Path(self.texts) if self.texts else self._folder() / "texts"

    def _folder(self) -> Path:
        return Path(self.folder) if self.folder else sample_references(self.home)


class Study(dg.ConfigurableResource):
    """Choices of the analysis and of what is published, and what a reader must be told of the data.

    `ui` is the address of the Dagster UI that the report links to.
    """

    clusters: int = 10
    seed: int = 0
    synthetic: bool = False
    notice: str = ""
    release_profile: str = "ids_strict"
    release_version: str = "1.0.0"
    ui: str = ""


class Volunteers(dg.ConfigurableResource):
    """People who label pictures. Those of the sample world are simulated and answer at once."""

    source: str

    def answer(self, lake: Lake, tasks: pl.DataFrame, inbox: str) -> None:
        """Put the simulated volunteers' sheet into the inbox; real people put theirs there themselves."""
        if self.source != "sample":
            return
        from twigma_core.sample.annotators import fill_sheet
        from twigma_core.sample.world import load

        sheet = fill_sheet(tasks, load().scenes())
        lake.write_bytes(f"{inbox}/simulated_volunteers.csv", sheet.write_csv().encode())


@cache
def sample_references(home: str) -> Path:
    """Draw the sample's reference corpora and texts below `home`, once; return their folder."""
    from twigma_core.sample.world import load

    folder = Path(home) / "sample" / "references"
    load().export_references(folder)
    return folder


def build_resources(settings: Settings) -> dict[str, dg.ConfigurableResource]:
    """Return the resources for these settings, by the name that assets ask for."""
    return {
        "lake": LakeResource(root=settings.lake_root),
        "posts": Posts(source=settings.source, x_api=settings.x_api, archive=settings.archive),
        "pictures": Pictures(source=settings.source, media_base=settings.media_base),
        "study": Study(
            clusters=settings.clusters,
            seed=settings.seed,
            synthetic=settings.sample,
            notice=settings.notice,
            release_profile=settings.release_profile,
            release_version=settings.release_version,
            ui=f"http://127.0.0.1:{settings.port}",
        ),
        "volunteers": Volunteers(source=settings.source),
        "models": Models(
            clip=settings.clip,
            clip_weights=settings.clip_weights,
            blip=settings.blip,
            nsfw=settings.nsfw,
            device=settings.device,
        ),
        "references": References(
            folder=settings.references,
            texts=settings.texts,
            limit=settings.reference_limit,
            home=str(settings.home.resolve()),
        ),
    }
