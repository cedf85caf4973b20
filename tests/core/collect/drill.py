"""A collection from the first page to the last picture, as a process of its own that may be killed.

Imports neither Dagster nor a model, so that a process starts in no time.
"""

from __future__ import annotations

from pathlib import Path

from twigma_core.collect.budget import Budget
from twigma_core.collect.pages import PageStore
from twigma_core.collect.parse import parse_pages
from twigma_core.collect.search import collect_month
from twigma_core.collect.x_api import Tier, XClient
from twigma_core.images.download import download, tidy
from twigma_core.images.fetch import FetchPolicy
from twigma_core.lake import Lake

MONTH = "2021-02"
TAGS = ("aiart", "dalle", "dalle2", "generativeart", "midjourney", "stablediffusion")
TABLES = ("raw_tweets", "tweets", "tweet_media", "images")
PAGE = Tier("all", 1024, 10)


def collect(root: Path, url: str, backoff_s: float = 0.5) -> None:
    """Collect a month of the sample world into the lake at `root`, going on where an earlier run ended."""
    lake = Lake(root)
    client = XClient("sample", url, tier=PAGE, pace_s=0, say=lambda words: None, backoff_s=backoff_s)
    found = collect_month(client, lake, MONTH, TAGS, Budget(), lambda words: None)
    lake.write("raw_tweets", found.pages, MONTH)
    parsed = parse_pages(PageStore(lake, MONTH).pages(), MONTH, TAGS)
    lake.write("tweets", parsed.tweets, MONTH)
    lake.write("tweet_media", parsed.media, MONTH)
    before = lake.read("images", MONTH) if lake.has("images", MONTH) else None
    policy = FetchPolicy(rewrite={"pbs.twimg.com": url}, backoff_s=backoff_s)
    ledger = download(parsed.media, before, lake, MONTH, policy=policy, shard_bytes=100_000)
    lake.write("images", ledger, MONTH)
    tidy(lake, MONTH, ledger)
