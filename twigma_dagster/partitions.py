"""How the graph is cut: months of posts, reference corpora, text sources. Nothing else belongs here."""

from __future__ import annotations

import dagster as dg

from twigma_core.tables import CORPORA, TEXT_SOURCES
from twigma_dagster.settings import load_settings

MONTHS = dg.MonthlyPartitionsDefinition(start_date=load_settings().first_month, fmt="%Y-%m")
REFERENCE_CORPORA = dg.StaticPartitionsDefinition(list(CORPORA))
SOURCES_OF_TEXT = dg.StaticPartitionsDefinition(list(TEXT_SOURCES))

_FARTHEST_BACK = (
    len(MONTHS.get_partition_keys()) + 120
)  # Dagster walks every month of the offset: keep it short
UP_TO_THIS_MONTH = dg.TimeWindowPartitionMapping(
    start_offset=-_FARTHEST_BACK, allow_nonexistent_upstream_partitions=True
)
"""This month and all before it: a duplicate is dropped in favour of its first posting."""

EVERY = dg.AllPartitionMapping()
"""All partitions that exist."""

_MONTHLY = (
    *("raw_tweets", "tweets", "tweet_media", "tweet_counts", "images", "embeddings", "captions"),
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
