from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from twigma_core.models import fetch, weights
from twigma_core.models.blip import Captioner
from twigma_core.models.clip import published
from twigma_core.models.runtime import choose_devices, place

CLIP = weights.Model("tiny/test", "clip", "open_clip_model.safetensors", repository="someone/tiny")
AT = "someone/tiny/open_clip_model.safetensors"


def tensors(value: float) -> bytes:
    return save({"row": np.full(100_000, value, np.float32)})


def test_hash_follows_the_file(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    for content in (b"one", b"another"):
        file.write_bytes(content)
        assert weights.sha256_of(file) == hashlib.sha256(content).hexdigest()


def test_where_a_name_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWIGMA_WEIGHTS", str(tmp_path))
    assert weights.weights_folder() == tmp_path
    assert weights.weights_folder("/elsewhere") == Path("/elsewhere")
    model = published("ViT-L-14", "openai")
    assert model is not None
    # open_clip's own tables say where the published weights are; the rest of the name is ours.
    assert (model.name, model.repository) == ("ViT-L-14/openai", "timm/vit_large_patch14_clip_224.openai")
    assert weights.find(model, tmp_path) is None
    single = tmp_path / "ViT-L-14-openai.safetensors"
    single.touch()
    assert weights.find(model, tmp_path) == single
    (tmp_path / "ViT-L-14-openai").mkdir()
    (tmp_path / "ViT-L-14-openai" / "open_clip_model.safetensors").touch()
    assert weights.find(model, tmp_path) == tmp_path / "ViT-L-14-openai" / "open_clip_model.safetensors"
    assert weights.local(str(single), tmp_path) == single
    assert weights.local("ViT-L-14/openai", tmp_path) == tmp_path / "ViT-L-14-openai"


def test_what_the_hub_gives_is_kept_and_checked_from_then_on(hub: Any, tmp_path: Path) -> None:
    hub.files[AT] = tensors(1)
    found = weights.obtain(CLIP, tmp_path)
    assert found.file == tmp_path / "tiny-test" / "open_clip_model.safetensors"
    assert load_file(found.file)["row"][0] == 1
    lock = json.loads((tmp_path / weights.LOCK).read_text())
    assert lock == {"tiny-test/open_clip_model.safetensors": hashlib.sha256(tensors(1)).hexdigest()}
    assert sorted(p.name for p in found.folder.iterdir()) == ["open_clip_model.safetensors"]

    hub.asked.clear()
    assert weights.obtain(CLIP, tmp_path) == found
    assert hub.asked == [], "what is here is not asked for"
    assert weights.verify(tmp_path) == {"tiny-test/open_clip_model.safetensors": "ok"}

    found.file.write_bytes(tensors(2))
    with pytest.raises(weights.WeightsMismatch, match=r"not the .* that it had at its first use"):
        weights.obtain(CLIP, tmp_path)
    assert weights.verify(tmp_path) == {"tiny-test/open_clip_model.safetensors": "changed"}
    found.file.unlink()
    assert weights.verify(tmp_path) == {"tiny-test/open_clip_model.safetensors": "missing"}


def test_a_file_that_a_person_put_there_is_remembered(tmp_path: Path, no_network: None) -> None:
    (tmp_path / "tiny-test").mkdir()
    file = tmp_path / "tiny-test" / "open_clip_model.safetensors"
    file.write_bytes(tensors(1))
    assert weights.obtain(CLIP, tmp_path).file == file
    assert weights.read_lock(tmp_path)["tiny-test/open_clip_model.safetensors"] == weights.sha256_of(file)


def test_a_broken_connection_is_taken_up_where_it_broke(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)
    hub.files[AT], hub.cut[AT] = tensors(3), [150_000, 100_000]
    weights.obtain(CLIP, tmp_path)
    assert (tmp_path / "tiny-test" / "open_clip_model.safetensors").read_bytes() == tensors(3)
    first, *others = hub.gets(AT)
    assert first is None
    assert len(others) == 2
    assert all(span and int(span.removeprefix("bytes=").rstrip("-")) > 0 for span in others)


def test_a_fetch_that_failed_leaves_nothing_and_can_be_repeated(
    hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    hub.files[AT], hub.cut[AT] = tensors(3), [10_000] * 100
    with pytest.raises(weights.WeightsNotFound, match=r"tiny/test: .*hub did not give someone/tiny"):
        weights.obtain(CLIP, tmp_path)
    assert weights.find(CLIP, tmp_path) is None
    hub.cut[AT] = []
    assert weights.obtain(CLIP, tmp_path).file.read_bytes() == tensors(3)


def test_other_bytes_than_the_hub_tells_are_thrown_away(hub: Any, tmp_path: Path) -> None:
    hub.files[AT], hub.told[AT] = tensors(1), hashlib.sha256(tensors(2)).hexdigest()
    with pytest.raises(weights.WeightsNotFound, match=r"came with sha256 .* and was thrown away"):
        weights.obtain(CLIP, tmp_path)
    assert weights.find(CLIP, tmp_path) is None
    assert weights.read_lock(tmp_path) == {}


def test_only_safetensors_are_taken(hub: Any, tmp_path: Path) -> None:
    """A pickle beside it, or in its stead, is not asked for."""
    hub.files["someone/tiny/open_clip_pytorch_model.bin"] = b"\x80\x04N."
    with pytest.raises(weights.WeightsNotFound, match="EntryNotFound"):
        weights.obtain(CLIP, tmp_path)
    assert {path for _, path, _ in hub.asked} == {AT}


def test_a_blip_of_the_hub_captions_like_the_shipped_one(hub: Any, tmp_path: Path, drawings: Any) -> None:
    folder = weights.sample_weights("blip")
    for file in folder.iterdir():
        hub.files[f"someone/blip/{file.name}"] = file.read_bytes()
    processor = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    hub.files["someone/blip/preprocessor_config.json"] = json.dumps(processor).encode()
    captioner = Captioner("someone/blip", device="cpu", folder=tmp_path)
    assert captioner.name == "someone/blip"
    pictures = drawings.pictures[:5]
    assert captioner.caption(pictures) == Captioner("sample", device="cpu").caption(pictures)
    assert set(weights.read_lock(tmp_path)) >= {
        f"someone-blip/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")
    }


@pytest.mark.usefixtures("no_network")
def test_without_a_network_it_says_which_file_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(weights.WeightsNotFound) as told:
        weights.obtain(CLIP, tmp_path)
    message = str(told.value)
    for part in (
        "HF_HUB_OFFLINE is set",
        "twigma models fetch tiny/test",
        "open_clip_model.safetensors of the hub's repository someone/tiny",
        str(tmp_path / "tiny-test"),
    ):
        assert part in message


@pytest.mark.parametrize("name", sorted(weights.NSFW_HEADS))
def test_a_head_is_cut_out_of_laions_own_archive(
    name: str, shared_data: Path, tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Served as LAION serves it; the tensors are those that were checked against Keras."""
    archive = fetch._ARCHIVES[name].name
    data = (shared_data / "weights" / "laion_nsfw" / f"{archive}.zip").read_bytes()
    monkeypatch.setattr(fetch, "LAION", f"{hub.base}/LAION-AI/heads/resolve/main")
    path = f"LAION-AI/heads/{archive}.zip"
    head = weights.NSFW_HEADS[name]

    hub.files[path] = data[:-1] + b"?"
    with pytest.raises(weights.WeightsNotFound, match=r"came with sha256 .* and was thrown away"):
        weights.obtain(head, tmp_path)
    hub.files[path], hub.cut[path] = data, [1000]
    with pytest.raises(weights.WeightsNotFound, match=f"twigma models fetch {name}"):
        weights.obtain(head, tmp_path)
    assert list(tmp_path.iterdir()) == []
    found = weights.obtain(head, tmp_path)
    assert found.file.read_bytes() == (shared_data / "weights" / f"{name}.safetensors").read_bytes()
    assert weights.verify(tmp_path) == {f"{name}.safetensors": "ok"}


def test_only_safetensors_ship_and_they_are_small() -> None:
    folder = weights.sample_weights("clip").parent
    files = [f for f in folder.rglob("*") if f.is_file()]
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".txt", ".jinja"}
    assert max(f.stat().st_size for f in files) < 9_000_000


def test_device_dtype_and_batch_are_chosen_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert str(place("auto", "auto", None, 16, 256)) == "cpu float32 batch 16"
    with pytest.raises(RuntimeError, match="torch sees no GPU"):
        choose_devices("cuda")
    with pytest.raises(ValueError, match="dtype is 'float8'"):
        place("cpu", "float8", None, 16, 256)
    with pytest.raises(ValueError, match="batch_size is 0"):
        place("cpu", "auto", 0, 16, 256)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert place("auto", "auto", None, 16, 256).devices == ("cuda:0", "cuda:1")
    assert str(place("cuda:1", "auto", None, 16, 256)) == "cuda float16 batch 256"


def test_importing_the_models_is_light() -> None:
    code = (
        "import sys, twigma_core.models.clip, twigma_core.models.blip, twigma_core.models.nsfw;"
        "print([m for m in ('torch', 'open_clip', 'transformers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
