"""Parquet files that come from elsewhere, read with limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from data_pipeline.errors import DamagedData, DataError
from data_pipeline.parquet import read_capped

#: Far more images than any of these data sets has.
_MAX_ROWS = 1 << 20


def only_parquet(folder: Path) -> Path | None:
    """The Parquet file in a folder, or None if there is none.

    Raises:
        DataError: there are several.
    """
    found = sorted(folder.glob("*.parquet"))
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
