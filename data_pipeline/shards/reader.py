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
from data_pipeline.shards.index import DESCRIPTION, ShardSet, compare_tar, read_shard_set
from data_pipeline.shards.layout import member_name
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
        #: Which episodes these are, and how many: ids 0 to ``length - 1``.
        self.identity = shard_set.layout.identity
        self.length = sum(shard.count for shard in shard_set.shards)
        self._set = shard_set
        images = images_of(shard_set, store)
        #: Columns of the episodes.
        self.schema: Schema = (
            shard_set.layout.columns
            if images is None
            else images_schema(self.identity.spec, images.shape[1:])
        )
        reader = self._reader = MemberReader(shard_set, images)
        if cache_members is None:
            # A member with a single episode is not read twice within an epoch.
            group = shard_set.layout.group
            cache_members = 2 * BLOCK // group if group > 1 else 1
        self._member = functools.lru_cache(cache_members)(lambda member: reader.read(member))

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
                f"{self._set.root}: episode {outside[0]} is not here, it holds 0 to "
                f"{self.length - 1}; write more shards, or use fewer episodes"
            )
        layout = self._set.layout
        arrays: Arrays = {
            name: np.empty((len(wanted), *column.shape), dtype=column.dtype)
            for name, column in layout.columns.items()
        }
        starts = self._set.members.first
        members = np.searchsorted(starts, wanted, side="right") - 1
        for member in np.unique(members).tolist():
            places = np.flatnonzero(members == member)
            held = self._member(member)
            for name, array in arrays.items():
                array[places] = held[name][wanted[places] - starts[member]]
        return self._reader.batch({"ids": wanted, **arrays})


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
    pull(Path(root), DESCRIPTION)
    shard_set = read_shard_set(Path(root))
    reader = MemberReader(shard_set, images_of(shard_set, store))
    for number, shard in enumerate(shard_set.shards):
        problems = compare_tar(shard_set, number)
        path = shard_set.root / shard.name
        if problems.foreign:
            raise UnsafeData(f"{path}: {'; '.join(problems.foreign)}; nothing of it was read")
        if problems.damaged:
            raise DamagedData(f"{path}: {'; '.join(problems.damaged)}; write the shards again")
        for member in np.flatnonzero(shard_set.members.shard == number).tolist():
            arrays = reader.read(member)
            yield reader.batch({name: array.copy() for name, array in arrays.items()})


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


class MemberReader:
    """Reads, checks and decodes the members of a shard set.

    Args:
        shard_set: the set.
        images: from :func:`images_of`.
    """

    def __init__(self, shard_set: ShardSet, images: NDArray[np.uint8] | None) -> None:
        self._set = shard_set
        self._images = images

    def read(self, member: int) -> Arrays:
        """A member's columns from disk.

        Raises:
            MissingData: its shard is gone.
            DamagedData: it is not what was written; shard and member are named.
        """
        members = self._set.members
        path = self._set.root / self._set.shards[int(members.shard[member])].name
        try:
            with path.open("rb") as handle:
                handle.seek(int(members.offset[member]))
                data = handle.read(int(members.length[member]))
        except FileNotFoundError:
            raise MissingData(f"{path}: this shard is gone; write the shards again") from None
        place = f"{path}, member {member_name(int(members.first[member]))}"
        got, expected = local.sha256_bytes(data), members.sha256[member].hex()
        if got != expected:
            raise DamagedData(
                f"{place}: the digest of its {len(data)} bytes is {got}, the manifest "
                f"says {expected} for {members.length[member]} bytes; write the shards again"
            )
        try:
            count = int(members.count[member])
            arrays = decode(self._set.layout, data, int(members.first[member]), count)
            if self._images is not None:
                _check_rows(arrays, len(self._images))
        except DamagedData as error:
            raise DamagedData(f"{place}: {error}") from None
        return arrays

    def batch(self, arrays: Arrays) -> EpisodeBatch:
        """Episodes from their columns, which become part of it."""
        batch = EpisodeBatch(arrays.pop("ids"), arrays)
        return batch if self._images is None else fetch(self._images, batch)


def _check_rows(arrays: Arrays, images: int) -> None:
    for name in [name for name in arrays if name.endswith("_rows")]:
        low, high = int(arrays[name].min()), int(arrays[name].max())
        if low < 0 or high >= images:
            raise DamagedData(f"{name!r} point at images {low} to {high}, there are {images}")
