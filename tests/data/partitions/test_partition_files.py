"""Partitions on disk: the same bytes from the same images, and nothing else is read as one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.formats.parquet import write_table
from data_pipeline.partitions.grouping import Grouping
from data_pipeline.partitions.layout import (
    CLUSTERS_FILE,
    MOST_IMAGES,
    PARTITIONS_FILE,
    open_partitions,
    partitions_root,
    write_partitions,
)
from data_pipeline.partitions.partition import Partition
from data_pipeline.prepared import Prepared
from data_pipeline.storage import local
from data_pipeline.store.class_store import ClassStore, open_store

RANDOM = Grouping("random", 7, partitions=2, smallest=11, seed=3)


@pytest.fixture
def store(toy_store: ClassStore, tmp_path: Path) -> ClassStore:
    return open_store(Path(shutil.copytree(toy_store.root, tmp_path / "toy" / "store")))


def written(store: ClassStore, name: str = "some", grouping: Grouping = RANDOM) -> Path:
    root = partitions_root(store.root, name)
    write_partitions(root, store, list(grouping.found(store)), grouping.described())
    return root


def test_labels_become_clusters():
    partition = Partition.of_labels(np.array([4, 0, 4, -1, 0, 9, 4]), smallest=2)
    assert partition.rows.tolist() == [1, 4, 0, 2, 6]
    assert partition.offsets.tolist() == [0, 2, 5]
    assert partition.clusters == 2


def test_the_same_seed_gives_the_same_bytes(store: ClassStore):
    one, again = (written(store, name) for name in ("one", "again"))
    for name in (CLUSTERS_FILE, PARTITIONS_FILE):
        assert (one / name).read_bytes() == (again / name).read_bytes()
    other = written(store, "other", Grouping("random", 7, partitions=2, smallest=11, seed=4))
    assert open_partitions(one, store).digest != open_partitions(other, store).digest


def test_what_was_written_is_read(store: ClassStore):
    held = open_partitions(written(store), store)
    assert held.made == {"by": "random", "clusters": 7, "partitions": 2, "smallest": 11, "seed": 3}
    assert held.clusters == sum(p.clusters for p in held.each)
    for partition, expected in zip(held.each, RANDOM.found(store), strict=True):
        assert np.array_equal(partition.rows, expected.rows)
        assert np.array_equal(partition.offsets, expected.offsets)


def test_the_digest_is_of_who_is_with_whom(store: ClassStore):
    """Not of how it was found out, nor of what else stands in the description."""
    classes = written(store, "classes", Grouping("classes", smallest=1))
    same = written(store, "same", Grouping("classes", smallest=12))
    assert (classes / PARTITIONS_FILE).read_bytes() != (same / PARTITIONS_FILE).read_bytes()
    assert open_partitions(classes, store).digest == open_partitions(same, store).digest


def test_others_are_not_overwritten(store: ClassStore):
    root = written(store)
    before = (root / CLUSTERS_FILE).read_bytes()
    with pytest.raises(DataError, match=r"--name.*--replace"):
        written(store)
    assert (root / CLUSTERS_FILE).read_bytes() == before
    other = list(Grouping("classes", smallest=1).found(store))
    write_partitions(root, store, other, {}, replace=True)
    assert open_partitions(root, store).clusters == 8


@pytest.mark.parametrize("name", ["", ".x", "a/b", "a\\b", "..", "a\nb"])
def test_names_are_plain(name: str, tmp_path: Path):
    with pytest.raises(DataError, match="plain directory name"):
        partitions_root(tmp_path / "store", name)


def test_too_many_images_are_refused(store: ClassStore):
    rows = np.lib.stride_tricks.as_strided(np.zeros(1, np.int64), (MOST_IMAGES + 1,), (0,))
    huge = Partition(rows, np.array([0, MOST_IMAGES + 1]))
    with pytest.raises(DataError, match="fewer partitions"):
        write_partitions(partitions_root(store.root, "huge"), store, [huge], {})


# --- damage ---------------------------------------------------------------------------------------


def test_none_are_missed(store: ClassStore):
    with pytest.raises(MissingData, match="metadist data cluster"):
        open_partitions(partitions_root(store.root, "none"), store)


def test_those_of_another_store_are_refused(store: ClassStore):
    root = written(store)
    body = local.read_sealed_json(root / PARTITIONS_FILE)
    local.write_sealed_json(root / PARTITIONS_FILE, body | {"store_digest": "0" * 64})
    with pytest.raises(DataError, match="of a class store with digest 000"):
        open_partitions(root, store)


def test_another_version_is_refused(store: ClassStore):
    root = written(store)
    body = local.read_sealed_json(root / PARTITIONS_FILE)
    local.write_sealed_json(root / PARTITIONS_FILE, body | {"format_version": 2})
    with pytest.raises(DataError, match="version 2; this program reads"):
        open_partitions(root, store)


def test_damage_is_found(store: ClassStore):
    root = written(store)
    item = Prepared("partitions", root, store.root)
    assert item.findings() == []
    (root / "foreign").touch()
    assert "does not belong here" in str(*item.findings())
    (root / "foreign").unlink()
    data = bytearray((root / CLUSTERS_FILE).read_bytes())
    data[40] ^= 1
    (root / CLUSTERS_FILE).write_bytes(data)
    assert f"{CLUSTERS_FILE}: its digest is" in str(*item.findings())
    with pytest.raises(DamagedData, match=f"{CLUSTERS_FILE}: its digest is"):
        open_partitions(root, store)
    (root / CLUSTERS_FILE).unlink()
    with pytest.raises(MissingData, match="no such file"):
        open_partitions(root, store)


def _twice(columns: dict[str, Any]) -> None:
    columns["row"][1] = columns["row"][0]


def _beyond(columns: dict[str, Any]) -> None:
    columns["row"][-1] = 10**6


def _gap(columns: dict[str, Any]) -> None:
    columns["cluster"] += columns["cluster"] > 1


def _second_first(columns: dict[str, Any]) -> None:
    columns["partition"] += 1


@pytest.mark.parametrize("change", [_twice, _beyond, _gap, _second_first])
def test_clusters_that_are_none_are_refused(
    change: Callable[[dict[str, Any]], None], store: ClassStore
):
    """Sealed anew, as somebody who means harm would."""
    root = written(store)
    table = pq.read_table(root / CLUSTERS_FILE)
    columns = {name: table[name].to_numpy().copy() for name in table.column_names}
    change(columns)
    for place, (name, values) in enumerate(columns.items()):
        field = table.schema.field(name)
        table = table.set_column(place, field, [values])
    write_table(root / CLUSTERS_FILE, table)
    body = local.read_sealed_json(root / PARTITIONS_FILE)
    body["files"] = {CLUSTERS_FILE: local.sha256_file(root / CLUSTERS_FILE)}
    local.write_sealed_json(root / PARTITIONS_FILE, body)
    with pytest.raises(DamagedData, match=r"its (clusters are not disjoint|partitions are not)"):
        open_partitions(root, store)


def test_another_order_is_another_digest(store: ClassStore):
    """A description that says another digest than the clusters have is damaged."""
    root = written(store)
    body = local.read_sealed_json(root / PARTITIONS_FILE)
    local.write_sealed_json(root / PARTITIONS_FILE, body | {"digest": "0" * 64})
    with pytest.raises(DamagedData, match="the clusters' digest is"):
        open_partitions(root, store)
    local.write_sealed_json(root / PARTITIONS_FILE, body | {"files": {}})
    with pytest.raises(DamagedData, match="not the description of partitions"):
        open_partitions(root, store)
