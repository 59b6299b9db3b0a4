"""Parquet files that come from elsewhere, read with limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData


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
        max_bytes: limit of their size in memory, by the file's own account.

    Raises:
        MissingData: no such file.
        DamagedData: not a Parquet file, a column or a value is missing, or a page is damaged.
        UnsafeData: it would unpack to more than ``max_bytes``.
    """
    if not path.is_file():
        raise MissingData(f"{path}: no such file")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            absent = [c for c in columns if c not in file.schema_arrow.names]
            if absent:
                raise DamagedData(
                    f"{path}: no column {', '.join(absent)}; it has "
                    f"{', '.join(file.schema_arrow.names)}"
                )
            size = _unpacked_bytes(file.metadata, set(columns))
            if size > max_bytes:
                raise UnsafeData(f"{path}: unpacks to {size} bytes, at most {max_bytes} accepted")
            table = file.read(columns=list(columns))
    except (pa.ArrowException, OSError, EOFError) as error:
        raise DamagedData(f"{path}: not a readable Parquet file ({error})") from None
    for name in columns:
        if table[name].null_count:
            raise DamagedData(f"{path}: column {name!r} has missing values")
    return table


def _unpacked_bytes(metadata: pq.FileMetaData, columns: set[str]) -> int:
    total = 0
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        for j in range(group.num_columns):
            if group.column(j).path_in_schema in columns:
                total += group.column(j).total_uncompressed_size
    return total
