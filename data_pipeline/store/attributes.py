"""Attributes of classes: numbers that say what a class is, beside its images.

They lie beside the directory of a class store, in ``attributes.parquet``, a table of
``class_name``, ``attribute`` (its name) and ``value``, with a row for each attribute of each class.
A dataset's module may make them (``class_attributes``); anybody's own are copied there by
:func:`save_attributes`. They are no part of the store or its digest: episodes that carry them have
a digest of them in their identity.

Classes of the same name in several parts have the same attributes.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipeline import datasets
from data_pipeline.datasets import PARTS, Part
from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.formats.parquet import read_capped, write_table
from data_pipeline.storage.local import canonical_json
from data_pipeline.store.class_store import ClassStore

FILE = "attributes.parquet"
COLUMNS = ("class_name", "attribute", "value")
#: Classes times attributes, and what they take in memory at most.
_MOST_ROWS, _ROW_BYTES, _TABLE_BYTES = 1 << 24, 128, 1 << 20


@dataclass(frozen=True, eq=False)
class ClassAttributes:
    """The attributes of all classes of a store.

    Attributes:
        names: of the attributes, sorted.
        parts: float32 [classes, A] of each part, in the order of its classes.
    """

    names: tuple[str, ...]
    parts: Mapping[Part, NDArray[np.float32]]

    @property
    def size(self) -> int:
        """A, numbers of a class."""
        return len(self.names)

    @property
    def digest(self) -> str:
        """SHA-256 of names and numbers."""
        whole = hashlib.sha256(canonical_json(list(self.names)))
        for part in PARTS:
            whole.update(np.ascontiguousarray(self.parts[part]).astype("<f4").tobytes())
        return whole.hexdigest()


def attributes_file(store: ClassStore) -> Path:
    """Where the attributes of a store's classes lie."""
    return store.root.parent / FILE


def open_attributes(store: ClassStore) -> ClassAttributes:
    """The attributes of a store's classes; those that a dataset makes itself are kept.

    Raises:
        MissingData: there are none.
        DamagedData, UnsafeData: they cannot be read, or are not those of these classes.
    """
    path = attributes_file(store)
    if path.is_file():
        return _read(path, store)
    make = getattr(datasets.load(store.dataset), "class_attributes", None)
    if make is None:
        raise MissingData(
            f"{path}: the classes of {store.dataset} have no attributes; bring some, a Parquet "
            f"file of {', '.join(COLUMNS)}, with `metadist data prepare {store.dataset} "
            "--attributes FILE`"
        )
    table = _table(make(store.split, **store.options))
    found = _of(table, store, path)
    with contextlib.suppress(OSError):  # they can be made again
        write_table(path, table)
    return found


def save_attributes(store: ClassStore, source: Path) -> ClassAttributes:
    """Copy attributes to where they are looked for, in the place of others.

    Args:
        source: a Parquet file with the columns of :data:`COLUMNS`; others may be there.

    Raises:
        MissingData, DamagedData, UnsafeData: it is not there, cannot be read, or is not of these
            classes.
    """
    found = _read(source, store)
    rows = (
        (name, dict(zip(found.names, values.tolist(), strict=True)))
        for name, values in sorted(_by_class(found, store).items())
    )
    write_table(attributes_file(store), _table(rows))
    return found


def _by_class(found: ClassAttributes, store: ClassStore) -> dict[str, NDArray[np.float32]]:
    return {
        name: values
        for part, own in store.parts.items()
        for name, values in zip(own.class_names, found.parts[part], strict=True)
    }


def _table(rows: Iterable[tuple[str, Mapping[str, float]]]) -> pa.Table:
    """A row for each attribute of each class."""
    flat = [(name, key, float(v)) for name, own in rows for key, v in own.items()]
    columns = [list(column) for column in zip(*flat, strict=True)] if flat else [[], [], []]
    types = (pa.string(), pa.string(), pa.float64())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    return pa.table(dict(zip(COLUMNS, arrays, strict=True)))


def _read(path: Path, store: ClassStore) -> ClassAttributes:
    limit = _TABLE_BYTES + _ROW_BYTES * _MOST_ROWS
    table = read_capped(path, columns=COLUMNS, max_rows=_MOST_ROWS, max_bytes=limit)
    try:
        texts = [table[name].cast(pa.string()) for name in COLUMNS[:2]]
        columns = [*texts, table["value"].cast(pa.float64())]
    except pa.ArrowException as error:
        raise DamagedData(
            f"{path}: {', '.join(COLUMNS[:2])} are texts and value a number ({error})"
        ) from None
    return _of(pa.table(dict(zip(COLUMNS, columns, strict=True))), store, path)


def _of(table: pa.Table, store: ClassStore, path: Path) -> ClassAttributes:
    """The attributes of the store's classes.

    Raises:
        DamagedData: one is missing, comes twice or is no finite number.
    """
    if any(table[name].null_count for name in COLUMNS) or not len(table):
        raise DamagedData(f"{path}: no row, or one without class, attribute or value")
    classes = table["class_name"].combine_chunks().dictionary_encode()
    names = sorted(pc.unique(table["attribute"]).to_pylist())
    place = {name: number for number, name in enumerate(names)}
    rows = classes.indices.to_numpy()
    columns = np.array([place[name] for name in table["attribute"].to_pylist()])
    known = classes.dictionary.to_pylist()
    values = np.full((len(known), len(names)), np.nan)
    values[rows, columns] = table["value"].to_numpy()
    if len(np.unique(rows * len(names) + columns)) < len(rows):
        raise DamagedData(f"{path}: an attribute of a class stands there twice")
    of = dict(zip(known, values.astype(np.float32), strict=True))
    parts: dict[Part, NDArray[np.float32]] = {}
    for part, own in store.parts.items():
        if missing := [name for name in own.class_names if name not in of]:
            more = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            raise DamagedData(
                f"{path}: no attributes of the {part} class {missing[0]!r}{more}; every class of "
                f"{store.dataset} needs them"
            )
        parts[part] = np.stack([of[name] for name in own.class_names])
        lacking = np.argwhere(~np.isfinite(parts[part]))
        if len(lacking):
            row, column = lacking[0].tolist()
            raise DamagedData(
                f"{path}: {names[column]!r} of class {own.class_names[row]!r} is missing or no "
                "finite number; every class needs every attribute"
            )
    return ClassAttributes(tuple(names), parts)


def check_size(found: ClassAttributes, wanted: int, store: ClassStore) -> None:
    """See that classes have so many attributes; raises DataError."""
    if found.size != wanted:
        raise DataError(
            f"{attributes_file(store)}: episodes of {wanted} attributes of each class are asked "
            f"for, there are {found.size}; the file is another than it was"
        )
