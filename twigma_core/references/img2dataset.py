"""img2dataset's shards (webdataset): tars of `<key>.jpg`, `.txt` and `.json`, a Parquet table beside each.

What belongs here: finding pictures and captions in such tars. What they mean to a corpus (a title, a prompt)
is the importer's to say. Nothing is unpacked: a row holds where in the tar the picture's bytes lie.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from twigma_core.parquet import read_columns, refusing
from twigma_core.references.rows import PICTURE_SUFFIXES, CorpusError, ReferenceRow

_LONGEST_TEXT = 100_000


@dataclass
class _Sample:
    """What a shard holds of one key: where the picture lies, its caption, why there is no picture."""

    member: tarfile.TarInfo | None = None
    suffix: str = ""
    caption: str | None = None
    texts: dict[str, str] = field(default_factory=dict)
    reason: str | None = None


def shards_of(folder: Path) -> list[Path]:
    """Return the tars below a folder, sorted."""
    return sorted(path for path in folder.rglob("*.tar") if not path.name.startswith("."))


def read_shards(folder: Path) -> Iterator[ReferenceRow]:
    """Yield a row for each key of the shards below a folder; `title` is the caption.

    The caption is the first of: `caption` (or `text`, `prompt`) of the Parquet table beside the tar, the
    `.txt` member, `caption` in the `.json` member. A key of the table without a picture has img2dataset's
    own words for why (`status`, `error_message`) and no path.

    Raises:
        CorpusError: a tar or table cannot be read.
    """
    for shard in shards_of(folder):
        inside = shard.relative_to(folder).with_suffix("").as_posix()
        samples = _members(shard)
        _add_table(shard, samples)
        for key in sorted(samples):
            yield _row(shard, f"{inside}/{key}", samples[key])


def _members(shard: Path) -> dict[str, _Sample]:
    """Return what a tar holds by key: places of pictures, and the texts beside them."""
    samples: dict[str, _Sample] = {}
    try:
        # Uncompressed only: a picture is then a range of the file, read later without the tar.
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if not member.isreg() or path.name.startswith("."):
                    continue
                key, _, rest = path.name.partition(".")  # webdataset: a key ends at the first dot
                key = (path.parent / key).as_posix().lstrip("/").replace("..", "_")
                sample = samples.setdefault(key, _Sample())
                suffix = f".{rest.lower()}"
                if suffix in PICTURE_SUFFIXES and sample.member is None:
                    sample.member, sample.suffix = member, suffix
                elif rest.lower() in ("txt", "json") and member.size <= _LONGEST_TEXT:
                    file = tar.extractfile(member)
                    sample.texts[rest.lower()] = file.read().decode("utf-8", "replace") if file else ""
    except (tarfile.TarError, OSError) as error:
        raise CorpusError(
            f"shard {shard} cannot be read as an uncompressed tar: {error}; fetch it again or remove it"
        ) from error
    return samples


def _add_table(shard: Path, samples: dict[str, _Sample]) -> None:
    """Add captions and failures from the Parquet table beside a tar, where there is one."""
    path = shard.with_suffix(".parquet")
    if not path.exists():
        return

    def choose(columns: list[str]) -> dict[str, str | None]:
        lower = {name.lower(): name for name in columns}
        if "key" not in lower:
            raise CorpusError(f"table {path} has no column key; it has {', '.join(columns)}")
        caption = next((lower[name] for name in ("caption", "text", "prompt") if name in lower), None)
        others = {name: lower.get(name) for name in ("status", "error_message")}
        return {"key": lower["key"], "caption": caption, **others}

    with refusing(CorpusError, f"table {path}", "mend or remove it"):
        chosen = read_columns(path, choose)
    for key, text, status, words in chosen.iter_rows():
        if key is None:
            continue
        sample = samples.setdefault(key, _Sample())
        sample.caption = text
        sample.reason = ": ".join(part for part in (status, words) if part) or None


def _row(shard: Path, image_id: str, sample: _Sample) -> ReferenceRow:
    title = (sample.caption or sample.texts.get("txt") or _caption_in(sample.texts.get("json")) or "").strip()
    if sample.member is None:
        said = sample.reason or "the shard has texts of it and no picture"
        return ReferenceRow(image_id, None, title=title or None, reason=f"{shard.name}: {said}")
    return ReferenceRow(
        f"{image_id}{sample.suffix}",
        shard,
        title=title or None,
        offset=sample.member.offset_data,
        length=sample.member.size,
    )


def _caption_in(text: str | None) -> str | None:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    caption = found.get("caption") if isinstance(found, dict) else None
    return caption if isinstance(caption, str) else None
