"""The files of a class store: what they are called, what they hold, and how they are read.

One file of raw uint8 pixels per part (C order, images of a class one after another), a Parquet
manifest with one row per image, and ``store.json``, written last. The digest of a store is a
function of its pixels, classes and settings alone: not of time, path or library versions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipeline.datasets import PARTS, Part
from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.formats.parquet import read_capped
from data_pipeline.storage import local
from data_pipeline.storage.working_copies import Description, Listing

FORMAT = "metadist class store"
#: Raised when the files' layout changes; a store of another version has to be prepared again.
FORMAT_VERSION = 1
STORE_FILE = "store.json"
MANIFEST_FILE = "manifest.parquet"
MANIFEST_SCHEMA = pa.schema(
    [
        ("part", pa.dictionary(pa.int32(), pa.string())),
        ("class_index", pa.int32()),
        ("class_name", pa.dictionary(pa.int32(), pa.string())),
        ("image", pa.string()),
        ("row", pa.int64()),
        ("sha256", pa.binary(32)),
    ]
)
#: What a manifest takes in memory at most: names of images are paths in the folder of a class.
_ROW_BYTES, _TABLE_BYTES = 1024, 1 << 20


@dataclass
class PartContents:
    """What of one part stands in the digest of a store."""

    class_names: list[str] = field(default_factory=list)
    images_per_class: list[int] = field(default_factory=list)
    sha256: str = ""


def contents_digest(identity: Mapping[str, Any], parts: Mapping[Part, PartContents]) -> str:
    """The digest of a store. The images' names, paths, times and versions have no part in it."""
    contents = {
        part: {
            "pixels": held.sha256,
            "class_names": held.class_names,
            "images_per_class": held.images_per_class,
        }
        for part, held in parts.items()
    }
    return local.sha256_bytes(local.canonical_json({**identity, "parts": contents}))


def read_description(root: Path) -> dict[str, Any]:
    """The contents of ``store.json``.

    Raises:
        MissingData: there is no store.
        DamagedData: the file is damaged.
        DataError: it is of another format version.
    """
    path = root / STORE_FILE
    if not path.is_file():
        raise MissingData(f"{root}: no class store; make it with `metadist data prepare`")
    body = local.read_sealed_json(path)
    if (body.get("format"), body.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise DataError(
            f"{path}: {body.get('format')!r} version {body.get('format_version')!r}; this program "
            f"reads {FORMAT!r} version {FORMAT_VERSION}. Prepare it again with "
            "`metadist data prepare --replace`"
        )
    return body


def listed_files(root: Path) -> Listing:
    """Digest of every file that ``store.json`` lists.

    Raises:
        MissingData, DamagedData, DataError: as :func:`read_description`.
    """
    body = read_description(root)
    try:
        pixels = {pixel_file(part): (str(body["pixels"][part]), None) for part in PARTS}
        return {MANIFEST_FILE: (str(body["manifest"]), None), **pixels}
    except (KeyError, TypeError) as error:
        raise DamagedData(
            f"{root / STORE_FILE}: not the description of a store ({error!r})"
        ) from None


DESCRIPTION = Description(STORE_FILE, listed_files)


def pixel_file(part: Part) -> str:
    """Name of the file that holds the pixels of a part."""
    return f"images-{part}.u8"


def pixel_size(root: Path, part: Part) -> int:
    """Bytes of the file that holds the pixels of a part.

    Raises:
        MissingData: no such file.
    """
    path = root / pixel_file(part)
    if not path.is_file():
        raise MissingData(f"{path}: no such file; prepare the store again")
    return path.stat().st_size


def read_rows(root: Path, shape: tuple[int, int, int], sha256: str) -> pa.Table:
    """The manifest of a store of images of this shape.

    Raises:
        MissingData: a file is not there.
        DamagedData: it is not what was written, or has more rows than there are images.
    """
    path = root / MANIFEST_FILE
    got = local.sha256_file(path)
    if got != sha256:
        raise DamagedData(f"{path}: its digest is {got}, {STORE_FILE} says {sha256}")
    sizes = {pixel_file(part): pixel_size(root, part) for part in PARTS}
    images = sum(sizes.values()) // math.prod(shape)
    try:
        return read_capped(
            path,
            schema=MANIFEST_SCHEMA,
            max_rows=images,
            max_bytes=_TABLE_BYTES + _ROW_BYTES * images,
        )
    except UnsafeData as error:
        # Its digest is right: it may as well be the pixels that are damaged.
        held = ", ".join(f"{name} is {size} bytes" for name, size in sizes.items())
        raise DamagedData(f"{error} ({images} images of {shape}: {held})") from None


def classes_of(
    manifest: pa.Table, part: Part, path: Path
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Class names of a part and the offsets of their images.

    Raises:
        DamagedData: the manifest is not that of classes of images.
    """
    rows = manifest.filter(pc.equal(manifest["part"].cast("string"), part)).combine_chunks()
    index = rows["class_index"].to_numpy()
    starts = np.flatnonzero(np.diff(index, prepend=-1))
    names = tuple(rows["class_name"].take(pa.array(starts)).to_pylist())
    if (
        not names
        or list(names) != sorted(set(names))
        or not np.array_equal(index[starts], np.arange(len(starts)))
        or not np.array_equal(rows["row"].to_numpy(), np.arange(len(rows)))
    ):
        raise DamagedData(f"{path}: its {part!r} rows are not sorted classes of images")
    offsets = np.append(starts, len(rows)).astype(np.int64)
    offsets.setflags(write=False)
    return names, offsets


def map_pixels(
    root: Path, part: Part, shape: tuple[int, int, int, int], sha256: str, verify: bool
) -> NDArray[np.uint8]:
    """The images of a part, mapped read-only.

    Raises:
        MissingData: no such file.
        DamagedData: it is not what was written; its contents are only read to ``verify`` them.
    """
    path = root / pixel_file(part)
    size, expected = pixel_size(root, part), math.prod(shape)
    if size != expected:
        raise DamagedData(f"{path}: {size} bytes, {expected} expected for {shape[0]} images")
    if verify and (got := local.sha256_file(path)) != sha256:
        raise DamagedData(f"{path}: its digest is {got}, {STORE_FILE} says {sha256}")
    return np.memmap(path, dtype=np.uint8, mode="r", shape=shape)
