from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save

from twigma_core.images.decode import open_picture
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


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_row_does_not_depend_on_its_company(
    encoder: ClipEncoder, drawings: Any, rows: np.ndarray, data: st.DataObject
) -> None:
    """Bit for bit, for any pictures in any order, some of them several times."""
    some = data.draw(st.lists(st.integers(0, 199), min_size=1, max_size=60))
    np.testing.assert_array_equal(encoder.encode_images([drawings.pictures[i] for i in some]), rows[some])


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_text_does_not_depend_on_its_company(
    encoder: ClipEncoder, drawings: Any, data: st.DataObject
) -> None:
    captions = [describe(s) for s in drawings.scenes[:40]]
    texts = encoder.encode_texts(captions)
    some = data.draw(st.lists(st.integers(0, 39), min_size=1, max_size=60))
    np.testing.assert_array_equal(encoder.encode_texts([captions[i] for i in some]), texts[some])


def test_batches_go_to_several_devices_in_turn(drawings: Any, rows: np.ndarray) -> None:
    both = ClipEncoder("sample", device="cpu,cpu")
    np.testing.assert_array_equal(both.encode_images(drawings.pictures), rows)


def test_a_small_model_runs_on_one_thread(encoder: ClipEncoder, drawings: Any, rows: np.ndarray) -> None:
    """More would only wait for each other where the cores are shared; the caller's setting is put back."""
    used: list[int] = []
    tower = encoder._models["cpu"].visual
    hook = tower.register_forward_hook(lambda *_: used.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        np.testing.assert_array_equal(encoder.encode_images(drawings.pictures[:50]), rows[:50])
        assert used == [1, 1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        hook.remove()


@pytest.mark.parametrize(
    "preprocessing",
    [
        {},
        {"resize_mode": "squash", "interpolation": "bilinear", "mean": [0.48, 0.45, 0.4]},
        {"resize_mode": "longest", "fill_color": 9, "std": [0.2, 0.3, 0.1]},
    ],
    ids=["as shipped", "squash", "longest"],
)
def test_the_model_sees_what_open_clip_would_show_it(
    tmp_path: Path, shared_data: Path, preprocessing: dict[str, Any]
) -> None:
    """Real files through our decoder, threads and batches against Pillow and open_clip's own transform."""
    folder = weights.sample_weights("clip")
    for file in folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"] |= preprocessing
    (tmp_path / "open_clip_config.json").unlink()
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    encoder = ClipEncoder(str(tmp_path), device="cpu", batch_size=16)
    seen: list[torch.Tensor] = []
    tower = encoder._models["cpu"].visual
    hook = tower.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    found = [f for f in sorted((shared_data / "pictures").rglob("*")) if f.suffix in (".jpg", ".png")]
    files = [file.read_bytes() for file in found[::60]]
    try:
        list(encoder.stream(files, open_picture))
    finally:
        hook.remove()
    theirs = [encoder.preprocess(Image.open(io.BytesIO(data)).convert("RGB")) for data in files]
    ours = torch.cat(seen)[: len(files)]
    assert len(files) > 40
    assert len({tuple(t.shape) for t in theirs}) == 1
    assert torch.equal(ours, torch.stack(theirs))


@pytest.mark.parametrize(("dtype", "off"), [("bfloat16", 2e-2), ("float16", 2e-3)])
def test_half_precision_is_near(drawings: Any, rows: np.ndarray, dtype: str, off: float) -> None:
    half = ClipEncoder("sample", device="cpu", dtype=dtype)
    out = half.encode_images(drawings.pictures[:40])
    assert out.dtype == np.float32
    assert 0 < np.abs(out - rows[:40]).max() < off
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(half.encode_images(drawings.pictures[5:12]), out[5:12])
    assert half.settings == f"cpu {dtype} batch 16"
    assert half.encode_texts(["a cat"]).dtype == np.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
def test_on_a_gpu(drawings: Any, rows: np.ndarray) -> None:
    gpu = ClipEncoder("sample", device="cuda")
    out = gpu.encode_images(drawings.pictures)
    assert (gpu.placement.dtype, gpu.placement.batch_size) == ("float16", 256)
    assert np.abs(out - rows).max() < 2e-3
    order = np.random.default_rng(1).permutation(200)
    np.testing.assert_array_equal(gpu.encode_images([drawings.pictures[i] for i in order]), out[order])
    exact = ClipEncoder("sample", device="cuda", dtype="float32")
    np.testing.assert_allclose(exact.encode_images(drawings.pictures), rows, atol=1e-5)
    seen: list[torch.Tensor] = []
    hook = exact._models["cuda:0"].visual.register_forward_pre_hook(lambda _, x: seen.append(x[0].clone()))
    exact.encode_images(drawings.pictures[:16])
    hook.remove()
    theirs = torch.stack([gpu.preprocess(p) for p in drawings.pictures[:16]])
    assert torch.equal(seen[0][:16].cpu(), theirs)


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
def test_loads_without_network_and_says_what_is_missing(tmp_path: Path) -> None:
    ClipEncoder("sample", device="cpu")
    ClipEncoder(str(weights.sample_weights("clip")), device="cpu")
    with pytest.raises(weights.WeightsNotFound, match=r"ViT-L-14/openai.*twigma models fetch.*vit_large_pat"):
        ClipEncoder(folder=tmp_path)
    with pytest.raises(weights.WeightsNotFound, match="neither a tag of ViT-L-14"):
        ClipEncoder("ViT-L-14", "no-such-tag")
    with pytest.raises(ValueError, match="nor an architecture"):
        ClipEncoder("no-such-model")
    with pytest.raises(weights.WeightsNotFound, match="no folder with open_clip_config"):
        ClipEncoder(str(tmp_path / "nowhere"))
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(weights.WeightsNotFound, match="the folder has no weights"):
        ClipEncoder(str(tmp_path))


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that would run code when unpickled is refused by its name, in each place that it could lie."""
    bomb = tmp_path / "model.pt"
    torch.save({"run": Bomb()}, bomb)
    with pytest.raises(weights.WeightsNotFound, match="is a pickle"):
        ClipEncoder("ViT-B-32", str(bomb))
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text("{}")
    bomb.rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(weights.WeightsNotFound, match=r"put open_clip_model\.safetensors into"):
        ClipEncoder(str(folder))
    pickled = {"pickled": {"url": "https://example.org/model.pt"}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-S-32-alt", pickled)
    with pytest.raises(weights.WeightsNotFound, match="published as a pickle only"):
        ClipEncoder("ViT-S-32-alt", "pickled")
    assert not Bomb.went_off


class Bomb:
    went_off = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Bomb, "went_off", True)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Any]:
    """A small architecture that open_clip knows, with an "openai" tag on the hub; its name and a model."""
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    name = "tiny-for-this-test"
    (tmp_path / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / f"{name}.json")
    torch.manual_seed(0)
    tag = {"hf_hub": "someone/tiny/", "quick_gelu": True, "mean": (0.1, 0.2, 0.3)}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, {"openai": tag})
    return name, open_clip.create_model(name, force_quick_gelu=True).eval()


def test_published_weights_get_their_activation_and_preprocessing(
    tiny: tuple[str, Any], hub: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """open_clip only warns where a tag needs QuickGELU and the architecture has GELU; we switch it on."""
    name, model = tiny
    hub.files["someone/tiny/open_clip_model.safetensors"] = save(model.state_dict())
    encoder = ClipEncoder(name, "openai", device="cpu", folder=tmp_path)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    x = encoder.preprocess(picture)[None]
    with torch.no_grad():
        wanted = torch.nn.functional.normalize(model.encode_image(x), dim=-1).numpy()
    np.testing.assert_allclose(encoder.encode_images([picture]), wanted, atol=1e-5)
    assert encoder.name == f"{name}/openai"
    # The tag's preprocessing too: black is (0 - mean) / std.
    black = encoder.preprocess(Image.new("RGB", (32, 32)))
    std = encoder.preprocess.transforms[-1].std
    np.testing.assert_allclose(
        black[:, 0, 0], [-m / s for m, s in zip((0.1, 0.2, 0.3), std, strict=True)], rtol=1e-5
    )

    file = tmp_path / f"{name}-openai" / "open_clip_model.safetensors"
    plain = ClipEncoder(name, str(file), device="cpu")
    assert np.abs(plain.encode_images([picture]) - wanted).max() > 1e-4, "the two activations must differ"
    assert f"OpenAI's own need {name}-quickgelu" in caplog.text
    assert plain.name == f"{name}/open_clip_model.safetensors"
    assert plain.weights_sha256 == encoder.weights_sha256
