"""What an Arrow record batch says of its own size, read before anything is allocated for it.

Arrow trusts the uncompressed length in front of each compressed buffer and allocates it. The few
fields needed to check them first are read here from the message's flatbuffer:
``Message.header -> RecordBatch.buffers``, as Arrow's format specification lays them out.
"""

from __future__ import annotations

import struct

_HEADER_SLOT = 2
_BUFFERS_SLOT = 2
_MAX_BUFFERS = 256


def buffer_sizes(metadata: bytes, body: memoryview) -> list[int]:
    """Decompressed size in bytes of every buffer of a compressed record batch message.

    Args:
        metadata: the message's flatbuffer.
        body: the bytes that follow it, one byte per item.

    Raises:
        ValueError: not the flatbuffer of a record batch, or a buffer leaves the body.
    """
    try:
        message = _at(metadata, struct.unpack_from("<I", metadata, 0)[0])
        batch = _indirect(metadata, _field(metadata, message, _HEADER_SLOT))
        vector = _indirect(metadata, _field(metadata, batch, _BUFFERS_SLOT))
        count = struct.unpack_from("<I", metadata, vector)[0]
        if count > _MAX_BUFFERS:
            raise ValueError(f"{count} buffers")
        places = [struct.unpack_from("<qq", metadata, vector + 4 + 16 * i) for i in range(count)]
        return [_decompressed(body, offset, length) for offset, length in places]
    except struct.error as error:
        raise ValueError(f"a record batch message that leaves its bounds ({error})") from None


def _decompressed(body: memoryview, offset: int, length: int) -> int:
    if length == 0:
        return 0
    if offset < 0 or length < 8 or offset + length > len(body):
        raise ValueError(f"a buffer at {offset} of {length} bytes in a body of {len(body)}")
    size: int = struct.unpack_from("<q", body, offset)[0]
    # -1: this buffer did not get smaller and was left as it is.
    return length - 8 if size == -1 else size


def _at(data: bytes, position: int) -> int:
    """``position``, if it lies inside; negative offsets would count from the end."""
    if not 0 <= position < len(data):
        raise ValueError(f"an offset to {position} in {len(data)} bytes")
    return position


def _indirect(data: bytes, position: int) -> int:
    return _at(data, position + struct.unpack_from("<I", data, position)[0])


def _field(data: bytes, table: int, slot: int) -> int:
    vtable = _at(data, table - struct.unpack_from("<i", data, table)[0])
    entry = 4 + 2 * slot
    if entry + 2 > struct.unpack_from("<H", data, vtable)[0]:
        raise ValueError("a record batch message lacks a field")
    offset = struct.unpack_from("<H", data, vtable + entry)[0]
    if offset == 0:
        raise ValueError("a record batch message lacks a field")
    return _at(data, table + offset)
