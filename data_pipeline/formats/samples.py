"""The samples of an image as they are stored, and the eight bits that become of them.

Samples of 16 bits keep all of them until they are mapped to eight; transparency is laid on white
after that, in every mode alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from data_pipeline.formats.orientation import upright

#: The largest sample. Samples of eight bits count 257-fold: white is white.
MOST = 65535
#: What is mapped to black and what to white, among samples of 16 bits.
Levels = tuple[int, int]
ALL_LEVELS: Levels = (0, MOST)


@dataclass(frozen=True)
class Samples:
    """A decoded image.

    Attributes:
        stored: an image of eight bits, RGBA if any of it may be transparent and in any mode
            otherwise; or samples of 16 bits, uint16 [H, W, C] (C = 1 or 3, one more with alpha).
        turned: its orientation, 1 to 8; see :mod:`data_pipeline.formats.orientation`.
    """

    stored: Image.Image | NDArray[np.uint16]
    turned: int = 1

    def image(self, levels: Levels = ALL_LEVELS) -> Image.Image:
        """Eight bits, without transparency, upright.

        Between the levels, samples are divided into 256 steps of the same size; at all levels that
        is the high byte of 16 bits, and eight bits as they are.
        """
        if isinstance(self.stored, np.ndarray):
            image = _shown(self.stored, _table(levels))
        else:
            image = self.stored if levels == ALL_LEVELS else _mapped(self.stored, levels)
        return upright(_on_white(image), self.turned)

    def extent(self) -> Levels | None:
        """The smallest and the largest sample of what is not transparent.

        None if all of it is, or if the rest is of one colour: then transparency is what shows.
        """
        if isinstance(self.stored, np.ndarray):
            return _extent(self.stored, 1)
        image = _plain(self.stored)
        if image.mode == "RGBA":
            return _extent(np.asarray(image), MOST // 255)
        ends = np.ravel(image.getextrema()) * (MOST // 255)
        return int(ends.min()), int(ends.max())


def read_samples(
    opened: Callable[[], ImageFile.ImageFile], key: tuple[int, ...] = (), turned: int = 1
) -> Samples:
    """Decode an image.

    Args:
        opened: opens its file with Pillow anew, without decoding it.
        key: the transparent colour of a PNG, see :class:`data_pipeline.formats.bare_images.Bare`.
        turned: its orientation.
    """
    file = opened()
    raw = str(file.tile[0][3]) if file.format == "PNG" and file.tile else ""
    if raw.endswith(";16B"):
        deep = _deep(opened, raw)
        return Samples(_without(deep, key) if key else deep, turned)
    file.load()
    return Samples(stored(_cut_out(file, key, raw) if key else file), turned)


def stored(image: Image.Image) -> Image.Image | NDArray[np.uint16]:
    """The samples of an image of Pillow's, of any mode, as :class:`Samples` has them."""
    if image.mode.startswith("I"):
        return np.atleast_3d(np.asarray(image)).clip(0, MOST).astype(np.uint16)
    return image.convert("RGBA") if image.has_transparency_data else image


def _deep(opened: Callable[[], ImageFile.ImageFile], raw: str) -> NDArray[np.uint16]:
    """All bits of samples of 16, of which Pillow keeps eight where there are several."""
    if raw == "I;16B":
        return _bytes(opened(), raw).astype(np.uint16)
    if raw == "LA;16B":  # as if its bytes were the samples of four channels
        four = _bytes(opened(), "RGBA")
        return _joined(four[:, :, 0::2], four[:, :, 1::2])
    # Read in the other order of bytes, the high one is the low one.
    return _joined(_bytes(opened(), raw), _bytes(opened(), raw[:-1] + "L"))


def _joined(high: NDArray[Any], low: NDArray[Any]) -> NDArray[np.uint16]:
    values = high.astype(np.uint16)
    values <<= 8
    values |= low
    return values


def _bytes(image: ImageFile.ImageFile, raw: str) -> NDArray[Any]:
    """What is stored, unpacked as Pillow's raw mode of this name; [H, W, C]."""
    image.tile = cast(Any, [(*image.tile[0][:3], raw)])
    return np.atleast_3d(np.asarray(image))


def _without(values: NDArray[np.uint16], key: tuple[int, ...]) -> NDArray[np.uint16]:
    """With an alpha channel, in which a colour is transparent."""
    seen = (values != key).any(2, keepdims=True)
    return np.concatenate([values, np.where(seen, MOST, 0).astype(np.uint16)], axis=2)


def _cut_out(image: Image.Image, key: tuple[int, ...], raw: str) -> Image.Image:
    """The same for samples of at most eight bits, which are stored scaled up."""
    most = {"1": 1, "L;2": 3, "L;4": 15}.get(raw, 255)
    colour = [(sample & most) * (255 // most) for sample in key]
    image = image.convert("L") if image.mode == "1" else image
    seen = (np.atleast_3d(np.asarray(image)) != colour).any(2)
    image.putalpha(Image.fromarray(np.where(seen, 255, 0).astype(np.uint8)))
    return image


def _table(levels: Levels) -> NDArray[np.uint8]:
    """Eight bits for each sample of 16, uint8 [65536]."""
    low, high = levels
    steps = (np.arange(MOST + 1) - low) * 256 // (high - low + 1)
    return steps.clip(0, 255).astype(np.uint8)


def _shown(values: NDArray[np.uint16], table: NDArray[np.uint8]) -> Image.Image:
    colours = values.shape[2] - (values.shape[2] % 2 == 0)
    alpha = (values[:, :, colours:] >> 8).astype(np.uint8)
    shown = np.concatenate([table[values[:, :, :colours]], alpha], axis=2)
    return Image.fromarray(shown.squeeze(2) if shown.shape[2] == 1 else shown)


def _mapped(image: Image.Image, levels: Levels) -> Image.Image:
    image, one = _plain(image), _table(levels)[:: MOST // 255].tolist()
    same = list(range(256))
    return image.point(
        [entry for band in image.getbands() for entry in (same if band == "A" else one)]
    )


def _plain(image: Image.Image) -> Image.Image:
    """In gray or RGB, with its alpha."""
    if image.mode in ("L", "RGB", "RGBA"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _extent(values: NDArray[Any], scale: int) -> Levels | None:
    """Of samples [H, W, C], times ``scale``."""
    colours, seen = values, np.ones((1, 1, 1), dtype=bool)
    if cut_out := values.shape[2] % 2 == 0:
        colours, seen = values[:, :, :-1], values[:, :, -1:] >= 257 // scale
    if not seen.any():
        return None
    low = int(colours.min(where=seen, initial=MOST // scale))
    high = int(colours.max(where=seen, initial=0))
    return None if cut_out and low == high else (scale * low, scale * high)
