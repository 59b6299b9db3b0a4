"""Which way up a photograph was taken: read from its metadata with bounds, and applied here.

Metadata come from anywhere. What cannot be read, or is of a wrong type, says nothing.
"""

from __future__ import annotations

import re
import struct

from PIL import Image

_TAG = 274
_ENTRY = 12
#: TIFF's whole numbers by the code of their type, and how a single one is stored.
_WHOLE = {1: "B", 3: "H", 4: "I"}
_IN_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(exif: bytes, xmp: bytes) -> int:
    """The orientation, 1 to 8, that an EXIF block gives, else an XMP packet, else 1 (upright)."""
    found = _in_exif(exif)
    if found is None:
        match = _IN_XMP.search(xmp)
        found = int(match[1]) if match else 1
    return found if found in _TRANSPOSE else 1


def upright(image: Image.Image, turned: int) -> Image.Image:
    """The image as it was seen, given its orientation."""
    return image.transpose(_TRANSPOSE[turned]) if turned in _TRANSPOSE else image


def _in_exif(block: bytes) -> int | None:
    """What tag 274 of the first directory says, 0 if it is no single whole number; None without
    such a tag."""
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return None
    start = struct.unpack_from(f"{order}I", block, 4)[0]
    if start + 2 > len(block):
        return None
    count = struct.unpack_from(f"{order}H", block, start)[0]
    last = min(start + 2 + count * _ENTRY, len(block) - _ENTRY + 1)
    found = None
    for at in range(start + 2, last, _ENTRY):
        tag, kind, values = struct.unpack_from(f"{order}HHI", block, at)
        if tag == _TAG:
            single = values == 1 and kind in _WHOLE
            found = struct.unpack_from(order + _WHOLE[kind], block, at + 8)[0] if single else 0
    return found
