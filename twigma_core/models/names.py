"""From the name of a published model, as tables and settings spell it, to what is known of it."""

from __future__ import annotations

from twigma_core.models import blip, clip, weights


def model_named(name: str) -> weights.Model:
    """Return a published model by its name.

    Args:
        name: a CLIP as ``ViT-L-14/openai`` (architecture and tag of open_clip), one of LAION's NSFW heads as
            ``nsfw_vit_l_14``, or a BLIP as the model hub calls it, with ``@revision`` where one is meant.

    Raises:
        ValueError: it is none of these.
    """
    if name in weights.NSFW_HEADS:
        return weights.NSFW_HEADS[name]
    architecture, slash, tag = name.partition("/")
    if slash and (model := clip.published(architecture, tag)) is not None:
        return model
    repository, _, revision = name.partition("@")
    if repository.count("/") == 1 and all(repository.split("/")) and not clip.is_architecture(architecture):
        return blip.published(repository, revision or None)
    raise ValueError(
        f"{name!r} is not a published model: name a CLIP as {clip.DEFAULT}/{clip.DEFAULT_TAG}, a BLIP as "
        f"{blip.DEFAULT}, or one of {', '.join(weights.NSFW_HEADS)}"
    )


def defaults() -> list[weights.Model]:
    """Return the models that the paper used."""
    return [
        model_named(name) for name in (f"{clip.DEFAULT}/{clip.DEFAULT_TAG}", blip.DEFAULT, "nsfw_vit_l_14")
    ]
