"""Partitions in an object store: published with the class store, fetched by another node."""

from __future__ import annotations

from pathlib import Path

import pytest
from object_store import Store
from toy_dataset import Toy

from data_pipeline.errors import DamagedData
from data_pipeline.partitions.grouping import Grouping
from data_pipeline.partitions.layout import (
    CLUSTERS_FILE,
    open_partitions,
    partitions_root,
    write_partitions,
)
from data_pipeline.prepared import published
from data_pipeline.storage.object_uri import local_path
from data_pipeline.store.build import build_store
from data_pipeline.store.class_store import open_store


def test_another_node_has_them(
    shelf: str, toy: Toy, object_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place = f"{shelf}/data"
    store = build_store("toy", local_path(place))
    grouping = Grouping("classes", smallest=4)
    root = partitions_root(store.root, "some")
    made = write_partitions(root, store, list(grouping.found(store)), grouping.described())
    assert [item.kind for item in published(local_path(place))] == ["partitions", "store"]
    monkeypatch.setenv("METADIST_CACHE_DIR", str(tmp_path / "other"))
    there = open_store(local_path(place) / "toy-one" / "store")
    held = open_partitions(partitions_root(there.root, "some"), there)
    assert (held.digest, held.clusters, held.made) == (made.digest, 2, made.made)
    assert held.root != made.root
    (key,) = (key for key in object_store.keys(tmp_path.name) if key.endswith(CLUSTERS_FILE))
    object_store.flip(key)
    monkeypatch.setenv("METADIST_CACHE_DIR", str(tmp_path / "third"))
    there = open_store(local_path(place) / "toy-one" / "store")
    with pytest.raises(DamagedData, match=CLUSTERS_FILE):
        open_partitions(partitions_root(there.root, "some"), there)
