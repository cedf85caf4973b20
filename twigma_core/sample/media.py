"""The files of the sample world: ids and names as X gives them, and the bytes behind each.

What belongs here: snowflake ids, media names and addresses, encoding a scene, spoiling a file. What does
not: which media there are (``posts``), and serving them (``server``).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from twigma_core.sample.drawing import Scene, draw

SIDE = 128
"""Side of every picture in pixels."""
EPOCH_MS = 1_288_834_974_657
"""The moment that X's ids count from, in milliseconds since 1970."""
HTML = b"<!DOCTYPE html><html><head><title>Over capacity</title></head><body>Try again.</body></html>"
SCENE_FIELDS = ("subject", "style", "color", "palette", "background", "detail", "sensitive", "jitter")


def snowflake(milliseconds: int, low: int) -> str:
    """Return the id given out at a moment: the time above bit 22, ``low`` (22 bits) below it."""
    return str(((milliseconds - EPOCH_MS) << 22) | (low & 0x3FFFFF))


def media_name(media_id: str, extra: int = 0) -> str:
    """Return the file name in a picture's address: it encodes the media id in its first eight bytes.

    Args:
        media_id: the id, as text.
        extra: three more bytes, which vary in real names.
    """
    raw = int(media_id).to_bytes(8, "big") + (extra & 0xFFFFFF).to_bytes(3, "big")
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def media_id_of(name: str) -> str:
    """Return the media id that a file name encodes.

    Raises:
        ValueError: the name is not one of X's.
    """
    try:
        raw = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4))
    except ValueError as error:
        raise ValueError(f"{name!r} is no media name: it is not base64") from error
    if len(raw) < 8:
        raise ValueError(f"{name!r} is no media name: it holds {len(raw)} bytes, not 8 or more")
    return str(int.from_bytes(raw[:8], "big"))


def extension(row: Mapping[str, Any]) -> str:
    """Return the extension of a medium's file."""
    return "png" if row["format"] == "PNG" else "jpg"


def media_url(row: Mapping[str, Any]) -> str:
    """Return the address of a medium as posts state it."""
    name = media_name(row["media_id"], int(row["jitter"]))
    return f"https://pbs.twimg.com/media/{name}.{extension(row)}"


def encode(scene: Scene, file_format: str = "JPEG", setting: int = 90) -> bytes:
    """Return a scene's picture as a file; the same arguments give the same bytes.

    Args:
        scene: what to draw.
        file_format: JPEG or PNG.
        setting: JPEG's quality, or PNG's compression level.
    """
    buffer = io.BytesIO()
    if file_format == "PNG":
        draw(scene, SIDE).save(buffer, "PNG", compress_level=setting)
    else:
        draw(scene, SIDE).save(buffer, "JPEG", quality=setting)
    return buffer.getvalue()


def scene_of(row: Mapping[str, Any]) -> Scene:
    """Return the scene of a row of the plan."""
    return Scene(**{field: row[field] for field in SCENE_FIELDS})


def media_bytes(row: Mapping[str, Any]) -> bytes | None:
    """Return what the media server answers for a row of the plan; None where the picture is gone.

    Spoiled files are a picture cut short, or a page of HTML in a picture's place.
    """
    if row["kind"] == "unavailable":
        return None
    if row["kind"] == "html":
        return HTML
    data = encode(scene_of(row), row["format"], int(row["setting"]))
    return data[: int(len(data) * 0.6)] if row["kind"] == "truncated" else data
