"""How the graph is cut: months of posts, reference corpora, text sources. Nothing else belongs here."""

from __future__ import annotations

import dagster as dg

from twigma_core.tables import CORPORA, TEXT_SOURCES
from twigma_dagster.settings import load_settings

MONTHS = dg.MonthlyPartitionsDefinition(start_date=load_settings().first_month, fmt="%Y-%m")
REFERENCE_CORPORA = dg.StaticPartitionsDefinition(list(CORPORA))
SOURCES_OF_TEXT = dg.StaticPartitionsDefinition(list(TEXT_SOURCES))

EVERY = dg.AllPartitionMapping()
"""All partitions that exist."""

_MONTHLY = (
    *("raw_tweets", "tweets", "tweet_media", "tweet_counts", "snapshots", "images", "embeddings", "captions"),
    *("fingerprints", "lookalikes"),
    *("nsfw_scores", "dataset", "drops", "summaries", "clusters", "projection", "divergences"),
    *("variation_metrics", "neighbors"),
)
_BY_CORPUS = ("reference_images", "reference_embeddings", "reference_summaries")
_BY_TEXT_SOURCE = ("texts", "text_embeddings")
PARTITIONS: dict[str, dg.PartitionsDefinition] = {
    **dict.fromkeys(_MONTHLY, MONTHS),
    **dict.fromkeys(_BY_CORPUS, REFERENCE_CORPORA),
    **dict.fromkeys(_BY_TEXT_SOURCE, SOURCES_OF_TEXT),
}
"""How each partitioned table is cut; a table that is not here covers the whole dataset."""
