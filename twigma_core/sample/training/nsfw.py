"""Train the sample world's NSFW head: the censored figure, told from the small CLIP's embeddings.

``python -m twigma_core.sample.training.nsfw --out twigma_core/sample/weights/nsfw``

The tensors have the names of LAION's head, so that one loader reads both. Retrain it whenever the small CLIP
is retrained: the file names the CLIP whose embeddings it takes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from twigma_core.models.clip import ClipEncoder
from twigma_core.models.nsfw import NsfwScorer
from twigma_core.sample.training.corpus import Corpus, drawn_corpus, write_card

WEIGHTS = "nsfw_head.safetensors"


def _embed(encoder: ClipEncoder, corpus: Corpus) -> NDArray[np.float32]:
    return encoder.encode_images(Image.fromarray(pixels) for pixels in corpus.pixels)


def _head(dim: int) -> Any:
    from torch import nn

    return nn.Sequential(nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))


def train(out: Path, *, clip: str, steps: int, pictures: int, seed: int, threads: int) -> None:
    """Train and write the folder ``out``."""
    import torch
    from safetensors.torch import save_file
    from sklearn.metrics import roc_auc_score
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder = ClipEncoder(clip, device="cpu", batch_size=256)
    # Another seed than the CLIP's: on pictures it was trained on its embeddings look better than they are.
    corpus = drawn_corpus(pictures, seed + 100)
    held_out = drawn_corpus(3000, seed + 100, held_out=True)
    x = _embed(encoder, corpus)
    mean, variance = x.mean(axis=0), x.var(axis=0)
    inputs = torch.from_numpy((x - mean) / np.sqrt(variance))
    targets = torch.from_numpy(corpus.sensitive.astype(np.float32))
    head = _head(encoder.dim)
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        at = torch.from_numpy(rng.integers(0, pictures, 256))
        loss = F.binary_cross_entropy_with_logits(head(inputs[at])[:, 0], targets[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    tensors = {"norm.mean": torch.from_numpy(mean), "norm.variance": torch.from_numpy(variance)}
    linears = [module for module in head if isinstance(module, torch.nn.Linear)]
    for k, linear in enumerate(linears, start=1):
        tensors[f"linear_{k}.weight"] = linear.weight.detach().contiguous()
        tensors[f"linear_{k}.bias"] = linear.bias.detach().contiguous()
    out.mkdir(parents=True, exist_ok=True)
    save_file(
        tensors,
        out / WEIGHTS,
        {"clip_model": encoder.name, "clip_sha256": encoder.weights_sha256, "dim": str(encoder.dim)},
    )
    # The shipped file is judged, through the code that will read it.
    scores = NsfwScorer(out / WEIGHTS).score(_embed(encoder, held_out), clip_sha256=encoder.weights_sha256)
    truth = held_out.sensitive
    write_card(
        out,
        WEIGHTS,
        {
            "name": "twigma-sample-nsfw",
            "clip_sha256": encoder.weights_sha256,
            "dim": encoder.dim,
            "seed": seed,
            "steps": steps,
            "training_pictures": pictures,
            "held_out": {
                "pictures": len(truth),
                "auc": float(roc_auc_score(truth, scores)),
                "accuracy_at_0.5": float(((scores > 0.5) == truth).mean()),
                "mean_score_sensitive": float(scores[truth].mean()),
                "mean_score_other": float(scores[~truth].mean()),
            },
        },
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the sample world's NSFW head.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clip", default="sample", help="the CLIP: a folder, or the shipped one")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--pictures", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more is faster, and another model")
    args = parser.parse_args()
    train(
        args.out,
        clip=args.clip,
        steps=args.steps,
        pictures=args.pictures,
        seed=args.seed,
        threads=args.threads,
    )


if __name__ == "__main__":
    main()
