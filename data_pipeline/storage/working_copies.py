"""Prepared data in an object store: published from a working copy, fetched into one.

A class store or shard set has the same names in the store as on disk. Its description, which holds
the digest of every other file, is put last and fetched first, so that a directory in the store
without one is not there yet, and what is fetched is known to be what was published.

All functions take the directory on disk; where it is no working copy they do nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import logging
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_pipeline.datasets import PARTS
from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.storage import local
from data_pipeline.storage.object_uri import endpoint
from data_pipeline.storage.objects import ObjectPlace, in_parallel, object_place
from data_pipeline.store.files import MANIFEST_FILE as STORE_MANIFEST
from data_pipeline.store.files import STORE_FILE, pixel_file

logger = logging.getLogger(__name__)
#: Of a shard set; its own modules know class stores, which know this one.
DATASET_FILE, SHARD_MANIFEST = "dataset.json", "manifest.parquet"
DESCRIPTIONS = (STORE_FILE, DATASET_FILE)


def pull(root: Path) -> None:
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
    found = _description(place)
    if found is None:
        return  # what there is here is still to be published
    name, data = found
    with _locked(root):
        if _read(root / name) == data:
            return
        with local.new_directory(root, replace=True) as directory:
            (directory / name).write_bytes(data)
            try:
                files = _files(directory, name)
            except DamagedData as error:
                raise DamagedData(str(error).replace(str(directory), str(place))) from None
            logger.info("%s: fetching %d objects into %s", place, len(files), root)
            in_parallel(
                [
                    functools.partial((place / file).get_file, directory / file, *expected)
                    for file, expected in files.items()
                ]
            )


def push(root: Path, *, replace: bool = False) -> None:
    """Put a complete store or shard set into the object store, its description last.

    An interrupted publication is continued: objects that are there, as this node put them, are
    not put again. What is there already, complete and the same, is left as it is.

    Raises:
        DataError: another set is there and ``replace`` is false.
        StoreError: the store refuses, or is away; nothing is lost, do the same again.
    """
    place = object_place(root)
    if place is None:
        return
    name = next(name for name in DESCRIPTIONS if (root / name).is_file())
    data, there = (root / name).read_bytes(), _description(place)
    if there == (name, data):
        return
    if there is not None and not replace:
        raise DataError(f"{place} holds another {name}; to put this one in its place add --replace")
    if there is not None:
        # Readers must not find a description that does not fit the files.
        (place / there[0]).delete()
    files = _files(root, name)
    with _locked(root):
        done = _Uploaded(root)
        logger.info("%s: putting %d objects", place, len(files) + 1)
        in_parallel(
            [
                functools.partial(done.put, place / file, root / file, expected[0])
                for file, expected in files.items()
            ]
        )
        (place / name).put(data)
        done.forget()
    kept = {name, *files}
    for old in place.objects():
        if "/" not in old.name and old.name not in kept:
            (place / old.name).delete()


def published(root: Path) -> list[Path]:
    """Directories of all stores and shard sets below ``root`` that are in the object store.

    Raises:
        StoreError: the store cannot be read, or is away.
    """
    place = object_place(root)
    if place is None:
        return []
    names = (Path(found.name) for found in place.objects())
    return sorted({root / name.parent for name in names if name.name in DESCRIPTIONS})


@contextlib.contextmanager
def descriptions(root: Path) -> Iterator[Path]:
    """A directory with the descriptions of all that is published below ``root``, for a look.

    Of a directory that is no working copy it is that directory itself.

    Raises:
        StoreError: the store cannot be read, or is away.
    """
    place = object_place(root)
    if place is None:
        yield root
        return
    with tempfile.TemporaryDirectory() as scratch:
        for path in published(root):
            inside = path.relative_to(root)
            found = _description(place / str(inside))
            if found is not None:
                (Path(scratch) / inside).mkdir(parents=True)
                (Path(scratch) / inside / found[0]).write_bytes(found[1])
        yield Path(scratch)


def damaged_objects(root: Path) -> Iterator[str]:
    """Read every object of a published set and name those that are not what was published.

    Raises:
        StoreError: the store cannot be read, or is away.
    """
    place = object_place(root)
    if place is None:
        return
    found = _description(place)
    if found is None:
        yield f"{place}: no {' or '.join(DESCRIPTIONS)} there"
        return
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / found[0]).write_bytes(found[1])
        try:
            files = _files(Path(scratch), found[0])
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
            yield f"{place / file}: its digest is {got}, {found[0]} says {sha256}"


def _description(place: ObjectPlace) -> tuple[str, bytes] | None:
    """Name and bytes of the description in the object store; None if there is none."""
    wanted = DATASET_FILE if place.key.split("/")[-2:-1] == ["shards"] else STORE_FILE
    with contextlib.suppress(MissingData):
        return wanted, (place / wanted).get()
    place.check_bucket()
    return None


def _files(root: Path, name: str) -> dict[str, tuple[str, int | None]]:
    """Digest, and size where it is known, of every file that a description lists.

    Raises:
        DamagedData: it is no description. DataError: it is of another version.
    """
    if name == DATASET_FILE:
        from data_pipeline.shards.index import read_description

        _, shards, manifest = read_description(root)
        files: dict[str, tuple[str, int | None]] = {s.name: (s.sha256, s.size) for s in shards}
        return files | {SHARD_MANIFEST: (manifest["sha256"], manifest["size"])}
    body: dict[str, Any] = local.read_sealed_json(root / name)
    try:
        pixels = {pixel_file(part): (str(body["pixels"][part]), None) for part in PARTS}
        return {STORE_MANIFEST: (str(body["manifest"]), None), **pixels}
    except (KeyError, TypeError) as error:
        raise DamagedData(f"{root / name}: not the description of a store ({error!r})") from None


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the lock of a working copy against other processes of this node."""
    root.parent.mkdir(parents=True, exist_ok=True)
    with (root.parent / f".{root.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class _Uploaded:
    """What of a set this node has put, by the version that the store gave it."""

    def __init__(self, root: Path) -> None:
        self._path = root.parent / f".{root.name}.uploaded.json"
        self._lock = threading.Lock()
        self._done: dict[str, list[str]] = {}
        with contextlib.suppress(DataError):
            noted = local.read_json(self._path)
            self._done = noted if isinstance(noted, dict) else {}

    def put(self, place: ObjectPlace, path: Path, sha256: str) -> None:
        """Put a file, unless the object is the very one that was put before."""
        key = f"{endpoint()} {place}"
        noted = self._done.get(key)
        if noted and noted[1] and noted == [sha256, place.version()]:
            return
        version = place.put_file(path)
        with self._lock:
            self._done[key] = [sha256, version]
            local.write_atomic(self._path, json.dumps(self._done).encode())

    def forget(self) -> None:
        """The publication is complete."""
        self._path.unlink(missing_ok=True)
