"""Metadata never decide: whatever they hold, an image has the pixels that it has without them."""

from __future__ import annotations

import struct
import time
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from image_bytes import chunk, decode, encoded, exif, png, riff, segment
from PIL import Image, PngImagePlugin

from data_pipeline.errors import DamagedData, UnsafeData
from data_pipeline.formats.images import Preparation, is_image

NOISE = np.random.Generator(np.random.Philox(3))
PIXELS = NOISE.integers(0, 256, (24, 36, 3), dtype=np.uint8)
PHOTO = Image.fromarray(PIXELS)
JPEG = encoded(PHOTO, "JPEG")
WEBP = encoded(PHOTO, "WEBP", lossless=True)
BOMB = zlib.compress(bytes(50_000_000))
LONG = NOISE.integers(0, 256, 1_500_000, dtype=np.uint8).tobytes()
ODD = (531, 2, 4, b"odd\0")
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'

PNG_METADATA = {
    "a long profile": chunk(b"iCCP", b"x\0\0" + zlib.compress(LONG)),
    "a profile that is a bomb": chunk(b"iCCP", b"x\0\0" + BOMB),
    "a profile of an unknown method": chunk(b"iCCP", b"x\0\7profile"),
    "an empty profile": chunk(b"iCCP", b""),
    "a long text": chunk(b"zTXt", b"note\0\0" + zlib.compress(LONG)),
    "a text that is a bomb": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + BOMB),
    "a text with a bad checksum": chunk(b"tEXt", b"note\0x", flaw=1),
    "a text called transparency": chunk(b"tEXt", b"transparency\0x"),
    "a text called interlace": chunk(b"tEXt", b"interlace\0x"),
    "an unknown chunk with a bad checksum": chunk(b"prVt", b"x", flaw=1),
    "a suggested palette with a bad checksum": chunk(b"PLTE", b"123", flaw=1),
    "short physical sizes": chunk(b"pHYs", b"x"),
    "a short gamma": chunk(b"gAMA", b""),
    "short chromaticities": chunk(b"cHRM", b"x"),
    "a short animation": chunk(b"acTL", b""),
    "frames out of order": chunk(b"fcTL", bytes(26)),
    "EXIF that leads nowhere": chunk(b"eXIf", b"II*\0\xff\xff\xff\xff"),
    "EXIF with a bad checksum": chunk(b"eXIf", exif(6), flaw=1),
}
JPEG_METADATA = {
    "EXIF that is none": segment(0xE1, b"Exif\0\0none"),
    "EXIF with a thumbnail's frame": segment(0xE1, b"Exif\0\0" + JPEG[:1000]),
    "a short JFIF": segment(0xE0, b"JFIF"),
    "a short Adobe": segment(0xEE, b"Adobe"),
    "Photoshop, cut off": segment(0xED, b"Photoshop 3.0\x008BIM"),
    "an index of images that is none": segment(0xE2, b"MPF\0II*\0nonenone"),
    "parts of a profile": segment(0xE2, b"ICC_PROFILE\0\5\2" + bytes(60_000)) * 2,
    "a comment that looks like a frame": segment(0xFE, b"\xff\xc0\0\x11\x08\xff\xff\xff\xff\3"),
    "stray bytes": b"stray\xff\0\xff\xff",
}
WEBP_HEAD = b"\x2c\0\0\0" + struct.pack("<I", 35)[:3] + struct.pack("<I", 23)[:3]
WEBP_PIXELS = (WEBP[12:16], WEBP[20:])
WEBP_METADATA = {
    "EXIF that is none": riff((b"VP8X", WEBP_HEAD), WEBP_PIXELS, (b"EXIF", b"none")),
    "EXIF of a wrong length": riff((b"VP8X", WEBP_HEAD), WEBP_PIXELS, last=b"EXIF\xff\xff\0\0Exif"),
    "flags for nothing": riff((b"VP8X", WEBP_HEAD), WEBP_PIXELS),
    "bytes behind it": WEBP + b"more",
}


def pixels(data: bytes, upright: bool = True) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Preparation((24, 36, 3), fit="stretch", upright=upright).pixels(data, "a")


@pytest.mark.parametrize("name", PNG_METADATA)
def test_metadata_of_a_png_do_not_decide(name):
    assert np.array_equal(pixels(png(PIXELS, 8, 2, PNG_METADATA[name])), PIXELS)
    plain = png(PIXELS, 8, 2)
    assert np.array_equal(pixels(plain[:-12] + PNG_METADATA[name] + plain[-12:]), PIXELS)


def test_what_stands_behind_the_pixels_of_a_png_does_not_decide():
    plain = png(PIXELS, 8, 2)
    for late in (struct.pack(">I", 10**8) + b"tEXt", chunk(b"IDAT", b"more")):
        assert np.array_equal(pixels(plain[:-12] + late + plain[-12:]), PIXELS)
    assert np.array_equal(pixels(plain + b"more" * 1000), PIXELS)


@pytest.mark.parametrize("name", JPEG_METADATA)
def test_metadata_of_a_jpeg_do_not_decide(name):
    assert np.array_equal(pixels(JPEG[:2] + JPEG_METADATA[name] + JPEG[2:]), pixels(JPEG))


@pytest.mark.parametrize("name", WEBP_METADATA)
def test_metadata_of_a_webp_do_not_decide(name):
    assert np.array_equal(pixels(WEBP_METADATA[name]), PIXELS)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_image_is_taken(kind):
    frames = [Image.fromarray(PIXELS[:, ::-1]), Image.fromarray(PIXELS[::-1])]
    data = encoded(PHOTO, kind, save_all=True, append_images=frames, lossless=True)
    assert np.array_equal(pixels(data), PIXELS)


def test_of_several_photographs_in_one_file_the_first_is_taken():
    data = encoded(
        PHOTO, "MPO", save_all=True, append_images=[PHOTO.transpose(Image.Transpose.ROTATE_180)]
    )
    assert np.array_equal(pixels(data), pixels(JPEG))


def test_texts_are_unpacked_a_bounded_number_of_times():
    bombs = chunk(b"zTXt", b"Raw profile type exif\0\0" + BOMB) * 300
    began = time.monotonic()
    assert np.array_equal(pixels(png(PIXELS, 8, 2, bombs)), PIXELS)
    assert time.monotonic() - began < 10


def test_metadata_hide_no_size():
    """Neither a frame behind metadata nor one inside them loosens the limit."""
    for name, body in JPEG_METADATA.items():
        with pytest.raises(UnsafeData, match="36 x 24"):
            decode(JPEG[:2] + body + JPEG[2:], name, max_pixels=36 * 24 - 1)


def test_a_damaged_colour_that_is_transparent_is_no_metadata():
    for trns in (chunk(b"tRNS", bytes(6), flaw=1), chunk(b"tRNS", bytes(5))):
        with pytest.raises(DamagedData, match="transparent colour cannot be read"):
            decode(png(PIXELS, 8, 2, trns), "a")


def test_a_jpeg_is_recognised_behind_any_amount_of_metadata():
    data = JPEG[:2] + segment(0xE2, bytes(65_000)) * 3 + JPEG[2:]
    assert is_image(data[: 1 << 16])


# --- orientation -------------------------------------------------------------------------------


def with_exif(kind: str, block: bytes) -> bytes:
    if kind == "JPEG":
        return JPEG[:2] + segment(0xE1, b"Exif\0\0" + block) + JPEG[2:]
    if kind == "PNG":
        return png(PIXELS, 8, 2, chunk(b"eXIf", block))
    return riff((b"VP8X", WEBP_HEAD), WEBP_PIXELS, (b"EXIF", block))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_photographs_are_turned_whatever_stands_beside_the_orientation(kind, orientation):
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: np.rot90,
    }
    seen = decode(with_exif(kind, exif(orientation, ODD)), "a", upright=True)
    plain = pixels(with_exif(kind, b""), upright=False)
    assert np.array_equal(np.asarray(seen), turns.get(orientation, np.asarray)(plain))
    assert np.array_equal(pixels(with_exif(kind, exif(orientation, ODD)), upright=False), plain)


@pytest.mark.parametrize(
    ("block", "turns"),
    [
        (exif(6, kind=3), True),
        (exif(6, kind=4), True),  # a long where a short belongs is a number all the same
        (exif(6, kind=2), False),
        (exif(6, kind=5), False),
        (exif(6, kind=11), False),
        (exif(6)[:12], False),
        (b"II*\0" + exif(6)[4:10] + exif(6)[10:-4] * 5000, True),
        (b"MM\0*" + exif(6)[4:], False),
        (b"Exif\0\0" + exif(6), True),
        (b"", False),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_that_cannot_be_read_is_upright(kind, block, turns):
    size = decode(with_exif(kind, block), "a", upright=True).size
    assert size == ((24, 36) if turns else (36, 24))


def test_the_orientation_may_stand_in_texts():
    lines = f"\nexif\n{len(exif(6)):8}\n{exif(6).hex()}\n"
    for packed in (False, True):
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Raw profile type exif", lines, zip=packed)
        assert decode(encoded(PHOTO, "PNG", pnginfo=texts), "a", upright=True).size == (24, 36)
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=packed)
        assert decode(encoded(PHOTO, "PNG", pnginfo=texts), "a", upright=True).size == (24, 36)
    jpeg = JPEG[:2] + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP) + JPEG[2:]
    for data in (jpeg, encoded(PHOTO, "WEBP", xmp=XMP)):
        assert decode(data, "a", upright=True).size == (24, 36)
