"""From stored pictures and texts to the tables of vectors, captions and scores.

Reads pictures from their shards, hands them to a model, and says in the table which model it was. The
models themselves live in `twigma_core.models`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import polars as pl
from PIL import Image

from twigma_core.images.decode import open_picture
from twigma_core.images.shards import iter_pictures
from twigma_core.lake import ArrayTable, Lake

if TYPE_CHECKING:
    from twigma_core.models.blip import Captioner
    from twigma_core.models.clip import ClipEncoder
    from twigma_core.models.nsfw import NsfwScorer


def readable(ledger: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of a ledger (`images` or `reference_images`) whose picture opened, by id."""
    return ledger.filter(pl.col("status") == "ok").sort("image_id")


def open_pictures(lake: Lake, ledger: pl.DataFrame) -> Iterator[Image.Image]:
    """Yield the decoded pictures of a ledger's rows, in their order."""
    for _, data in iter_pictures(lake, ledger):
        yield open_picture(data)


def embed_pictures(lake: Lake, images: pl.DataFrame, encoder: ClipEncoder, month: str) -> ArrayTable:
    """Return table `embeddings` for a month's ledger, with `vectors` (n, d) float32, l2-normalised."""
    rows = readable(images)
    vectors = encoder.encode_images(open_pictures(lake, rows))
    table = rows.select("image_id", "sha256").with_columns(
        month=pl.lit(month), model=pl.lit(encoder.name), weights_sha256=pl.lit(encoder.weights_sha256)
    )
    return ArrayTable(table, {"vectors": vectors})


def embed_references(
    lake: Lake, images: pl.DataFrame, encoder: ClipEncoder, scorer: NsfwScorer | None, corpus: str
) -> ArrayTable:
    """Return table `reference_embeddings` of a corpus, with `vectors` (n, d) float32, l2-normalised."""
    rows = readable(images)
    vectors = encoder.encode_images(open_pictures(lake, rows))
    scores = None if scorer is None else scorer.score(vectors, clip_sha256=encoder.weights_sha256)
    table = rows.select("image_id", "sha256", "artist", "prompt_id").with_columns(
        corpus=pl.lit(corpus),
        nsfw_score=pl.lit(None, pl.Float32) if scores is None else pl.Series(scores, dtype=pl.Float32),
        model=pl.lit(encoder.name),
        weights_sha256=pl.lit(encoder.weights_sha256),
    )
    return ArrayTable(table, {"vectors": vectors})


def embed_texts(texts: pl.DataFrame, encoder: ClipEncoder) -> ArrayTable:
    """Return table `text_embeddings`, with `vectors` (n, d) float32, l2-normalised."""
    vectors = encoder.encode_texts(texts["text"].to_list())
    table = texts.select("text_id", "source", "words").with_columns(
        model=pl.lit(encoder.name), weights_sha256=pl.lit(encoder.weights_sha256)
    )
    return ArrayTable(table, {"vectors": vectors})


def caption_pictures(lake: Lake, images: pl.DataFrame, captioner: Captioner, month: str) -> pl.DataFrame:
    """Return table `captions` for a month's ledger."""
    rows = readable(images)
    captions = captioner.caption(open_pictures(lake, rows))
    return rows.select("image_id").with_columns(
        month=pl.lit(month),
        caption=pl.Series(captions, dtype=pl.String),
        model=pl.lit(captioner.name),
        weights_sha256=pl.lit(captioner.weights_sha256),
    )


def score_pictures(embeddings: ArrayTable, scorer: NsfwScorer) -> pl.DataFrame:
    """Return table `nsfw_scores` for a month's vectors.

    Raises:
        ValueError: the vectors are not those of the CLIP that the head was trained on.
    """
    weights = embeddings.table["weights_sha256"].unique().to_list()
    scores = scorer.score(embeddings.vectors, clip_sha256=weights[0] if weights else None)
    return embeddings.table.select("image_id", "month").with_columns(
        nsfw_score=pl.Series(scores, dtype=pl.Float32),
        model=pl.lit(scorer.name),
        weights_sha256=pl.lit(scorer.weights_sha256),
    )
