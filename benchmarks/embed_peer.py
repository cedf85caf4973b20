"""One turn of clip-retrieval's inference, run by its own Python: its reader, mapper and writer on our shards.

    python embed_peer.py FOLDER MODEL CONFIG BATCH WORKERS

Prints its rate as JSON. Model and first batch are loaded before the clock starts. CONFIG is an architecture
to add to its open_clip, or "-".
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from all_clip import load_clip
from clip_retrieval.clip_inference.mapper import ClipMapper
from clip_retrieval.clip_inference.reader import WebdatasetReader
from clip_retrieval.clip_inference.writer import NumpyWriter


def add_architecture(file: str) -> None:
    """Make an architecture known by its file's name, with the preprocessing that open_clip drops of it."""
    config = json.loads(Path(file).read_text())
    plain = Path(file).with_name("plain") / Path(file).name
    plain.parent.mkdir(exist_ok=True)
    plain.write_text(json.dumps(config["model_cfg"]))
    open_clip.add_model_config(plain)
    build = open_clip.create_model_and_transforms
    look = config["preprocess_cfg"]

    def with_preprocessing(*arguments: object, **named: object) -> object:
        return build(*arguments, **named, image_mean=tuple(look["mean"]), image_std=tuple(look["std"]))

    open_clip.create_model_and_transforms = with_preprocessing
    # It warms up with a text; the plain tokenizer's ids are too large for a small vocabulary.
    length = config["model_cfg"]["text_cfg"]["context_length"]
    open_clip.get_tokenizer = lambda _: lambda texts: torch.zeros((len(texts), length), dtype=torch.long)


def main() -> None:
    """Take the turn."""
    folder, model, config, batch, workers = sys.argv[1:]
    if config != "-":
        add_architecture(config)
    _, preprocess, tokenizer = load_clip(clip_model=model, use_jit=False, warmup_batch_size=int(batch))
    mapper = ClipMapper(True, False, False, False, model, False, "", int(batch))
    shards = sorted(str(path) for path in Path(folder).glob("shards/images/*/*.tar"))
    out = Path(folder) / "peer"
    begun = time.perf_counter()
    reader = WebdatasetReader(
        lambda urls: urls, preprocess, tokenizer, shards, int(batch), int(workers), False, True, False
    )
    writer = NumpyWriter(0, str(out), False, True, False, 1)
    for item in reader:
        writer(mapper(item))
    writer.flush()
    seconds = time.perf_counter() - begun
    rows = len(np.load(next(out.glob("img_emb/*.npy"))))
    print(json.dumps({"rate": rows / seconds, "rows": rows}))


if __name__ == "__main__":
    main()
