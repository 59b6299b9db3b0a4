"""Shards hold the same episodes as drawing them live, and nothing but them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.types import EpisodeBatch, EpisodeSource, EpisodeSpec, stack
from data_pipeline.errors import DataError, MissingData
from data_pipeline.shards import reader
from data_pipeline.shards.reader import ShardSource, open_shards, read_member, stream
from data_pipeline.shards.writer import write_shards
from data_pipeline.store.class_store import ClassStore

SINUSOID = FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 10, 10), 0)


def assert_same(got: EpisodeBatch, expected: EpisodeBatch) -> None:
    ours, theirs = got.arrays(), expected.arrays()
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert (array.dtype, array.shape) == (theirs[name].dtype, theirs[name].shape)
        assert array.tobytes() == theirs[name].tobytes()


@pytest.fixture(scope="module")
def images(toy_store: ClassStore) -> ImageEpisodes:
    return ImageEpisodes(toy_store, "train", EpisodeSpec(3, 1, 5, "per_episode"), 0)


# --- the same episodes --------------------------------------------------------------------------


def test_shards_of_functions_are_the_live_episodes(written: Path) -> None:
    source = ShardSource(written)
    assert source.identity == SINUSOID.identity
    assert source.length == 300
    assert_same(source.episodes(range(300)), SINUSOID.episodes(range(300)))
    ids = [299, 0, 64, 63, 128, 5, 5, 127]
    assert_same(source.episodes(ids), SINUSOID.episodes(ids))
    assert len(source.episodes([])) == 0


@pytest.mark.parametrize("payload", ["inline", "index"])
@pytest.mark.parametrize("rotations", ["none", "per_episode", "as_classes"])
def test_shards_of_images_are_the_live_episodes(
    payload, rotations, toy_store: ClassStore, tmp_path: Path
) -> None:
    live = ImageEpisodes(toy_store, "val", EpisodeSpec(3, 1, 5, rotations), 4)
    write_shards(live, 100, tmp_path / "set", payload=payload, episodes_per_shard=64)
    source = ShardSource(tmp_path / "set", store=toy_store if payload == "index" else None)
    ids = [*range(100), 70, 3]
    assert_same(source.episodes(ids), live.episodes(ids))
    assert_same(stack(list(stream(tmp_path / "set", store=toy_store))), live.episodes(range(100)))


def test_stream_gives_every_episode_in_order(written: Path) -> None:
    batches = list(stream(written))
    assert [len(batch) for batch in batches] == [64, 64, 64, 64, 44]
    assert_same(stack(batches), SINUSOID.episodes(range(300)))


def test_stream_ignores_the_nodes_of_the_environment(written: Path, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert sum(len(batch) for batch in stream(written)) == 300


def test_arrays_belong_to_the_caller(written: Path) -> None:
    source = ShardSource(written)
    for batch in (source.episodes([1, 2]), source.episodes(range(64)), next(stream(written))):
        for array in batch.arrays().values():
            assert array.flags.writeable
            array[...] = 0
    assert_same(source.episodes(range(64)), SINUSOID.episodes(range(64)))


@pytest.mark.parametrize("keep", [1, 2, 100])
def test_decoded_members_are_kept(keep: int, written: Path, monkeypatch) -> None:
    source = ShardSource(written, cache_members=keep)
    assert_same(source.episodes([0, 70, 140]), SINUSOID.episodes([0, 70, 140]))
    reads: list[int] = []

    def counted(shard_set, member, images):
        reads.append(member.first // 64)
        return read_member(shard_set, member, images)

    monkeypatch.setattr(reader, "read_member", counted)
    source.episodes([141, 142])
    source.episodes([71])
    source.episodes([1])
    source.episodes([2])
    assert reads == {1: [1, 0], 2: [0], 100: []}[keep]


def test_several_readers_share_one_shard(written: Path) -> None:
    shared = ShardSource(written, cache_members=1)
    failures: list[BaseException] = []

    def read(start: int) -> None:
        try:
            for source in (shared, ShardSource(written)):
                for first in range(start, 128, 4):
                    ids = [first, (first * 7) % 128]
                    assert_same(source.episodes(ids), SINUSOID.episodes(ids))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# webdataset leaves its files to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_plain_webdataset_and_pyarrow_read_the_same(images: ImageEpisodes, tmp_path: Path) -> None:
    import webdataset

    write_shards(images, 100, tmp_path / "set")
    urls = sorted(str(path) for path in (tmp_path / "set").glob("*.tar"))
    first = 0
    for sample in webdataset.WebDataset(urls, shardshuffle=False):
        batch = pa.ipc.open_stream(sample["arrow"]).read_next_batch()
        support_x = batch["support_x"].to_numpy_ndarray()
        query_y = batch["query_y"].to_numpy_ndarray()

        live = images.episodes(batch["id"].to_pylist())
        assert np.array_equal(support_x, live.support_x)
        assert np.array_equal(query_y, live.query_y)
        identity = json.loads(batch.schema.metadata[b"episodes"])["identity"]
        assert identity == images.identity.as_dict()
        first += len(live)
    assert first == 100


# --- refused before the first step --------------------------------------------------------------


def test_shards_of_other_episodes_are_refused(written: Path) -> None:
    def other(seed: int = 0, part="train", spec: EpisodeSpec = SINUSOID.identity.spec):
        return FunctionEpisodes("sinusoid", part, spec, seed).identity

    assert open_shards(written, other(), 300).length == 300
    with pytest.raises(DataError, match="seed: demanded 1, got 0"):
        open_shards(written, other(seed=1), 300)
    with pytest.raises(DataError, match="part: demanded 'test', got 'train'"):
        open_shards(written, other(part="test"), 300)
    with pytest.raises(DataError, match=r"spec\.shots: demanded 5, got 10.*spec\.queries: dem"):
        open_shards(written, other(spec=EpisodeSpec(0, 5, 15)), 300)


def test_missing_episodes_are_refused(written: Path) -> None:
    with pytest.raises(MissingData, match="episodes 0 to 300 are needed, it holds 0 to 299"):
        open_shards(written, SINUSOID.identity, 301)
    source = open_shards(written, SINUSOID.identity, None)
    for episode in (300, -1, 10**15):
        with pytest.raises(MissingData, match=f"episode {episode} is not here, it holds 0 to 299"):
            source.episodes([0, episode])


def test_index_needs_its_class_store(images: ImageEpisodes, tmp_path: Path) -> None:
    write_shards(images, 64, tmp_path / "set", payload="index")
    with pytest.raises(DataError, match=r"hold no pixels.*got none"):
        ShardSource(tmp_path / "set")
    with pytest.raises(DataError, match="got none"):
        next(stream(tmp_path / "set"))
    other = ClassStore(
        **{**{f: getattr(images.store, f) for f in vars(images.store)}, "digest": "1" * 64}
    )
    with pytest.raises(DataError, match="digest 1111"):
        ShardSource(tmp_path / "set", store=other)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="no episode shards"):
        ShardSource(tmp_path)


def test_sources_satisfy_the_protocol(written: Path) -> None:
    sources: list[EpisodeSource] = [SINUSOID, ShardSource(written)]
    assert len({source.identity.digest for source in sources}) == 1
