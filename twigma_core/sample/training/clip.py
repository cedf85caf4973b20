"""Train the small CLIP of the sample world: 3.5 M parameters, 64 px, 96 dimensions.

``python -m twigma_core.sample.training.clip --out twigma_core/sample/weights/clip``

A folder of weights comes out that open_clip loads as ``local-dir:``, as it loads ViT-L/14.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from twigma_core.sample.drawing import THEME_CAPTIONS
from twigma_core.sample.training.corpus import (
    CONTEXT,
    SIDE,
    SUBJECTS,
    Corpus,
    drawn_corpus,
    recall_at_1,
    subject_captions,
    vocabulary,
    write_card,
)

DIM = 96
THEME_SCALE = 8.0
WEIGHTS = "open_clip_model.safetensors"


def model_config(vocab_size: int) -> dict[str, Any]:
    """The open_clip configuration. Without a norm before the tower, so that it fits BLIP's tower exactly."""
    return {
        "model_cfg": {
            "embed_dim": DIM,
            "vision_cfg": {
                "image_size": SIDE,
                "layers": 6,
                "width": 192,
                "head_width": 48,
                "patch_size": 16,
                "no_ln_pre": True,
            },
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": vocab_size,
                "width": 128,
                "heads": 4,
                "layers": 3,
                # Not empty, so that open_clip takes the tokenizer that lies in the folder.
                "hf_tokenizer_name": "local",
                "pad_id": 0,
                "pool_type": "argmax",
            },
        },
        "preprocess_cfg": {
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
            "size": SIDE,
            "mode": "RGB",
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def write_skeleton(folder: Path) -> None:
    """Write configuration and tokenizer: all of the folder but the weights."""
    from transformers import BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    vocab = vocabulary()
    tokenizer = BertTokenizer(
        vocab={word: k for k, word in enumerate(vocab)},
        do_lower_case=True,
        bos_token="[DEC]",
        model_max_length=CONTEXT,
    )
    tokenizer.save_pretrained(folder)
    (folder / "open_clip_config.json").write_text(json.dumps(model_config(len(vocab)), indent=1) + "\n")


def held_out_metrics(model: Any, tokenizer: Any, held_out: Corpus) -> dict[str, float]:
    """Retrieval on pictures the model never saw; subject and theme by the nearest of their short captions."""
    import torch

    pixels = torch.from_numpy(held_out.pixels).permute(0, 3, 1, 2)
    captions = held_out.captions()
    training = model.training
    model.eval()
    with torch.no_grad():
        rows = [model.encode_image(b.float() / 127.5 - 1, normalize=True) for b in pixels.split(250)]
        images = torch.cat(rows).numpy()
        texts, subjects, themes = (
            model.encode_text(tokenizer(lines), normalize=True).numpy()
            for lines in (captions, subject_captions(), list(THEME_CAPTIONS.values()))
        )
    model.train(training)
    similarity = images @ texts.T
    subject = [SUBJECTS[int(j)] for j in (images @ subjects.T).argmax(axis=1)]
    theme = [list(THEME_CAPTIONS)[int(j)] for j in (images @ themes.T).argmax(axis=1)]
    return {
        "pictures": len(captions),
        "image_to_text_recall_at_1": recall_at_1(similarity, captions),
        "text_to_image_recall_at_1": recall_at_1(similarity.T, captions),
        "zero_shot_subject_accuracy": float(
            np.mean([a == s.subject for a, s in zip(subject, held_out.scenes, strict=True)])
        ),
        "zero_shot_theme_accuracy": float(
            np.mean([a == s.theme for a, s in zip(theme, held_out.scenes, strict=True)])
        ),
        "mean_cosine_of_random_pairs": float((images[::2] * images[1::2]).sum(axis=1).mean()),
    }


def train(out: Path, *, steps: int, batch: int, pictures: int, seed: int, rate: float, threads: int) -> None:
    """Train and write the folder ``out``; prints its progress."""
    import open_clip
    import torch
    from safetensors.torch import save_file
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    write_skeleton(out)
    start = time.monotonic()
    corpus = drawn_corpus(pictures, seed)
    held_out = drawn_corpus(1000, seed, held_out=True)
    print(f"drew {pictures} pictures in {time.monotonic() - start:.0f} s", flush=True)
    model = open_clip.create_model(f"local-dir:{out}", load_weights=False)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{out}")
    # Full captions, and one shortened to a random level a picture, so that short prompts work too.
    full = tokenizer(corpus.captions())
    levels = torch.stack([tokenizer(corpus.captions(detail)) for detail in range(5)])
    # Whole captions can be told apart by style and colours alone. So each picture must also find its subject
    # and its theme among all of them; the theme at a low scale, which sets the themes far apart.
    short = tokenizer([*subject_captions(), *THEME_CAPTIONS.values()])
    subject_of = torch.tensor([SUBJECTS.index(scene.subject) for scene in corpus.scenes])
    theme_of = torch.tensor([list(THEME_CAPTIONS).index(scene.theme) for scene in corpus.scenes])
    pixels = torch.from_numpy(corpus.pixels).permute(0, 3, 1, 2).contiguous()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    kept = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": kept, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    loss_of = open_clip.ClipLoss()
    model.train()
    start = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
            group["lr"] = rate * min(1, (step + 1) / 80) * (0.98 * cosine + 0.02)
        at = torch.from_numpy(rng.integers(0, pictures, batch))
        level = torch.from_numpy(rng.integers(0, 5, batch))
        shortened = torch.from_numpy(rng.random(batch) < 0.2)
        text = torch.where(shortened[:, None], levels[level, at], full[at])
        mirrored = torch.from_numpy(rng.random(batch) < 0.5)[:, None, None, None]
        shift = rng.integers(-3, 4, 2)
        x = torch.roll(pixels[at], (int(shift[0]), int(shift[1])), (2, 3)).float() / 127.5 - 1
        image_rows = model.encode_image(torch.where(mirrored, x.flip(3), x), normalize=True)
        text_rows = model.encode_text(torch.cat([text, short]), normalize=True)
        scale = model.logit_scale.exp()
        by_subject = scale * image_rows @ text_rows[batch : batch + len(SUBJECTS)].T
        by_theme = THEME_SCALE * image_rows @ text_rows[batch + len(SUBJECTS) :].T
        loss = (
            loss_of(image_rows, text_rows[:batch], scale)
            + F.cross_entropy(by_subject, subject_of[at])
            + F.cross_entropy(by_theme, theme_of[at])
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if (step + 1) % 50 == 0:
            speed = (step + 1) * batch / (time.monotonic() - start)
            print(f"step {step + 1}/{steps} loss {loss.item():.3f} {speed:.0f} pictures/s", flush=True)
        if (step + 1) % 250 == 0 or step + 1 == steps:
            # Written on the way too: a run that is stopped leaves a usable model, though without a card.
            halves = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
            save_file({k: v.contiguous() for k, v in halves.items()}, out / WEIGHTS)
            print(held_out_metrics(model, tokenizer, held_out), flush=True)
    # What ships is judged, not what was trained: read back, after rounding to half precision.
    shipped = open_clip.create_model(f"local-dir:{out}")
    write_card(
        out,
        WEIGHTS,
        {
            "name": "twigma-sample-clip",
            "parameters": sum(p.numel() for p in model.parameters()),
            "dim": DIM,
            "seed": seed,
            "steps": steps,
            "batch": batch,
            "training_pictures": pictures,
            "held_out": held_out_metrics(shipped, tokenizer, held_out),
        },
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the sample world's CLIP.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--pictures", type=int, default=20000)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="more is faster, and another model")
    args = parser.parse_args()
    train(
        args.out,
        steps=args.steps,
        batch=args.batch,
        pictures=args.pictures,
        seed=args.seed,
        rate=args.rate,
        threads=args.threads,
    )


if __name__ == "__main__":
    main()
