from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from twigma_core.models import weights
from twigma_core.models.runtime import choose_device


def test_hash_follows_the_file(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    for content in (b"one", b"another"):
        file.write_bytes(content)
        assert weights.sha256_of(file) == hashlib.sha256(content).hexdigest()


def test_where_a_name_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWIGMA_WEIGHTS", raising=False)
    assert weights.local_weights("ViT-L-14/openai") is None
    monkeypatch.setenv("TWIGMA_WEIGHTS", str(tmp_path))
    assert weights.local_weights("ViT-L-14/openai") is None
    file = tmp_path / "ViT-L-14-openai.pt"
    file.touch()
    assert weights.local_weights("ViT-L-14/openai") == file
    assert weights.local_weights(str(file)) == file


def test_only_safetensors_ship_and_they_are_small() -> None:
    folder = weights.sample_weights("clip").parent
    files = [f for f in folder.rglob("*") if f.is_file()]
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".txt", ".jinja"}
    assert max(f.stat().st_size for f in files) < 9_000_000


def test_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert choose_device() == "cpu"
    with pytest.raises(RuntimeError, match="torch sees no GPU"):
        choose_device("cuda")


def test_importing_the_models_is_light() -> None:
    code = (
        "import sys, twigma_core.models.clip, twigma_core.models.blip, twigma_core.models.nsfw;"
        "print([m for m in ('torch', 'open_clip', 'transformers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
