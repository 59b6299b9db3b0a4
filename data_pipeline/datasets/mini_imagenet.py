"""miniImageNet: 100 classes of ImageNet with 600 colour photographs each, 84 x 84 pixels.

The images cannot be redistributed, so they come from a copy of the user's: a folder with the
three lists of Ravi and Larochelle (``train.csv``, ``val.csv``, ``test.csv`` with the columns
``filename,label``) or one Parquet file. A copy with fewer images per class is accepted and says of
itself that it is not the benchmark.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.datasets import PARTS, DatasetSpec, Option, Part, RawImage, check_split
from data_pipeline.datasets._mini_imagenet_classes import (
    CLASSES,
    IMAGES_PER_CLASS,
    KNOWN_COPY_SHA256,
    LIST_SHA256,
)
from data_pipeline.datasets._tables import only_parquet, read_list, read_parquet
from data_pipeline.errors import DamagedData, DataError, MissingData, listed
from data_pipeline.formats.damaged import Damaged
from data_pipeline.formats.images import Preparation, read_bytes
from data_pipeline.storage import local

SPEC = DatasetSpec(
    name="mini_imagenet",
    summary="photographs: 100 classes (64/16/20) of up to 600 images, 84x84 RGB",
    licence="ImageNet terms: non-commercial research, no redistribution",
    shape=(84, 84, 3),
    splits=("ravi",),
    version=1,
    citation="Vinyals et al., Matching networks for one shot learning, 2016; split: Ravi, "
    "Larochelle, Optimization as a model for few-shot learning, 2017.",
    homepage="https://github.com/twitter/meta-learning-lstm (lists), https://image-net.org",
)
_COLUMNS = ("wnid", "filename", "jpeg", "sha256", "split")
_MAX_PARQUET_BYTES = 2 << 30


class _Entry(NamedTuple):
    """One listed image; entries sort in the order in which they are stored."""

    part: Part
    wnid: str
    filename: str


#: Listed images with the function that reads the encoded bytes of each.
_Listing = dict[_Entry, Callable[[], bytes]]


def describe(source: Path | None) -> dict[str, str]:
    """Whether the source is the complete benchmark, judged by the file names of its lists.

    Raises:
        DataError: as :func:`iter_images`.
    """
    listing = _read_listing(source)
    counts = Counter(entry.wnid for entry in listing)
    low, high = min(counts.values()), max(counts.values())
    copy = {part: _copy_sha256(listing, part) for part in PARTS}
    contents = {f"source_sha256_{part}": digest for part, digest in copy.items()}
    # Other encoders give other bytes for the same images, so an unknown copy is not a wrong one.
    known = ", byte for byte a known copy" if copy == KNOWN_COPY_SHA256 else ""
    complete = f"yes: the {len(listing)} images of the benchmark by file name{known}"
    if {part: _list_sha256(listing, part) for part in PARTS} != LIST_SHA256:
        images = f"{low}" if low == high else f"{low} to {high}"
        subset = f"a subset of {images} images per class (of {IMAGES_PER_CLASS})"
        complete = f"no: {subset}: not the benchmark"
    return {"complete": complete, **contents}


def preparation(**options: Option) -> Preparation:
    """How images are read: all of each, whatever its proportions."""
    return Preparation(SPEC.shape, fit="stretch")


def iter_images(
    source: Path | None = None, split: str = "", **options: Option
) -> Iterator[RawImage]:
    """Yield all listed images, uint8 [84, 84, 3], by WordNet id and file name.

    An image of 84 x 84 is taken as it is; others are resized to it with a Lanczos filter,
    whatever their proportions, as the published scripts do.

    Args:
        source: a folder with ``train.csv``, ``val.csv`` and ``test.csv`` and the images in
            ``images/``, beside the lists or in folders by class; or a Parquet file with the
            columns wnid, filename, jpeg, sha256, split, or the folder it lies in.
        split: ``ravi``.
        options: none.

    Raises:
        MissingData: no source, or an image or class is missing; it is named.
        DataError: a class is in the wrong part or unknown.
        DamagedData, UnsafeData: a file is damaged, or a path climbs out of the folder.
    """
    check_split(SPEC, split)
    if options:
        raise DataError(f"mini_imagenet has no options, got {', '.join(options)}")
    listing, damaged = _read_listing(source), Damaged()
    for part in PARTS:
        for entry in sorted(entry for entry in listing if entry.part == part):
            name = f"{source}: {entry.filename}"
            pixels = damaged.read(name, _pixels, listing[entry], name)
            if pixels is not None and not damaged.refused:
                yield RawImage(part, entry.wnid, entry.filename, pixels)
    damaged.check()


def _pixels(read: Callable[[], bytes], name: str) -> NDArray[np.uint8]:
    return preparation().pixels(read(), name)


def _read_listing(source: Path | None) -> _Listing:
    if source is None:
        raise MissingData(
            "mini_imagenet needs a copy of your own: a folder with train.csv, val.csv, test.csv "
            f"and the images, or a Parquet file with the columns {', '.join(_COLUMNS)}"
        )
    source = Path(source)
    if not source.exists():
        raise MissingData(f"{source}: no such file or folder")
    if source.is_file():
        return _from_parquet(source)
    lists = {part: source / f"{part}.csv" for part in PARTS}
    absent = [path.name for path in lists.values() if not path.is_file()]
    parquet = only_parquet(source) if absent else None
    if parquet is not None:
        return _from_parquet(parquet)
    if absent:
        found = ", ".join(islice(sorted(p.name for p in source.iterdir()), 8)) or "nothing"
        raise MissingData(
            f"{source}: no {', '.join(absent)} and no Parquet file; it holds {found}. The lists "
            f"are the CSV files of the published split, columns filename,label: {SPEC.homepage}"
        )
    return _from_lists(source, lists)


def _from_lists(source: Path, lists: dict[Part, Path]) -> _Listing:
    listing: _Listing = {}
    for part, path in lists.items():
        for number, (filename, label) in read_list(path, ("filename", "label")):
            entry = _Entry(part, label, filename)
            where = f"{path}, line {number}"
            _check_entry(entry, listing, where)
            listing[entry] = partial(read_bytes, _find_image(source, entry, where))
    _check_classes_present(source, listing)
    return listing


def _find_image(source: Path, entry: _Entry, where: str) -> Path:
    part, wnid, filename = entry
    places = ("images", f"images/{wnid}", wnid, f"{part}/{wnid}", "")
    for place in places:
        path = local.inside(source, f"{place}/{filename}" if place else filename)
        if path.is_file():
            return path
    raise MissingData(
        f"{where}: {filename!r} is listed but in none of "
        f"{', '.join(place + '/' if place else 'the folder itself' for place in places)} of "
        f"{source}. A copy with fewer images needs lists of its own"
    )


def _from_parquet(path: Path) -> _Listing:
    table = read_parquet(path, _COLUMNS, max_bytes=_MAX_PARQUET_BYTES)
    listing: _Listing = {}
    keys = (table[name].to_pylist() for name in ("split", "wnid", "filename"))
    for row, (part, wnid, filename) in enumerate(zip(*keys, strict=True)):
        where = f"{path}, row {row}"
        if part not in get_args(Part):
            raise DataError(f"{where}: its split is {part!r}, not one of {', '.join(PARTS)}")
        entry = _Entry(part, str(wnid), str(filename))
        _check_entry(entry, listing, where)
        listing[entry] = partial(_parquet_image, table, row, f"{path}: {filename}")
    _check_classes_present(path, listing)
    return listing


def _parquet_image(table: pa.Table, row: int, name: str) -> bytes:
    data = table["jpeg"][row].as_py()
    if not isinstance(data, bytes) or hashlib.sha256(data).digest() != table["sha256"][row].as_py():
        raise DamagedData(f"{name}: its bytes do not have the SHA-256 that stands beside them")
    return data


def _check_entry(entry: _Entry, listing: _Listing, where: str) -> None:
    named = entry.filename[:9]
    if named != entry.wnid and any(named in classes for classes in CLASSES.values()):
        raise DataError(f"{where}: {entry.filename!r} is no image of class {entry.wnid!r}")
    home = next((part for part in PARTS if entry.wnid in CLASSES[part]), None)
    if home is None:
        raise DataError(f"{where}: {entry.wnid!r} is not one of the 100 classes of miniImageNet")
    if home != entry.part:
        raise DataError(
            f"{where}: class {entry.wnid} belongs to {home!r} in the split of Ravi and Larochelle, "
            f"here it is in {entry.part!r}; wrong or exchanged lists?"
        )
    if entry in listing:
        raise DataError(f"{where}: {entry.filename!r} is listed twice")


def _check_classes_present(source: Path, listing: _Listing) -> None:
    here = {entry.wnid for entry in listing}
    for part in PARTS:
        missing = [wnid for wnid in CLASSES[part] if wnid not in here]
        if missing:
            raise MissingData(
                f"{source}: no images of {listed(missing)}; {part!r} has {len(CLASSES[part])} "
                "classes"
            )


def _list_sha256(listing: _Listing, part: Part) -> str:
    names = sorted(entry.filename for entry in listing if entry.part == part)
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


def _copy_sha256(listing: _Listing, part: Part) -> str:
    whole = hashlib.sha256()
    entries = sorted((e for e in listing if e.part == part), key=lambda e: e.filename)
    for entry in entries:
        data = hashlib.sha256(listing[entry]()).digest()
        whole.update(entry.filename.encode() + b"\0" + data)
    return whole.hexdigest()
