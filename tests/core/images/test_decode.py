"""Opening pictures: real ones open, and every hostile one is refused with a reason."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.core.images import hostile_files as files
from twigma_core.images.decode import BadPicture, describe_picture, open_picture, pixel_sha256

Make = Callable[..., bytes]


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF"])
def test_each_allowed_format_is_opened_and_described(make_picture: Make, name: str) -> None:
    data = make_picture(1, name)
    info = describe_picture(data)
    assert (info.format, info.width, info.height, info.bytes) == (name, 48, 32, len(data))
    assert info.sha256 == hashlib.sha256(data).hexdigest()
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(open_picture(data)), np.asarray(image.convert("RGB")))


def test_same_pixels_in_another_file_share_the_pixel_hash_and_not_the_file_hash(make_picture: Make) -> None:
    first = describe_picture(make_picture(1, "PNG", compress_level=1))
    second = describe_picture(make_picture(1, "PNG", compress_level=9))
    other = describe_picture(make_picture(2, "PNG"))
    assert first.sha256 != second.sha256
    assert first.pixel_sha256 == second.pixel_sha256 != other.pixel_sha256


def test_pixel_hash_tells_shapes_of_the_same_bytes_apart() -> None:
    wide, tall = Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4))
    assert wide.tobytes() == tall.tobytes()
    assert pixel_sha256(wide) != pixel_sha256(tall)


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    assert np.array_equal(np.asarray(open_picture(buffer.getvalue()))[..., 0], (values >> 8).astype(np.uint8))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_file_is_refused(make_picture: Make, name: str, share: float) -> None:
    data = make_picture(3, name, (160, 160))
    with pytest.raises(BadPicture):
        describe_picture(data[: int(len(data) * share)])


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize(
    "tail", [b"PK\x03\x04zip", b"%PDF-1.4", b"\n<?php system(1); ?>", b"<script>x()</script>"]
)
def test_polyglot_is_refused(make_picture: Make, name: str, tail: bytes) -> None:
    with pytest.raises(BadPicture, match="polyglot"):
        open_picture(make_picture(4, name) + tail)


def test_script_in_a_comment_is_refused_and_a_plain_comment_is_not(make_picture: Make) -> None:
    open_picture(make_picture(5, "JPEG", comment=b"a cat"))
    with pytest.raises(BadPicture, match="polyglot"):
        open_picture(make_picture(5, "JPEG", comment=b"<SCRIPT>alert(1)</script>"))


def test_padding_behind_a_picture_is_no_polyglot(make_picture: Make) -> None:
    for name in ("JPEG", "PNG", "GIF"):
        open_picture(make_picture(6, name) + bytes(64) + b"\r\n")


def test_damage_that_no_pixel_shows_is_refused_too(make_picture: Make) -> None:
    """A PNG's checksums are read by `verify` alone where a chunk holds no pixels."""
    data = make_picture(7, "PNG")
    good, bad = files.chunk(b"tEXt", b"Title\0cat"), files.chunk(b"tEXt", b"Title\0cat")[:-1] + b"\0"
    open_picture(data[:-12] + good + data[-12:])
    with pytest.raises(BadPicture, match="damaged PNG"):
        open_picture(data[:-12] + bad + data[-12:])


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_quick_reader_of_jpegs_gives_pillows_pixels(
    make_picture: Make, subsampling: str, mode: str, progressive: bool
) -> None:
    image = files.picture((203, 149)).convert(mode)
    data = files.save(image, "JPEG", subsampling=subsampling, progressive=progressive, quality=83)
    with Image.open(io.BytesIO(data)) as opened:
        expected = opened.convert("RGB")
    assert np.array_equal(np.asarray(open_picture(data)), np.asarray(expected))
    assert describe_picture(data).pixel_sha256 == pixel_sha256(expected)


def test_a_jpeg_with_a_blemish_that_pillow_forgives_is_taken(make_picture: Make) -> None:
    """Surplus bytes before a marker, as some programs leave them: the quick reader refuses it."""
    data = make_picture(8, "JPEG")
    assert open_picture(data[:-2] + b"\0\0\0" + data[-2:]).size == (48, 32)


@given(st.data())
def test_damage_is_refused_or_decoded_but_never_another_error(data: st.DataObject) -> None:
    base = bytearray(_SAMPLES[data.draw(st.sampled_from(sorted(_SAMPLES)))])
    for _ in range(data.draw(st.integers(1, 8))):
        base[data.draw(st.integers(0, len(base) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = open_picture(bytes(base))
    except BadPicture as error:
        assert error.reason
    else:
        assert image.mode == "RGB"


def _samples() -> dict[str, bytes]:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    found = {}
    for name in ("JPEG", "PNG", "WEBP", "GIF"):
        buffer = io.BytesIO()
        image.save(buffer, name)
        found[name] = buffer.getvalue()
    return found


_SAMPLES = _samples()


def test_real_pictures_open_as_pillow_opens_them(shared_data: Path) -> None:
    opened = 0
    for folder in ("ai/dalle2_eudoxia0", "art/museum_local", "art/artbench32", "photo/imagenet_sample"):
        files = sorted((shared_data / "pictures" / folder).rglob("*.[jpJP][pnPN]*[gG]"))[:40]
        for file in files:
            data = file.read_bytes()
            with Image.open(io.BytesIO(data)) as image:
                assert np.array_equal(np.asarray(open_picture(data)), np.asarray(image.convert("RGB"))), file
            opened += 1
    assert opened > 100
