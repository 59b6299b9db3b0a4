"""Embeddings of the images of a class store as a Parquet file that anybody can write.

A row for each image: ``key`` is ``<part>/<class>/<image>``, as the store's manifest names it, and
each other column is a number: a dimension of the embedding, or an attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.datasets import Part
from data_pipeline.errors import DataError, listed
from data_pipeline.formats.parquet import column_types, read_capped, write_table
from data_pipeline.store.class_store import ClassStore, read_manifest

KEY = "key"
#: Nobody's embedding is larger.
_MOST_ROWS, _MOST_BYTES = 1 << 24, 8 << 30


def keys(store: ClassStore, part: Part) -> list[str]:
    """What the images of a part are called in an embedding, in the order of their rows.

    Raises:
        DamagedData: the manifest is not what was written.
    """
    table = read_manifest(store)
    columns = (table[name].to_pylist() for name in ("part", "class_name", "image"))
    return [f"{of}/{name}/{image}" for of, name, image in zip(*columns, strict=True) if of == part]


def pixels(store: ClassStore, part: Part) -> NDArray[np.float32]:
    """The images themselves as an embedding, float32 [n, H * W * C] in [0, 1]."""
    images = store.parts[part].images
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def read_embedding(
    path: Path, store: ClassStore, parts: Iterable[Part]
) -> dict[Part, NDArray[np.float32]]:
    """The vectors of all images of these parts, float32 [n, D] in the order of their rows.

    Keys of other images may be there.

    Raises:
        MissingData: no such file.
        DamagedData, UnsafeData: it is no such Parquet file.
        DataError: a key or column is missing, there twice, or not a number.
    """
    types = column_types(path)
    numbers = [name for name in types if name != KEY]
    unfit = [
        n for n in numbers if not (pa.types.is_floating(types[n]) or pa.types.is_integer(types[n]))
    ]
    if KEY not in types or unfit or not numbers:
        said = f"no column {KEY!r}" if KEY not in types else "no column beside it"
        if unfit:
            said = f"column {unfit[0]!r} of type {types[unfit[0]]}"
        raise DataError(
            f"{path}: an embedding has a column {KEY!r} (part/class/image) and for each dimension "
            f"one of numbers, this file has {said}"
        )
    table = read_capped(path, columns=[KEY, *numbers], max_rows=_MOST_ROWS, max_bytes=_MOST_BYTES)
    places = {key: row for row, key in enumerate(table[KEY].to_pylist())}
    if len(places) < table.num_rows:
        raise DataError(
            f"{path}: {table.num_rows - len(places)} keys are there twice; name each once"
        )
    vectors = np.stack([table[n].to_numpy().astype(np.float32) for n in numbers], axis=1)
    found: dict[Part, NDArray[np.float32]] = {}
    for part in parts:
        wanted = keys(store, part)
        if missing := [key for key in wanted if key not in places]:
            raise DataError(
                f"{path}: no vector for {len(missing)} of {len(wanted)} {part} images of "
                f"{store.root.parent.name}: {listed(missing)}"
            )
        found[part] = np.ascontiguousarray(vectors[[places[key] for key in wanted]])
        bad = ~np.isfinite(found[part]).all(axis=1)
        if bad.any():
            raise DataError(
                f"{path}: the vectors of {int(bad.sum())} {part} images are not finite, as that of "
                f"{wanted[int(bad.argmax())]!r}; give each image a finite vector"
            )
    return found


def write_embedding(path: Path, names: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Write such a file; equal vectors are equal bytes.

    Args:
        names: keys [n], see :func:`keys`.
        vectors: float32 [n, D].
    """
    columns: dict[str, pa.Array] = {KEY: pa.array(names, pa.string())}
    width = len(str(vectors.shape[1] - 1))
    for number in range(vectors.shape[1]):
        columns[f"x{number:0{width}}"] = pa.array(np.ascontiguousarray(vectors[:, number]))
    write_table(path, pa.table(columns))
