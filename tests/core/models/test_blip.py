from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_a_caption_does_not_depend_on_its_company(
    captioner: Captioner, captions: list[str], drawings: Any, data: st.DataObject
) -> None:
    some = data.draw(st.lists(st.integers(0, 199), max_size=40))
    assert captioner.caption(drawings.pictures[i] for i in some) == [captions[i] for i in some]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")
def test_on_a_gpu(captions: list[str], drawings: Any) -> None:
    gpu = Captioner("sample", device="cuda")
    out = gpu.caption(drawings.pictures)
    assert np.mean([a == b for a, b in zip(out, captions, strict=True)]) > 0.9
    assert gpu.caption(drawings.pictures[::-1]) == out[::-1]


def test_says_which_weights_it_is(captioner: Captioner) -> None:
    card = json.loads((weights.sample_weights("blip") / "card.json").read_text())
    assert captioner.name == "sample-blip"
    assert captioner.weights_sha256 == card["sha256"]


@pytest.mark.usefixtures("no_network")
def test_loads_without_network_and_says_what_is_missing(tmp_path: Path) -> None:
    Captioner("sample", device="cpu")
    with pytest.raises(
        weights.WeightsNotFound, match=r"Salesforce/.*model\.safetensors, config\.json, .*of the"
    ):
        Captioner(folder=tmp_path)
    with pytest.raises(weights.WeightsNotFound, match=r"holds no model\.safetensors"):
        Captioner(str(tmp_path))
