"""Episodes from shards in order, through a webdataset pipeline, for sequential consumers."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_pipeline.class_store import ClassStore
from data_pipeline.episodes import EpisodeBatch
from data_pipeline.errors import DamagedData, UnsafeData
from data_pipeline.remote_data import bring
from data_pipeline.shard_index import ShardSet, compare_tar, read_shard_set
from data_pipeline.shard_reader import MemberReader, images_of
from data_pipeline.shards import import_webdataset, member_name

_EXTENSION = "arrow"


def stream(root: Path, *, store: ClassStore | None = None) -> Iterator[EpisodeBatch]:
    """Every episode of a shard set once, in order of ids, one member at a time.

    Each consumer reads every shard. A tar that holds anything but its members is refused before
    a byte of it is decoded, and the digest of every member is checked.

    Args:
        root: directory of the shard set.
        store: the class store; only for payload ``index``.

    Yields:
        The G episodes of a member, in arrays of their own.

    Raises:
        MissingData, DamagedData, DataError: as :class:`data_pipeline.shard_reader.ShardSource`.
        UnsafeData: a tar holds something that is not one of its members.
    """
    bring(Path(root))
    shard_set = read_shard_set(Path(root))
    reader = MemberReader(shard_set, images_of(shard_set, store))
    wds = import_webdataset()
    # Built from its parts: the ready-made pipeline asks the environment for nodes, workers, caches
    # and rewritten addresses, and it has no place for a check before a tar is read. There is no
    # ``decode()``: its default decoders unpickle.
    pipeline = wds.DataPipeline(
        wds.SimpleShardList([shard.name for shard in shard_set.shards]),
        _every_consumer_reads_all,
        lambda shards: _opened(shard_set, shards),
        wds.tariterators.tar_file_expander,
        wds.tariterators.group_by_keys,
        lambda samples: _decoded(shard_set, reader, samples),
    )
    try:
        yield from pipeline
    except tarfile.TarError as error:
        raise DamagedData(f"{shard_set.root}: {error.args[0]}; write the shards again") from None


def _every_consumer_reads_all(shards: Iterable[Any]) -> Iterable[Any]:
    """The node splitter: there is none."""
    return shards


def _opened(shard_set: ShardSet, shards: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for number, shard in enumerate(shards):
        problems = compare_tar(shard_set, number)
        path = shard_set.root / shard["url"]
        if problems.foreign:
            raise UnsafeData(f"{path}: {'; '.join(problems.foreign)}; nothing of it was read")
        if problems.damaged:
            raise DamagedData(f"{path}: {'; '.join(problems.damaged)}; write the shards again")
        with path.open("rb") as handle:
            yield {"url": str(path), "stream": handle}


def _decoded(
    shard_set: ShardSet, reader: MemberReader, samples: Iterable[dict[str, Any]]
) -> Iterator[EpisodeBatch]:
    members = shard_set.members
    count = 0
    for member, sample in enumerate(samples):
        extensions = sorted(key for key in sample if not key.startswith("__"))
        key = sample["__key__"]
        if extensions != [_EXTENSION]:
            raise UnsafeData(f"{sample['__url__']}: {key}.{extensions} is not one of its members")
        if f"{key}.{_EXTENSION}" != member_name(int(members.first[member])):
            raise DamagedData(f"{sample['__url__']}: {key} does not come where the manifest says")
        arrays = reader.open(member, sample[_EXTENSION])
        yield reader.batch({name: array.copy() for name, array in arrays.items()})
        count += 1
    if count != len(members):
        raise DamagedData(f"{shard_set.root}: {count} members read, there should be {len(members)}")
