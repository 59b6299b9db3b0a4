"""Transparency is white in every mode, and samples of 16 bits keep all their bits."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from image_bytes import CHANNELS, chunk, decode, encoded, png, to_pixels
from PIL import Image

from data_pipeline.errors import DamagedData
from data_pipeline.formats.images import Preparation, decode_samples

NOISE = np.random.Generator(np.random.Philox(5))


def read(data: bytes, channels: int = 3, **options) -> np.ndarray:
    return Preparation((8, 8, channels), **options).pixels(data, "a")


def transparent(*colour: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(colour)}H", *colour))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dark", [True, False], ids=["dark", "light"])
@pytest.mark.parametrize(
    ("depth", "colour_type"), [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2)]
)
def test_a_transparent_colour_is_white(depth, colour_type, dark, channels):
    """The other half has the next colour, and stays as it is."""
    most = (1 << depth) - 1
    key, other = (0, 1) if dark else (most, most - 1)
    samples = np.full((8, 8, CHANNELS[colour_type]), key)
    samples[4:] = other
    colour = [key] * CHANNELS[colour_type]
    pixels = read(png(samples, depth, colour_type, transparent(*colour)), channels)
    assert (pixels[:4] == 255).all()
    assert (pixels[4:] == other * 65535 // most >> 8).all()


def test_only_the_lowest_bits_of_a_transparent_colour_count():
    samples = np.full((8, 8, 1), 3)
    assert (read(png(samples, 4, 0, transparent(0xFFF3))) == 255).all()


CUT_OUT = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
CUT_OUT.paste((40, 40, 40, 255), (0, 4, 8, 8))
PALETTE = CUT_OUT.convert("L").convert("P")
WHITE_BEHIND = {
    "RGBA": encoded(CUT_OUT, "PNG"),
    "LA": encoded(CUT_OUT.convert("LA"), "PNG"),
    "palette": encoded(PALETTE, "PNG", transparency=0),
    "palette of opacities": encoded(PALETTE, "PNG", transparency=bytes([0, 7, 9])),
    "WebP": encoded(CUT_OUT, "WEBP"),
    "lossless WebP": encoded(CUT_OUT, "WEBP", lossless=True, exact=True),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", WHITE_BEHIND)
def test_transparency_of_every_mode_is_white(mode, channels):
    pixels = read(WHITE_BEHIND[mode], channels).astype(int)
    assert (pixels[:4] == 255).all()
    assert (abs(pixels[4:] - 40) < 3).all()


def test_a_palette_with_too_many_opacities_is_refused():
    data = encoded(PALETTE, "PNG")
    with pytest.raises(DamagedData, match="the-image"):
        decode(data[:33] + chunk(b"tRNS", bytes(300)) + data[33:], "the-image")


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 1), (6, 3)])
def test_sixteen_bits_are_mapped_with_all_of_them(colour_type, channels):
    values = NOISE.integers(0, 4096, (8, 8, CHANNELS[colour_type]))
    if colour_type > 3:
        values[:, :, -1] = 65535
        values[0, 0] = [9000] * (values.shape[2] - 1) + [0]
    data = png(values, 16, colour_type)
    colours = values[:, :, :channels].copy()
    if colour_type > 3:
        colours[0, 0] = 4095  # transparent: white, and no part of the range
    assert np.array_equal(read(data, channels, low=0, high=4095), colours >> 4)
    seen = colours.reshape(64, -1)[colour_type > 3 :]
    assert decode_samples(data, "a").extent() == (seen.min(), seen.max())
    colours[0, 0] = 65535 if colour_type > 3 else colours[0, 0]
    assert np.array_equal(read(data, channels), colours >> 8)


def test_levels_map_eight_bits_as_their_share_of_sixteen():
    values = NOISE.integers(20, 52, (8, 8, 3))
    values[0, 0], values[7, 7] = 20, 51
    shown = read(png(values, 8, 2), low=20 * 257, high=51 * 257)
    assert (shown.min(), shown.max()) == (0, 255)
    assert np.array_equal(np.argsort(shown, None, "stable"), np.argsort(values, None, "stable"))
    palette = Image.fromarray(values.astype(np.uint8)).quantize(200)
    assert decode_samples(encoded(palette, "PNG"), "a").extent() is not None
    clear = np.zeros((8, 8, 4))
    assert decode_samples(png(clear, 8, 6), "a").extent() is None
    assert (read(png(clear, 8, 6), low=0, high=9) == 255).all()


def test_images_that_were_never_files_are_read_alike():
    deep = Image.fromarray(np.full((8, 8), 0x40FF, np.uint16))
    assert (to_pixels(deep, (8, 8, 3)) == 0x40).all()
    assert (to_pixels(CUT_OUT, (8, 8, 1))[:4] == 255).all()
