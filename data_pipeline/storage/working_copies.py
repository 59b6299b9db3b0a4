"""Prepared data in an object store: published from a working copy, fetched into one.

A class store or shard set has the same names in the store as on disk. Its description, which holds
the digest of every other file, is put last and fetched first, so that a directory in the store
without one is not there yet, and what is fetched is known to be what was published.

All functions take the directory on disk and what describes it; where it is no working copy they
do nothing.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import DataError, MissingData
from data_pipeline.storage import local
from data_pipeline.storage.objects import ObjectPlace, in_parallel, object_place

logger = logging.getLogger(__name__)
#: Digest of each file by name, and size where it is known.
Listing = dict[str, tuple[str, int | None]]


@dataclass(frozen=True)
class Description:
    """The file of a directory that lists all its other files.

    Attributes:
        name: of the file.
        files: reads what the description in a directory lists. Raises DataError if it is none, or
            of another version.
    """

    name: str
    files: Callable[[Path], Listing]


def pull(root: Path, description: Description) -> None:
    """Bring a working copy up to date with the object store.

    Processes of this node wait for each other: each file is fetched once. A set that is being
    fetched appears under its name only when it is complete; readers keep what they have opened.

    Raises:
        DamagedData: an object is not what was published; it is named.
        MissingData: the description lists an object that is not there; it is named.
        StoreError: the store cannot be read, or is away.
    """
    place = object_place(root)
    if place is None:
        return
    data = described(place, description)
    if data is None:
        return  # what there is here is still to be published
    with _locked(root):
        held = root / description.name
        if held.is_file() and held.read_bytes() == data:
            return
        with local.new_directory(root, replace=True) as directory:
            (directory / description.name).write_bytes(data)
            try:
                files = description.files(directory)
            except DataError as error:
                raise type(error)(str(error).replace(str(directory), str(place))) from None
            logger.info("%s: fetching %d objects into %s", place, len(files), root)
            in_parallel(lambda file: (place / file).get_file(directory / file, *files[file]), files)


def push(root: Path, description: Description, *, replace: bool = False) -> None:
    """Put a complete store or shard set into the object store, its description last.

    An interrupted publication is continued: objects that are there as some node put them are not
    put again. What is there already, complete and the same, is left as it is.

    Raises:
        DataError: another set is there and ``replace`` is false.
        StoreError: the store refuses, or is away; nothing is lost, do the same again.
    """
    place = object_place(root)
    if place is None:
        return
    name = description.name
    data, there = (root / name).read_bytes(), described(place, description)
    if there == data:
        return
    if there is not None and not replace:
        raise DataError(f"{place} holds another {name}; to put this one in its place add --replace")
    if there is not None:
        # Readers must not find a description that does not fit the files.
        (place / name).delete()
    files = description.files(root)
    with _locked(root):
        logger.info("%s: putting %d objects", place, len(files) + 1)
        in_parallel(lambda file: _put(place / file, root / file, files[file][0]), files)
        (place / name).put(data)
    kept = {name, *files}
    for old in place.objects():
        if "/" not in old.name and old.name not in kept:
            (place / old.name).delete()


def _put(place: ObjectPlace, path: Path, sha256: str) -> None:
    if not place.holds(sha256):
        place.put_file(path, sha256)


def damaged_objects(root: Path, description: Description) -> Iterator[str]:
    """Read every object of a published set and name those that are not what was published.

    Raises:
        StoreError: the store cannot be read, or is away.
    """
    place = object_place(root)
    if place is None:
        return
    data = described(place, description)
    if data is None:
        yield f"{place}: no {description.name} there"
        return
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / description.name).write_bytes(data)
        try:
            files = description.files(Path(scratch))
        except DataError as error:
            yield str(error).replace(scratch, str(place))
            return
    for file, (sha256, _) in files.items():
        try:
            got = (place / file).digest()[0]
        except MissingData as error:
            yield str(error)
            continue
        if got != sha256:
            yield f"{place / file}: its digest is {got}, {description.name} says {sha256}"


def described(place: ObjectPlace, description: Description) -> bytes | None:
    """The bytes of the description in the object store; None if there is none."""
    with contextlib.suppress(MissingData):
        return (place / description.name).get()
    place.check_bucket()
    return None


def _locked(root: Path) -> contextlib.AbstractContextManager[None]:
    """Hold the lock of a working copy against other processes of this node."""
    root.parent.mkdir(parents=True, exist_ok=True)
    return local.locked(root.parent / f".{root.name}.lock")
