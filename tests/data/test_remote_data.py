"""Class stores and shards in an object store: published, fetched by another node, damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from object_store import Store
from shard_sets import FIRST_SHARD, SINUSOID, assert_same
from toy_dataset import FILES, Toy, snapshot

from data_pipeline.errors import DamagedData, DataError, MissingData, StoreError
from data_pipeline.shards.index import DESCRIPTION as SHARDS
from data_pipeline.shards.reader import open_shards
from data_pipeline.shards.writer import write_shards
from data_pipeline.storage import working_copies
from data_pipeline.storage.object_uri import local_path
from data_pipeline.storage.objects import ObjectPlace, object_place
from data_pipeline.storage.working_copies import damaged_objects, pull, push
from data_pipeline.store.build import build_store
from data_pipeline.store.class_store import open_store
from data_pipeline.store.layout import DESCRIPTION as STORE


@pytest.fixture
def data(shelf: str) -> str:
    return f"{shelf}/data"


@pytest.fixture
def another_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From then on this process is a node that has fetched nothing yet."""

    def move() -> None:
        fresh = tmp_path / f"cache-{len(list(tmp_path.iterdir()))}"
        monkeypatch.setenv("METADIST_CACHE_DIR", str(fresh))

    return move


def _key(place: ObjectPlace | None, name: str) -> str:
    assert place is not None
    return f"{place.key}/{name}"


def test_a_store_made_on_one_node_opens_on_another(
    data: str, toy: Toy, another_node: Callable[[], None], object_store: Store, tmp_path: Path
) -> None:
    plain = build_store("toy", tmp_path / "plain")
    made = build_store("toy", local_path(data))
    assert made.digest == plain.digest
    keys = object_store.keys(_key(object_place(made.root), ""))
    assert sorted(key.rpartition("/")[2] for key in keys) == sorted(FILES)
    another_node()
    there = open_store(local_path(data) / "toy-one" / "store")
    assert there.digest == plain.digest
    assert snapshot(there.root) == snapshot(plain.root)
    # What is up to date is neither made nor fetched again.
    before = {p: p.stat().st_ino for p in there.root.iterdir()}
    assert build_store("toy", local_path(data)).digest == plain.digest
    assert {p: p.stat().st_ino for p in there.root.iterdir()} == before
    assert toy.built == 2


def test_a_replaced_store_is_fetched_anew(
    data: str,
    toy: Toy,
    another_node: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    first = build_store("toy", local_path(data))
    another_node()
    toy.per_class = 5
    second = build_store("toy", local_path(data), replace=True)
    assert second.digest != first.digest
    monkeypatch.setenv("METADIST_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"holds another store\.json"):
        push(first.root, STORE)
    assert open_store(local_path(data) / "toy-one" / "store").digest == second.digest


@pytest.mark.parametrize("file", ["images-val.u8", "manifest.parquet", "store.json"])
def test_a_corrupted_object_is_refused_by_name(
    data: str, toy: Toy, another_node: Callable[[], None], object_store: Store, file: str
) -> None:
    root = build_store("toy", local_path(data)).root
    key = _key(object_place(root), file)
    object_store.flip(key)
    another_node()
    root = local_path(data) / "toy-one" / "store"
    with pytest.raises(DamagedData, match=key):
        open_store(root)
    assert not root.exists()
    assert any(key in problem for problem in damaged_objects(root, STORE))


def test_a_lost_object_is_named(
    data: str, toy: Toy, another_node: Callable[[], None], object_store: Store
) -> None:
    place = object_place(build_store("toy", local_path(data)).root)
    assert place is not None
    (place / "images-test.u8").delete()
    another_node()
    with pytest.raises(MissingData, match=f"{place}/images-test.u8: no such object"):
        open_store(local_path(data) / "toy-one" / "store")


def test_shards_through_the_store(data: str, another_node: Callable[[], None]) -> None:
    root = local_path(data) / "sinusoid" / "shards" / "10s10q-seed0"
    write_shards(SINUSOID, 128, root, episodes_per_shard=64)
    another_node()
    root = local_path(data) / "sinusoid" / "shards" / "10s10q-seed0"
    assert not root.exists()
    with ThreadPoolExecutor(4) as pool:  # as many readers that find the cache empty at one moment
        opened = list(pool.map(lambda _: open_shards(root, SINUSOID.identity, 128), range(4)))
    for source in opened:
        assert_same(source.episodes(range(0, 128, 7)), SINUSOID.episodes(range(0, 128, 7)))
    assert list(damaged_objects(root, SHARDS)) == []


def test_an_interrupted_publication_goes_on(
    data: str, written: Path, object_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = local_path(data) / "sinusoid" / "shards" / "10s10q-seed0"
    root.parent.mkdir(parents=True)
    shutil.copytree(written, root)
    put = ObjectPlace.put_file
    done: list[str] = []

    def failing(place: ObjectPlace, path: Path, sha256: str = "") -> None:
        if len(done) == 2:
            raise StoreError("cut off")
        done.append(path.name)
        put(place, path, sha256)

    monkeypatch.setattr(working_copies, "in_parallel", lambda act, things: [*map(act, things)])
    monkeypatch.setattr(ObjectPlace, "put_file", failing)
    with pytest.raises(StoreError, match="cut off"):
        push(root, SHARDS)
    place = object_place(root)
    assert not any(key.endswith("dataset.json") for key in object_store.keys(_key(place, "")))
    pull(root, SHARDS)  # nothing complete is there, so what is here stays
    # Somebody else's object of the same name and size is not taken for ours.
    object_store.flip(_key(place, done[1]))
    monkeypatch.setattr(ObjectPlace, "put_file", put_noting := _Noting(put))
    push(root, SHARDS)
    assert done[0] not in put_noting.names
    assert done[1] in put_noting.names
    assert list(damaged_objects(root, SHARDS)) == []


class _Noting:
    """Puts files and remembers which."""

    def __init__(self, put: Callable[[ObjectPlace, Path, str], None]) -> None:
        self.names: list[str] = []
        self._put = put

    def __get__(self, place: ObjectPlace, owner: type) -> Callable[[Path, str], None]:
        def put(path: Path, sha256: str = "") -> None:
            self.names.append(path.name)
            self._put(place, path, sha256)

        return put


def test_a_foreign_file_name_does_not_leave_the_copy(
    data: str, another_node: Callable[[], None], object_store: Store
) -> None:
    from data_pipeline.storage.local import sealed_json, unseal_json

    root = local_path(data) / "sinusoid" / "shards" / "10s10q-seed0"
    write_shards(SINUSOID, 64, root)
    key = _key(object_place(root), "dataset.json")
    body = unseal_json(object_store.read(key), key)
    body["shards"][0]["name"] = "../../../" + FIRST_SHARD
    object_store.write(key, sealed_json(body))
    another_node()
    with pytest.raises(DamagedData, match=key):
        open_shards(
            local_path(data) / "sinusoid" / "shards" / "10s10q-seed0", SINUSOID.identity, 64
        )


def test_no_bucket_is_said_at_once(toy: Toy, shelf: str) -> None:
    with pytest.raises(MissingData, match="has no bucket 'nowhere-at-all'"):
        build_store("toy", local_path("s3://nowhere-at-all/data"))
    assert toy.built == 0
