"""Parquet files that would take more memory than they may are refused before they take it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.datasets._tables import read_parquet
from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.formats.parquet import read_capped

MIB = 1 << 20
CAP = 1_000_000


#: Arrow's buffers do not keep their pool alive.
POOLS: list[pa.MemoryPool] = []


@contextlib.contextmanager
def at_most(size: int) -> Iterator[None]:
    """What Arrow allocates in this block, at its peak."""
    usual = pa.default_memory_pool()
    counted = pa.proxy_memory_pool(usual)
    POOLS.append(counted)
    pa.set_memory_pool(counted)
    try:
        yield
    finally:
        pa.set_memory_pool(usual)
    assert counted.max_memory() < size


def written(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **{"compression": "zstd", **options})
    return path


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_no_thread_of_arrows_keeps_bytes_of_python(tmp_path: Path) -> None:
    """It needs Python to let go of them, and aborts the process where Python is just ending."""
    path = written(tmp_path / "table.parquet", {f"c{n}": range(100) for n in range(4)})
    program = f"""if True:
        import os, pathlib
        import pyarrow.parquet
        from data_pipeline.formats.parquet import read_capped
        data = pathlib.Path({str(path)!r}).read_bytes()
        before = len(os.listdir("/proc/self/task"))
        read_capped(data, columns=["c0", "c1"], max_rows=100, max_bytes=1 << 20)
        assert len(os.listdir("/proc/self/task")) == before
    """
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_good_tables_of_all_kinds_are_as_they_were(tmp_path: Path) -> None:
    words = [f"word {n % 7}" for n in range(5000)]
    columns = {
        "text": pa.array([*words[:-1], None]),
        "large": pa.array(words, pa.large_string()),
        "coded": pa.array(words).dictionary_encode(),
        "bytes": pa.array([bytes([n % 256]) * (n % 50) for n in range(5000)]),
        "digest": pa.array([bytes([n % 256]) * 32 for n in range(5000)], pa.binary(32)),
        "number": pa.array(np.arange(5000)),
        "truth": pa.array([n % 3 == 0 for n in range(5000)]),
    }
    for options in (
        {},
        {"use_dictionary": False, "compression": "none"},
        {"row_group_size": 700, "data_page_size": 500, "data_page_version": "2.0"},
        {"dictionary_pagesize_limit": 20, "compression": "snappy", "version": "1.0"},
    ):
        path = written(tmp_path / "good.parquet", columns, **options)
        expected = pq.read_table(path)
        for source in (path, path.read_bytes()):
            table = read_capped(source, schema=expected.schema, max_rows=5000, max_bytes=2 * MIB)
            assert table.equals(expected)
            table.validate(full=True)
        some = read_capped(path, columns=("number", "text"), max_rows=5000, max_bytes=MIB)
        assert some.equals(expected.select(["number", "text"]))
    empty = written(tmp_path / "empty.parquet", {"text": pa.array([], pa.string())})
    assert read_capped(empty, columns=("text",), max_rows=0, max_bytes=0).num_rows == 0


def test_a_dictionary_of_one_long_text_is_refused(tmp_path: Path) -> None:
    """Few pages, no large one: the text is in memory once until it is put into its rows."""
    path = written(tmp_path / "bomb.parquet", {"text": ["x" * 250_000] * 400})
    assert path.stat().st_size < 5000
    with (
        at_most(10 * CAP),
        pytest.raises(UnsafeData, match=r"bomb\.parquet: unpacks to 100\d+ bytes, at most 1000"),
    ):
        read_parquet(path, ["text"], max_bytes=CAP)


def test_a_coded_column_counts_with_its_texts(tmp_path: Path) -> None:
    """It is read as it is, but whoever takes values out of it has them all."""
    column = pa.array(["x" * 250_000] * 400).dictionary_encode()
    path = written(tmp_path / "bomb.parquet", {"text": column})
    with at_most(10 * CAP), pytest.raises(UnsafeData, match="unpacks to 100"):
        read_capped(path, columns=("text",), max_rows=400, max_bytes=CAP)


@pytest.mark.parametrize("dictionary", [True, False])
def test_one_page_that_unpacks_to_much_is_refused(dictionary: bool, tmp_path: Path) -> None:
    path = written(tmp_path / "bomb.parquet", {"b": [bytes(50 * MIB)]}, use_dictionary=dictionary)
    with at_most(10 * CAP), pytest.raises(UnsafeData, match="unpacks to 524"):
        read_capped(path, columns=("b",), max_rows=1, max_bytes=CAP)


def test_sizes_in_the_footer_are_not_believed(tmp_path: Path) -> None:
    path = written(tmp_path / "bomb.parquet", {"b": [bytes(50 * MIB)]}, use_dictionary=False)
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(0)
    # Another number of as many bytes in Thrift's way of writing it.
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    place = data.index(varint(2 * chunk.total_uncompressed_size), footer)
    lie = bytes([0x80] * (len(varint(2 * chunk.total_uncompressed_size)) - 1)) + b"\x02"
    path.write_bytes(data[:place] + lie + data[place + len(lie) :])
    said = pq.ParquetFile(path).metadata.row_group(0).column(0).total_uncompressed_size
    assert said != chunk.total_uncompressed_size
    with at_most(10 * CAP), pytest.raises(UnsafeData, match="unpacks to 524"):
        read_capped(path, columns=("b",), max_rows=1, max_bytes=50 * MIB)


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def test_rows_that_cost_nothing_are_refused(tmp_path: Path) -> None:
    column = pa.nulls(10 * MIB, pa.int64())
    path = written(tmp_path / "bomb.parquet", {"n": column})
    assert path.stat().st_size < 50_000
    with at_most(10 * CAP), pytest.raises(UnsafeData, match="10485760 rows, at most 100 accepted"):
        read_capped(path, columns=("n",), max_rows=100, max_bytes=1 << 30)
    with (
        at_most(10 * CAP),
        pytest.raises(UnsafeData, match="unpacks to 83886080 bytes, at most 1000000"),
    ):
        read_capped(path, columns=("n",), max_rows=1 << 30, max_bytes=CAP)


def test_wide_values_that_are_missing_are_refused(tmp_path: Path) -> None:
    column = pa.nulls(3, pa.binary(5 * MIB))
    path = written(tmp_path / "bomb.parquet", {"b": column})
    with at_most(10 * CAP), pytest.raises(UnsafeData, match="unpacks to 15728640"):
        read_capped(path, columns=("b",), max_rows=3, max_bytes=CAP)


@pytest.mark.parametrize(
    "encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BINARY_PACKED"]
)
def test_an_encoding_of_unknown_size_is_refused(encoding: str, tmp_path: Path) -> None:
    """Front coding: each of these texts costs a byte or two."""
    column = pa.array(range(400)) if "PACKED" in encoding else pa.array(["x" * 250_000] * 400)
    path = written(
        tmp_path / "bomb.parquet",
        {"c": column},
        use_dictionary=False,
        column_encoding={"c": encoding},
    )
    with (
        at_most(10 * CAP),
        pytest.raises(UnsafeData, match=f"encoding {encoding}.*write it again in plain"),
    ):
        read_capped(path, columns=("c",), max_rows=400, max_bytes=CAP)


@pytest.mark.parametrize(
    "column",
    [pa.array([[1] * 1000]), pa.array([{"c": 1}]), pa.array([{"x": 1, "y": 2}])],
    ids=lambda column: str(column.type),
)
def test_nested_columns_are_refused(column: pa.Array, tmp_path: Path) -> None:
    """Rows do not bound how many values they hold."""
    path = written(tmp_path / "nested.parquet", {"c": column})
    with pytest.raises(DamagedData, match="'c' is of type"):
        read_capped(path, columns=("c",), max_rows=1, max_bytes=CAP)


def test_other_columns_and_no_file_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "other.parquet", {"a": [1]})
    with pytest.raises(DamagedData, match=r"no column b; it has a"):
        read_capped(path, columns=("a", "b"), max_rows=1, max_bytes=CAP)
    with pytest.raises(DamagedData, match=r"columns are .*a.*int64.*expected are .*string"):
        read_capped(path, schema=pa.schema({"a": pa.string()}), max_rows=1, max_bytes=CAP)
    with pytest.raises(MissingData, match="no such file"):
        read_capped(tmp_path / "none", columns=("a",), max_rows=1, max_bytes=CAP)


def test_a_footer_of_a_million_structures_is_refused() -> None:
    """Arrow's object for one takes hundreds of times the bytes that stand for it."""
    # Field 4 (groups of rows), a list of structures, and one byte for each of them.
    footer = b"\x49\xfc" + varint(1_000_000) + bytes(1_000_001)
    data = b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(DamagedData, match="too many fields and entries"):
        read_capped(data, name="bomb", columns=("a",), max_rows=1, max_bytes=CAP)
    nested = b"\x1c" * 5000
    data = b"PAR1" + nested + len(nested).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(DamagedData, match="structures in structures"):
        read_capped(data, name="bomb", columns=("a",), max_rows=1, max_bytes=CAP)


def test_whatever_is_changed_it_is_refused_or_stays_within_the_cap(tmp_path: Path) -> None:
    columns = {"text": ["some words"] * 300, "number": [1] * 300}
    path = written(tmp_path / "good.parquet", columns, compression="snappy")
    data = path.read_bytes()
    assert read_capped(data, columns=("text", "number"), max_rows=300, max_bytes=50_000)
    refused = 0
    for place in range(len(data)):
        changed = bytearray(data)
        for mask in (0x01, 0xFF):
            changed[place] = data[place] ^ mask
            with at_most(5 * MIB):
                try:
                    table = read_capped(
                        bytes(changed), name="p", columns=("text",), max_rows=300, max_bytes=50_000
                    )
                except DataError:
                    refused += 1
                else:
                    assert table.nbytes <= 50_000
    assert refused > 500
    for length in range(0, len(data), 7):
        with pytest.raises(DataError):
            read_capped(data[:length], name="p", columns=("text",), max_rows=300, max_bytes=50_000)
