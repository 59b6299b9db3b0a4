"""Check what lies on disk and list everything that is wrong with it, not only the first thing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.datasets import PARTS
from data_pipeline.episodes.sources import live_source
from data_pipeline.episodes.types import EpisodeSource
from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.shards.index import (
    Members,
    ShardSet,
    check_size,
    compare_tar,
    read_description,
    read_manifest,
)
from data_pipeline.shards.layout import DATASET_FILE, MANIFEST_FILE
from data_pipeline.shards.members import Arrays, draw
from data_pipeline.shards.reader import MemberReader, images_of
from data_pipeline.storage import local
from data_pipeline.storage.folders import is_litter
from data_pipeline.store import class_store
from data_pipeline.store.class_store import ClassStore
from data_pipeline.store.files import MANIFEST_FILE as STORE_MANIFEST
from data_pipeline.store.files import STORE_FILE, pixel_file


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written.

    Attributes:
        path: the file.
        problem: what is wrong with it, in words.
    """

    path: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


def verify_store(root: Path, deep: bool = False) -> list[Finding]:
    """Check a class store.

    Args:
        root: the directory that holds ``store.json``.
        deep: also compare every image with its own digest in the manifest, so that the images
            that are damaged are named.

    Returns:
        Everything that is wrong; empty if nothing is.

    Raises:
        MissingData: there is no store.
        DataError: it was made by another version of the format.
    """
    root = Path(root)
    try:
        if not (root / STORE_FILE).is_file():
            raise MissingData(f"{root}: no class store; make it with `metadist data prepare`")
        body = local.read_sealed_json(root / STORE_FILE)
        files = {STORE_MANIFEST: str(body["manifest"])}
        files |= {pixel_file(part): str(body["pixels"][part]) for part in PARTS}
    except (DamagedData, KeyError, TypeError) as error:
        return [_finding(root / STORE_FILE, error)]
    findings = list(_foreign(root, {STORE_FILE, *files}))
    for name, expected in files.items():
        findings.extend(_digest_finding(root / name, expected, STORE_FILE))
    try:
        store = class_store.open_store(root, verify=False)
        if deep:
            findings.extend(_damaged_images(store))
    except (DamagedData, MissingData) as error:
        # A file that is gone or cut short has been named above already.
        if not findings:
            findings.append(_finding(root, error))
    return findings


def _damaged_images(store: ClassStore) -> Iterator[Finding]:
    table = class_store.read_manifest(store)
    columns = ("part", "class_name", "image", "row", "sha256")
    for part, class_name, image, row, expected in zip(
        *(table[name].to_pylist() for name in columns), strict=True
    ):
        got = local.sha256_bytes(store.parts[part].images[row].tobytes())
        if got != expected.hex():
            yield Finding(
                store.root / pixel_file(part),
                f"image {image!r} of class {class_name!r} (row {row}) is not what was written",
            )


def verify_shards(root: Path, deep: bool = False, store: ClassStore | None = None) -> list[Finding]:
    """Check a shard set.

    Args:
        root: the directory that holds ``dataset.json``.
        deep: also compare each tar's entries with the manifest, decode every member, and, for
            functions or if ``store`` is given, draw every episode again and compare it byte for
            byte.
        store: the class store the episodes were drawn from.

    Returns:
        Everything that is wrong; empty if nothing is.

    Raises:
        MissingData: there is no shard set.
        DataError: it is of another format version, or ``store`` is not the one it was drawn from.
    """
    root = Path(root)
    try:
        layout, shards, manifest = read_description(root)
    except DamagedData as error:
        return [_finding(root / DATASET_FILE, error)]
    names = {shard.name for shard in shards}
    findings = list(_foreign(root, {DATASET_FILE, MANIFEST_FILE, *names}))
    members: Members | None = None
    try:
        members = read_manifest(root, layout, shards, manifest)
    except (DamagedData, MissingData, UnsafeData) as error:
        findings.append(_finding(root / MANIFEST_FILE, error))
    for shard in shards:
        try:
            check_size(root / shard.name, shard.size)
        except (DamagedData, MissingData) as error:
            findings.append(_finding(root / shard.name, error))
        else:
            findings.extend(_digest_finding(root / shard.name, shard.sha256, DATASET_FILE))
    if deep and members is not None:
        length = sum(shard.count for shard in shards)
        findings.extend(_deep(ShardSet(root, layout, length, shards, members), store))
    return findings


def _deep(shard_set: ShardSet, store: ClassStore | None) -> Iterator[Finding]:
    layout, members = shard_set.layout, shard_set.members
    reader = MemberReader(shard_set, None if store is None else images_of(shard_set, store))
    live: EpisodeSource | None = None
    if store is not None or layout.identity.kind == "function":
        try:
            live = live_source(layout.identity, store)
        except DataError as error:
            yield _finding(shard_set.root / DATASET_FILE, error)
    for number, shard in enumerate(shard_set.shards):
        path = shard_set.root / shard.name
        if not path.is_file():
            continue
        problems = compare_tar(shard_set, number)
        yield from (Finding(path, problem) for problem in problems.foreign + problems.damaged)
        for member in np.flatnonzero(members.shard == number).tolist():
            try:
                arrays = reader.read(member)
            except DamagedData as error:
                yield _finding(path, error)
                continue
            if live is not None:
                drawn = draw(live, layout.payload, arrays["ids"].tolist())
                yield from _differences(path, arrays, drawn)


def _differences(path: Path, held: Arrays, drawn: Arrays) -> Iterator[Finding]:
    for position, episode in enumerate(held["ids"].tolist()):
        names = [
            name
            for name, array in held.items()
            if array[position].tobytes() != drawn[name][position].tobytes()
        ]
        if names:
            yield Finding(path, f"episode {episode} differs from a fresh drawing in {names}")


def _digest_finding(path: Path, expected: str, source: str) -> Iterator[Finding]:
    try:
        got = local.sha256_file(path)
    except MissingData as error:
        yield _finding(path, error)
        return
    if got != expected:
        yield Finding(path, f"its digest is {got}, {source} says {expected}")


def _foreign(root: Path, expected: Iterable[str]) -> Iterator[Finding]:
    """Files that no writer of ours put there."""
    names = {path.name for path in root.iterdir() if not is_litter(path.name)}
    for name in sorted(names - set(expected)):
        yield Finding(root / name, "this file does not belong here")


def _finding(path: Path, error: Exception) -> Finding:
    # The errors of this package begin with the path.
    text = str(error) if isinstance(error, DataError) else f"{error!r}"
    return Finding(path, text.removeprefix(f"{path}: ").removeprefix(f"{path}, "))
