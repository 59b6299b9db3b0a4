"""Verification finds everything that is wrong, names it, and finds nothing in what is right."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.types import EpisodeBatch, EpisodeSpec, Identity, Schema
from data_pipeline.errors import DataError, MissingData
from data_pipeline.shards.index import read_shard_set
from data_pipeline.shards.layout import DATASET_FILE, MANIFEST_FILE
from data_pipeline.shards.verify import verify_shards
from data_pipeline.shards.writer import write_shards
from data_pipeline.storage import local
from data_pipeline.store import layout
from data_pipeline.store.class_store import ClassStore
from data_pipeline.store.verify import Finding, verify_store

SINUSOID = FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 10, 10), 0)
SHARDS = [f"episodes-train-00000{n}.tar" for n in range(3)]


@pytest.fixture
def store(toy_store: ClassStore, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_store.root, tmp_path / "store"))


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def named(findings: list[Finding]) -> list[str]:
    return [finding.path.name for finding in findings]


def reseal(root: Path) -> None:
    body = local.read_sealed_json(root / DATASET_FILE)
    for shard in body["shards"]:
        shard["sha256"] = local.sha256_file(root / shard["name"])
        shard["size"] = (root / shard["name"]).stat().st_size
    local.write_sealed_json(root / DATASET_FILE, body)


# --- shards -------------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [False, True])
def test_nothing_is_wrong_with_sound_shards(deep: bool, written: Path) -> None:
    assert verify_shards(written, deep=deep) == []


@pytest.mark.parametrize("payload", ["inline", "index"])
def test_nothing_is_wrong_with_sound_image_shards(
    payload, toy_store: ClassStore, tmp_path: Path
) -> None:
    live = ImageEpisodes(toy_store, "train", EpisodeSpec(3, 1, 5, "per_episode"), 0)
    write_shards(live, 100, tmp_path / "set", payload=payload)
    assert verify_shards(tmp_path / "set", deep=True) == []
    assert verify_shards(tmp_path / "set", deep=True, store=toy_store) == []


@pytest.mark.parametrize("deep", [False, True])
def test_everything_that_is_wrong_is_listed(deep: bool, shards: Path) -> None:
    _, second = read_shard_set(shards).members(0, 128)
    flip(shards / SHARDS[0], second.offset + 100)
    os.truncate(shards / SHARDS[1], 5000)
    (shards / SHARDS[2]).unlink()
    (shards / "evil.pyd").write_bytes(b"x")
    findings = verify_shards(shards, deep=deep)
    assert set(named(findings)) == {*SHARDS, "evil.pyd"}
    texts = [str(finding) for finding in findings]
    assert any("set/evil.pyd: this file does not belong here" in text for text in texts)
    assert any(f"{SHARDS[0]}: its digest is" in text for text in texts)
    assert any(f"{SHARDS[1]}: it is 5000 bytes" in text for text in texts)
    assert any(f"{SHARDS[2]}: {DATASET_FILE} lists it" in text for text in texts)
    if deep:
        assert any(f"{SHARDS[0]}: member 000000000064.arrow: the dig" in text for text in texts)
        # The other member of that shard is sound.
        assert not any("member 000000000000" in text for text in texts)
        assert any(f"{SHARDS[1]}: member 000000000128.arrow" in text for text in texts)


def test_every_single_flipped_byte_is_found(shards: Path) -> None:
    for path in sorted(shards.iterdir()):
        size = path.stat().st_size
        for position in (0, size // 3, size // 2, size - 1):
            flip(path, position)
            assert path.name in named(verify_shards(shards)), (path, position)
            flip(path, position)
    assert verify_shards(shards) == []


def test_a_damaged_manifest_does_not_hide_damaged_shards(shards: Path) -> None:
    os.truncate(shards / MANIFEST_FILE, 10)
    flip(shards / SHARDS[2], 600)
    assert named(verify_shards(shards, deep=True)) == [MANIFEST_FILE, SHARDS[2]]
    (shards / MANIFEST_FILE).unlink()
    assert named(verify_shards(shards)) == [MANIFEST_FILE, SHARDS[2]]


def test_a_damaged_description_is_named(shards: Path) -> None:
    flip(shards / DATASET_FILE, 300)
    assert named(verify_shards(shards, deep=True)) == [DATASET_FILE]
    (shards / DATASET_FILE).unlink()
    with pytest.raises(MissingData, match="no episode shards"):
        verify_shards(shards)


def test_what_is_smuggled_into_a_tar_is_named_and_not_loaded(shards: Path, tmp_path: Path) -> None:
    trace = tmp_path / "loaded"

    class Payload:
        def __reduce__(self):
            return Path.touch, (trace,)

    data = pickle.dumps(Payload())
    with tarfile.open(shards / SHARDS[1], "a") as tar:
        entry = tarfile.TarInfo("evil.pyd")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert named(verify_shards(shards)) == [SHARDS[1]]
    reseal(shards)
    assert verify_shards(shards) == []
    assert [finding.problem for finding in verify_shards(shards, deep=True)] == [
        "entry 'evil.pyd' is not one of its members",
        "entry 'link' is not one of its members",
    ]
    assert not trace.exists()


class Tampered:
    """Sinusoids of which one has a wrong label."""

    identity: Identity = SINUSOID.identity
    schema: Schema = SINUSOID.schema

    def episodes(self, ids: Sequence[int]) -> EpisodeBatch:
        batch = SINUSOID.episodes(ids)
        batch.query_y[batch.ids == 70] += 1
        return batch


def test_episodes_that_are_not_what_their_identity_says_are_found(tmp_path: Path) -> None:
    write_shards(Tampered(), 100, tmp_path / "set")
    assert verify_shards(tmp_path / "set") == []
    findings = verify_shards(tmp_path / "set", deep=True)
    assert [finding.problem for finding in findings] == [
        "episode 70 differs from a fresh drawing in ['query_y']"
    ]


def test_episodes_of_another_generator_are_not_taken_for_sound(shards: Path) -> None:
    body = local.read_sealed_json(shards / DATASET_FILE)
    body["identity"]["generator"] = 99
    local.write_sealed_json(shards / DATASET_FILE, body)
    problems = [finding.problem for finding in verify_shards(shards, deep=True)]
    assert any("generator: demanded 99, got 1" in problem for problem in problems)


def test_another_store_is_refused(toy_store: ClassStore, tmp_path: Path) -> None:
    live = ImageEpisodes(toy_store, "train", EpisodeSpec(3, 1, 5), 0)
    write_shards(live, 64, tmp_path / "set", payload="index")
    other = ClassStore(**{**vars(toy_store), "digest": "1" * 64})
    with pytest.raises(DataError, match="digest 1111"):
        verify_shards(tmp_path / "set", deep=True, store=other)


# --- class stores -------------------------------------------------------------------------------


@pytest.mark.parametrize("deep", [False, True])
def test_nothing_is_wrong_with_a_sound_store(deep: bool, store: Path) -> None:
    assert verify_store(store, deep=deep) == []


def test_every_damaged_file_of_a_store_is_listed(store: Path) -> None:
    flip(store / "images-train.u8", 5)
    os.truncate(store / "images-val.u8", 100)
    (store / "images-test.u8").unlink()
    (store / "notes.txt").touch()
    findings = verify_store(store, deep=True)
    assert sorted(named(findings)) == [
        "images-test.u8",
        "images-train.u8",
        "images-val.u8",
        "notes.txt",
    ]


def test_every_flipped_byte_of_a_store_is_found(store: Path) -> None:
    for path in sorted(store.iterdir()):
        size = path.stat().st_size
        for position in (0, size // 3, size // 2, size - 1):
            flip(path, position)
            assert path.name in named(verify_store(store)), (path, position)
            flip(path, position)
    assert verify_store(store) == []


def test_deep_names_the_damaged_images(store: Path) -> None:
    for row in (0, 13):
        flip(store / "images-train.u8", row * 36 + 7)
    problems = [str(finding) for finding in verify_store(store, deep=True)]
    assert len(problems) == 3
    assert "its digest is" in problems[0]
    assert "image '00.png' of class 'class-0' (row 0) is not what was written" in problems[1]
    assert "image '01.png' of class 'class-1' (row 13) is not what was written" in problems[2]


def test_a_store_that_contradicts_itself_is_found(store: Path) -> None:
    path = store / "store.json"
    body = local.read_sealed_json(path)
    local.write_sealed_json(path, {**body, "digest": "0" * 64})
    assert len(verify_store(store)) == 1
    del body["pixels"]
    local.write_sealed_json(path, body)
    assert named(verify_store(store)) == ["store.json"]
    path.unlink()
    with pytest.raises(MissingData, match="no class store"):
        verify_store(store)


def test_a_store_of_another_version_is_refused(store: Path) -> None:
    body = local.read_sealed_json(store / "store.json")
    body["format_version"] = layout.FORMAT_VERSION + 1
    local.write_sealed_json(store / "store.json", body)
    with pytest.raises(DataError, match="version"):
        verify_store(store)
