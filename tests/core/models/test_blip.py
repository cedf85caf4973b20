from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twigma_core.models import weights
from twigma_core.models.blip import Captioner


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return Captioner("sample", device="cpu", batch_size=32)


@pytest.fixture(scope="module")
def captions(captioner: Captioner, drawings: Any) -> list[str]:
    return captioner.caption(drawings.pictures)


def test_names_the_subject_of_an_unseen_picture(captions: list[str], drawings: Any) -> None:
    assert len(captions) == 200
    right = [s.subject in text.split() for s, text in zip(drawings.scenes, captions, strict=True)]
    assert np.mean(right) >= 0.7
    assert len(set(captions)) > 150, "captions must tell pictures apart"


def test_a_caption_does_not_depend_on_its_neighbours(
    captioner: Captioner, captions: list[str], drawings: Any
) -> None:
    order = np.random.default_rng(2).permutation(200)[:75]
    assert captioner.caption(drawings.pictures[i] for i in order) == [captions[i] for i in order]
    assert captioner.caption([]) == []


def test_says_which_weights_it_is(captioner: Captioner) -> None:
    card = json.loads((weights.sample_weights("blip") / "card.json").read_text())
    assert captioner.name == "sample-blip"
    assert captioner.weights_sha256 == card["sha256"]


@pytest.mark.usefixtures("no_network")
def test_loads_without_network_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Captioner("sample", device="cpu")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(weights.WeightsNotFound, match=r"BLIP 'Salesforce/.*TWIGMA_WEIGHTS"):
        Captioner()
    with pytest.raises(weights.WeightsNotFound, match=r"holds none of model\.safetensors"):
        Captioner(str(tmp_path))
