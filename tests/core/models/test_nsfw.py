from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from sklearn.metrics import roc_auc_score

from twigma_core.models import weights
from twigma_core.models.clip import ClipEncoder
from twigma_core.models.nsfw import NsfwScorer


def unit_rows(n: int, dim: int) -> np.ndarray:
    x = np.random.default_rng(3).standard_normal((n, dim), dtype=np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_tells_the_censored_figure_on_unseen_pictures(drawings: Any) -> None:
    encoder = ClipEncoder("sample", device="cpu")
    scorer = NsfwScorer("sample")
    rows = encoder.encode_images(drawings.pictures)
    scores = scorer.score(rows, clip_sha256=encoder.weights_sha256)
    assert scores.dtype == np.float32
    assert scores.min() >= 0
    assert scores.max() <= 1
    truth = [scene.sensitive for scene in drawings.scenes]
    assert roc_auc_score(truth, scores) >= 0.97
    for some in (slice(100, 140), slice(101, 102), slice(1, None)):
        np.testing.assert_array_equal(scorer.score(rows[some]), scores[some])
    assert scorer.score(rows[:0]).shape == (0,)


def test_refuses_what_it_was_not_trained_on() -> None:
    scorer = NsfwScorer("sample")
    x = unit_rows(5, scorer.dim)
    scorer.score(x, clip_sha256=scorer.clip_sha256)
    with pytest.raises(ValueError, match="the scores would mean nothing"):
        scorer.score(x, clip_sha256="0" * 64)
    # The shipped head knows its CLIP by its weights, whatever the folder that held them is called.
    scorer.score(x, "another folder", scorer.clip_sha256)
    with pytest.raises(ValueError, match=r"takes \(n, 96\) embeddings of sample-clip"):
        scorer.score(unit_rows(5, 768))
    with pytest.raises(ValueError, match=r"5 of 5 rows are not of length 1 \(row 0 has 10\)"):
        scorer.score(10 * x)
    x[3, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 5 rows are not of length 1"):
        scorer.score(x)


def test_the_network_by_hand(tmp_path: Path) -> None:
    """norm -> ReLU layer -> sigmoid, on numbers one can follow."""
    save_file(
        {
            "norm.mean": np.array([0.0, 0.5], np.float32),
            "norm.variance": np.array([4.0, 0.25], np.float32),
            "linear_1.weight": np.array([[1.0, 0.0], [0.0, 1.0]], np.float32),
            "linear_1.bias": np.array([0.0, 0.5], np.float32),
            "linear_2.weight": np.array([[2.0, 3.0]], np.float32),
            "linear_2.bias": np.array([-1.0], np.float32),
        },
        tmp_path / "head.safetensors",
    )
    scorer = NsfwScorer(tmp_path / "head.safetensors")
    # (1, 0) -> norm (0.5, -1) -> relu (0.5, 0) -> 2 * 0.5 - 1 = 0; (-1, 0) -> relu (0, 0) -> -1;
    # (0, 1) -> norm (0, 1) -> relu (0, 1.5) -> 1.5 * 3 - 1 = 3.5
    scores = scorer.score(np.array([[1, 0], [-1, 0], [0, 1]], np.float32))
    np.testing.assert_allclose(scores, [0.5, 1 / (1 + np.e), 1 / (1 + np.exp(-3.5))], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "dim", "layers", "clip"),
    [("nsfw_vit_l_14", 768, 4, "ViT-L-14/openai"), ("nsfw_vit_b_32", 512, 3, "ViT-B-32/openai")],
)
def test_real_heads(
    name: str, dim: int, layers: int, clip: str, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWIGMA_WEIGHTS", str(shared_data / "weights"))
    monkeypatch.setattr("twigma_core.models.weights.remember", None)  # what is pinned needs no first use
    scorer = NsfwScorer(name)
    assert (scorer.name, scorer.dim, len(scorer._layers), scorer.clip_model) == (name, dim, layers, clip)
    x = unit_rows(5000, dim)
    if name == "nsfw_vit_l_14":
        # A few rows score high and most next to nothing, so the mean is known to within 0.002 only.
        assert scorer.score(x).mean() == pytest.approx(0.012, abs=0.004)
        assert np.median(scorer.score(x)) < 1e-3
    with pytest.raises(ValueError, match="not of length 1"):
        scorer.score(10 * x)
    # Their files do not name the CLIP by its weights, but LAION says which it is.
    scorer.score(x, clip, "any")
    scorer.score(x, clip.replace("/", "-quickgelu/"), "any")
    for other in (clip.replace("openai", "laion2b_s32b_b82k"), clip.replace("/", "-336/"), "my-folder"):
        with pytest.raises(ValueError, match=f"trained on embeddings of {clip}, these are of {other}"):
            scorer.score(x, other, "any")


def test_wrong_files(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(weights.WeightsNotFound, match="neither a file here nor a known name"):
        NsfwScorer("no-such-head")
    with pytest.raises(weights.WeightsNotFound, match=r"twigma models fetch nsfw_vit_l_14.*sha256 fbd76a2d"):
        NsfwScorer("nsfw_vit_l_14", tmp_path)
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        NsfwScorer(tmp_path / "text.safetensors")
    tensors = {"norm.mean": np.zeros(4, np.float32), "norm.variance": np.ones(4, np.float32)}
    save_file(tensors, tmp_path / "nsfw_vit_l_14.safetensors")
    with pytest.raises(ValueError, match="the last layer must have one output"):
        NsfwScorer(tmp_path / "nsfw_vit_l_14.safetensors")
    with pytest.raises(weights.WeightsMismatch, match="that the project knows it by"):
        NsfwScorer("nsfw_vit_l_14", tmp_path)
