"""Embedding stored pictures beside the bare forward pass and clip-retrieval's inference, taking turns.

    python -m benchmarks.embed                       # the whole comparison; docs/performance.md shows it
    python -m benchmarks.embed --count 200 --rounds 1 --no-peer
    python -m benchmarks.embed --model ViT-L-14      # on a GPU box, with the real weights

All read the same tar shards of JPEGs with the same weights. *Ours* is what a step of `embeddings` does: read,
check sha256, decode, resize, embed, keep finished pieces. *Bare* is the model alone on one batch that is
ready on the device, over and over: what the device could give. *Peer* is clip-retrieval's own reader, mapper
and writer, once as it comes and once set up for this machine. Models are loaded and warm before the clock
starts. Ours and bare take turns in one process, slice by slice, so that what else runs on the machine slows
both; the peer has processes of its own. Medians over rounds are printed.

*Bound* is what ours / bare can be at most where no core is idle: opening and resizing a picture takes CPU
time from the forward pass, which leaves T_forward / (T_forward + T_prepare). A large model leaves nothing of
it to see: a ViT-L/14 with random weights, as fast as with its own, has a turn of a few pictures too.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from PIL import Image

from benchmarks import results
from benchmarks.processes import ROOT, machine, peer
from twigma_core import features
from twigma_core.images.decode import open_picture
from twigma_core.images.shards import write_shards
from twigma_core.incremental import Work
from twigma_core.lake import Lake
from twigma_core.models import pipeline, runtime, weights
from twigma_core.models.clip import ClipEncoder
from twigma_core.sample.drawing import draw, random_scene

if TYPE_CHECKING:
    import torch

PEER = ("clip-retrieval==2.45.0", "setuptools<81", "numpy==1.26.4")
PEERS_OWN = {"batch": 256, "workers": 4}
"""What clip-retrieval chooses where one says nothing."""
MONTH = "2021-01"
QUALITIES = (70, 78, 84, 90, 95)
SHARDS = 12
"""A month has several, and the peer needs one a worker at least."""
Turn = dict[str, float]
KEYS = ("ours", "bare", "busy", "ratio", "prepare_s", "forward_s", "bound")


def lay_out(folder: Path, count: int, side: int) -> None:
    """Draw `count` different pictures of `side` pixels and store them as a month would be."""
    files = []
    for seed in range(-(-count // len(QUALITIES))):
        image = draw(random_scene(np.random.default_rng(seed)), side)
        for quality in QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality)
            files.append(buffer.getvalue())
    files = files[:count]
    items = [(f"{number:06}.jpg", data) for number, data in enumerate(files)]
    size = sum(len(data) + 1024 for data in files) // SHARDS
    places = write_shards(Lake(folder), f"shards/images/{MONTH}", items, size)
    pl.DataFrame(
        {
            "image_id": [f"{number:06}" for number in range(count)],
            "status": "ok",
            "sha256": [hashlib.sha256(data).hexdigest() for data in files],
            "shard": [place.shard for place in places],
            "offset": [place.offset for place in places],
            "bytes": [place.bytes for place in places],
        }
    ).write_parquet(folder / "images.parquet")


def ours(folder: Path, encoder: ClipEncoder, slices: int) -> Turn:
    """Embed the month as a step does, in slices, and run the bare model for as many pictures after each."""
    images = pl.read_parquet(folder / "images.parquet")
    rates: dict[str, list[float]] = {"ours": [], "bare": [], "busy": []}
    made = []
    for part in images.iter_slices(-(-images.height // slices)):
        work = Work(Lake(folder), "embeddings", MONTH, reuse=False)
        begun = time.perf_counter()
        table, effort = features.embed_pictures(work, part, encoder)
        rates["ours"].append(part.height / (time.perf_counter() - begun))
        rates["busy"].append(effort.meter.busy)
        rates["bare"].append(bare(encoder, part.height))
        made.append(table.vectors)
        work.finish()
    turn = {name: statistics.median(values) for name, values in rates.items()}
    turn["ratio"] = statistics.median(a / b for a, b in zip(rates["ours"], rates["bare"], strict=True))
    turn |= costs(encoder, folder, images)
    turn["pixels"], turn["wrong"] = differences(folder, encoder, images, np.concatenate(made))
    return turn


def bare(encoder: ClipEncoder, count: int) -> float:
    """Return how many pictures a second the model alone does."""
    import torch

    size, device = encoder.placement.batch_size, encoder.placement.devices[0]
    shape = encoder.normalized(encoder.pixels(Image.new("RGB", (64, 64)))).shape
    ready = torch.rand((size, *shape)).to(device)
    forward(encoder, ready).cpu()
    begun = time.perf_counter()
    for _ in range(-(-count // size)):
        out = forward(encoder, ready)
    out.cpu()  # a GPU is done when its last result is here
    return count / (time.perf_counter() - begun)


def costs(encoder: ClipEncoder, folder: Path, images: pl.DataFrame, most: int = 200) -> Turn:
    """Return the CPU seconds to prepare a picture and to bring it through the model, and the bound of those.

    On a GPU there is no bound: the pictures are prepared by the CPU, which the model leaves alone.
    """
    stored = list(features.stored_pictures(Work(Lake(folder), "embeddings", MONTH), images.head(most)))
    begun = time.process_time()
    for one in stored:
        encoder.normalized(encoder.pixels(features.open_stored(one)))
    prepare = (time.process_time() - begun) / len(stored)
    size = encoder.placement.batch_size
    padded = -(-len(stored) // size) * size
    begun = time.process_time()
    bare(encoder, padded)
    through = (time.process_time() - begun) / (padded + size)  # one batch warms up
    bound = 1.0 if encoder.placement.on_gpu else through / (through + prepare)
    return {"prepare_s": prepare, "forward_s": through, "bound": bound}


def forward(encoder: ClipEncoder, x: torch.Tensor) -> torch.Tensor:
    """The model alone on a batch that is on the device."""
    from torch.nn import functional

    model = encoder._models[encoder.placement.devices[0]]
    with runtime.exact(encoder._threads):
        return functional.normalize(model.encode_image(x.to(encoder._dtype)).float(), dim=-1)


def differences(
    folder: Path, encoder: ClipEncoder, images: pl.DataFrame, made: np.ndarray
) -> tuple[int, int]:
    """Compare some batches with what Pillow and open_clip's own transform make of the same files.

    Returns:
        Pictures that the model sees otherwise, and vectors that differ in any bit from those of the model
        on what they make.
    """
    import torch

    size = encoder.placement.batch_size
    files = [data for *_, data in features.stored_pictures(Work(Lake(folder), "embeddings", MONTH), images)]
    pixels = wrong = 0
    for start in range(0, len(files), size * max(1, len(files) // size // 8)):
        some = files[start : start + size]
        x = torch.stack([encoder.preprocess(Image.open(io.BytesIO(data)).convert("RGB")) for data in some])
        seen = [encoder.normalized(encoder.pixels(open_picture(data))) for data in some]
        pixels += int((torch.from_numpy(np.stack(seen)) != x).flatten(1).any(1).sum())
        there = forward(encoder, pipeline.padded(x, size).to(encoder.placement.devices[0]))
        wrong += int((there[: len(some)].cpu().numpy() != made[start : start + len(some)]).any(axis=1).sum())
    return pixels, wrong


def take_turn(who: str, folder: Path, arguments: argparse.Namespace, python: Path | None) -> Turn:
    """Run one turn in a process of its own; return what it says of itself."""
    environment = {**os.environ, "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1")}
    if who == "ours":
        command = [sys.executable, "-m", "benchmarks.embed", "--turn", "--folder", str(folder)]
        command += ["--model", arguments.model, "--batch-size", str(arguments.batch_size)]
        command += ["--slices", str(arguments.slices)]
    else:
        batch, workers = PEERS_OWN["batch"], PEERS_OWN["workers"]
        if who == "peer, set up":  # our batch, a core left to the model, and one thread for a small model
            placement = runtime.place("auto", "auto", arguments.batch_size or None, 16, 256)
            batch, workers = placement.batch_size, max(1, runtime.cores() - 1)
            if arguments.model == weights.SAMPLE:
                environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        script = str(ROOT / "benchmarks" / "embed_peer.py")
        command = [str(python), script, str(folder), *model_of_peer(folder, arguments.model)]
        command += [str(batch), str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{who} ended with {done.returncode}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def model_of_peer(folder: Path, model: str) -> list[str]:
    """Return how clip-retrieval is to load the model: its name and, of the shipped one, its configuration.

    It knows no folders, so the shipped architecture is added to those of its open_clip by a file.
    """
    if model != weights.SAMPLE:
        return [f"open_clip:{model}/openai", "-"]
    home = weights.sample_weights("clip")
    config = json.loads((home / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"].pop("hf_tokenizer_name", None)  # its texts are left out
    file = folder / "sample-clip.json"
    file.write_text(json.dumps(config))
    return [f"open_clip:sample-clip/{home / 'open_clip_model.safetensors'}", str(file)]


def with_random_weights(architecture: str, folder: Path) -> Path:
    """Write an architecture of open_clip with random weights, as a folder that `ClipEncoder` takes."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    with runtime.quiet():
        model = open_clip.create_model(architecture)
    config = {"model_cfg": open_clip.get_model_config(architecture), "preprocess_cfg": {}}
    home = folder / f"random-{architecture}"
    home.mkdir()
    (home / "open_clip_config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), home / "open_clip_model.safetensors")
    return home


def compare(folder: Path, arguments: argparse.Namespace, python: Path | None) -> dict[str, list[Turn]]:
    """Let all take turns; return each one's turns."""
    names = ["ours", *(["peer, as it comes", "peer, set up"] if python else [])]
    taken: dict[str, list[Turn]] = {name: [] for name in names}
    for number in range(arguments.rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            taken[name].append(take_turn(name, folder, arguments, python))
    return taken


def show(taken: dict[str, list[Turn]]) -> Turn:
    """Print medians and ratios; return them."""

    def median(turns: list[Turn], key: str) -> float:
        return statistics.median(turn[key] for turn in turns)

    def line(name: str, turns: list[Turn], key: str) -> None:
        rounds = ", ".join(f"{turn[key]:.1f}" for turn in turns)
        print(f"  {name:<18} {median(turns, key):8.1f} pictures/s  (rounds {rounds})")

    mine = taken["ours"]
    line("ours", mine, "ours")
    line("bare forward pass", mine, "bare")
    found = {key: median(mine, key) for key in KEYS}
    found |= {key: max(turn[key] for turn in mine) for key in ("pixels", "wrong")}
    for name, turns in taken.items():
        if name != "ours":
            line(name, turns, "rate")
            found[name] = statistics.median(a["ours"] / b["rate"] for a, b in zip(mine, turns, strict=True))
            print(f"  ours / {name}: {found[name]:.2f}")
    print(f"  ours / bare: {found['ratio']:.3f}; the forward pass ran {found['busy']:.1%} of our time")
    print(
        f"  CPU a picture: {1000 * found['prepare_s']:.2f} ms to prepare, {1000 * found['forward_s']:.2f} ms "
        f"forward; so ours / bare is at most {found['bound']:.3f} where no core is idle"
    )
    print(f"  seen otherwise than through open_clip's transform: {found['pixels']:.0f} pictures")
    print(f"  differ in any bit from vectors made through that: {found['wrong']:.0f}")
    return found


def main(given: list[str] | None = None) -> dict[str, Turn]:
    """Run the comparison, or one turn of it; return what was found of each model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=3000, help="pictures")
    parser.add_argument("--side", type=int, default=256, help="their width and height in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=6, help="after each of which bare has its turn")
    parser.add_argument("--model", default=weights.SAMPLE, help="sample, or an architecture of open_clip")
    parser.add_argument("--batch-size", type=int, default=0, help="0 is the model's default")
    parser.add_argument("--no-peer", action="store_true", help="ours and the bare forward pass alone")
    parser.add_argument("--large", default="ViT-L-14", help="architecture with random weights; '' for none")
    parser.add_argument("--large-count", type=int, default=32, help="pictures for it")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--turn", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.turn:
        encoder = ClipEncoder(arguments.model, batch_size=arguments.batch_size or None)
        encoder.encode_images([Image.new("RGB", (64, 64))] * encoder.placement.batch_size)
        print(json.dumps(ours(arguments.folder, encoder, arguments.slices)))
        return {}
    python = None if arguments.no_peer else peer("clip-retrieval", *PEER)
    place = runtime.place("auto", "auto", None, 16, 256)
    print(f"{machine()}; models on {place.name}, {place.dtype}; {'no peer' if python is None else PEER[0]}")
    found = {arguments.model: one_model(arguments, python)}
    if arguments.large:
        with tempfile.TemporaryDirectory(prefix="twigma-bench-") as folder:
            large = argparse.Namespace(**vars(arguments))
            large.model = str(with_random_weights(arguments.large, Path(folder)))
            large.count, large.rounds, large.slices = arguments.large_count, 1, 1
            found[f"{arguments.large}, random weights"] = one_model(large, None)
    results.keep("embed", found, arguments.json)
    return found


def one_model(arguments: argparse.Namespace, python: Path | None) -> Turn:
    """Compare all with one model; print and return what was found."""
    with tempfile.TemporaryDirectory(prefix="twigma-bench-") as folder:
        lay_out(Path(folder), arguments.count, arguments.side)
        print(f"\n{arguments.count} JPEGs of {arguments.side} px, {Path(arguments.model).name}")
        return show(compare(Path(folder), arguments, python))


if __name__ == "__main__":
    main()
