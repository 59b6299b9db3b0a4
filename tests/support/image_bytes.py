"""Image files built byte by byte: what no encoder at hand would write."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_pipeline.formats.images import Preparation, decode_samples
from data_pipeline.formats.samples import Samples, stored

#: Channels of a PNG, by colour type.
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def decode(data: bytes, name: str, **options: Any) -> Image.Image:
    """An image as it is read, in eight bits."""
    return decode_samples(data, name, **options).image()


def to_pixels(image: Image.Image, shape: tuple[int, int, int], **options: Any) -> NDArray[np.uint8]:
    """Pixels of an image that has been decoded, in this shape."""
    return Preparation(shape, **options).prepared(Samples(stored(image)))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image as Pillow writes it."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes, flaw: int = 0) -> bytes:
    """A chunk of a PNG; its checksum is wrong by ``flaw``."""
    crc = zlib.crc32(name + data) ^ flaw
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


def png(samples: NDArray[Any], depth: int, colour_type: int, *chunks: bytes) -> bytes:
    """A PNG of samples [H, W, channels] with ``chunks`` before its image."""
    height, width, channels = samples.shape
    assert channels == CHANNELS[colour_type]
    if depth < 8:
        shifts = np.arange(depth)[::-1]
        rows = np.packbits((samples >> shifts & 1).reshape(height, -1), axis=1)
    else:
        rows = samples.astype(">u2" if depth == 16 else np.uint8).reshape(height, -1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def exif(orientation: int, *entries: tuple[int, int, int, bytes], kind: int = 3) -> bytes:
    """A TIFF block: an orientation of some type, and entries (tag, type, count, four bytes)."""
    ours = (274, kind, 1, struct.pack("<I", orientation))
    listed = sorted([ours, *entries])
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in listed)
    return b"II*\0" + struct.pack("<IH", 8, len(listed)) + body + bytes(4)


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def riff(*chunks: tuple[bytes, bytes], last: bytes = b"") -> bytes:
    """A WebP of chunks, and bytes that stand where another one is expected."""
    parts = [
        name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks
    ]
    body = b"WEBP" + b"".join(parts) + last
    return b"RIFF" + struct.pack("<I", len(body)) + body
