"""Train the small BLIP of the sample world: the small CLIP's tower, and a text decoder of its own.

``python -m twigma_core.sample.training.blip --out twigma_core/sample/weights/blip``

The vision tower is the CLIP's, weight for weight: from scratch a BLIP of this size learns next to nothing in
minutes. First the decoder alone is trained on the tower's cached features, then everything for a little
while. A folder comes out that transformers loads as it loads the published BLIP.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from twigma_core.models.weights import sample_weights
from twigma_core.sample.training.corpus import CONTEXT, SIDE, Corpus, drawn_corpus, write_card

WEIGHTS = "model.safetensors"


def blip_config(tokenizer: Any) -> Any:
    """The configuration: the CLIP's vision tower, a three-layer decoder."""
    from transformers import BlipConfig

    def token(text: str) -> int:
        return int(tokenizer.convert_tokens_to_ids(text))

    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "encoder_hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": 40,
        "bos_token_id": token("[DEC]"),
        "eos_token_id": token("[SEP]"),
        "sep_token_id": token("[SEP]"),
        "pad_token_id": token("[PAD]"),
    }
    vision = {
        "hidden_size": 192,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": 16,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
    }
    return BlipConfig(text_config=text, vision_config=vision, projection_dim=64, image_text_hidden_size=64)


def port_tower(clip: Any, blip: Any) -> float:
    """Copy the CLIP's vision tower into the BLIP's.

    Returns:
        The largest difference of the two towers' outputs on random pictures.

    Raises:
        RuntimeError: where they differ by more than 1e-4: the tower has a part that BLIP's has not.
    """
    import torch

    source = clip.visual.state_dict()
    width = source["class_embedding"].shape[0]
    ported = {
        "embeddings.class_embedding": source["class_embedding"].view(1, 1, -1),
        "embeddings.position_embedding": source["positional_embedding"][None],
        "embeddings.patch_embedding.weight": source["conv1.weight"],
        "embeddings.patch_embedding.bias": torch.zeros(width),
        "post_layernorm.weight": source["ln_post.weight"],
        "post_layernorm.bias": source["ln_post.bias"],
    }
    names = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "attn.out_proj": "self_attn.projection",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for layer in range(len(clip.visual.transformer.resblocks)):
        here, there = f"transformer.resblocks.{layer}.", f"encoder.layers.{layer}."
        for part in ("weight", "bias"):
            for a, b in names.items():
                ported[f"{there}{b}.{part}"] = source[f"{here}{a}.{part}"]
            ported[f"{there}self_attn.qkv.{part}"] = source[f"{here}attn.in_proj_{part}"]
    blip.vision_model.load_state_dict(ported, strict=True)
    blip.eval()
    x = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pooled = blip.vision_model(pixel_values=x).last_hidden_state[:, 0] @ source["proj"]
        difference = float((pooled - clip.encode_image(x)).abs().max())
    if difference > 1e-4:
        raise RuntimeError(
            f"the ported tower differs from the CLIP's by {difference:.2g}; was it trained with no_ln_pre?"
        )
    return difference


def caption_all(model: Any, tokenizer: Any, corpus: Corpus) -> list[str]:
    """Greedy captions of the corpus' pictures."""
    import torch

    training = model.training
    model.eval()
    pixels = torch.from_numpy(corpus.pixels).permute(0, 3, 1, 2)
    captions: list[str] = []
    with torch.no_grad():
        for batch in pixels.split(250):
            tokens = model.generate(
                pixel_values=batch.float() / 127.5 - 1, max_new_tokens=CONTEXT, num_beams=1, do_sample=False
            )
            captions += [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
    model.train(training)
    return captions


def held_out_metrics(captions: list[str], held_out: Corpus) -> dict[str, float]:
    """How good captions are: exact, shared words, and the words for the subject and the censored figure."""
    wanted = held_out.captions()
    words = [(set(a.split()), set(b.split())) for a, b in zip(captions, wanted, strict=True)]
    subject = [s.subject in a for s, (a, _) in zip(held_out.scenes, words, strict=True)]
    return {
        "pictures": len(wanted),
        "exact": float(np.mean([a == b for a, b in zip(captions, wanted, strict=True)])),
        "word_jaccard": float(np.mean([len(a & b) / len(a | b) for a, b in words])),
        "subject_right": float(np.mean(subject)),
        "censored_right": float(np.mean([("censored" in a) == ("censored" in b) for a, b in words])),
    }


def train(
    out: Path, *, clip: Path, steps: int, tuning_steps: int, pictures: int, seed: int, threads: int
) -> None:
    """Train and write the folder ``out``; prints its progress."""
    import open_clip
    import torch
    from transformers import BertTokenizer, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    tokenizer = BertTokenizer.from_pretrained(clip)
    config = blip_config(tokenizer)
    model: Any = BlipForConditionalGeneration(config)
    difference = port_tower(open_clip.create_model(f"local-dir:{clip}"), model)
    print(f"tower ported; largest difference {difference:.1e}")
    corpus = drawn_corpus(pictures, seed)
    held_out = drawn_corpus(1000, seed, held_out=True)
    # Each picture and its mirror image: no caption tells left from right.
    pixels = torch.from_numpy(corpus.pixels).permute(0, 3, 1, 2)
    pixels = torch.cat([pixels, pixels.flip(3)])
    with torch.no_grad():
        batches = (b.float() / 127.5 - 1 for b in pixels.split(256))
        features = torch.cat([model.vision_model(pixel_values=x).last_hidden_state.half() for x in batches])
    encoded = tokenizer(
        corpus.captions(), padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    )
    # No caption fills the context; columns that are padding in all of them only cost time.
    used = int(encoded["attention_mask"].sum(dim=1).max())
    ids, mask = encoded["input_ids"][:, :used].clone(), encoded["attention_mask"][:, :used]
    ids[:, 0] = config.text_config.bos_token_id
    labels = ids.masked_fill(mask == 0, -100)

    def run(parameters: Any, steps: int, batch: int, rate: float, warm: int, tune: bool) -> None:
        optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
        start = time.monotonic()
        model.train()
        for step in range(steps):
            for group in optimizer.param_groups:
                cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
                group["lr"] = rate * min(1, (step + 1) / warm) * (0.97 * cosine + 0.03)
            view = torch.from_numpy(rng.integers(0, 2 * pictures, batch))
            at = view % pictures
            if tune:
                seen = model.vision_model(pixel_values=pixels[view].float() / 127.5 - 1).last_hidden_state
            else:
                seen = features[view].float()
            loss = model.text_decoder(
                input_ids=ids[at],
                attention_mask=mask[at],
                encoder_hidden_states=seen,
                labels=labels[at],
                reduction="mean",
            ).loss
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            if (step + 1) % 50 == 0:
                speed = (step + 1) * batch / (time.monotonic() - start)
                print(
                    f"tune={tune} step {step + 1}/{steps} loss {loss.item():.3f} {speed:.0f} pictures/s",
                    flush=True,
                )
        print(held_out_metrics(caption_all(model, tokenizer, held_out), held_out), flush=True)

    run(list(model.text_decoder.parameters()), steps, 256, 1.5e-3, 60, False)
    run(list(model.parameters()), tuning_steps, 128, 4e-4, 20, True)
    processor = BlipProcessor(
        BlipImageProcessor(size={"height": SIDE, "width": SIDE}, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        tokenizer,
    )
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    processor.save_pretrained(out)
    shipped = BlipForConditionalGeneration.from_pretrained(out, dtype=torch.float32)
    write_card(
        out,
        WEIGHTS,
        {
            "name": "twigma-sample-blip",
            "parameters": sum(p.numel() for p in model.parameters()),
            "seed": seed,
            "steps": steps,
            "tuning_steps": tuning_steps,
            "training_pictures": pictures,
            "held_out": held_out_metrics(caption_all(shipped, tokenizer, held_out), held_out),
        },
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the sample world's BLIP.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--clip", type=Path, default=None, help="folder of the small CLIP; the shipped one if left out"
    )
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--tuning-steps", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="more is faster, and another model")
    args = parser.parse_args()
    train(
        args.out,
        clip=args.clip or sample_weights("clip"),
        steps=args.steps,
        tuning_steps=args.tuning_steps,
        pictures=args.pictures,
        seed=args.seed,
        threads=args.threads,
    )


if __name__ == "__main__":
    main()
