"""The NSFW score of a picture from its CLIP embedding (paper, section 3 and reference [4]).

What belongs here: LAION's CLIP-based detector, a small dense network, for any CLIP it was trained on. What
does not: the embeddings (``clip``) and any decision about a threshold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twigma_core.models import weights

_BLOCK = 1024
_TOLERANCE = 1e-3
# What LAION's detector was trained on; their files do not say so themselves.
_CLIP_OF = {"nsfw_vit_l_14": "ViT-L-14/openai", "nsfw_vit_b_32": "ViT-B-32/openai"}


class NsfwScorer:
    """LAION's detector: normalise by mean and variance, dense layers with ReLU, sigmoid.

    The network is read off the tensors: ``norm.mean``, ``norm.variance`` (dim,), and ``linear_i.weight``
    (out, in), ``linear_i.bias`` for i = 1, 2, ..., the last with one output.

    Args:
        weights_name: ``sample`` (trained on the shipped CLIP), a known name (``nsfw_vit_l_14``,
            ``nsfw_vit_b_32``), or a safetensors file.
        folder: the weights folder, see ``weights``.

    Attributes:
        name: name of the model, for the tables.
        weights_sha256: sha256 of the weights file.
        dim: width of the embeddings it takes.
        settings: how it runs; always on the CPU, in float32, each row as if it were alone.
        clip_model: the CLIP whose embeddings it takes, where known.
        clip_sha256: sha256 of that CLIP's weights, where the file says so.

    Raises:
        WeightsNotFound: where there is no such file; the message names the cure.
        WeightsMismatch: for a known name with other contents.
        ValueError: for a file that holds something else.
    """

    settings = "cpu float32"

    def __init__(self, weights_name: str | Path = weights.SAMPLE, folder: str | Path | None = None) -> None:
        path, self.weights_sha256 = _file_of(str(weights_name), weights.weights_folder(folder))
        known = [head.name for head in weights.NSFW_HEADS.values() if head.sha256 == self.weights_sha256]
        self.name = "sample-nsfw" if weights_name == weights.SAMPLE else (*known, path.stem)[0]
        tensors, metadata = _read(path)
        self._mean, self._scale, self._layers = _network(tensors, path)
        self.dim = int(self._mean.shape[0])
        self.clip_model = metadata.get("clip_model") or _CLIP_OF.get(self.name)
        self.clip_sha256 = metadata.get("clip_sha256")

    def score(
        self, embeddings: NDArray[Any], clip_model: str | None = None, clip_sha256: str | None = None
    ) -> NDArray[np.float32]:
        """Score embeddings: 0 safe, 1 not safe.

        Args:
            embeddings: (n, dim), each row of length 1 to within 1e-3. (Random rows score 0.01 on average with
                LAION's head, and 0.6 if they are ten times as long: there would be no other sign.)
            clip_model: name of the CLIP that made them, where known.
            clip_sha256: sha256 of its weights, where known. Compared with the CLIP that the head was trained
                on: by the hash where the head's file says it, else by the name.

        Returns:
            (n,) float32 in [0, 1].

        Raises:
            ValueError: for rows of the wrong width or length, or of another CLIP.
        """
        x = np.asarray(embeddings)
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(
                f"{self.name}: takes (n, {self.dim}) embeddings of {self.clip_model or 'its CLIP'}, not an "
                f"array of shape {x.shape}; embed with that CLIP, or choose the head of the CLIP in use"
            )
        self.check_clip(clip_model, clip_sha256)
        x = x.astype(np.float32, copy=False)
        length = np.linalg.norm(x, axis=1)
        # Written so that a NaN counts as wrong.
        wrong = np.flatnonzero(~(np.abs(length - 1) <= _TOLERANCE))
        if wrong.size:
            raise ValueError(
                f"{self.name}: {wrong.size} of {len(x)} rows are not of length 1 (row {wrong[0]} has "
                f"{length[wrong[0]]:.4g}); l2-normalise the embeddings first"
            )
        out = np.empty(len(x), np.float32)
        for start in range(0, len(x), _BLOCK):
            out[start : start + _BLOCK] = self._forward(x[start : start + _BLOCK])
        return out

    def check_clip(self, clip_model: str | None, clip_sha256: str | None) -> None:
        """Refuse embeddings of another CLIP; see ``score``.

        Raises:
            ValueError: the head was trained on those of another one.
        """
        if self.clip_sha256:
            other = bool(clip_sha256) and clip_sha256 != self.clip_sha256
        else:
            other = bool(clip_model and self.clip_model) and _plain(clip_model) != _plain(self.clip_model)
        if other:
            trained = f"{self.clip_model} {(self.clip_sha256 or '')[:12]}".strip()
            given = f"{clip_model or 'another CLIP'} {(clip_sha256 or '')[:12]}".strip()
            raise ValueError(
                f"{self.name}: trained on embeddings of {trained}, these are of {given}; the scores would "
                "mean nothing. Choose the head of the CLIP in use, or load that CLIP by the name above"
            )

    def _forward(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        h = (x - self._mean) / self._scale
        for k, (weight, bias) in enumerate(self._layers):
            # Not BLAS: there a row's last bits depend on where in the block it lies, and on the processor.
            h = np.einsum("ij,kj->ik", h, weight) + bias
            if k < len(self._layers) - 1:
                h = np.maximum(h, 0)
        from scipy.special import expit

        return expit(h[:, 0])


def _plain(clip_model: str | None) -> str:
    """The model's name without the activation, which its weights decide."""
    return (clip_model or "").replace("-quickgelu", "")


def _file_of(name: str, root: Path) -> tuple[Path, str]:
    """The head's file and its sha256."""
    if (head := weights.NSFW_HEADS.get(name)) is not None:
        found = weights.obtain(head, root)
        return found.file, found.sha256
    path = weights.sample_weights("nsfw") if name == weights.SAMPLE else weights.local(name, root)
    if path is None or not path.is_file():
        raise weights.WeightsNotFound(
            f"NSFW head {name!r}: neither a file here nor a known name ({', '.join(weights.NSFW_HEADS)})"
        )
    return path, weights.sha256_of(path)


def _read(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            # A safetensors file without metadata gives None.
            metadata = dict(file.metadata() or {})
            return {key: file.get_tensor(key).astype(np.float32) for key in file.keys()}, metadata  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"NSFW head: {path} is not a safetensors file ({error}); fetch or train it again"
        ) from error


def _network(
    tensors: dict[str, NDArray[np.float32]], path: Path
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[tuple[NDArray[np.float32], NDArray[np.float32]]]]:
    """Mean, standard deviation and layers; checks that each layer's width fits the one before."""
    layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    try:
        mean, variance = tensors["norm.mean"], tensors["norm.variance"]
        width = mean.shape[0]
        while f"linear_{len(layers) + 1}.weight" in tensors:
            weight, bias = (tensors[f"linear_{len(layers) + 1}.{part}"] for part in ("weight", "bias"))
            if weight.shape != (bias.shape[0], width):
                raise ValueError(
                    f"layer {len(layers) + 1} is {weight.shape}, wanted {(bias.shape[0], width)}"
                )
            layers.append((weight, bias))
            width = bias.shape[0]
        if not layers or width != 1:
            raise ValueError("the last layer must have one output")
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"NSFW head: {path} is not one ({error}); it needs norm.mean, norm.variance, linear_1.weight, "
            "linear_1.bias, ... down to one output"
        ) from error
    # As Keras' Normalization: the deviation is kept from zero.
    return mean, np.maximum(np.sqrt(variance), np.float32(1e-7)), layers
