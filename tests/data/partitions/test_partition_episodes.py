"""Episodes of clusters: the supervised ones where clusters are the classes, pure in any case."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from shard_sets import assert_same, rows_of

from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.types import TURNS, EpisodeSpec, Labels, Rotations
from data_pipeline.errors import DataError, MissingData, TooFew
from data_pipeline.partitions.grouping import Grouping
from data_pipeline.partitions.layout import partitions_root, write_partitions
from data_pipeline.partitions.partition import Partitions
from data_pipeline.prepared import Prepared, find
from data_pipeline.shards.reader import open_shards
from data_pipeline.shards.writer import write_shards
from data_pipeline.store.class_store import ClassStore, open_store

COUNT = 40
SPEC = EpisodeSpec(3, 2, 3, unlabeled=2, distractors=2)
every_kind = pytest.mark.parametrize(
    ("rotations", "labels"), list(itertools.product(get_args(Rotations), get_args(Labels)))
)


@pytest.fixture
def store(toy_store: ClassStore, tmp_path: Path) -> ClassStore:
    """A copy of the toy store, with room for partitions beside it."""
    return open_store(Path(shutil.copytree(toy_store.root, tmp_path / "toy" / "store")))


def partitions(store: ClassStore, grouping: Grouping, name: str = "some") -> Partitions:
    root = partitions_root(store.root, name)
    return write_partitions(root, store, list(grouping.found(store)), grouping.described())


@pytest.fixture
def classes(store: ClassStore) -> Partitions:
    return partitions(store, Grouping("classes", smallest=9), "classes")


@pytest.fixture
def several(store: ClassStore) -> Partitions:
    """Three partitions into about six clusters each, some of them too small to be kept."""
    return partitions(store, Grouping("random", 7, partitions=3, smallest=11))


@every_kind
def test_true_classes_give_the_supervised_episodes(
    rotations: Rotations, labels: Labels, store: ClassStore, classes: Partitions
):
    spec = replace(SPEC, rotations=rotations, labels=labels)
    own, clusters = (ImageEpisodes(store, "train", spec, 5, p) for p in (None, classes))
    assert_same(clusters.episodes(range(COUNT)), own.episodes(range(COUNT)))
    assert np.array_equal(clusters.class_ids(range(COUNT)), own.class_ids(range(COUNT)))
    assert clusters.identity != own.identity
    assert clusters.identity.payload == {"partitions": classes.digest}


@every_kind
def test_an_episode_is_of_one_partition(
    rotations: Rotations, labels: Labels, store: ClassStore, several: Partitions
):
    spec = replace(SPEC, shots=1, distractors=1, rotations=rotations, labels=labels)
    source = ImageEpisodes(store, "train", spec, 5, several)
    rows, seen = rows_of(source, range(COUNT)), set()
    starts = np.cumsum([0, *(p.clusters for p in several.each)])
    for t in range(COUNT):
        ways = rows.class_ids[t] // TURNS
        (partition,) = set(np.searchsorted(starts, ways, side="right") - 1)
        seen.add(int(partition))
        held = several.each[partition]
        for way, cluster in enumerate(ways - starts[partition]):
            first, last = held.offsets[cluster : cluster + 2]
            members = set(held.rows[first:last].tolist())
            drawn = [
                row
                for name in ("support", "query", "unlabeled")
                for row, y in zip(
                    getattr(rows, f"{name}_rows")[t], getattr(rows, f"{name}_y")[t], strict=True
                )
                if y == way
            ]
            assert len(set(drawn)) == len(drawn) == 1 + 3 + 2
            assert set(drawn) <= members
        others = rows.unlabeled_rows[t][rows.unlabeled_y[t] == -1].tolist()
        assert set(others) <= set(held.rows.tolist())
        if rotations != "as_classes":
            first_rows = {r for c in ways - starts[partition] for r in _members(held, c)}
            assert not set(others) & first_rows
    assert seen == {0, 1, 2}


def _members(partition, cluster: int) -> list[int]:
    first, last = partition.offsets[cluster : cluster + 2]
    rows: list[int] = partition.rows[first:last].tolist()
    return rows


def test_an_episode_does_not_depend_on_the_others(store: ClassStore, several: Partitions):
    source = ImageEpisodes(store, "train", replace(SPEC, shots=1), 5, several)
    whole = source.episodes(range(COUNT))
    for t in (0, 17, COUNT - 1):
        alone = ImageEpisodes(store, "train", replace(SPEC, shots=1), 5, several).episodes([t])
        for name, array in alone.columns.items():
            assert array[0].tobytes() == whole.columns[name][t].tobytes()
    assert np.array_equal(source.class_ids([17]), whole.columns["class_ids"][17:18])


@pytest.mark.parametrize("payload", ["inline", "index"])
def test_shards_are_the_live_episodes_and_are_checked(
    payload, store: ClassStore, several: Partitions
):
    source = ImageEpisodes(store, "train", EpisodeSpec(3, 1, 2), 0, several)
    root = store.root.parent / "shards" / "some"
    write_shards(source, 70, root, payload=payload, episodes_per_shard=64)
    held = open_shards(root, source.identity, 70, store)
    assert_same(held.episodes(range(70)), source.episodes(range(70)))
    assert not Prepared("shards", root, store.root).findings(deep=True)
    assert [item.kind for item in find(store.root.parent)] == ["store", "partitions", "shards"]
    # They are not those of the labelled classes, nor of other partitions.
    with pytest.raises(DataError, match="payload: demanded None"):
        open_shards(
            root, ImageEpisodes(store, "train", EpisodeSpec(3, 1, 2), 0).identity, 70, store
        )
    shutil.rmtree(several.root)
    (found,) = Prepared("shards", root, store.root).findings(deep=True)
    assert f"no partitions with digest {several.digest}" in str(found)


def test_what_is_too_large_names_the_clusters(store: ClassStore, several: Partitions):
    fewest = min(p.clusters for p in several.each)
    smallest = min(int(np.diff(p.offsets).min()) for p in several.each)
    ImageEpisodes(store, "train", EpisodeSpec(fewest, 1, smallest - 1), 0, several)
    with pytest.raises(TooFew, match=f"need that many clusters, toy .* has {fewest};"):
        ImageEpisodes(store, "train", EpisodeSpec(fewest + 1, 1, 1), 0, several)
    with pytest.raises(TooFew, match=rf"class 'cluster \d+' of toy has {smallest}"):
        ImageEpisodes(store, "train", EpisodeSpec(2, 1, smallest), 0, several)


def test_they_are_of_training_images_of_this_store(store: ClassStore, classes: Partitions):
    with pytest.raises(DataError, match="test episodes of"):
        ImageEpisodes(store, "test", SPEC, 0, classes)
    with pytest.raises(DataError, match="metadist data cluster"):
        ImageEpisodes(store, "train", SPEC, 0, replace(classes, store_digest="0"))


def test_partitions_that_are_gone_are_missed(store: ClassStore, classes: Partitions):
    from data_pipeline.episodes.sources import live_source

    identity = ImageEpisodes(store, "train", SPEC, 0, classes).identity
    assert_same(
        live_source(identity, store).episodes([3]),
        ImageEpisodes(store, "train", SPEC, 0).episodes([3]),
    )
    shutil.rmtree(classes.root)
    with pytest.raises(MissingData, match="no partitions with digest"):
        live_source(identity, store)
