"""Examples as people hold them in memory, and the arrays that a learner was trained on.

Images are Pillow's, arrays or tensors, of any size; they are prepared by the very function that
prepares image files. An array or tensor says by its layout and type what it holds:

    NumPy array     [H, W] or [H, W, C], as Pillow and OpenCV have images
    torch tensor    [C, H, W], as torchvision has them; or [H, W]
    uint8           0 is black, 255 is white
    uint16          0 is black, 65535 is white
    float           0.0 is black, 1.0 is white; kept to as many steps as image files have

C is 1 (gray) or 3 (red, green, blue); or 4, which uint8 alone may have: what is transparent is laid
on white.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from data_pipeline.formats.images import Preparation
from data_pipeline.formats.levels import Used
from data_pipeline.formats.orientation import orientation
from data_pipeline.formats.samples import ALL_LEVELS, MOST, Samples, stored
from metadist.errors import AdaptError

log = logging.getLogger(__name__)
#: Rounding that a float image may have beyond 0 and 1.
_SLACK = 1e-5
_WHITE = {"uint8": 255, "uint16": MOST}


class Inputs(Protocol):
    """How examples are read."""

    def read(self, given: Any, what: str) -> NDArray[Any]:
        """n examples as :func:`metadist.tasks.to_inputs` takes them.

        Args:
            what: they are, for messages: ``support``, ``query``.

        Raises:
            AdaptError: they are none of those that are read; the message names the first of them.
        """


@dataclass(frozen=True)
class ImageInputs:
    """Images, which become uint8 [n, H, W, C]."""

    preparation: Preparation

    def read(self, given: Any, what: str) -> NDArray[np.uint8]:
        """See :class:`Inputs`."""
        prepare = self.preparation
        images = _images(given, what)
        pixels = np.empty((len(images), *prepare.shape), dtype=np.uint8)
        used = Used((prepare.low, prepare.high))
        for row, image in enumerate(images):
            samples = self._samples(image, f"{what}[{row}]")
            used.add("", samples)
            pixels[row] = prepare.prepared(samples)
        if odd := used.warning(what, "Bring them to that range"):
            log.warning("%s", odd)
        return pixels

    def _samples(self, image: Any, where: str) -> Samples:
        if isinstance(image, Image.Image):
            return self._of_pillow(image, where)
        if isinstance(image, torch.Tensor):
            return self._of_array(_channels_last(image, where), where)
        if isinstance(image, np.ndarray):
            return self._of_array(image, where)
        path = isinstance(image, str | bytes) or hasattr(image, "__fspath__")
        mend = "open it (PIL.Image.open), or give folders to metadist.adapt" if path else "make one"
        raise AdaptError(
            f"{where}: an image of Pillow's, a NumPy array or a tensor is needed, got "
            f"{type(image).__name__}; {mend}"
        )

    def _of_pillow(self, image: Image.Image, where: str) -> Samples:
        try:
            image.load()
        except (OSError, SyntaxError) as error:
            raise AdaptError(f"{where}: its file cannot be decoded ({error})") from None
        exif, xmp = (
            value if isinstance(value := image.info.get(name), bytes) else b""
            for name in ("exif", "xmp")
        )
        return Samples(stored(image), orientation(exif, xmp) if self.preparation.upright else 1)

    def _of_array(self, image: NDArray[Any], where: str) -> Samples:
        image = image[:, :, None] if image.ndim == 2 else image
        alpha = (4,) if image.dtype == np.uint8 else ()
        if image.ndim != 3 or image.shape[2] not in (1, 3, *alpha) or 0 in image.shape:
            first = image.ndim == 3 and image.shape[0] in (1, 3, 4)
            raise AdaptError(
                f"{where}: an array [H, W] or [H, W, C] with C = 1 or 3, or a tensor [C, H, W], is "
                f"needed of an image, got [{_sizes(image)}]"
                f"{'; turn it by .transpose(1, 2, 0)' if first else ''}"
            )
        if image.dtype.kind == "f":
            image = self._whole(image, where)
        if image.dtype == np.uint16:
            return Samples(np.ascontiguousarray(image))
        if image.dtype == np.uint8:
            flat = image[:, :, 0] if image.shape[2] == 1 else image
            return Samples(stored(Image.fromarray(np.ascontiguousarray(flat))))
        raise AdaptError(
            f"{where}: uint8 (0 to 255), uint16 (0 to {MOST}) or floats (0 to 1) are needed, got "
            f"{image.dtype}; convert it, as by .astype('uint8')"
        )

    def _whole(self, image: NDArray[Any], where: str) -> NDArray[Any]:
        """Floats in [0, 1] as whole numbers; as many of them as the preparation tells apart."""
        low, high = float(image.min()), float(image.max())
        if not np.isfinite((low, high)).all():
            raise AdaptError(f"{where}: not all of its values are finite; mend the image")
        if low < -_SLACK or high > 1 + _SLACK:
            mend = (
                "undo its standardisation, or cut it off by .clip(0, 1)"
                if low < -_SLACK or high <= 2
                else "divide it by its white, or give whole numbers as uint8"
            )
            raise AdaptError(
                f"{where}: floats of an image lie between 0 (black) and 1 (white), got {low:g} to "
                f"{high:g}; {mend}"
            )
        levels = (self.preparation.low, self.preparation.high)
        kind = "uint8" if levels == ALL_LEVELS else "uint16"
        return np.rint(image.clip(0, 1).astype(np.float64) * _WHITE[kind]).astype(kind)


@dataclass(frozen=True)
class ValueInputs:
    """Numbers, which become float64 [n, ...] of a given shape."""

    shape: tuple[int, ...]

    def read(self, given: Any, what: str) -> NDArray[np.float64]:
        """See :class:`Inputs`."""
        values = numbers(given, what)
        if values.ndim == 1 and self.shape == (1,):
            values = values[:, None]
        if values.size == 0:
            return np.empty((0, *self.shape))
        if values.shape[1:] != self.shape:
            alone = " (or [n])" if self.shape == (1,) else ""
            raise AdaptError(
                f"{what}: points [n, {', '.join(map(str, self.shape))}]{alone} are needed, got "
                f"[{_sizes(values)}]"
            )
        return values


def numbers(given: Any, what: str) -> NDArray[np.float64]:
    """Finite numbers of an array, a tensor or (nested) lists, as float64.

    Raises:
        AdaptError: they are none.
    """
    try:
        if isinstance(given, list | tuple):
            given = np.stack([_array(one) for one in given]) if given else np.empty(0)
        values = _array(given)
        if values.dtype.kind not in "fiu":
            raise TypeError(f"{values.dtype} is no type of numbers")
    except (TypeError, ValueError) as error:
        raise AdaptError(
            f"{what}: numbers are needed, as an array, a tensor or a list, got "
            f"{type(given).__name__} ({error})"
        ) from None
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise AdaptError(f"{what}: not all of the numbers are finite; leave such points out")
    return values


def _array(given: Any) -> NDArray[Any]:
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu()
        given = given.float() if given.dtype == torch.bfloat16 else given
        return np.asarray(given.numpy())
    return np.asarray(given)


def _images(given: Any, what: str) -> Sequence[Any]:
    if isinstance(given, list | tuple):
        return given
    if isinstance(given, torch.Tensor | np.ndarray):
        several = given.ndim == 4
        if isinstance(given, np.ndarray) and given.ndim == 3:
            several = given.shape[2] not in (1, 3, 4)  # else it is one image
        if several or (given.ndim and not len(given)):
            return list(given)
        raise AdaptError(
            f"{what}: images one after another are needed, [n, H, W, C] or [n, H, W] in an array, "
            f"[n, C, H, W] in a tensor, or a list of images, got [{_sizes(given)}]; of a single "
            "image x give [x]"
        )
    raise AdaptError(
        f"{what}: an array, a tensor or a list of images is needed, got {type(given).__name__}"
        f"{'; give a list' if isinstance(given, Image.Image) else ''}"
    )


def _channels_last(image: torch.Tensor, where: str) -> NDArray[Any]:
    """A tensor [C, H, W] or [H, W] as an array is laid out."""
    if image.ndim == 3 and image.shape[0] not in (1, 3, 4):
        turned = "; turn it by .permute(2, 0, 1)" if image.shape[2] in (1, 3, 4) else ""
        raise AdaptError(
            f"{where}: a tensor [C, H, W] with C = 1 or 3 is needed of an image, got "
            f"[{_sizes(image)}]{turned}"
        )
    array = _array(image)
    return array.transpose(1, 2, 0) if array.ndim == 3 else array


def _sizes(given: Any) -> str:
    return ", ".join(map(str, given.shape))
