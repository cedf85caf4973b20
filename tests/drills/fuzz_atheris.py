"""A coverage-guided run over one of `fuzz_targets`.

`python -m tests.drills.fuzz_atheris TARGET SECONDS FOLDER` goes on until the time is over. A finding ends it
with a traceback; the bytes lie in FOLDER as crash-, timeout- or oom- and a hash.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import atheris

from tests.drills.mutations import damage

OURS = ["twigma_core.collect", "twigma_core.images", "twigma_core.references"]
with atheris.instrument_imports(include=OURS):
    from tests.drills.fuzz_targets import TARGETS


def main() -> None:
    """Run until the time is over or something is found."""
    name, seconds, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    target = TARGETS[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds):
        (corpus / str(number)).write_bytes(seed)

    def check(data: bytes) -> None:
        target.run(data, folder / "x")

    def change(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        if target.mutate is damage or random.random() < 0.5:
            return target.mutate(data, random)[:longest]
        return bytes(atheris.Mutate(data, longest))

    limits = [f"-max_total_time={seconds}", "-timeout=120", "-rss_limit_mb=3000", "-max_len=50000"]
    quiet = ["-print_final_stats=0", "-verbosity=1"]
    arguments = [sys.argv[0], *limits, *quiet, f"-artifact_prefix={folder}/", str(corpus)]
    atheris.Setup(arguments, check, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
