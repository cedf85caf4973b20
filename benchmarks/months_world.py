"""The sample world dealt into more months than it has, and what builds its months in a plain script.

Here: the posts of the sample under new dates, and the functions that the monthly assets call, in their order,
without Dagster, its records and its checks. Not here: what is measured (`months`).
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl

from twigma_core import features
from twigma_core.analysis import cluster_model, divergence, neighbors, projection, variation_tables
from twigma_core.analysis.clusters import fit_kmeans
from twigma_core.analysis.codebook import Codebook, fit_codebook, fitting_sizes
from twigma_core.analysis.summary import EmbeddingSummary, summary_row
from twigma_core.collect import hashtags, parse
from twigma_core.collect.pages import PageStore
from twigma_core.collect.snapshots import keep_snapshots
from twigma_core.dataset import build_dataset
from twigma_core.images.download import download
from twigma_core.images.lookalikes import find_lookalikes, fingerprint
from twigma_core.incremental import Work
from twigma_core.lake import ArrayTable, Lake
from twigma_core.references.importer import import_corpus, load_corpus
from twigma_core.sample.media import snowflake
from twigma_core.sample.world import World, load
from twigma_core.tables import CORPORA
from twigma_dagster.assets.engagement import HUMAN
from twigma_dagster.assets.themes import MAP_SAMPLE
from twigma_dagster.resources import Pictures, References, build_resources, models_of, posts_of
from twigma_dagster.settings import Settings

FIRST = ("hashtags", "archive_files", "tombstones")
OF_A_MONTH = (
    *("raw_tweets", "tweets", "tweet_media", "snapshots", "tweet_counts", "images", "embeddings", "captions"),
    *("nsfw_scores", "fingerprints", "lookalikes", "dataset", "drops"),
)
MODELS = ("reference_images", "reference_embeddings", "codebook", "cluster_model", "projection_model")
MEASURED = (
    *("reference_summaries", "summaries", "clusters", "projection", "divergences"),
    *("variation_metrics", "neighbors"),
)
ASSETS = (*FIRST, *OF_A_MONTH, *MODELS, *MEASURED)
"""What `in_script` makes too, but for the first three, which only Dagster needs."""


def months_from(first: str, count: int) -> list[str]:
    """Return `count` months from `first` on."""
    start = 12 * int(first[:4]) + int(first[5:]) - 1
    return [f"{month // 12}-{month % 12 + 1:02d}" for month in range(start, start + count)]


def dealt(months: list[str], posts: int) -> World:
    """Return the sample world with `posts` of its posts with pictures in each of these months.

    Raises:
        ValueError: it has not so many.
    """
    whole = load()
    usable = whole.posts.filter(pl.col("media_ids").list.len() > 0, pl.col("retweet_of") == "")
    if usable.height < posts * len(months):
        raise ValueError(f"the sample has {usable.height} posts with pictures, not {posts * len(months)}")
    rows = usable.head(posts * len(months)).to_dicts()
    for place, row in enumerate(rows):
        month = months[place // posts]
        day = 1 + 27 * (place % posts) // posts
        row["created_at"] = datetime(int(month[:4]), int(month[5:]), day, 12, tzinfo=UTC)
        row["tweet_id"] = snowflake(round(row["created_at"].timestamp() * 1000), place)
        row["month"] = month
    chosen = pl.DataFrame(rows, schema=whole.posts.schema)
    media = whole.media.filter(pl.col("media_id").is_in(chosen["media_ids"].explode().implode()))
    return World(whole.users, chosen, media, whole.references, whole.texts)


def in_script(settings: Settings, months: list[str]) -> None:
    """Do what the assets do, function by function, keeping the results of each in the lake as they do."""
    lake, given = Lake(settings.lake_root), build_resources(settings)
    posts, models = posts_of(settings), models_of(settings)
    pictures, references = given["pictures"], given["references"]
    assert isinstance(pictures, Pictures) and isinstance(references, References)
    encoder, captioner, scorer = models.encoder(), models.captioner(), models.scorer()
    tags = hashtags.reviewed()["hashtag"].to_list()
    for month in months:
        collected = posts.collect(lake, month, tags, print).pages
        parsed = parse.parse_pages(PageStore(lake, month).pages(), month, tags)
        lake.write("raw_tweets", collected, month)
        lake.write("tweets", parsed.tweets, month)
        lake.write("tweet_media", parsed.media, month)
        lake.write("snapshots", keep_snapshots(parsed.tweets), month)
        lake.write("tweet_counts", posts.count(lake, month, parsed.tweets, print), month)
        images = download(parsed.media, None, lake, month, policy=pictures.policy())
        lake.write("images", images, month)
        vectors, _ = features.embed_pictures(Work(lake, "embeddings", month), images, encoder)
        lake.write("embeddings", vectors, month)
        captions, _ = features.caption_pictures(Work(lake, "captions", month), images, captioner)
        lake.write("captions", captions, month)
        scores, _ = features.score_pictures(Work(lake, "nsfw_scores", month), vectors, scorer)
        lake.write("nsfw_scores", scores, month)
        lake.write("fingerprints", fingerprint(vectors), month)
        pairs = find_lookalikes(
            month,
            lake.read_all_arrays("fingerprints"),
            lambda key, rows: lake.read_rows("embeddings", key, rows),
        ).pairs
        lake.write("lookalikes", pairs, month)
        earlier = (lake.scan("tweet_media"), lake.scan("images"), lake.scan("lookalikes").collect())
        kept, dropped = build_dataset(month, parsed.tweets, *earlier, captions, scores)
        lake.write("dataset", kept, month)
        lake.write("drops", dropped, month)
    corpora = {}
    for corpus in CORPORA:
        ledger = import_corpus(lake, corpus, load_corpus(corpus, references.corpus(corpus)))
        lake.write("reference_images", ledger, corpus)
        work = Work(lake, "reference_embeddings", corpus)
        corpora[corpus], _ = features.embed_references(work, ledger, encoder, scorer)
        lake.write("reference_embeddings", corpora[corpus], corpus)
    _measure(settings, lake, months, corpora)


def _measure(settings: Settings, lake: Lake, months: list[str], corpora: dict[str, ArrayTable]) -> None:
    """Fit the frozen models and measure the months by them."""
    ids = lake.scan("dataset").select("image_id").collect()["image_id"]
    whole = lake.read_all_arrays("embeddings").take(ids).vectors
    sources = {"twigma": whole} | {corpus: stored.vectors for corpus, stored in corpora.items()}
    book, table = fit_codebook(sources, fitting_sizes(sources), seed=settings.seed)
    lake.write("codebook", ArrayTable(table, book.to_arrays()))
    model = cluster_model.freeze(fit_kmeans(whole, settings.clusters, settings.seed), whole)
    lake.write("cluster_model", model)
    cluster_model.keep(lake, model)
    named = {
        corpus: (stored.table["image_id"].to_list(), stored.vectors) for corpus, stored in corpora.items()
    }
    mapped, arrays = projection.fit_projection(
        {"twigma": (ids.to_list(), whole), **named}, MAP_SAMPLE, settings.seed
    )
    lake.write("projection_model", ArrayTable(mapped, arrays))
    summaries = {}
    for corpus, (names, vectors) in named.items():
        summaries[corpus] = _summarise(
            lake, "reference_summaries", corpus, names, vectors, book, corpus=corpus
        )
    human = {corpus: named[corpus] for corpus in HUMAN}
    for month in months:
        pictures = lake.read("dataset", month)["image_id"]
        vectors = lake.read_arrays("embeddings", month).take(pictures).vectors
        names = pictures.to_list()
        summary = _summarise(lake, "summaries", month, names, vectors, book, month=month)
        lake.write("variation_metrics", variation_tables.variation_metrics(summary, month), month)
        lake.write("divergences", divergence.month_divergences(month, summary, summaries), month)
        labels = cluster_model.assign_month(names, vectors, model.table, model.arrays["centroids"], month)
        lake.write("clusters", labels, month)
        lake.write("projection", projection.projection_table(month, names, vectors, mapped, arrays), month)
        lake.write("neighbors", neighbors.neighbors_table(month, names, vectors, human), month)


def _summarise(
    lake: Lake, table: str, key: str, names: list[str], vectors: np.ndarray, book: Codebook, **keys: str
) -> EmbeddingSummary:
    summary = EmbeddingSummary.from_embeddings(vectors, names, book)
    lake.write(table, ArrayTable(summary_row(summary, **keys), summary.to_arrays()), key)
    return summary
