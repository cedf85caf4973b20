"""What assets need from outside: the lake, the source of posts, pictures, models, reference corpora.

Each is a typed Dagster resource whose defaults come from `settings`, so the Launchpad can override them
for one run. Secrets are read from the environment when they are used, never kept in configuration.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
import polars as pl
from pydantic import create_model
from upath import UPath

from twigma_core import tables
from twigma_core.collect import release_2023
from twigma_core.incremental import Work
from twigma_core.lake import Lake
from twigma_dagster.settings import Settings, SettingsError, load_settings

if TYPE_CHECKING:
    from twigma_core.collect.budget import Budget
    from twigma_core.collect.search import Collected
    from twigma_core.collect.x_api import XClient
    from twigma_core.images.download import FetchPolicy
    from twigma_core.models.blip import Captioner
    from twigma_core.models.clip import ClipEncoder
    from twigma_core.models.nsfw import NsfwScorer
    from twigma_core.release.card import Publication


class LakeResource(dg.ConfigurableResource):
    """The lake."""

    root: str

    def open(self) -> Lake:
        """Return the lake at this root."""
        return Lake(self.root)


ASKED = ("x", "sample")
"""Sources of posts that can be asked for what is new."""
SAMPLE_PAGE = 100
"""Posts a page of the sample: few, so that its months take several pages."""
Preset = TypeVar("Preset", bound=dg.ConfigurableResource)
_FOR_THIS_PROCESS = ExitStack()
atexit.register(_FOR_THIS_PROCESS.close)


@cache
def sample_address() -> str:
    """Start the sample world's server once in this process; return its loopback address."""
    from twigma_core.sample.server import running_server

    return _FOR_THIS_PROCESS.enter_context(running_server())


class Posts(dg.ConfigurableResource):
    """Where posts come from: the sample world's server, X's API, or an archive; and what they may cost."""

    source: str
    x_api: str = ""
    x_search: str = "all"
    archive: str = ""
    release_2023: str = ""
    price_post: float = 0.005
    price_count: float = 0.010
    price_account: float = 0.010
    budget: float | None = None
    count_tolerance: float = 0.02

    def files(self, lake: Lake) -> pl.DataFrame:
        """Return table `archive_files`: what the archive and the 2023 release hold, where there are any."""
        from twigma_core.collect.imports import inventory

        found = [inventory(path, lake) for path in self._paths()]
        return pl.concat([tables.empty("archive_files"), *found]).unique("file", maintain_order=True)

    def release(self) -> tuple[pl.DataFrame, dict[str, int]]:
        """Return table `release_2023`, empty where there is no such file, and what was left out, counted."""
        from twigma_core.collect.archives import releases

        named = [self.release_2023] if self.release_2023 else self._paths()
        return release_2023.gather(release for path in named for _, release in releases(path))

    def _paths(self) -> list[str]:
        named = [("TWIGMA_ARCHIVE", self.archive if self.source == "archive" else "")]
        named += [("TWIGMA_RELEASE_2023", self.release_2023)]
        for name, path in named:
            if path and not UPath(path).exists():
                raise SettingsError(f"archive_files: {path} does not exist; set {name} to a file or folder")
        return [path for _, path in named if path]

    def collect(self, lake: Lake, month: str, hashtags: list[str], say: Callable[[str], object]) -> Collected:
        """Bring in the pages of a month. What is already here is not asked for."""
        from twigma_core.collect.search import Collected, collect_month

        if self.source == "archive":
            from twigma_core.collect.imports import import_month

            return Collected(import_month(lake, self._paths()[0], month))
        return collect_month(self.client(say), lake, month, hashtags, self.spending(lake), say)

    def count(
        self, lake: Lake, month: str, tweets: pl.DataFrame, say: Callable[[str], object]
    ) -> pl.DataFrame:
        """Return table `tweet_counts` of a month; empty for an archive, which has no counts."""
        from twigma_core.collect.completeness import compare, received
        from twigma_core.collect.pages import PageStore
        from twigma_core.collect.search import COUNTS_SCHEMA, count_collected

        if self.source == "archive":
            counts = pl.DataFrame(schema=COUNTS_SCHEMA)
        else:
            counts = count_collected(self.client(say), lake, month, self.spending(lake))
        return compare(counts, received(PageStore(lake, month).pages()), tweets, self.count_tolerance)

    def look_up(
        self, lake: Lake, month: str, tweets: pl.DataFrame, say: Callable[[str], object]
    ) -> pl.DataFrame:
        """Return table `tweets` of the month's posts as X shows them now; an archive has nothing new."""
        from twigma_core.collect.hydrate import PACE_S, REPLIES
        from twigma_core.collect.snapshots import refreshed

        if self.source not in ASKED:
            raise SettingsError(f"snapshots/{month}: only X has the numbers of today; set TWIGMA_SOURCE=x")
        return refreshed(
            self.client(say, pace_s=PACE_S[REPLIES]), lake, month, tweets, self.spending(lake), say
        )

    def ask_what_is_gone(self, lake: Lake, say: Callable[[str], object]) -> None:
        """Ask X which posts and accounts of the lake are gone; the answers lie in the inbox then."""
        from twigma_core.collect.compliance import POLL_S, ask
        from twigma_core.collect.tombstones import AUTHOR, POST

        if self.source not in ASKED:
            raise SettingsError("tombstones: only X can be asked what is gone; set TWIGMA_SOURCE=x")
        here = lake.scan("tweets").select("tweet_id", "author_id").collect()
        client, budget = self.client(say), self.spending(lake)
        poll_s = 0.0 if client.pace_s == 0 else POLL_S
        ask(client, lake, POST, here["tweet_id"].to_list(), budget, say, poll_s)
        authors = here["author_id"].drop_nulls().unique(maintain_order=True).to_list()
        ask(client, lake, AUTHOR, authors, budget, say, poll_s)

    def spending(self, lake: Lake) -> Budget:
        """Return the budget, with what all months of the lake have cost so far; only X costs anything."""
        from twigma_core.collect.budget import Budget, Prices, spent_in_all

        if self.source != "x":
            return Budget(Prices(0.0, 0.0))
        prices = Prices(self.price_post, self.price_count, self.price_account)
        return Budget(prices, self.budget, spent_in_all(lake))

    def client(self, say: Callable[[str], object], pace_s: float | None = None) -> XClient:
        """Return a client of X's API, or of the sample's server; `say` is told of waits."""
        from twigma_core.collect.x_api import PACE_S, TIERS, XClient

        tier = TIERS.get(self.x_search)
        if tier is None:
            raise SettingsError(f"posts.x_search: {self.x_search!r} is neither {' nor '.join(TIERS)}")
        if self.source == "sample":
            small = replace(tier, page_size=SAMPLE_PAGE)
            address = self.x_api or sample_address()
            return XClient("sample", address, tier=small, source="sample", say=say, pace_s=0)
        pace_s = PACE_S if pace_s is None else pace_s
        return XClient(load_settings().token(), self.x_api or None, tier=tier, say=say, pace_s=pace_s)


class Pictures(dg.ConfigurableResource):
    """How pictures are fetched."""

    source: str
    media_base: str = ""
    connections: int = 32

    def policy(self) -> FetchPolicy:
        """Return the fetch policy: X's own hosts only, unless another address is named."""
        from twigma_core.images.download import FetchPolicy

        base = self.media_base or (sample_address() if self.source == "sample" else "")
        rewrite = {"pbs.twimg.com": base} if base else {}
        return FetchPolicy(rewrite=rewrite, connections=self.connections, per_host=self.connections)


@cache
def _clip(name: str, weights: str, device: str, dtype: str, batch: int | None, folder: str) -> ClipEncoder:
    from twigma_core.models.clip import ClipEncoder

    return ClipEncoder(name, weights, device, dtype, batch, folder)


@cache
def _captioner(name: str, device: str, dtype: str, batch: int | None, folder: str) -> Captioner:
    from twigma_core.models.blip import Captioner

    return Captioner(name, device, dtype, batch, folder=folder)


@cache
def _scorer(weights: str, folder: str) -> NsfwScorer:
    from twigma_core.models.nsfw import NsfwScorer

    return NsfwScorer(weights, folder)


class Models(dg.ConfigurableResource):
    """The models, each loaded once in a process.

    With `reuse` off, a step computes all its rows, also those that are stored already.
    """

    clip: str
    clip_weights: str
    blip: str
    nsfw: str
    folder: str
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int = 0
    reuse: bool = True

    def encoder(self) -> ClipEncoder:
        """Return the CLIP encoder."""
        return _clip(
            self.clip, self.clip_weights, self.device, self.dtype, self.batch_size or None, self.folder
        )

    def captioner(self) -> Captioner:
        """Return the BLIP captioner."""
        return _captioner(self.blip, self.device, self.dtype, self.batch_size or None, self.folder)

    def scorer(self) -> NsfwScorer:
        """Return the NSFW head."""
        return _scorer(self.nsfw, self.folder)

    def made(self, lake: Lake, table: str, partition: str | None) -> bool:
        """Say whether the models in force made a stored table, as far as their names tell."""
        by = {"captions": self.blip, "nsfw_scores": self.nsfw}
        by |= dict.fromkeys(("embeddings", "reference_embeddings", "text_embeddings"), self.clip)
        if table not in by or not lake.has(table, partition):
            return True
        name = by[table]
        if name == "sample":
            wanted = {"captions": "sample-blip", "nsfw_scores": "sample-nsfw"}.get(table, "sample-clip")
        elif Path(name).expanduser().exists():
            wanted = Path(name).stem if table == "nsfw_scores" else Path(name).name
        else:
            wanted = name if name != self.clip else f"{name}/{Path(self.clip_weights).name}"
        models = lake.provenance(table, partition).models
        return not models or wanted in models

    def work(self, context: dg.AssetExecutionContext, lake: LakeResource) -> Work:
        """Return the partition that a step fills with one of the models."""
        table = context.asset_key.path[-1]
        return Work(lake.open(), table, context.partition_key, self.reuse, context.log.info)


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

    `ui` is the address of the Dagster UI that the report links to; `likes` says which snapshot of the
    engagement numbers is used: the collection's own, or the latest.
    """

    clusters: int = 10
    seed: int = 0
    synthetic: bool = False
    notice: str = ""
    release_profile: str = "ids_strict"
    release_version: str = ""
    release_authors: str = ""
    ui: str = ""
    likes: str = "collected"

    @property
    def publication(self) -> Publication:
        """Who publishes a release, and as what."""
        from twigma_core.release.card import Publication

        names = tuple(name.strip() for name in self.release_authors.split(";") if name.strip())
        return Publication(authors=names or Publication.authors, synthetic=self.synthetic, notice=self.notice)

    @property
    def notices(self) -> list[str]:
        """What a reader must be told before anything else."""
        return self.publication.notices


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


def _preset(kind: type[Preset], settings: Settings, **others: object) -> Preset:
    """Return a resource whose fields have, by default, what the settings say of their names, and `others`.

    Dagster drops all values that an instance was made with as soon as a run's configuration names one of
    its fields, so the Launchpad could not change the budget of a run without losing the rest.
    """
    values = {name: getattr(settings, name) for name in kind.model_fields if hasattr(settings, name)}
    fields: dict[str, Any] = {
        name: (kind.model_fields[name].annotation, value) for name, value in (values | others).items()
    }
    return create_model(kind.__name__, __base__=kind, __module__=kind.__module__, **fields)()


def posts_of(settings: Settings) -> Posts:
    """Return where posts come from, by these settings."""
    return _preset(Posts, settings)


def models_of(settings: Settings) -> Models:
    """Return the models that these settings name."""
    return _preset(Models, settings, folder=settings.weights_folder)


def study_of(settings: Settings) -> Study:
    """Return what is studied and said of it, by these settings."""
    return _preset(Study, settings, synthetic=settings.sample, ui=f"http://127.0.0.1:{settings.port}")


def build_resources(settings: Settings) -> dict[str, dg.ConfigurableResource]:
    """Return the resources for these settings, by the name that assets ask for."""
    home = str(settings.home.resolve())
    return {
        "lake": _preset(LakeResource, settings, root=settings.lake_root),
        "posts": posts_of(settings),
        "pictures": _preset(Pictures, settings),
        "study": study_of(settings),
        "volunteers": _preset(Volunteers, settings),
        "models": models_of(settings),
        "references": _preset(
            References, settings, folder=settings.references, limit=settings.reference_limit, home=home
        ),
    }
