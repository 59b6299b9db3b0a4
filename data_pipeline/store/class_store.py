"""An opened class store: raw pixels on disk, mapped into memory.

What its files are is in :mod:`data_pipeline.store.layout`; :mod:`data_pipeline.store.build` makes
one from a dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.datasets import PARTS, Option, Part
from data_pipeline.errors import DamagedData
from data_pipeline.storage.working_copies import pull
from data_pipeline.store.layout import (
    DESCRIPTION,
    MANIFEST_FILE,
    STORE_FILE,
    PartContents,
    classes_of,
    contents_digest,
    map_pixels,
    read_description,
    read_rows,
)

_IDENTITY = ("dataset", "split", "options", "version", "shape")


@dataclass(frozen=True, eq=False)
class StorePart:
    """The images of one part.

    Attributes:
        part: train, val or test.
        images: uint8 [n, H, W, C], mapped read-only.
        class_names: sorted, without duplicates.
        offsets: int64 [classes + 1]; images of class c are rows ``offsets[c]:offsets[c + 1]``.
    """

    part: Part
    images: NDArray[np.uint8]
    class_names: tuple[str, ...]
    offsets: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ClassStore:
    """An opened class store.

    Attributes:
        root: the directory it lies in.
        dataset, split: what it was made from.
        shape: (height, width, channels) of every image.
        digest: SHA-256 of dataset, split, options, version, shape, classes and pixels.
        licence: what its images may be used for.
        description: what the dataset says of its source, such as whether it is complete.
        parts: the images.
        options: the dataset's options, all of them.
        version: the version of the dataset's generator or preprocessing.
    """

    root: Path
    dataset: str
    split: str
    shape: tuple[int, int, int]
    digest: str
    licence: str
    description: dict[str, str]
    parts: Mapping[Part, StorePart]
    options: dict[str, Option] = field(default_factory=dict)
    version: int = 1


def open_store(root: Path, *, verify: bool = True) -> ClassStore:
    """Open a class store and check it.

    Args:
        root: the directory that holds ``store.json``.
        verify: also read all pixels and compare their digests (1 to 2 GB/s); and bring a working
            copy up to date first.

    Raises:
        MissingData: no store, or one of its files is not there.
        DamagedData: a file is not what was written; it is named.
        DataError: it was made by another version of the format.
        StoreError: ``root`` stands for a place in an object store, which refuses or is away.
    """
    if verify:
        pull(Path(root), DESCRIPTION)
    return open_local(Path(root), verify)


def open_local(root: Path, verify: bool = True) -> ClassStore:
    """The same of what lies on disk, whatever an object store holds meanwhile."""
    body = read_description(root)
    try:
        return _opened(root, body, verify)
    except (LookupError, AttributeError, TypeError, ValueError, ArithmeticError) as error:
        raise DamagedData(
            f"{root / STORE_FILE}: not the description of a store ({error!r})"
        ) from error


def _opened(root: Path, body: dict[str, Any], verify: bool) -> ClassStore:
    height, width, channels = (int(n) for n in body["shape"])
    shape = (height, width, channels)
    if min(shape) < 1:
        raise ValueError(f"images of shape {shape}")
    manifest = read_rows(root, shape, str(body["manifest"]))
    parts: dict[Part, StorePart] = {}
    contents: dict[Part, PartContents] = {}
    for part in PARTS:
        names, offsets = classes_of(manifest, part, root / MANIFEST_FILE)
        recorded = str(body["pixels"][part])
        pixels = map_pixels(root, part, (int(offsets[-1]), *shape), recorded, verify)
        parts[part] = StorePart(part, pixels, names, offsets)
        contents[part] = PartContents(list(names), np.diff(offsets).tolist(), recorded)
    digest = contents_digest({key: body[key] for key in _IDENTITY}, contents)
    if digest != body["digest"]:
        raise DamagedData(
            f"{root / STORE_FILE}: the files' digest is {digest}, it says {body['digest']}"
        )
    return ClassStore(
        root=root,
        dataset=body["dataset"],
        split=body["split"],
        shape=shape,
        digest=digest,
        licence=body["licence"],
        description=dict(body["description"]),
        parts=parts,
        options=dict(body["options"]),
        version=body["version"],
    )


def read_manifest(store: ClassStore) -> pa.Table:
    """One row per image: part, class_index, class_name, image, row, sha256 of its pixels.

    Raises:
        DamagedData: the manifest is not what was written.
    """
    return read_rows(store.root, store.shape, str(read_description(store.root)["manifest"]))
