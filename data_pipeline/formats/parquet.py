"""The one door to Parquet files: nothing is unpacked that would not fit.

A few bytes of Parquet may stand for any amount of memory: pages that compress well, a dictionary
with one long text that every row points at, a footer that says otherwise. So everything is held
against its limit in the order in which Arrow would allocate it: footer, rows, types, pages (by
their own headers), and what a dictionary's values come to before they are put in their places.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.formats.parquet_sizes import Group, UnboundedEncoding, chunk_sizes, read_groups
from data_pipeline.storage.local import write_atomic

_UNREADABLE = pa.ArrowException, OSError, EOFError, ValueError, LookupError, ArithmeticError
_TEXTS = pa.string(), pa.binary(), pa.large_string(), pa.large_binary()
_AGAIN = "it is not what it should be, fetch or write it again"


def read_capped(
    source: Path | bytes,
    *,
    max_rows: int,
    max_bytes: int,
    schema: pa.Schema | None = None,
    columns: Sequence[str] = (),
    name: object = None,
) -> pa.Table:
    """A Parquet file, or some columns of it.

    Args:
        source: the file, or its bytes.
        max_rows: limit of its rows.
        max_bytes: limit of what its pages unpack to, and of what they decode to.
        schema: what its columns must be, exactly.
        columns: the columns to read where no schema is given; others may be there.
        name: what it is called in errors; the path if None.

    Raises:
        MissingData: no such file.
        DamagedData: not a Parquet file, other columns than these, or a damaged page.
        UnsafeData: it has or unpacks to more than the limits, or its size cannot be known.
    """
    name = source if name is None else name
    if isinstance(source, Path) and not source.is_file():
        raise MissingData(f"{name}: no such file")
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as raw:
            size = raw.seek(0, io.SEEK_END)
            groups = read_groups(raw, size)
            rows = sum(group.rows for group in groups)
            with _opened(source) as file:
                wanted = _wanted(file, schema, columns, name)
                places = _places(file.schema, wanted)
                kinds = {n: file.schema.column(place).physical_type for n, place in places.items()}
            if not 0 <= rows <= max_rows:
                raise UnsafeData(f"{name}: {rows} rows, at most {max_rows} accepted; {_AGAIN}")
            _check_bytes(rows * sum(_width(field.type) or 0 for field in wanted), max_bytes, name)
            coded = _check_pages(raw, size, groups, places, max_bytes, name)
        # As a dictionary a text is held once, however many rows point at it.
        with _opened(source, [n for n in coded if kinds[n] == "BYTE_ARRAY"]) as file:
            # A thread of Arrow's lets go of Python's bytes whenever it gets there; where Python is
            # ending just then, the process is aborted.
            table = file.read(columns=wanted.names, use_threads=False)
        return _decoded(table, wanted, rows, max_bytes, name)
    except DataError:
        raise
    except UnboundedEncoding as error:
        raise UnsafeData(
            f"{name}: pages in encoding {error}, whose size cannot be known before they are "
            "decoded; write it again in plain or dictionary encoding"
        ) from None
    except _UNREADABLE as error:
        raise DamagedData(f"{name}: not a readable Parquet file ({error})") from None


def column_types(path: Path) -> dict[str, pa.DataType]:
    """Names and types of the columns of a Parquet file, in their order; nothing is unpacked.

    Raises:
        MissingData: no such file.
        DamagedData: not a Parquet file, or two columns of one name.
    """
    if not path.is_file():
        raise MissingData(f"{path}: no such file")
    try:
        with path.open("rb") as raw:
            read_groups(raw, raw.seek(0, io.SEEK_END))
        with _opened(path) as file:
            held = file.schema_arrow
    except _UNREADABLE as error:
        raise DamagedData(f"{path}: not a readable Parquet file ({error})") from None
    if len(set(held.names)) < len(held.names):
        raise DamagedData(f"{path}: several columns have the same name; give each one its own")
    return dict(zip(held.names, held.types, strict=True))


def write_table(path: Path, table: pa.Table) -> None:
    """A small table as a file, compressed and with checksums; equal tables are equal bytes."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    write_atomic(path, buffer.getvalue().to_pybytes())


def _opened(source: Path | bytes, read_dictionary: Sequence[str] = ()) -> pq.ParquetFile:
    return pq.ParquetFile(
        pa.BufferReader(source) if isinstance(source, bytes) else source,
        read_dictionary=list(read_dictionary),
        page_checksum_verification=True,
    )


def _wanted(
    file: pq.ParquetFile, schema: pa.Schema | None, columns: Sequence[str], name: object
) -> pa.Schema:
    """The columns to read as the file has them."""
    held = file.schema_arrow
    if schema is not None:
        if not held.equals(schema):
            raise DamagedData(
                f"{name}: its columns are {', '.join(map(str, held))[:1000]}; expected are "
                f"{', '.join(map(str, schema))}"
            )
        columns = schema.names
    absent = [column for column in columns if held.names.count(column) != 1]
    if absent:
        raise DamagedData(
            f"{name}: no column {', '.join(absent)}; it has {', '.join(held.names)[:1000]}"
        )
    wanted = pa.schema([held.field(column) for column in columns])
    for field in wanted:
        if _width(field.type) is None:
            raise DamagedData(
                f"{name}: column {field.name!r} is of type {field.type}; numbers, text or bytes "
                "are expected"
            )
    return wanted


def _width(kind: pa.DataType) -> int | None:
    """Bytes of a value in memory, without those of a text; None for types that are not read."""
    types = pa.types
    if types.is_dictionary(kind):
        width = _width(kind.value_type)
        return None if width is None else 8 + width
    if types.is_fixed_size_binary(kind):
        return int(kind.byte_width)
    if types.is_primitive(kind) or types.is_decimal(kind):
        return -(-int(kind.bit_width) // 8)
    return 8 if kind in _TEXTS else None


def _check_bytes(size: int, max_bytes: int, name: object) -> None:
    if size > max_bytes:
        raise UnsafeData(f"{name}: unpacks to {size} bytes, at most {max_bytes} accepted; {_AGAIN}")


def _check_pages(
    raw: BinaryIO,
    size: int,
    groups: Sequence[Group],
    places: Mapping[str, int],
    max_bytes: int,
    name: object,
) -> set[str]:
    """Hold the pages of these columns against the limit; those with a dictionary are given back."""
    stored = unpacked = 0
    coded: set[str] = set()
    for group in groups:
        for column, place in places.items():
            chunk = group.chunks[place]
            stored += chunk.length
            # Chunks that share their bytes would be read again and again.
            if stored > size:
                raise ValueError(f"columns of {stored} bytes in a file of {size}")
            sizes = chunk_sizes(raw, chunk, group.rows)
            unpacked += sizes.unpacked
            _check_bytes(unpacked, max_bytes, name)
            if sizes.dictionary:
                coded.add(column)
    return coded


def _places(schema: Any, wanted: pa.Schema) -> dict[str, int]:
    """Where in a Parquet schema the columns stand."""
    paths = [schema.column(place).path for place in range(len(schema))]
    found: dict[str, int] = {}
    for column in wanted.names:
        # By such a name Arrow reads all of them.
        if sum(path == column or path.startswith(f"{column}.") for path in paths) != 1:
            raise ValueError(f"column {column!r} is not a single one")
        found[column] = paths.index(column)
    return found


def _decoded(
    table: pa.Table, wanted: pa.Schema, rows: int, max_bytes: int, name: object
) -> pa.Table:
    """The table with its own types; it is known what they take before any of it is decoded."""
    if table.num_rows != rows:
        raise ValueError(f"{table.num_rows} rows where {rows} are announced")
    _check_bytes(sum(_expanded(column) for column in table.columns), max_bytes, name)
    return table.cast(wanted)


def _expanded(column: pa.ChunkedArray) -> int:
    """Bytes of a column without its dictionary."""
    if not pa.types.is_dictionary(column.type) or column.type.value_type not in _TEXTS:
        return int(column.nbytes)
    total = 8 * len(column)
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary).cast(pa.int64()).take(chunk.indices)
        total += pc.sum(lengths).as_py() or 0
    return total
