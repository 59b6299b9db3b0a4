"""Writing shards: the same bytes always, or what was there before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import textwrap
from collections import namedtuple
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from shard_sets import FIRST_SHARD, SINUSOID, assert_same

from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.types import EpisodeSpec
from data_pipeline.errors import DataError
from data_pipeline.shards.index import read_description
from data_pipeline.shards.layout import DATASET_FILE, MANIFEST_FILE, largest_group
from data_pipeline.shards.reader import ShardSource
from data_pipeline.shards.writer import estimate, write_shards
from data_pipeline.storage import local
from data_pipeline.store.class_store import ClassStore


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


# --- the same bytes -----------------------------------------------------------------------------


@pytest.mark.slow
def test_any_number_of_writers_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    write_shards(
        SINUSOID,
        300,
        tmp_path / "four",
        episodes_per_shard=128,
        writers=4,
        progress=lambda done, total: progress.append((done, total)),
    )
    assert contents(tmp_path / "four") == contents(written)
    assert sorted(contents(written)) == [
        DATASET_FILE,
        FIRST_SHARD,
        "episodes-train-000001.tar",
        "episodes-train-000002.tar",
        MANIFEST_FILE,
    ]
    assert len(progress) == 3
    assert progress[-1] == (300, 300)


@pytest.mark.slow
@pytest.mark.parametrize("payload", ["inline", "index"])
def test_writers_of_images_open_the_store_themselves(
    payload, images: ImageEpisodes, tmp_path: Path
) -> None:
    for writers in (1, 2):
        root = tmp_path / str(writers)
        write_shards(images, 128, root, payload=payload, episodes_per_shard=64, writers=writers)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_shards_say_nothing_of_time_and_place(written: Path) -> None:
    for path in written.glob("*.tar"):
        with tarfile.open(path) as tar:
            for entry in tar:
                assert (entry.mtime, entry.uid, entry.gid) == (0, 0, 0)
                assert (entry.uname, entry.gname, entry.mode) == ("", "", 0o444)
    text = (written / DATASET_FILE).read_text()
    assert str(written.parent) not in text
    body = local.read_sealed_json(written / DATASET_FILE)
    assert set(body) == {
        *("format", "format_version", "identity", "payload", "columns", "episodes_per_member"),
        *("episodes", "shards", "manifest"),
    }


def test_manifest_says_where_each_member_lies(written: Path) -> None:
    rows = pq.read_table(written / MANIFEST_FILE).to_pylist()
    assert [row["first"] for row in rows] == [0, 64, 128, 192, 256]
    assert [row["count"] for row in rows] == [64, 64, 64, 64, 44]
    for row in rows:
        with tarfile.open(written / row["shard"]) as tar:
            entry = tar.getmember(row["member"])
            assert (entry.offset_data, entry.size) == (row["offset"], row["length"])
        data = (written / row["shard"]).read_bytes()
        member = data[row["offset"] : row["offset"] + row["length"]]
        assert local.sha256_bytes(member) == row["sha256"].hex()


@pytest.mark.parametrize(
    ("episode", "group"), [(1, 64), (16384, 64), (16385, 32), (62_720, 16), (2**20, 1), (2**23, 1)]
)
def test_members_hold_about_a_mebibyte(episode: int, group: int) -> None:
    assert largest_group(episode) == group


@pytest.mark.parametrize("shape", [(40, 40, 1), (84, 84, 3)])
def test_larger_episodes_share_a_member_with_fewer(shape, tmp_path: Path, toy_store) -> None:
    # 80 images: 125 kB and 1.7 MB an episode.
    pixels = np.zeros((160, *shape), dtype=np.uint8)
    pixels[:] = np.arange(160, dtype=np.uint8)[:, None, None, None]
    part = toy_store.parts["train"]
    part = type(part)("train", pixels, tuple("abcdefgh"), np.arange(0, 161, 20))
    store = ClassStore(tmp_path, "big", "s", shape, "0" * 64, "none", {}, {"train": part})
    live = ImageEpisodes(store, "train", EpisodeSpec(5, 1, 15), 0)
    write_shards(live, 70, tmp_path / "set", episodes_per_shard=64)
    assert read_description(tmp_path / "set")[0].group == (8 if shape[2] == 1 else 1)
    source = ShardSource(tmp_path / "set")
    assert_same(source.episodes(range(60, 70)), live.episodes(range(60, 70)))


# --- before writing -----------------------------------------------------------------------------


def test_estimate_is_close(written: Path, images: ImageEpisodes, tmp_path: Path) -> None:
    write_shards(images, 1000, tmp_path / "set")
    size = sum(path.stat().st_size for path in (tmp_path / "set").glob("*.tar"))
    predicted = estimate(images, 1000)
    assert predicted.episodes == 1000
    assert 0.9 < size / predicted.total_bytes < 1.1
    # Without pixels an episode of this size is a fraction.
    assert estimate(images, 1000, payload="index").total_bytes < predicted.total_bytes / 2


def test_a_disk_without_room_is_refused_before_writing(tmp_path: Path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 0, 10**6))
    with pytest.raises(DataError, match=r"10000 episodes of \d+ bytes need \d+ bytes, 1000000 are"):
        write_shards(SINUSOID, 10000, tmp_path / "a" / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "at least one episode"),
        ({"episodes_per_shard": 100}, "multiple of 64"),
        ({"episodes_per_shard": 0}, "multiple of 64"),
        ({"writers": 0}, "at least one writer"),
        ({"count": 64_000_001, "episodes_per_shard": 64}, "too many shards"),
        ({"payload": "index"}, "'inline'"),
    ],
)
def test_impossible_requests_are_refused(change, message: str, tmp_path: Path) -> None:
    request = {"source": SINUSOID, "count": 10, "root": tmp_path / "set", **change}
    with pytest.raises(DataError, match=message):
        write_shards(**request)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(shards: Path) -> None:
    before = contents(shards)
    with pytest.raises(DataError, match="exists already"):
        write_shards(SINUSOID, 64, shards)
    assert contents(shards) == before
    write_shards(SINUSOID, 64, shards, replace=True)
    assert ShardSource(shards).length == 64


def test_only_one_writer_for_a_source_nobody_else_can_make(written: Path, tmp_path: Path) -> None:
    again = ShardSource(written)
    write_shards(again, 300, tmp_path / "copy", episodes_per_shard=128)
    assert contents(tmp_path / "copy") == contents(written)
    with pytest.raises(DataError, match="writers=1"):
        write_shards(again, 300, tmp_path / "two", episodes_per_shard=128, writers=2)
    assert not (tmp_path / "two").exists()


# --- interrupted --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("writers", [1, 2])
def test_an_interrupt_leaves_what_was_there(writers: int, shards: Path) -> None:
    before = contents(shards)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(
            SINUSOID,
            1000,
            shards,
            episodes_per_shard=64,
            writers=writers,
            progress=stop,
            replace=True,
        )
    assert contents(shards) == before
    assert [path.name for path in shards.parent.iterdir()] == ["set"]


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("writers", [1, 2])
def test_a_full_disk_leaves_what_was_there(writers: int, shards: Path) -> None:
    before = contents(shards)
    script = f"""
        import resource
        from pathlib import Path
        from data_pipeline.episodes.types import EpisodeSpec
        from data_pipeline.errors import DataError
        from data_pipeline.episodes.functions import FunctionEpisodes
        from data_pipeline.shards.writer import write_shards

        if __name__ == "__main__":
            # Files cannot grow beyond this: what a full disk looks like to the writer of one.
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            live = FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 10, 10), 0)
            try:
                write_shards(
                    live, 2048, Path({str(shards)!r}), episodes_per_shard=1024, replace=True,
                    writers={writers},
                )
            except DataError as error:
                print(error)
    """
    program = shards.parent / "program.py"
    program.write_text(textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, env=environment, check=True
    )
    assert "the disk became full" in done.stdout, done
    program.unlink()
    assert contents(shards) == before
    assert [path.name for path in shards.parent.iterdir()] == ["set"]
