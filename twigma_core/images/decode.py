"""The one place that opens a picture; every byte is taken for hostile.

What belongs here: the checks between bytes and pixels. What does not: where the bytes come from
(`download`, `references`) and where they are kept (`shards`).

The order matters: the signature decides the format before any parser runs, the header's size is held
against a cap before any pixel is decoded, and a decoder's every complaint is a refusal. An ordinary JPEG
is decoded by libjpeg-turbo directly, in half the time and to the same pixels; all else, and every JPEG
that it complains of, by Pillow.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
import warnings
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
MAX_PIXELS = 64_000_000
"""Largest width x height that is decoded: four times X's largest size, 4096 x 4096, and 0.2 GB as RGB."""
MAX_SCANS = 100
"""Passes of a progressive JPEG that are decoded: encoders write about ten, a bomb of a few kB thousands."""

_SIGNATURES = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("GIF", b"GIF87a"),
    ("GIF", b"GIF89a"),
)
_NOT_PICTURES = (
    (re.compile(rb"\s*<(!doctype html|html|head|body|script)", re.IGNORECASE), "an HTML page"),
    (re.compile(rb"\s*<(\?xml|svg)", re.IGNORECASE), "an XML or SVG document"),
    (re.compile(rb"\s*[{\[]"), "a JSON or text document"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
    (re.compile(rb"%PDF-"), "a PDF document"),
    (re.compile(rb"....ftyp", re.DOTALL), "a video or HEIF file"),
    (re.compile(rb"\x1aE\xdf\xa3"), "a Matroska or WebM video"),
)
# What turns a valid picture into a second kind of file: looked for anywhere, or only behind its end.
_ACTIVE = (b"<script", b"<!doctype html", b"<?php\n", b"<?php ")
_APPENDED = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"%PDF-", "a PDF document"),
    (b"Rar!\x1a", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90\x00", "a program"),
    (b"<html", "an HTML page"),
    (b"<?php", "a PHP script"),
    (b"#!/", "a shell script"),
)
# A marker of a JPEG's entropy-coded data: 0xFF, but neither stuffing, a restart, nor fill.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
# `warnings.catch_warnings` changes the process, so only one thread may be inside at a time.
_opening = threading.Lock()
# Threads decode side by side, but only one of them a picture larger than any of X's: memory stays bounded.
_LARGE = 4096 * 4096
_large = threading.Lock()
_STRIP = 256


class BadPicture(ValueError):
    """Bytes that are not a picture we accept.

    Attributes:
        reason: why, in words that hold no memory address, so that the same bytes give the same reason.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class PictureInfo:
    """What is known of a picture file once it has been decoded.

    Attributes:
        sha256: hex digest of the file's bytes.
        pixel_sha256: hex digest of size and RGB pixels, see `pixel_sha256`.
        bytes: size of the file.
        format: JPEG, PNG, WEBP or GIF, by content.
        width: in pixels, as stored (an EXIF rotation is not applied).
        height: in pixels.
    """

    sha256: str
    pixel_sha256: str
    bytes: int
    format: str
    width: int
    height: int


def open_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture file; of an animation, the first frame.

    Args:
        data: the whole file.
        max_pixels: largest width x height that is decoded.

    Returns:
        An RGB image, fully loaded. Transparency is dropped, not blended, as open_clip does.

    Raises:
        BadPicture: not a JPEG, PNG, WEBP or GIF; larger than the cap; truncated; damaged; or a file that
            is also something else (an archive or a script behind or inside the picture).
    """
    pixels, _ = _decode(data, max_pixels)
    return Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels


def describe_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> PictureInfo:
    """Decode a picture file and return its hashes, format and size.

    Raises:
        BadPicture: see `open_picture`.
    """
    pixels, name = _decode(data, max_pixels)
    width, height = _size(pixels)
    return PictureInfo(
        sha256=hashlib.sha256(data).hexdigest(),
        pixel_sha256=pixel_sha256(pixels),
        bytes=len(data),
        format=name,
        width=width,
        height=height,
    )


def pixel_sha256(pixels: Image.Image | np.ndarray) -> str:
    """Return the sha256 of a picture's size and RGB pixels: equal for the same picture in another file.

    Args:
        pixels: an image, or its RGB pixels as (height, width, 3) uint8.
    """
    width, height = _size(pixels)
    digest = hashlib.sha256(f"{width}x{height}:".encode())
    if isinstance(pixels, np.ndarray):
        digest.update(np.ascontiguousarray(pixels).data)
        return digest.hexdigest()
    image = _as_rgb(pixels)
    for top in range(0, height, _STRIP):  # a copy of the whole would double the memory of a large picture
        digest.update(image.crop((0, top, width, min(top + _STRIP, height))).tobytes())
    return digest.hexdigest()


def _size(pixels: Image.Image | np.ndarray) -> tuple[int, int]:
    """Return (width, height)."""
    return (pixels.shape[1], pixels.shape[0]) if isinstance(pixels, np.ndarray) else pixels.size


def detect_format(data: bytes) -> str:
    """Return the format that a file's first bytes claim: JPEG, PNG, WEBP or GIF.

    Raises:
        BadPicture: empty, or none of these; the reason says what it looks like instead.
    """
    if not data:
        raise BadPicture("empty file")
    for name, signature in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    for pattern, what in _NOT_PICTURES:
        if pattern.match(data[:256]):
            raise BadPicture(f"not a picture but {what}")
    raise BadPicture(f"not a JPEG, PNG, WEBP or GIF: begins with bytes {data[:8].hex(' ')}")


def _decode(data: bytes, max_pixels: int) -> tuple[np.ndarray | Image.Image, str]:
    """Return the RGB pixels, as an array or an image, and the format."""
    name = detect_format(data)
    _refuse_polyglot(data, name)
    try:
        size = _open_header(data, name, max_pixels).size
        with _large if size[0] * size[1] > _LARGE else nullcontext():
            if name == "JPEG" and (pixels := _ordinary_jpeg(data, size)) is not None:
                return pixels, name
            return _by_pillow(data, name, max_pixels), name
    except BadPicture:
        raise
    except Exception as error:  # a decoder fed with hostile bytes raises almost anything
        raise BadPicture(f"damaged {name}: {type(error).__name__}: {_without_addresses(error)}") from error


def _ordinary_jpeg(data: bytes, size: tuple[int, int]) -> np.ndarray | None:
    """Return the pixels of a flawless grey or YCbCr JPEG; None for any other, of which Pillow judges.

    Args:
        data: the file.
        size: (width, height) that was checked; a file in which another reader finds another is not ordinary.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if (width, height) != size or colours not in ("YCbCr", "Gray"):
            return None
        return simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        return None


def _by_pillow(data: bytes, name: str, max_pixels: int) -> Image.Image:
    with _open_header(data, name, max_pixels) as image:
        image.verify()
    # verify() leaves the file unusable; Pillow's documentation asks to open it again.
    with _open_header(data, name, max_pixels) as image:
        image.load()
        _check_size(image, max_pixels)  # a GIF's frame may be larger than its header says
        return _as_rgb(image)


def _open_header(data: bytes, name: str, max_pixels: int) -> Image.Image:
    try:
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=[name])
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadPicture(f"decompression bomb: {_without_addresses(error)}") from error
    except UnidentifiedImageError as error:
        raise BadPicture(f"damaged {name}: its header cannot be read") from error
    _check_size(image, max_pixels)
    return image


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width < 1 or image.height < 1:
        raise BadPicture(f"no pixels: {image.width} x {image.height}")
    if image.width * image.height > max_pixels:
        raise BadPicture(f"too many pixels: {image.width} x {image.height}, at most {max_pixels:,} allowed")


def _refuse_polyglot(data: bytes, name: str) -> None:
    lower = data.lower()
    for text in _ACTIVE:
        if text in lower:
            raise BadPicture(f"polyglot: {name} that contains {text.decode().strip()!r}")
    end = _end_of_picture(data, name)
    if end is None or end >= len(data):
        return
    tail, lower_tail = data[end:], lower[end:]
    for signature, what in _APPENDED:
        if signature in tail or signature in lower_tail:
            raise BadPicture(f"polyglot: {what} follows the {name}")


def _end_of_picture(data: bytes, name: str) -> int | None:
    """Return the offset behind the picture's last byte, or None where the file does not say."""
    if name == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    if name == "PNG":
        position = 8
        while position + 8 <= len(data):
            length = int.from_bytes(data[position : position + 4], "big")
            kind = data[position + 4 : position + 8]
            position += 12 + length
            if kind == b"IEND":
                return position
        return None
    if name == "JPEG":
        return _end_of_jpeg(data)
    # A GIF's blocks end with 0x3B, which is also an ordinary byte: the last one is the best guess from
    # outside, and what is appended is looked for from the first that is followed by a signature.
    starts = [data.find(b"\x3b" + signature) for signature, _ in _APPENDED]
    found = [start for start in starts if start >= 0]
    return min(found) + 1 if found else None


def _end_of_jpeg(data: bytes) -> int | None:
    position, scans = 2, 0
    while match := _JPEG_MARKER.search(data, position):
        marker = match[1][0]
        if marker == 0xD9:
            return match.end()
        if marker in (0x01, 0xD8):
            position = match.end()
            continue
        scans += marker == 0xDA
        if scans > MAX_SCANS:
            raise BadPicture(f"decompression bomb: a JPEG of more than {MAX_SCANS} scans")
        length = int.from_bytes(data[match.end() : match.end() + 2], "big")
        position = match.end() + max(length, 2)
    return None


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16 bits a sample: Pillow would clip at 255 where it should scale
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray((np.minimum(values, 65535) >> 8).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _without_addresses(error: BaseException) -> str:
    return re.sub(r"<[^>]*0x[0-9a-f]+>", "file", str(error))[:200]
