"""Write a shard set: in parallel, with the same bytes from any number of writers.

Each shard is a function of the episodes' identity and its number alone, and no two writers share
one. The directory appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from data_pipeline.episodes.sources import SourceRecipe
from data_pipeline.episodes.types import BLOCK, EpisodeSource
from data_pipeline.errors import DataError
from data_pipeline.shards.index import DESCRIPTION, Member, ShardFile, write_description
from data_pipeline.shards.layout import Layout, Payload, import_webdataset, member_name, shard_name
from data_pipeline.shards.members import draw, encode, layout_of
from data_pipeline.storage import local
from data_pipeline.storage.working_copies import push

logger = logging.getLogger(__name__)

_TAR_BLOCK = 512
#: Room that must be free beyond the estimate, as a fraction of it.
_MARGIN = 0.05
#: Shard names have six digits.
_MAX_SHARDS = 1_000_000


@dataclass(frozen=True)
class Estimate:
    """What a shard set will need.

    Attributes:
        episodes: how many.
        bytes_per_episode: on disk, measured on the first block of episodes.
        total_bytes: for all of them.
    """

    episodes: int
    bytes_per_episode: float
    total_bytes: int


def estimate(source: EpisodeSource, count: int, *, payload: Payload = "inline") -> Estimate:
    """Predict the size of a shard set from its first 64 episodes, without writing anything.

    Raises:
        DataError: ``count`` is below 1, or the payload does not fit the source.
    """
    if count < 1:
        raise DataError(f"a shard set needs at least one episode, got {count}")
    layout = layout_of(source, payload)
    sample = min(BLOCK, count)
    size = 0
    for first in range(0, sample, layout.group):
        ids = range(first, min(first + layout.group, sample))
        data = len(encode(layout, draw(source, payload, ids)))
        size += _TAR_BLOCK + -(-data // _TAR_BLOCK) * _TAR_BLOCK
    each = size / sample
    return Estimate(count, each, int(each * count))


def write_shards(
    source: EpisodeSource,
    count: int,
    root: Path,
    *,
    payload: Payload = "inline",
    episodes_per_shard: int = 4096,
    writers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    replace: bool = False,
) -> Estimate:
    """Write episodes 0 to ``count - 1`` of a source as a shard set.

    Args:
        source: the episodes. With more than one writer, one that
            :class:`data_pipeline.episodes.sources.SourceRecipe` can make again in another process.
        count: how many episodes.
        root: directory of the shard set.
        payload: ``inline`` holds the inputs themselves; ``index`` holds rows of the class store,
            which the reader then needs.
        episodes_per_shard: a multiple of 64.
        writers: processes; the bytes do not depend on it.
        progress: called with (episodes written, ``count``) after each shard.
        replace: write even if there is a shard set at ``root``, which stays until the new one is
            complete.

    Returns:
        The estimate that was made before writing.

    Raises:
        DataError: a request that cannot be met: ``root`` exists, the disk is too small or became
            full, or the source does not fit. What was at ``root`` before is untouched.
        StoreError: ``root`` stands for a place in an object store, which refuses or is away; the
            shards are complete on disk, and :func:`data_pipeline.storage.working_copies.push`
            goes on.
    """
    root = Path(root)
    if episodes_per_shard < BLOCK or episodes_per_shard % BLOCK:
        raise DataError(f"a shard holds a multiple of {BLOCK} episodes, got {episodes_per_shard}")
    if writers < 1:
        raise DataError(f"at least one writer is needed, got {writers}")
    if -(-count // episodes_per_shard) > _MAX_SHARDS:
        raise DataError(f"{count} episodes in shards of {episodes_per_shard} are too many shards")
    if root.exists() and not replace:
        raise DataError(f"{root} exists already; give another place, or replace it explicitly")
    predicted, layout = estimate(source, count, payload=payload), layout_of(source, payload)
    _check_room(root, predicted)
    jobs = [
        (number, first, min(first + episodes_per_shard, count))
        for number, first in enumerate(range(0, count, episodes_per_shard))
    ]
    try:
        with local.new_directory(root, replace=replace) as directory:
            written: list[_Written] = []
            done = 0
            # Closed here, not whenever it is collected: its writers must end before the directory.
            with contextlib.closing(_run(source, layout, directory, jobs, writers)) as finished:
                for file, members in finished:
                    written.append((file, members))
                    done += file.count
                    if progress is not None:
                        progress(done, count)
            written.sort(key=lambda shard: shard[0].first)
            files, rows = zip(*written, strict=True)
            write_description(directory, layout, list(files), chain.from_iterable(rows))
    except FileExistsError:
        raise DataError(f"{root} was made by another process meanwhile; nothing changed") from None
    except BrokenProcessPool as error:
        raise DataError(
            f"{root}: a writer process was killed, perhaps for want of memory; try fewer than "
            f"{writers} writers. Nothing was changed"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DataError(
            f"{root}: the disk became full ({error.strerror}); about {predicted.total_bytes} bytes "
            "are needed. Make room and write again; what was there before is untouched"
        ) from error
    logger.info("%s: %d episodes in %d shards", root, count, len(jobs))
    push(root, DESCRIPTION, replace=replace)
    return predicted


def _check_room(root: Path, predicted: Estimate) -> None:
    place = root.parent
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    needed = int(predicted.total_bytes * (1 + _MARGIN))
    if free < needed:
        raise DataError(
            f"{root}: {predicted.episodes} episodes of {predicted.bytes_per_episode:.0f} bytes "
            f"need {needed} bytes, {free} are free; make room, write fewer episodes, or use "
            "payload 'index'"
        )


#: A finished shard.
_Written = tuple[ShardFile, list[Member]]


def _write_shard(
    source: EpisodeSource, layout: Layout, directory: Path, number: int, first: int, stop: int
) -> _Written:
    webdataset = import_webdataset()
    path = directory / shard_name(layout.identity.part, number)
    members = []
    with path.open("xb") as handle:
        # No time, no owner: the bytes depend on the episodes alone.
        tar = webdataset.TarWriter(
            handle, user="", group="", mode=0o444, mtime=0, compress=False, encoder=False
        )
        with tar:
            for start in range(first, stop, layout.group):
                ids = range(start, min(start + layout.group, stop))
                data = encode(layout, draw(source, layout.payload, ids))
                offset = tar.tarstream.offset + _TAR_BLOCK
                name, digest = member_name(start), hashlib.sha256(data).digest()
                key, extension = name.split(".")
                tar.write({"__key__": key, extension: data})
                members.append(Member(path.name, name, offset, len(data), start, len(ids), digest))
    size = path.stat().st_size
    file = ShardFile(path.name, local.sha256_file(path), size, first, stop - first)
    return file, members


def _run(
    source: EpisodeSource,
    layout: Layout,
    directory: Path,
    jobs: list[tuple[int, int, int]],
    writers: int,
) -> Generator[_Written, None, None]:
    """Write all shards, in whatever order they get done."""
    writers = min(writers, len(jobs))
    if writers == 1:
        yield from (_write_shard(source, layout, directory, *job) for job in jobs)
        return
    recipe = SourceRecipe.of(source)
    # A fresh interpreter per writer: forking a process that has threads can hang.
    with (
        _safe_path(),
        ProcessPoolExecutor(
            writers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_writer
        ) as pool,
    ):
        tasks: list[Future[_Written]] = [
            pool.submit(_write_in_child, recipe, layout, directory, *job) for job in jobs
        ]
        try:
            for task in as_completed(tasks):
                yield task.result()
        except BaseException:
            # The directory is about to go; nobody may go on writing into it.
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextlib.contextmanager
def _safe_path() -> Iterator[None]:
    """Interpreters that begin inside the block do not look for modules in the working directory."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _start_writer() -> None:
    # What asks the whole process group to end; the parent decides what becomes of the writers.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed cannot stop its writers: they see for themselves."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


#: The source of a writer process, made for its first shard.
_opened = functools.cache(SourceRecipe.open)


def _write_in_child(recipe: SourceRecipe, *job: Any) -> _Written:
    return _write_shard(_opened(recipe), *job)
