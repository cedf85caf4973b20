"""From stored pictures and texts to the tables of vectors, captions and scores.

Reads pictures from their shards, hands them to a model, and says in the table which model it was. Only what
is new goes through the model (`incremental`). The models themselves live in `twigma_core.models`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from PIL import Image

from twigma_core.images.decode import BadPicture, open_picture
from twigma_core.images.shards import iter_pictures
from twigma_core.incremental import MAKER, PIECE, Effort, Maker, Work, fill
from twigma_core.lake import ArrayTable
from twigma_core.models.pipeline import Meter, ahead

if TYPE_CHECKING:
    from twigma_core.models.blip import Captioner
    from twigma_core.models.clip import ClipEncoder
    from twigma_core.models.nsfw import NsfwScorer

READ_AT_ONCE = 128
"""Pictures that are read together, while as many are used and as many wait: some tens of megabytes."""
Stored = tuple[str, str, bytes]
"""A stored picture: its id, the sha256 that its ledger names, its bytes."""


def readable(ledger: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of a ledger (`images` or `reference_images`) whose picture opened, by id."""
    return ledger.filter(pl.col("status") == "ok").sort("image_id")


def embed_pictures(work: Work, images: pl.DataFrame, encoder: ClipEncoder) -> tuple[ArrayTable, Effort]:
    """Return table `embeddings` for a month's ledger, with `vectors` (n, d) float32, l2-normalised."""
    rows = readable(images)
    vectors, effort = _vectors(work, rows, encoder)
    table = _made_by(rows.select("image_id", "sha256"), _maker(encoder))
    return ArrayTable(table.with_columns(month=pl.lit(work.partition)), {"vectors": vectors}), effort


def embed_references(
    work: Work, images: pl.DataFrame, encoder: ClipEncoder, scorer: NsfwScorer | None
) -> tuple[ArrayTable, Effort]:
    """Return table `reference_embeddings` of a corpus, with `vectors` (n, d) float32, l2-normalised.

    Raises:
        ValueError: the head was trained on the embeddings of another CLIP.
    """
    rows = readable(images)
    if scorer is not None:
        scorer.check_clip(encoder.name, encoder.weights_sha256)
    vectors, effort = _vectors(work, rows, encoder)
    scores = None if scorer is None else scorer.score(vectors, encoder.name, encoder.weights_sha256)
    table = _made_by(rows.select("image_id", "sha256", "artist", "prompt_id"), _maker(encoder))
    table = table.with_columns(
        corpus=pl.lit(work.partition),
        nsfw_score=pl.lit(None, pl.Float32) if scores is None else pl.Series(scores, dtype=pl.Float32),
    )
    return ArrayTable(table, {"vectors": vectors}), effort


def embed_texts(work: Work, texts: pl.DataFrame, encoder: ClipEncoder) -> tuple[ArrayTable, Effort]:
    """Return table `text_embeddings`, with `vectors` (n, d) float32, l2-normalised."""
    words = texts["text"].to_list()
    keys = [hashlib.sha256(text.encode()).hexdigest() for text in words]
    vectors = np.empty((len(words), encoder.dim), np.float32)

    def compute(rows: list[int], meter: Meter) -> Iterator[np.ndarray]:
        return encoder.stream_texts((words[row] for row in rows), meter)

    effort = fill(work, _maker(encoder), keys, "vectors", vectors, compute, device=encoder.placement.name)
    table = texts.select("text_id", "source", "words").with_columns(sha256=pl.Series(keys, dtype=pl.String))
    return ArrayTable(_made_by(table, _maker(encoder)), {"vectors": vectors}), effort


def caption_pictures(work: Work, images: pl.DataFrame, captioner: Captioner) -> tuple[pl.DataFrame, Effort]:
    """Return table `captions` for a month's ledger."""
    rows = readable(images)
    captions = np.empty(rows.height, object)

    def compute(chosen: list[int], meter: Meter) -> Iterator[list[str]]:
        return captioner.stream(stored_pictures(work, rows[chosen]), open_stored, meter)

    maker, device = _maker(captioner), captioner.placement.name
    effort = fill(work, maker, _keys(rows), "caption", captions, compute, _shards(rows), device)
    table = _made_by(rows.select("image_id", "sha256"), maker).with_columns(
        month=pl.lit(work.partition), caption=pl.Series(captions.tolist(), dtype=pl.String)
    )
    return table, effort


def score_pictures(work: Work, embeddings: ArrayTable, scorer: NsfwScorer) -> tuple[pl.DataFrame, Effort]:
    """Return table `nsfw_scores` for a month's vectors.

    Raises:
        ValueError: the vectors are not those of the CLIP that the head was trained on.
    """
    clips = [Maker(*row) for row in embeddings.table.select(MAKER).unique().sort(MAKER).iter_rows()]
    for clip in clips:
        scorer.check_clip(clip.name, clip.weights_sha256)
    # A score is of a vector, so what made the vector is part of what made the score.
    of = [f"{clip.name} {clip.weights_sha256[:16]} {clip.settings}" for clip in clips]
    maker = Maker(scorer.name, scorer.weights_sha256, f"{scorer.settings}, of {', '.join(of)}")
    scores = np.empty(embeddings.table.height, np.float32)

    def compute(rows: list[int], meter: Meter) -> Iterator[np.ndarray]:
        for start in range(0, len(rows), PIECE):
            yield scorer.score(embeddings.vectors[rows[start : start + PIECE]])

    effort = fill(work, maker, _keys(embeddings.table), "nsfw_score", scores, compute)
    table = _made_by(embeddings.table.select("image_id", "month", "sha256"), maker)
    return table.with_columns(nsfw_score=pl.Series(scores, dtype=pl.Float32)), effort


def stored_pictures(work: Work, rows: pl.DataFrame) -> Iterator[Stored]:
    """Yield the stored pictures of a ledger's rows, in order; some are read while those before are used.

    Raises:
        LookupError: a shard is gone, or ends too early.
    """

    def read(some: pl.DataFrame) -> list[Stored]:
        files = iter_pictures(work.lake, some)
        return [(name, sha256, data) for (name, data), sha256 in zip(files, some["sha256"], strict=True)]

    for files in ahead(rows.iter_slices(READ_AT_ONCE), read, depth=1, workers=1):
        yield from files


def open_stored(stored: Stored) -> Image.Image:
    """Decode a stored picture, if its bytes are those that its ledger names.

    Raises:
        LookupError: they are not, or are no picture.
    """
    image_id, sha256, data = stored
    try:
        if hashlib.sha256(data).hexdigest() == sha256:
            return open_picture(data)
        reason = "its stored bytes have another sha256 than its ledger"
    except BadPicture as error:
        reason = str(error)
    raise LookupError(f"picture {image_id}: {reason}; materialize the pictures again")


def _vectors(work: Work, rows: pl.DataFrame, encoder: ClipEncoder) -> tuple[np.ndarray, Effort]:
    """The pictures' (n, d) float32 vectors."""
    vectors = np.empty((rows.height, encoder.dim), np.float32)

    def compute(chosen: list[int], meter: Meter) -> Iterator[np.ndarray]:
        return encoder.stream(stored_pictures(work, rows[chosen]), open_stored, meter)

    device = encoder.placement.name
    effort = fill(work, _maker(encoder), _keys(rows), "vectors", vectors, compute, _shards(rows), device)
    return vectors, effort


def _keys(rows: pl.DataFrame) -> list[str]:
    return rows["sha256"].to_list()


def _shards(rows: pl.DataFrame) -> list[tuple[str, int]]:
    return rows.select("shard", "offset").rows()


def _maker(model: ClipEncoder | Captioner) -> Maker:
    return Maker(model.name, model.weights_sha256, model.settings)


def _made_by(table: pl.DataFrame, maker: Maker) -> pl.DataFrame:
    """The table with the columns that say what made its rows."""
    return table.with_columns(
        model=pl.lit(maker.name),
        weights_sha256=pl.lit(maker.weights_sha256),
        settings=pl.lit(maker.settings),
    )
