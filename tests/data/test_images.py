"""Images that come from anywhere are decoded rightly or refused by name."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_bytes import decode, to_pixels
from PIL import Image

from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.formats.images import FORMATS, MAX_BYTES, MAX_PIXELS, read_bytes

COLOURS = np.random.Generator(np.random.Philox(1)).integers(0, 256, (24, 36, 3), dtype=np.uint8)


def encode(pixels: np.ndarray, kind: str, **settings) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **settings)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes) -> bytes:
    """A one-bit gray PNG that claims a size, whatever its rows hold."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def pixels_or_refusal(data: bytes, shape: tuple[int, int, int]) -> np.ndarray | str:
    """What becomes of bytes; any exception but ours is a failure, ours must name the image."""
    try:
        image = decode(data, "the-image", max_pixels=1 << 16)
    except DataError as error:
        message = str(error)
    else:
        return to_pixels(image, shape)
    assert "the-image" in message
    return message


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_formats_keep_their_pixels(kind):
    image = decode(encode(COLOURS, kind), "a")
    assert np.array_equal(to_pixels(image, (24, 36, 3)), COLOURS)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("shape", [(28, 28, 1), (84, 84, 3), (10, 30, 3)])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_every_format_comes_in_the_shape_asked_for(kind, shape, fit):
    pixels = to_pixels(decode(encode(COLOURS, kind), "a"), shape, fit=fit)
    assert pixels.shape == shape
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_image_is_named(kind):
    data = encode(COLOURS, kind, **({"lossless": True} if kind == "WEBP" else {}))
    # The last row of a BMP ends with padding, which holds no pixel: cut more than that.
    for keep in {0, 1, 7, 20, 30, len(data) // 3, len(data) // 2, len(data) - 5}:
        with pytest.raises(DamagedData, match=r"folder/cut\.img"):
            decode(data[:keep], "folder/cut.img")


def test_a_png_without_its_last_byte_is_refused():
    with pytest.raises(DamagedData, match="end is missing"):
        decode(encode(COLOURS, "PNG")[:-1], "a")


def test_every_flipped_byte_of_a_png_is_noticed_or_harmless():
    data = encode(COLOURS[:8, :8], "PNG")
    accepted = []
    for at in range(len(data)):
        altered = bytearray(data)
        altered[at] ^= 0xFF
        pixels = pixels_or_refusal(bytes(altered), (8, 8, 3))
        if not isinstance(pixels, str):
            accepted.append(at)
            assert np.array_equal(pixels, COLOURS[:8, :8])
    assert len(accepted) < 16  # checksums and lengths that follow the last pixel


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MZ\x90\x00" + bytes(200),
        b"\x7fELF" + bytes(200),
        pickle.dumps({"a": 1}),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"\xff\xd8" + b"\xff" * 50,
        b"BM",
        b"RIFF\x00\x00\x00\x00WEBPVP8X",
        b"P6 2 2 255 " + bytes(12),
    ],
    ids=lambda data: repr(data[:8]),
)
def test_what_is_no_image_is_named(data):
    with pytest.raises(DamagedData, match=r"photos/cat\.png"):
        decode(data, "photos/cat.png")


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "ICO", "PPM", "EPS"])
def test_formats_outside_the_list_are_refused(kind):
    with pytest.raises(DamagedData, match="PNG"):
        decode(encode(COLOURS, kind), "a")


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    # 30,000 x 30,000 pixels: 112 MB of rows in 100 kB of PNG.
    bomb = png(30_000, 30_000, bytes(3751 * 100))
    monkeypatch.setattr(Image, "open", lambda *a, **k: pytest.fail("the bomb was opened"))
    with pytest.raises(UnsafeData, match=r"bomb\.png: 30000 x 30000"):
        decode(bomb, "bomb.png")


@pytest.mark.parametrize("limit", [None, 100])
def test_the_limit_is_ours_whatever_pillow_is_told(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(UnsafeData):
            decode(png(8200, 8200, b""), "a")
    assert MAX_PIXELS < 8200 * 8200


@pytest.mark.parametrize("kind", FORMATS)
def test_pixels_are_counted_in_every_format(kind):
    with pytest.raises(UnsafeData, match=f"{36} x {24} pixels"):
        decode(encode(COLOURS, kind), "a", max_pixels=36 * 24 - 1)
    assert decode(encode(COLOURS, kind), "a", max_pixels=36 * 24).size == (36, 24)


@pytest.mark.parametrize("settings", [{"lossless": True}, {"lossless": False}, {"exact": True}])
def test_the_size_of_a_webp_is_read_from_each_kind_of_header(settings):
    translucent = np.dstack([COLOURS, np.full((24, 36), 128, np.uint8)])
    for pixels in (COLOURS, translucent):
        with pytest.raises(UnsafeData, match="36 x 24"):
            decode(encode(pixels, "WEBP", **settings), "a", max_pixels=1)


def test_a_jpeg_with_two_frames_is_judged_by_what_is_decoded():
    data = encode(COLOURS, "JPEG")
    at = data.index(b"\xff\xc0")
    length = 2 + struct.unpack_from(">H", data, at + 2)[0]
    second = bytearray(data[at : at + length])
    struct.pack_into(">HH", second, 5, 60_000, 60_000)
    for order in (bytes(second) + data[at : at + length], data[at : at + length] + bytes(second)):
        with pytest.raises(DataError, match="a: "):
            decode(data[:at] + order + data[at + length :], "a")


def test_too_many_bytes_are_refused(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(bytes(101))
    with pytest.raises(UnsafeData, match=r"large\.png"):
        read_bytes(path, 100)
    with pytest.raises(UnsafeData, match="large"):
        decode(bytes(MAX_BYTES + 1), "large")
    with pytest.raises(MissingData, match=r"none\.png"):
        read_bytes(tmp_path / "none.png")


def test_sixteen_bit_gray_keeps_its_high_byte():
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    image = decode(encode(values, "PNG"), "a")
    assert np.array_equal(to_pixels(image, (16, 16, 1))[:, :, 0], values >> 8)


def test_transparency_is_laid_on_white():
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[:4, :, 3] = 255
    pixels = to_pixels(decode(encode(clear, "PNG"), "a"), (8, 8, 3))
    assert (pixels[:4] == 0).all()
    assert (pixels[4:] == 255).all()
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=bytes([255, 0]))
    assert (to_pixels(decode(buffer.getvalue(), "a"), (8, 8, 1)) == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "LA", "RGBA"])
def test_every_mode_becomes_gray_and_colour(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (250, 250, 250)).convert(mode).save(buffer, kind)
    for channels in (1, 3):
        pixels = to_pixels(decode(buffer.getvalue(), "a"), (5, 5, channels))
        assert pixels.shape == (5, 5, channels)
        assert (pixels >= 200).all()  # a palette is dithered


def test_photographs_are_turned_upright_on_request():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    data = encode(COLOURS, "JPEG", exif=exif)
    assert decode(data, "a").size == (36, 24)
    assert decode(data, "a", upright=True).size == (24, 36)


def test_crop_takes_the_centre_and_stretch_takes_all():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    image = decode(encode(wide, "PNG"), "a")
    assert (to_pixels(image, (10, 10, 3), fit="crop") == 200).all()
    assert (to_pixels(image, (10, 10, 3), fit="stretch")[:, 0] < 20).all()


def test_resampling_is_named():
    checks = (np.indices((40, 40)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = decode(encode(checks, "PNG"), "a")
    smooth = to_pixels(image, (10, 10, 1))
    assert ((smooth > 100) & (smooth < 155)).all()  # anti-aliased: the mean
    assert set(np.unique(to_pixels(image, (10, 10, 1), resampling="nearest"))) <= {0, 255}


@pytest.mark.slow
@settings(max_examples=150)
@given(st.sampled_from(FORMATS), st.data())
def test_hostile_bytes_raise_nothing_but_our_errors(kind, draw):
    data = bytearray(encode(COLOURS, kind))
    for _ in range(draw.draw(st.integers(1, 6))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(data)))
    pixels = pixels_or_refusal(bytes(data[: cut or None]), (8, 8, 3))
    assert isinstance(pixels, str) or pixels.shape == (8, 8, 3)
