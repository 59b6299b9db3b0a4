"""Episodes from shards in order, for sequential consumers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data_pipeline.episodes.types import EpisodeBatch
from data_pipeline.errors import DamagedData, UnsafeData
from data_pipeline.shards.index import DESCRIPTION, compare_tar, read_shard_set
from data_pipeline.shards.reader import MemberReader, images_of
from data_pipeline.storage.working_copies import pull
from data_pipeline.store.class_store import ClassStore


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
        MissingData, DamagedData, DataError: as :class:`data_pipeline.shards.reader.ShardSource`.
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
