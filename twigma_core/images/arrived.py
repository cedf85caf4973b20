"""Pictures that were fetched and lie in no shard yet, on disk: a killed run does not ask for them again.

What belongs here: keeping and finding them. What does not: fetching (`fetch`), packing (`shards`).

A file `arrived-<number>.part` beside the shards holds one outcome after the other, as they come in: a line of
JSON, then the picture's bytes. It is appended to without a flush of its own, which costs little and lasts
through the death of the process; what a power failure cuts off is not what its sha256 says, and is fetched
again. An object store cannot append, so there nothing is kept but finished shards.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from tempfile import SpooledTemporaryFile

from twigma_core.images.decode import PictureInfo
from twigma_core.images.fetch import SPOOL, Outcome
from twigma_core.lake import Lake

FILE = re.compile(r".*/arrived-(\d+)\.part")
_LONGEST_LINE = 2**16
_SAID = ("status", "reason", "url", "http_status", "attempts")


@dataclass(frozen=True)
class _Kept:
    outcome: Outcome
    file: str
    offset: int


@dataclass
class Arrived:
    """What has arrived of a month and lies in no shard; one process at a time.

    Attributes:
        lake: where it is kept.
        folder: of the month's shards.
    """

    lake: Lake
    folder: str
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _files: dict[str, set[str]] = field(default_factory=dict)
    _number: int = 0

    def __post_init__(self) -> None:
        for file in arrived_files(self.lake, self.folder):
            self._number = max(self._number, int(FILE.sub(r"\1", file)) + 1)
            self._read(file)

    def _read(self, file: str) -> None:
        at = 0
        self._files[file] = set()
        while line := self.lake.read_bytes(file, at, _LONGEST_LINE).partition(b"\n")[0]:
            try:
                said = json.loads(line)
                image_id, info = said.pop("image_id"), said.pop("info")
                outcome = Outcome(**said, info=PictureInfo(**info) if info else None)
            except (ValueError, KeyError, TypeError):  # cut off
                return
            at += len(line) + 1
            self._kept[image_id] = _Kept(outcome, file, at)
            self._files[file].add(image_id)
            at += outcome.info.bytes if outcome.info else 0

    @property
    def ids(self) -> list[str]:
        """The pictures that were kept, in the order in which they came; the last of a file may be cut off."""
        return list(self._kept)

    def get(self, image_id: str) -> Outcome | None:
        """Return what became of a picture, with its bytes; None if it has not arrived whole."""
        kept = self._kept.get(image_id)
        if kept is None or kept.outcome.info is None:
            return kept.outcome if kept else None
        data = self.lake.read_bytes(kept.file, kept.offset, kept.outcome.info.bytes)
        if hashlib.sha256(data).hexdigest() != kept.outcome.info.sha256:
            return None
        body = SpooledTemporaryFile(SPOOL)  # noqa: SIM115 - whoever takes the body closes it
        body.write(data)
        return replace(kept.outcome, body=body)

    def add(self, image_id: str, outcome: Outcome) -> None:
        """Keep what became of a picture."""
        said = {name: getattr(outcome, name) for name in _SAID}
        info = asdict(outcome.info) if outcome.info else None
        data = json.dumps({"image_id": image_id, **said, "info": info}).encode() + b"\n"
        if outcome.body is not None:
            outcome.body.seek(0)
            data += outcome.body.read()
        file = f"{self.folder}/arrived-{self._number:05d}.part"
        if self.lake.append(file, data):
            self._files.setdefault(file, set()).add(image_id)

    def settled(self, ids: Collection[str]) -> None:
        """Begin another file; remove those of which every picture is among `ids`, which the journal has."""
        for file in [file for file, held in self._files.items() if held <= set(ids)]:
            self.lake.remove(file)
            del self._files[file]
        self._number += 1


def arrived_files(lake: Lake, folder: str) -> list[str]:
    """Return the files of what has arrived in a folder of shards."""
    return [file for file in lake.list_files(folder) if FILE.fullmatch(file)]
