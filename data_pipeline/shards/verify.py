"""Check a shard set and list everything that is wrong with it, not only the first thing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from data_pipeline import episode_sources
from data_pipeline.episodes.sources import live_source
from data_pipeline.episodes.types import EpisodeSource
from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.shards.index import (
    ShardSet,
    check_size,
    compare_tar,
    read_description,
    read_manifest,
)
from data_pipeline.shards.layout import DATASET_FILE, MANIFEST_FILE
from data_pipeline.shards.members import Arrays, draw
from data_pipeline.shards.reader import images_of, read_member
from data_pipeline.store.class_store import ClassStore
from data_pipeline.store.verify import Finding, compare_digest, foreign_files


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
        return [Finding.of(root / DATASET_FILE, error)]
    names = {shard.name for shard in shards}
    findings = list(foreign_files(root, {DATASET_FILE, MANIFEST_FILE, *names}))
    shard_set: ShardSet | None = None
    try:
        table = read_manifest(root, layout, shards, manifest)
        shard_set = ShardSet(root, layout, shards, table)
    except (DamagedData, MissingData, UnsafeData) as error:
        findings.append(Finding.of(root / MANIFEST_FILE, error))
    for shard in shards:
        try:
            check_size(root / shard.name, shard.size)
        except (DamagedData, MissingData) as error:
            findings.append(Finding.of(root / shard.name, error))
        else:
            findings.extend(compare_digest(root / shard.name, shard.sha256, DATASET_FILE))
    if deep and shard_set is not None:
        findings.extend(_deep(shard_set, store))
    return findings


def _deep(shard_set: ShardSet, store: ClassStore | None) -> Iterator[Finding]:
    layout, of = shard_set.layout, shard_set.layout.identity
    images = None if store is None else images_of(shard_set, store)
    live: EpisodeSource | None = None
    outside = of.kind not in ("images", "function") and of.dataset in episode_sources.names()
    if store is not None or of.kind == "function" or outside:
        try:
            live = live_source(of, store)
        except DataError as error:
            yield Finding.of(shard_set.root / DATASET_FILE, error)
    for shard in shard_set.shards:
        path = shard_set.root / shard.name
        if not path.is_file():
            continue
        yield from (Finding(path, problem) for problem in chain(*compare_tar(shard_set, shard)))
        for member in shard_set.members(shard.first, shard.count):
            try:
                arrays = read_member(shard_set, member, images)
            except DamagedData as error:
                yield Finding.of(path, error)
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
