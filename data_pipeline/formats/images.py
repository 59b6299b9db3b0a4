"""Image bytes that come from anywhere, to uint8 pixels, without trusting them.

The size is read from the header by code of our own before anything is decoded, so an image that
claims to be huge is refused before memory is taken for it. Only formats in :data:`FORMATS` are
handed to Pillow, and of a file only what makes pixels.
"""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFile

from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.formats.bare_images import bare, jpeg_segments
from data_pipeline.formats.orientation import orientation
from data_pipeline.formats.samples import MOST, Samples, read_samples

#: Formats that are decoded; everything else is refused.
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")
#: Largest encoded image, bytes.
MAX_BYTES = 64 * 1024 * 1024
#: Largest decoded image, pixels: a square of 8,192.
MAX_PIXELS = 1 << 26

Fit = Literal["crop", "stretch"]


@dataclass(frozen=True)
class Preparation:
    """How a dataset makes pixels of encoded images: equal images, equal pixels.

    Attributes:
        shape: (height, width, channels), the last 1 (gray) or 3 (RGB). An image that has the height
            and width already is not resampled.
        fit: ``crop`` cuts the largest centred piece of the right proportions, ``stretch`` uses
            the whole image whatever its proportions.
        resampling: a filter of Pillow's, such as ``lanczos``; all but ``nearest`` are anti-aliased.
        invert: exchange light and dark.
        upright: see :func:`decode_samples`.
        low, high: what becomes black and what white, among samples of 16 bits; those of 8 bits
            count 257-fold.
    """

    shape: tuple[int, int, int]
    fit: Fit = "crop"
    resampling: str = "lanczos"
    invert: bool = False
    upright: bool = False
    low: int = 0
    high: int = MOST

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= MOST:
            raise ValueError(f"from {self.low} to {self.high}, 0 to {MOST} is possible")

    def pixels(self, data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
        """Pixels uint8 [H, W, C] of an encoded image; see :func:`decode_samples`."""
        samples = decode_samples(data, name, max_pixels=max_pixels, upright=self.upright)
        return self.prepared(samples)

    def prepared(self, samples: Samples) -> NDArray[np.uint8]:
        """Pixels uint8 [H, W, C] of a decoded image."""
        height, width, channels = self.shape
        image = samples.image((self.low, self.high)).convert("L" if channels == 1 else "RGB")
        if self.invert:
            image = ImageChops.invert(image)
        if image.size != (width, height):
            box = _centre(image.size, width, height) if self.fit == "crop" else (0, 0, *image.size)
            filter_ = Image.Resampling[self.resampling.upper()]
            image = image.resize((width, height), filter_, box=box)
        return np.asarray(image, dtype=np.uint8).reshape(self.shape)

    def samples(self, path: Path) -> Samples:
        """A file, decoded.

        Raises:
            MissingData: no such file.
            DamagedData, UnsafeData: as :func:`decode_samples`; or it is too large a file.
        """
        return decode_samples(read_bytes(path), str(path), upright=self.upright)


# Markers that start a JPEG frame and carry its size (C4, C8 and CC are other things).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The contents of a file that should be an image.

    Raises:
        MissingData: no such file.
        UnsafeData: it is larger than ``max_bytes``.
    """
    try:
        with path.open("rb") as handle:
            data = handle.read(max_bytes + 1)
    except (FileNotFoundError, IsADirectoryError):
        raise MissingData(f"{path}: no such file") from None
    if len(data) > max_bytes:
        raise UnsafeData(f"{path}: more than {max_bytes} bytes, too large for an image")
    return data


def decode_samples(
    data: bytes, name: str, *, max_pixels: int = MAX_PIXELS, upright: bool = False
) -> Samples:
    """Decode one image. Its metadata have no say in whether it can be.

    Args:
        data: the encoded image.
        name: what to call it in an error: its path, or its place in an archive.
        max_pixels: largest decoded size.
        upright: turn it as its EXIF orientation says (photographs of users).

    Raises:
        DamagedData: not an image of an accepted format, or cut off.
        UnsafeData: too many bytes or pixels.
    """
    if len(data) > MAX_BYTES:
        raise UnsafeData(f"{name}: {len(data)} bytes, at most {MAX_BYTES} are accepted")
    kind, width, height = _declared(data)
    if not kind:
        known = ", ".join(FORMATS)
        raise DamagedData(f"{name}: not an image ({known} are read), it begins {data[:8]!r}")
    _check_size(name, width, height, max_pixels)

    def opened() -> ImageFile.ImageFile:
        image = Image.open(io.BytesIO(kept.data), formats=[kind])
        _check_size(name, *image.size, max_pixels)
        return image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kept = bare(kind, data)
            turned = orientation(kept.exif, kept.xmp) if upright else 1
            return read_samples(opened, kept.key, turned)
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise UnsafeData(f"{name}: {error}") from None
    except Exception as error:
        # Pillow's parsers raise many kinds of exception on hostile or damaged input.
        raise DamagedData(f"{name}: damaged {kind} image ({error})") from None


def _centre(size: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """The largest centred box of ``width : height`` in an image of ``size``, in whole pixels."""
    wide = max(1, min(size[0], size[1] * width // height))
    high = max(1, min(size[1], size[0] * height // width))
    left, top = (size[0] - wide) // 2, (size[1] - high) // 2
    return left, top, left + wide, top + high


def _check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise DamagedData(f"{name}: an image of {width} x {height} pixels")
    if width * height > max_pixels:
        raise UnsafeData(
            f"{name}: {width} x {height} pixels, at most {max_pixels} are accepted "
            "(a small file that unpacks to a huge image?)"
        )


def is_image(data: bytes) -> bool:
    """Whether bytes begin as an image of an accepted format does; the rest may be damaged.

    A JPEG may tell its size behind any amount of metadata.
    """
    return data.startswith(b"\xff\xd8\xff") or bool(_declared(data)[0])


def _declared(data: bytes) -> tuple[str, int, int]:
    """Format, width and height that the first bytes declare; an empty format if unknown."""
    with contextlib.suppress(struct.error):
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            return ("PNG", *struct.unpack_from(">II", data, 16))
        if data[:2] == b"BM":
            if struct.unpack_from("<I", data, 14)[0] == 12:  # the header of OS/2
                return ("BMP", *struct.unpack_from("<HH", data, 18))
            width, height = struct.unpack_from("<ii", data, 18)
            return "BMP", width, abs(height)  # negative: rows from top to bottom
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return ("WEBP", *_webp_size(data))
        for marker, segment in jpeg_segments(data) if data[:2] == b"\xff\xd8" else ():
            if marker in _JPEG_FRAMES:
                height, width = struct.unpack_from(">HH", segment, 5)
                return "JPEG", width, height
    return "", 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    if data[12:16] == b"VP8X":
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    if data[12:16] == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF
