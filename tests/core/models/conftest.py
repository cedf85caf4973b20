"""Unseen drawings, as the platform meets them: 128 px, after a JPEG encoder; and no network."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from twigma_core.sample.drawing import Scene, draw, random_scene
from twigma_core.sample.training.corpus import as_jpeg


@dataclass(frozen=True)
class Drawings:
    scenes: list[Scene]
    pictures: list[Image.Image]


@pytest.fixture(scope="session")
def drawings() -> Drawings:
    rng = np.random.default_rng(987654321)
    scenes = [random_scene(rng, sensitive=bool(k % 5 == 0)) for k in range(200)]
    return Drawings(scenes, [as_jpeg(draw(scene, 128), 85) for scene in scenes])


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to connect fails, and the hub's cache is looked at no further."""

    def refuse(*args: object) -> NoReturn:
        raise OSError("this test has no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.delenv("TWIGMA_WEIGHTS", raising=False)
