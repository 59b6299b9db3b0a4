"""Parquet files and lists that come from elsewhere, read with limits."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from data_pipeline.errors import DamagedData, DataError, UnsafeData
from data_pipeline.formats.parquet import read_capped
from data_pipeline.storage.folders import is_litter

#: Far more images than any of these data sets has.
_MAX_ROWS = 1 << 20
_MAX_LIST_BYTES = 16 << 20
#: What spreadsheets put between the fields of a line.
_SEPARATORS = (",", ";", "\t")


def only_parquet(folder: Path) -> Path | None:
    """The Parquet file in a folder, or None if there is none.

    Raises:
        DataError: there are several.
    """
    found = sorted(path for path in folder.glob("*.parquet") if not is_litter(path.name))
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise DataError(
            f"{folder} holds several Parquet files ({names}): name the one that is meant"
        )
    return found[0] if found else None


def read_parquet(path: Path, columns: Sequence[str], *, max_bytes: int) -> pa.Table:
    """Some columns of a Parquet file, without a missing value in them.

    Args:
        path: the file.
        columns: the columns to read; others may be there.
        max_bytes: limit of their size in memory, before and after decoding.

    Raises:
        MissingData: no such file.
        DamagedData: not a Parquet file, a column or a value is missing, or a page is damaged.
        UnsafeData: it would unpack to more than ``max_bytes``, or has far too many rows.
    """
    table = read_capped(path, columns=columns, max_rows=_MAX_ROWS, max_bytes=max_bytes)
    for name in columns:
        if table[name].null_count:
            raise DamagedData(f"{path}: column {name!r} has missing values")
    return table


def read_list(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each row of a CSV list, as editors and spreadsheets write them.

    Between fields stand commas, semicolons or tabs. A byte order mark, blanks around fields, the
    letter case of the header and empty rows mean nothing.

    Args:
        path: the file, UTF-8 (or UTF-16 with a byte order mark).
        columns: the columns that are wanted, in small letters; others may be there.

    Raises:
        DamagedData: no CSV file, or one without these columns.
        UnsafeData: it is larger than a list of images.
    """
    if path.stat().st_size > _MAX_LIST_BYTES:
        raise UnsafeData(f"{path}: larger than {_MAX_LIST_BYTES} bytes, not a list of images")
    try:
        data = path.read_bytes()
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = data.decode("utf-16" if wide else "utf-8").lstrip("\ufeff")
        rows = _rows(text, _separator(text, columns))
        places, width = _places(path, next(rows, (1, []))[1], columns)
        for line, fields in rows:
            padded = fields + [""] * (width - len(fields))
            yield line, [padded[place] for place in places]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedData(f"{path}: not a CSV file ({error})") from None


def _separator(text: str, columns: Sequence[str]) -> str:
    """What stands between the fields: the header tells, since it is known."""
    held = {
        mark: len({*columns} & {name.casefold() for name in next(_rows(text, mark), (0, []))[1]})
        for mark in _SEPARATORS
    }
    return max(held, key=lambda mark: held[mark])


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    for row in reader:
        fields = [field.strip() for field in row]
        if any(fields):
            yield reader.line_num, fields


def _places(path: Path, header: list[str], columns: Sequence[str]) -> tuple[list[int], int]:
    """Where the wanted columns stand, and how many there are."""
    names = [name.casefold() for name in header]
    for name in columns:
        if names.count(name) != 1:
            raise DamagedData(f"{path}: its columns are {header}, not {','.join(columns)}")
    return [names.index(name) for name in columns], len(names)
