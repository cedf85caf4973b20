"""Picture files made to harm whoever opens them, and odd ones that are quite in order."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"


def picture(size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Return a smooth picture."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GOOD = save(picture((200, 200)), "JPEG")


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: bytes, *before: bytes) -> bytes:
    """Return a PNG of 8-bit RGB that claims a size and holds these compressed rows."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG + header + b"".join(before) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def text_bomb(size: int = 200_000_000) -> bytes:
    """Return a small PNG with a compressed comment of `size` bytes."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(10**6)) for _ in range(size // 10**6)) + packer.flush()
    return png(1, 1, zlib.compress(bytes(4)), chunk(b"zTXt", b"Comment\0\0" + packed))


def of_size(data: bytes, width: int, height: int) -> bytes:
    """Return a JPEG whose frame header claims another size."""
    at = next(at for at in range(2, len(data)) if data[at : at + 2] in (b"\xff\xc0", b"\xff\xc2"))
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def many_scans(count: int = 500) -> bytes:
    """Return a progressive JPEG whose last scan is there `count` times: much work in few bytes."""
    data = save(picture(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def wide_frame() -> bytes:
    """Return a GIF of 10 x 10 pixels with a frame of 60,000 x 60,000."""
    data = bytearray(save(Image.new("P", (10, 10)), "GIF"))
    at = data.index(b"\x2c\0\0\0\0\x0a\0\x0a\0")
    data[at + 5 : at + 9] = struct.pack("<HH", 60_000, 60_000)
    return bytes(data)


def huge_webp() -> bytes:
    """Return a WEBP of one colour with 16,383 x 16,383 pixels, in few bytes."""
    body = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + b"\xfe\x3f\0" * 2
    body += b"VP8L" + struct.pack("<I", 6) + b"\x2f" + struct.pack("<I", 16382 | 16382 << 14) + b"\0"
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def animated(frames: int = 2_000) -> bytes:
    """Return a GIF of many frames, the first of them red."""
    colours = [Image.new("P", (8, 8), n % 256) for n in range(frames)]
    return save(Image.new("RGB", (8, 8), "red"), "GIF", save_all=True, append_images=colours)


def sixteen_bits() -> bytes:
    """Return a grey PNG of 16 bits a sample."""
    return save(Image.fromarray(np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)), "PNG")


def transparent_palette() -> bytes:
    """Return a palette PNG with a transparent colour."""
    return save(picture().quantize(16), "PNG", transparency=3)


def two_pictures() -> bytes:
    """Return a JPEG with a second one behind it, as cameras write (MPO)."""
    return save(picture(), "MPO", save_all=True, append_images=[picture((24, 16))])
