"""What a Parquet file says of its own sizes, read before anything is allocated for it.

Arrow allocates what the header in front of each page claims, and nothing holds the sizes in the
footer to those. Headers and footer are structures in Thrift's compact protocol; the few fields that
are needed are read here. What is written in an unusual way is refused, so that Arrow cannot
understand it otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO

_MAGIC = b"PAR1"
_MAX_FOOTER = 16 << 20
_MAX_HEADER = 1 << 20
#: In memory a field or an entry of a list takes about 100 bytes, a structure up to 1,000.
_MAX_ENTRIES, _STRUCT_ENTRIES = 1 << 20, 16
_MAX_DEPTH = 16
_I32, _I64, _BINARY, _LIST, _SET, _MAP, _STRUCT = 5, 6, 8, 9, 10, 11, 12
_BITS = {4: 16, 5: 32, 6: 64}
_PLAIN_SIZES = {3: 1, 7: 8, 13: 16}
#: Type of a page: the field of its own header, and in that the field of its encoding.
_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
_OWN_HEADER = {_DATA: (5, 2), _DICTIONARY: (7, 2), _DATA_V2: (8, 4)}
#: In memory a value of a dictionary is a pointer and a length beside its bytes.
_DICTIONARY_ENTRY = 16
#: Plain, with a dictionary (old and new number), runs.
_BOUNDED = (0, 2, 8, 3)
#: These make much of few bytes, and only Arrow could tell how much.
_UNBOUNDED = {5: "DELTA_BINARY_PACKED", 6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY"}


#: Type and value of each field of a structure by its number.
_Fields = dict[int, tuple[int, Any]]


class UnboundedEncoding(ValueError):
    """A page in an encoding whose size is not known before it is decoded."""


@dataclass
class ChunkSizes:
    """The pages of a column in one group of rows.

    Attributes:
        unpacked: bytes of all pages after decompression, before decoding.
        dictionary: whether there is a dictionary, so that few bytes may decode to many.
    """

    unpacked: int = 0
    dictionary: bool = False


@dataclass(frozen=True)
class Chunk:
    """Where a column of one group of rows lies, by the footer."""

    start: int
    length: int
    values: int


@dataclass(frozen=True)
class Group:
    """Rows that are stored together, and a chunk of each column in the order of the schema."""

    rows: int
    chunks: tuple[Chunk, ...]


def read_groups(file: BinaryIO, size: int) -> list[Group]:
    """The groups of rows in a footer that Arrow's objects will not be many times larger than.

    pyarrow's own objects for them end the process where a footer is damaged.

    Args:
        size: of the file, in bytes.

    Raises:
        EOFError, ValueError: it is no such footer.
    """
    file.seek(max(0, size - 8))
    tail = file.read(8)
    if size < 12 or tail[4:] != _MAGIC:
        raise ValueError(f"it does not end in {_MAGIC.decode()}")
    length = int.from_bytes(tail[:4], "little")
    if length > min(_MAX_FOOTER, size - 12):
        raise ValueError(f"a footer of {length} bytes in a file of {size}, at most {_MAX_FOOTER}")
    file.seek(size - 8 - length)
    footer = _Compact(file.read(length)).structure()
    return [
        Group(_number(group, 3, _I64), tuple(_chunk(chunk) for chunk in _entries(group, 1)))
        for group in _entries(footer, 4)
    ]


def _chunk(chunk: _Fields) -> Chunk:
    if set(chunk) & {1, 8, 9}:
        raise ValueError("a column in another file, or an encrypted one")
    kind, fields = chunk.get(3, (0, None))
    if kind != _STRUCT:
        raise ValueError("a column without its description")
    start = _number(fields, 9, _I64)
    dictionary = _number(fields, 11, _I64) if 11 in fields else 0
    # Arrow does not believe in a dictionary at 0 either.
    length, values = _number(fields, 7, _I64), _number(fields, 5, _I64)
    return Chunk(min(start, dictionary or start), length, values)


def chunk_sizes(file: BinaryIO, chunk: Chunk, rows: int) -> ChunkSizes:
    """What the page headers of a column without nesting say.

    Args:
        rows: of its group.

    Raises:
        ValueError: they contradict the footer or each other.
    """
    if chunk.values != rows:
        raise ValueError(f"{chunk.values} values in {rows} rows")
    position, end = chunk.start, chunk.start + chunk.length
    result, seen = ChunkSizes(), 0
    while seen < rows:
        kind, header, stored, unpacked, values = _page(file, position, end)
        encoding = _number(header, _OWN_HEADER[kind][1])
        if encoding not in _BOUNDED:
            raise UnboundedEncoding(_UNBOUNDED.get(encoding, f"number {encoding}"))
        result.unpacked += unpacked
        if kind == _DICTIONARY:
            # Each value takes a byte at least: Arrow makes room for all before it looks at one.
            if values > unpacked:
                raise ValueError(f"a dictionary of {values} values in {unpacked} bytes")
            result.dictionary = True
            result.unpacked += _DICTIONARY_ENTRY * values
        else:
            seen += values
        position += stored
    if seen != rows:
        raise ValueError(f"pages with {seen} values in {rows} rows")
    return result


def _page(file: BinaryIO, position: int, end: int) -> tuple[int, _Fields, int, int, int]:
    """Type of a page, its own header, its bytes with all headers, and unpacked, its values."""
    fields, length = _page_header(file, position, end)
    kind, unpacked, packed = (_number(fields, place) for place in (1, 2, 3))
    if kind not in _OWN_HEADER:
        raise ValueError(f"a page of type {kind}")
    held, own = fields.get(_OWN_HEADER[kind][0], (0, None))
    if held != _STRUCT:
        raise ValueError("a page without the header of its type")
    if position + length + packed > end:
        raise ValueError(f"a page of {packed} bytes leaves its column")
    return kind, own, length + packed, unpacked, _number(own, 1)


def _page_header(file: BinaryIO, position: int, end: int) -> tuple[_Fields, int]:
    if not 0 <= position < end:
        raise ValueError("a column without all of its pages")
    for window in (1024, _MAX_HEADER):
        file.seek(position)
        reader = _Compact(file.read(min(window, end - position)))
        try:
            return reader.structure(), reader.at
        except EOFError:
            continue
    raise ValueError("a page header that does not end")


def _number(fields: _Fields, place: int, wanted: int = _I32) -> int:
    """A number that is not negative; Arrow would pass over one of another type."""
    kind, value = fields.get(place, (0, None))
    if kind != wanted or value < 0:
        raise ValueError(f"{value!r} in field {place} of a header or of the footer")
    return int(value)


def _entries(fields: _Fields, place: int) -> list[_Fields]:
    kind, value = fields.get(place, (0, None))
    if kind != _LIST or value is None:
        raise ValueError(f"no list in field {place} of the footer")
    return list(value)


class _Compact:
    """Reads a structure of Thrift's compact protocol; it keeps no texts."""

    def __init__(self, data: bytes) -> None:
        self.at = 0
        self._data = data
        self._left = _MAX_ENTRIES

    def structure(self, depth: int = 0) -> _Fields:
        """Type and value of every field by its number.

        Raises:
            EOFError: the data end before it.
            ValueError: it is none, or an unusual one.
        """
        if depth > _MAX_DEPTH:
            raise ValueError("structures in structures in structures")
        fields: _Fields = {}
        place = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            self._spend(1)
            place = place + step if step else self._zigzag(16)
            if place in fields:
                raise ValueError(f"field {place} is there twice")
            # A truth value lies in its type.
            fields[place] = (kind, kind == 1 if kind in (1, 2) else self._value(kind, depth))
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _BITS:
            return self._zigzag(_BITS[kind])
        if kind in _PLAIN_SIZES:
            return self._skip(_PLAIN_SIZES[kind])
        if kind == _BINARY:
            return self._skip(self._varint(31))
        if kind == _STRUCT:
            return self.structure(depth + 1)
        if kind in (_LIST, _SET):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._varint(31)
            return self._entries(count, (head & 15,), depth)
        if kind == _MAP:
            count = self._varint(31)
            head = self._byte() if count else 0
            return self._entries(count, (head >> 4, head & 15), depth)
        raise ValueError(f"a value of type {kind}")

    def _entries(self, count: int, kinds: tuple[int, ...], depth: int) -> list[Any] | None:
        """The entries of a list of structures, or of none; of others nothing."""
        if depth > _MAX_DEPTH:
            raise ValueError("lists in lists in lists")
        self._spend(count * (_STRUCT_ENTRIES if _STRUCT in kinds else 1))
        if kinds == (_STRUCT,):
            return [self.structure(depth + 1) for _ in range(count)]
        for _ in range(count):
            for kind in kinds:
                if kind in (1, 2):
                    self._skip(1)
                else:
                    self._value(kind, depth + 1)
        return None if count else []

    def _spend(self, entries: int) -> None:
        self._left -= entries
        if self._left < 0:
            raise ValueError("too many fields and entries")

    def _zigzag(self, bits: int) -> int:
        value = self._varint(bits)
        return (value >> 1) ^ -(value & 1)

    def _varint(self, bits: int) -> int:
        value, shift, byte = 0, 0, 128
        while byte >= 128 and shift < bits:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
        if byte >= 128 or value >> bits:
            raise ValueError(f"a number of more than {bits} bits")
        return value

    def _byte(self) -> int:
        if self.at >= len(self._data):
            raise EOFError("it ends too early")
        self.at += 1
        return self._data[self.at - 1]

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise EOFError("it ends too early")
