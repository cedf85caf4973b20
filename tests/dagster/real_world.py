"""Real posts, pictures and texts arranged as a user would have them.

The pairing is invented: the shared pictures are not those of the shared posts. Each post's media name is
answered with one of the AI pictures, chosen by a hash of the name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.loopback import Quiet, listening

ENDINGS = {".jpg", ".jpeg", ".png"}
TEXTS = {
    "captions.csv": "captions_flickr8k.csv",
    "haiku.csv": "haiku_sballas8.csv",
    "prompts.csv": "prompts_krea_sd_1k.csv",
    "tweets.csv": "tweets_midjourney_2022-11-08.csv",
    "news.csv": "cnn_dailymail_validation_1000.csv",
    "book.txt": "book_alice_11.txt",
}


class _Media(Quiet):
    """Answers /media/<name> with what `answer` gives for the name; nothing is a 404."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, answer: Callable[[str], bytes]) -> None:
        self.answer = answer
        super().__init__(*arguments)

    def do_GET(self) -> None:
        name = self.path.split("?")[0].rpartition("/")[2].partition(".")[0]
        body = self.answer(name)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve(answer: Callable[[str], bytes]) -> AbstractContextManager[str]:
    """Serve media on loopback; give the server's address."""
    return listening(partial(_Media, answer=answer))


@contextmanager
def media_server(shared: Path) -> Iterator[str]:
    """Serve AI pictures for any media name; every 40th name does not exist."""
    pictures = sorted(p for p in (shared / "pictures" / "ai").rglob("*") if p.suffix.lower() in ENDINGS)

    def answer(name: str) -> bytes:
        number = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
        return b"" if number % 40 == 0 else pictures[number % len(pictures)].read_bytes()

    with serve(answer) as url:
        yield url


def arrange(shared: Path, folder: Path) -> Path:
    """Lay out reference corpora and text sources below `folder` by links; return it."""
    pictures = shared / "pictures"
    corpora = {
        "laion": pictures / "photo" / "imagenet_sample",
        "artbench": pictures / "art" / "wikiart224",
        "diffusiondb": pictures / "ai" / "dalle2_eudoxia0",
    }
    (folder / "texts").mkdir(parents=True)
    for corpus, place in corpora.items():
        (folder / corpus).symlink_to(place, target_is_directory=True)
    for name, original in TEXTS.items():
        (folder / "texts" / name).symlink_to(shared / "texts" / original)
    return folder
