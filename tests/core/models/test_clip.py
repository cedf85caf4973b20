from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from twigma_core.models import weights
from twigma_core.models.clip import ClipEncoder
from twigma_core.sample.drawing import describe


@pytest.fixture(scope="module")
def encoder() -> ClipEncoder:
    return ClipEncoder("sample", device="cpu")


@pytest.fixture(scope="module")
def rows(encoder: ClipEncoder, drawings: Any) -> np.ndarray:
    return encoder.encode_images(drawings.pictures)


def test_rows_are_unit_float32(encoder: ClipEncoder, rows: np.ndarray) -> None:
    assert rows.shape == (200, encoder.dim) == (200, 96)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    texts = encoder.encode_texts(["a cat", "a dog " * 200, ""])
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)


def test_a_row_does_not_depend_on_its_neighbours(
    encoder: ClipEncoder, drawings: Any, rows: np.ndarray
) -> None:
    """Bit for bit: 200 rows are six full batches of 32 and one of 8."""
    order = np.random.default_rng(1).permutation(200)
    shuffled = encoder.encode_images(drawings.pictures[i] for i in order)
    np.testing.assert_array_equal(shuffled, rows[order])
    for some in ([7], [3, 199, 50], list(range(100, 133))):
        np.testing.assert_array_equal(encoder.encode_images([drawings.pictures[i] for i in some]), rows[some])
    captions = [describe(s) for s in drawings.scenes[:40]]
    texts = encoder.encode_texts(captions)
    np.testing.assert_array_equal(encoder.encode_texts(captions[::-1]), texts[::-1])
    np.testing.assert_array_equal(encoder.encode_texts(captions[35:]), texts[35:])


def test_a_small_model_runs_on_one_thread(encoder: ClipEncoder, drawings: Any, rows: np.ndarray) -> None:
    """More would only wait for each other where the cores are shared; the caller's setting is put back."""
    used: list[int] = []
    hook = encoder._model.visual.register_forward_hook(lambda *_: used.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        np.testing.assert_array_equal(encoder.encode_images(drawings.pictures[:50]), rows[:50])
        assert used == [1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        hook.remove()


def test_nothing_in_nothing_out(encoder: ClipEncoder) -> None:
    for out in (encoder.encode_images([]), encoder.encode_texts([])):
        assert out.shape == (0, 96)
        assert out.dtype == np.float32


def test_any_mode_and_size_of_picture(encoder: ClipEncoder, drawings: Any, rows: np.ndarray) -> None:
    picture = drawings.pictures[0]
    with_alpha, wide = picture.convert("RGBA"), Image.new("L", (300, 40))
    out = encoder.encode_images([with_alpha, wide])
    np.testing.assert_array_equal(out[0], rows[0])
    with pytest.raises(ValueError, match="picture 1 is None"):
        encoder.encode_images([picture, None])  # type: ignore[list-item]


def test_finds_the_caption_of_an_unseen_picture(
    encoder: ClipEncoder, drawings: Any, rows: np.ndarray
) -> None:
    captions = [describe(scene) for scene in drawings.scenes]
    similarity = rows @ encoder.encode_texts(captions).T
    assert np.mean(similarity.argmax(axis=1) == np.arange(200)) >= 0.8
    assert np.mean(similarity.argmax(axis=0) == np.arange(200)) >= 0.8


def test_says_which_weights_it_is(encoder: ClipEncoder) -> None:
    card = json.loads((weights.sample_weights("clip") / "card.json").read_text())
    assert encoder.name == "sample-clip"
    assert encoder.weights_sha256 == card["sha256"]
    assert card["dim"] == encoder.dim
    assert card["held_out"]["image_to_text_recall_at_1"] >= 0.85


@pytest.mark.usefixtures("no_network")
def test_loads_without_network_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ClipEncoder("sample", device="cpu")
    ClipEncoder(str(weights.sample_weights("clip")), device="cpu")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(weights.WeightsNotFound, match=r"ViT-L-14/openai.*TWIGMA_WEIGHTS.*b8cca3fd41ae"):
        ClipEncoder()
    with pytest.raises(weights.WeightsNotFound, match="neither a tag of ViT-L-14"):
        ClipEncoder("ViT-L-14", "no-such-tag")
    with pytest.raises(ValueError, match="nor an architecture"):
        ClipEncoder("no-such-model")
    with pytest.raises(weights.WeightsNotFound, match="no folder with open_clip_config"):
        ClipEncoder(str(tmp_path / "nowhere"))
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(weights.WeightsNotFound, match="the folder has no weights"):
        ClipEncoder(str(tmp_path))


def test_openai_weights_get_their_activation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip only warns where a tag needs QuickGELU and the architecture has GELU; we switch it on."""
    import open_clip
    from safetensors.torch import save_file

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny-for-this-test.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-for-this-test.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-for-this-test", force_quick_gelu=True).eval()
    file = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), file)
    tag = {"file": str(file), "quick_gelu": True, "mean": (0.1, 0.2, 0.3)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-for-this-test", {"openai": tag})

    encoder = ClipEncoder("tiny-for-this-test", "openai", device="cpu")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    x = encoder.preprocess(picture)[None]
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(model.encode_image(x), dim=-1).numpy()
    np.testing.assert_allclose(encoder.encode_images([picture]), wanted, atol=1e-5)
    assert encoder.name == "tiny-for-this-test/openai"
    # The tag's preprocessing too: black is (0 - mean) / std.
    black = encoder.preprocess(Image.new("RGB", (32, 32)))
    std = encoder.preprocess.transforms[-1].std
    np.testing.assert_allclose(
        black[:, 0, 0], [-m / s for m, s in zip((0.1, 0.2, 0.3), std, strict=True)], rtol=1e-5
    )

    plain = ClipEncoder("tiny-for-this-test", str(file), device="cpu")
    assert np.abs(plain.encode_images([picture]) - wanted).max() > 1e-4, (
        "the two activations must differ here"
    )
