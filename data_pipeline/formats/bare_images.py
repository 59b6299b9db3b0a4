"""An image's file without its metadata: only what makes pixels reaches the decoder.

Whether an image can be used is decided by its pixels. Text, colour profiles, EXIF, thumbnails,
further frames and what follows the end are left out, however large, mistyped or damaged they are;
what is wanted of them, the orientation and PNG's transparent colour, is read here with bounds.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

#: Bytes of a text that are unpacked; of each image one or two are.
_MAX_TEXT = 1 << 20
_PNG_END = b"IEND\xaeB`\x82"
_PALETTE = 3
_PNG_SAYING = frozenset({b"eXIf", b"iTXt", b"tEXt", b"zTXt"})
#: Where the orientation may stand: a chunk, and two texts by their keywords.
_ORIENTED = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp")
#: Samples in PNG's transparent colour, by colour type.
_KEY_SAMPLES = {0: 1, 2: 3}
# Markers without a length, and a stuffed byte outside of image data.
_JPEG_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})
_WEBP_PIXELS = frozenset({b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"})
# Flags of VP8X: there is a colour profile; and chunks that only count where a flag announces them.
_WEBP_PROFILE, _WEBP_SAYING = 0x20, {b"EXIF": 0x08, b"XMP ": 0x04}


@dataclass(frozen=True)
class Bare:
    """What is left of an image's file.

    Attributes:
        data: the file, of the same format.
        key: of a PNG, the samples of the colour that is transparent, as stored; empty for none.
        exif, xmp: where the orientation may stand; neither is checked.
    """

    data: bytes
    key: tuple[int, ...] = ()
    exif: bytes = b""
    xmp: bytes = b""


def bare(kind: str, data: bytes) -> Bare:
    """The file without metadata.

    Args:
        kind: its format, as its first bytes declare it.

    Raises:
        ValueError: a PNG without its end, or with a transparent colour that cannot be read.
    """
    if kind == "PNG":
        return _png(data)
    if kind == "JPEG":
        return _jpeg(data)
    return _webp(data) if kind == "WEBP" else Bare(data)


def _png(data: bytes) -> Bare:
    colour_type = int.from_bytes(data[25:26], "big")
    needed = {b"IHDR", b"IDAT"} | ({b"PLTE", b"tRNS"} if colour_type == _PALETTE else set())
    kept, said, transparent, name = [data[:8]], dict[bytes, bytes](), b"", b""
    for name, chunk in _png_chunks(data):
        if name in needed:
            kept.append(chunk)
        elif name == b"tRNS":
            transparent = chunk
        elif name in _PNG_SAYING and _sound(chunk):
            key = name if name == b"eXIf" else chunk[8:-4].partition(b"\0")[0]
            said |= {key: chunk} if key in _ORIENTED else {}
    # Damage of a chunk behind the image hides the end, though it is there.
    if name != b"IEND" and (len(kept) < 3 or _PNG_END not in data):
        raise ValueError("its end is missing")
    exif, profile, xmp = (said.get(key, b"") for key in _ORIENTED)
    return Bare(
        b"".join([*kept, bytes(4), _PNG_END]),
        _key(colour_type, transparent),
        exif=exif[8:-4] or _raw_profile(profile),
        xmp=_international(xmp),
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and whole chunks, up to the end or to one that is cut off."""
    at, name = 8, b""
    while name != b"IEND" and at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            return
        yield name, data[at : at + 12 + length]
        at += 12 + length


def _sound(chunk: bytes) -> bool:
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _key(colour_type: int, chunk: bytes) -> tuple[int, ...]:
    if not chunk or colour_type not in _KEY_SAMPLES:
        return ()
    samples = _KEY_SAMPLES[colour_type]
    if not _sound(chunk) or len(chunk) < 12 + 2 * samples:
        raise ValueError("its transparent colour cannot be read")
    return struct.unpack_from(f">{samples}H", chunk, 8)


def _raw_profile(chunk: bytes) -> bytes:
    """The EXIF block that ImageMagick writes as text of hexadecimal digits."""
    text = chunk[8:-4].partition(b"\0")[2]
    text = _unpacked(text[1:]) if chunk[4:8] == b"zTXt" else text[:_MAX_TEXT]
    try:
        return bytes.fromhex("".join(text.decode("ascii").split("\n")[3:]))
    except ValueError:
        return b""


def _international(chunk: bytes) -> bytes:
    text = chunk[8:-4].partition(b"\0")[2]
    compressed, words = text[:1] != b"\0", text[2:].split(b"\0", 2)[-1]
    return _unpacked(words) if compressed else words


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _MAX_TEXT)
    except zlib.error:
        return b""


def _jpeg(data: bytes) -> Bare:
    kept, exif, xmp = [data[:2]], b"", b""
    for marker, segment in jpeg_segments(data):
        body = segment[4:]
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif += body[6:]  # it may go on in a second segment
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = body.partition(b"\0")[2]
        elif not _jpeg_metadata(marker, body):
            kept.append(segment)
    return Bare(b"".join(kept), exif=exif, xmp=xmp)


def _jpeg_metadata(marker: int, body: bytes) -> bool:
    """Whether a segment has no say in the pixels; two tell in which colours they are stored."""
    if marker == 0xE0:
        return not body.startswith(b"JFIF\0") or len(body) < 14
    if marker == 0xEE:
        return not body.startswith(b"Adobe") or len(body) < 12
    return 0xE0 <= marker <= 0xFE


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and their segments; all that follows the first scan's header belongs to it."""
    at = 2
    while at + 4 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:
            at += 1  # stray bytes between segments, or filling
        elif marker in _JPEG_BARE:
            at += 2
        elif marker == 0xDA:
            yield marker, data[at:]
            return
        else:
            end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
            yield marker, data[at:end]
            at = end


def _webp(data: bytes) -> Bare:
    size = 8 + int.from_bytes(data[4:8], "little")
    if size > len(data):
        return Bare(data)  # cut off: the decoder says so
    kept, said, flags = list[bytes](), dict[bytes, bytes](), 0
    for name, chunk in _webp_chunks(data[:size]):
        if name == b"VP8X":
            flags = chunk[8]
            bare_flags = flags & ~sum(_WEBP_SAYING.values()) & ~_WEBP_PROFILE
            chunk = chunk[:8] + bytes([bare_flags]) + chunk[9:]
        if name in _WEBP_PIXELS:
            kept.append(chunk)
        elif flags & _WEBP_SAYING.get(name, 0):
            said.setdefault(name, chunk[8:])
    body = b"".join([b"WEBP", *kept])
    head = b"RIFF" + len(body).to_bytes(4, "little")
    return Bare(head + body, exif=said.get(b"EXIF", b""), xmp=said.get(b"XMP ", b""))


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and whole chunks, of an even number of bytes; the last may be cut off."""
    at = 12
    while at + 9 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + length % 2
        chunk = data[at:end]
        yield name, chunk + bytes(len(chunk) % 2)
        at = end
