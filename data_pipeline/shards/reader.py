"""Episodes from shards, by id or in order: the same bytes as drawing them live."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_pipeline.episodes.images import fetch, images_schema
from data_pipeline.episodes.sources import require_identity
from data_pipeline.episodes.types import BLOCK, EpisodeBatch, Identity, Schema
from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.shards.index import DESCRIPTION, Member, ShardSet, compare_tar, read_shard_set
from data_pipeline.shards.members import Arrays, decode
from data_pipeline.storage import local
from data_pipeline.storage.working_copies import pull
from data_pipeline.store.class_store import ClassStore


def open_shards(
    root: Path, expected: Identity, needed: int | None, store: ClassStore | None = None
) -> ShardSource:
    """Open a shard set for a run, or refuse it before the run's first step.

    Args:
        root: directory of the shard set.
        expected: the episodes the run needs.
        needed: how many of them, from id 0; None if the run takes what there is.
        store: the class store; only for payload ``index``.

    Raises:
        DataError: the shards hold other episodes; each field that differs is named.
        MissingData: no shard set there, or it holds fewer than ``needed`` episodes.
        DamagedData: the set is damaged.
    """
    source = ShardSource(root, store=store)
    require_identity(source.identity, expected, f"the shards in {root}")
    if needed is not None and needed > source.length:
        raise MissingData(
            f"{root}: episodes 0 to {needed - 1} are needed, it holds 0 to {source.length - 1}; "
            "write more shards, or use fewer episodes (data.episodes, outer.steps x outer.batch)"
        )
    return source


class ShardSource:
    """Random access to the episodes of a shard set; may be shared between threads.

    A member is read with one seek, its digest is checked each time, and decoded members are
    kept: a run that walks blocks of 64 episodes decodes each member once.

    Args:
        root: directory of the shard set.
        store: the class store the shards point into; only for payload ``index``.
        cache_members: how many decoded members to keep (about 1 MiB each); None for two blocks.

    Raises:
        MissingData: no shard set there, or a file of it is gone.
        DamagedData: its description, its manifest or the size of a shard is not what was written.
        DataError: payload ``index`` without its class store, or with another one.
    """

    def __init__(
        self, root: Path, *, store: ClassStore | None = None, cache_members: int | None = None
    ) -> None:
        pull(Path(root), DESCRIPTION)
        shard_set = read_shard_set(Path(root))
        self.set = shard_set
        #: Which episodes these are, and how many: ids 0 to ``length - 1``.
        self.identity = shard_set.layout.identity
        self.length = sum(shard.count for shard in shard_set.shards)
        images = self._images = images_of(shard_set, store)
        #: Columns of the episodes.
        self.schema: Schema = (
            shard_set.layout.columns
            if images is None
            else images_schema(self.identity.spec, images.shape[1:])
        )
        group = shard_set.layout.group
        if cache_members is None:
            # A member with a single episode is not read twice within an epoch.
            cache_members = 2 * BLOCK // group if group > 1 else 1

        @functools.lru_cache(cache_members)
        def read(place: int) -> Arrays:
            (member,) = shard_set.members(place * group, 1)
            return read_member(shard_set, member, images)

        self._read = read

    def episodes(self, ids: Sequence[int]) -> EpisodeBatch:
        """The episodes with these ids, in this order, in arrays of their own.

        Raises:
            MissingData: the set does not hold one of them, or a shard is gone.
            DamagedData: a member is not what was written; shard and member are named.
        """
        wanted = np.array([int(i) for i in ids], dtype=np.int64)
        outside = wanted[(wanted < 0) | (wanted >= self.length)]
        if len(outside):
            raise MissingData(
                f"{self.set.root}: episode {outside[0]} is not here, it holds 0 to "
                f"{self.length - 1}; write more shards, or use fewer episodes"
            )
        layout = self.set.layout
        arrays: Arrays = {
            name: np.empty((len(wanted), *column.shape), dtype=column.dtype)
            for name, column in layout.columns.items()
        }
        members = wanted // layout.group
        for member in np.unique(members).tolist():
            places = np.flatnonzero(members == member)
            held = self._read(member)
            for name, array in arrays.items():
                array[places] = held[name][wanted[places] - member * layout.group]
        batch = EpisodeBatch(wanted, arrays)
        return batch if self._images is None else fetch(self._images, batch)


def stream(root: Path, *, store: ClassStore | None = None) -> Iterator[EpisodeBatch]:
    """Every episode of a shard set once, in order of ids, one member at a time.

    Each consumer reads every shard. A tar that holds anything but its members is refused before
    a byte of it is decoded, and the digest of every member is checked. Members are read where the
    manifest says, not by unpacking the tar: what unpacks one looks at its first bytes and may take
    it for a compressed file.

    Args:
        root: directory of the shard set.
        store: the class store; only for payload ``index``.

    Yields:
        The G episodes of a member, in arrays of their own.

    Raises:
        MissingData, DamagedData, DataError: as :class:`ShardSource`.
        UnsafeData: a tar holds something that is not one of its members.
    """
    source = ShardSource(root, store=store, cache_members=1)
    for shard in source.set.shards:
        foreign, damaged = compare_tar(source.set, shard)
        path = source.set.root / shard.name
        if foreign:
            raise UnsafeData(f"{path}: {'; '.join(foreign)}; nothing of it was read")
        if damaged:
            raise DamagedData(f"{path}: {'; '.join(damaged)}; write the shards again")
        for member in source.set.members(shard.first, shard.count):
            yield source.episodes(range(member.first, member.first + member.count))


def images_of(shard_set: ShardSet, store: ClassStore | None) -> NDArray[np.uint8] | None:
    """The images that payload ``index`` points into; None for ``inline``.

    Raises:
        DataError: they are needed and ``store`` is None or another store.
    """
    layout = shard_set.layout
    if layout.payload == "inline":
        return None
    identity = layout.identity
    if store is None or store.digest != identity.dataset_digest:
        got = "none" if store is None else f"one with digest {store.digest} ({store.root})"
        raise DataError(
            f"{shard_set.root}: these shards hold no pixels; the class store of "
            f"{identity.dataset!r} with digest {identity.dataset_digest} is needed, got {got}"
        )
    return store.parts[identity.part].images


def read_member(shard_set: ShardSet, member: Member, images: NDArray[np.uint8] | None) -> Arrays:
    """A member's columns from disk.

    Args:
        images: from :func:`images_of`.

    Raises:
        MissingData: its shard is gone.
        DamagedData: it is not what was written; shard and member are named.
    """
    path = shard_set.root / member.shard
    try:
        with path.open("rb") as handle:
            handle.seek(member.offset)
            data = handle.read(member.length)
    except FileNotFoundError:
        raise MissingData(f"{path}: this shard is gone; write the shards again") from None
    place = f"{path}, member {member.member}"
    got, expected = local.sha256_bytes(data), member.sha256.hex()
    if got != expected:
        raise DamagedData(
            f"{place}: the digest of its {len(data)} bytes is {got}, the manifest "
            f"says {expected} for {member.length} bytes; write the shards again"
        )
    try:
        arrays = decode(shard_set.layout, data, member.first, member.count)
        if images is not None:
            _check_rows(arrays, len(images))
    except DamagedData as error:
        raise DamagedData(f"{place}: {error}") from None
    return arrays


def _check_rows(arrays: Arrays, images: int) -> None:
    for name in [name for name in arrays if name.endswith("_rows")]:
        low, high = int(arrays[name].min()), int(arrays[name].max())
        if low < 0 or high >= images:
            raise DamagedData(f"{name!r} point at images {low} to {high}, there are {images}")
