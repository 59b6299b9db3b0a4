"""Clusters of an embedding: what lies together is together, from seeds, and small ones go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from data_pipeline.errors import DataError, TooFew
from data_pipeline.partitions.grouping import Grouping
from data_pipeline.partitions.hyperplanes import hyperplanes
from data_pipeline.partitions.kmeans import kmeans
from data_pipeline.partitions.partition import Partition
from data_pipeline.store.class_store import ClassStore

GROUPS, EACH = 5, 20


@pytest.fixture(scope="module")
def heaps() -> np.ndarray:
    """Five heaps of twenty vectors, far apart in the first dimensions; heap i is rows i mod 5."""
    noise = np.random.default_rng(0).normal(size=(GROUPS * EACH, 6))
    noise[:, :5] += 50 * np.eye(GROUPS)[np.arange(GROUPS * EACH) % GROUPS]
    return noise.astype(np.float32)


def clusters(partition: Partition) -> set[frozenset[int]]:
    parts = np.split(partition.rows, partition.offsets[1:-1])
    return {frozenset(part.tolist()) for part in parts}


TRUE = {frozenset(range(i, GROUPS * EACH, GROUPS)) for i in range(GROUPS)}


def test_kmeans_finds_heaps(heaps: np.ndarray):
    (partition,) = kmeans(heaps, clusters=GROUPS, smallest=10, seed=0)
    assert clusters(partition) == TRUE


def test_a_partition_is_a_function_of_seed_and_number(heaps: np.ndarray):
    def found(count: int, seed: int) -> list[list[int]]:
        asked: dict[str, Any] = {"clusters": 12, "smallest": 2, "partitions": count, "starts": 1}
        return [p.rows.tolist() for p in kmeans(heaps, seed=seed, **asked)]

    three = found(3, 1)
    assert three == found(3, 1)
    assert three[:2] == found(2, 1)
    assert three[0] != three[1] != three[2]
    assert three != found(3, 2)


def test_further_partitions_scale_dimensions(heaps: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    """The first one does not; each other dimension by a factor of its own in (0, 1)."""
    given = []

    def labels(vectors: np.ndarray, count: int, starts: int, seed: int) -> np.ndarray:
        given.append((vectors, starts))
        return np.arange(len(vectors)) % count

    monkeypatch.setattr("data_pipeline.partitions.kmeans._labels", labels)
    list(kmeans(heaps, clusters=5, smallest=2, seed=0, partitions=3))
    list(kmeans(heaps, clusters=5, smallest=2, seed=0))
    assert [starts for _, starts in given] == [1, 1, 1, 10]
    assert np.array_equal(given[0][0], heaps)
    factors = [vectors / heaps for vectors, _ in given[1:3]]
    for factor in factors:
        assert np.allclose(factor, factor[0], rtol=1e-5)
        assert ((factor[0] > 0) & (factor[0] < 1)).all()
        assert len(np.unique(factor[0].round(4))) == heaps.shape[1]
    assert not np.allclose(*factors)


def test_it_is_done_again_until_enough_are_large(
    heaps: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    """More than three quarters above the size of a task; exactly that many are too few."""
    at = len(heaps)
    one = np.repeat([0, 1, 2, 3], [40, 30, 27, 3])  # three of four are larger than 5
    good = np.repeat([0, 1, 2, 3], [40, 30, 20, 10])
    tried = iter([one, one, good])
    seeds = []

    def labels(vectors: np.ndarray, count: int, starts: int, seed: int) -> np.ndarray:
        seeds.append(seed)
        return next(tried)

    monkeypatch.setattr("data_pipeline.partitions.kmeans._labels", labels)
    (partition,) = kmeans(heaps, clusters=4, smallest=5, seed=0)
    assert np.diff(partition.offsets).tolist() == [40, 30, 20, 10]
    assert len(partition.rows) == at
    assert len(set(seeds)) == 3


def test_small_clusters_are_dropped(heaps: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    sizes = [20, 20, 20, 20, 15, 5]
    monkeypatch.setattr(
        "data_pipeline.partitions.kmeans._labels",
        lambda *_: np.repeat(np.arange(6), sizes),
    )
    (partition,) = kmeans(heaps, clusters=6, smallest=6, seed=0)
    assert np.diff(partition.offsets).tolist() == sizes[:-1]
    assert partition.rows.max() == 94


def test_clusters_that_stay_small_end_it(heaps: np.ndarray):
    with pytest.raises(DataError, match=r"0 of 60 clusters have more than 20 .*--clusters.*--sm"):
        list(kmeans(heaps, clusters=60, smallest=20, seed=0, starts=1))
    with pytest.raises(DataError, match="2 to 100 clusters"):
        list(kmeans(heaps, clusters=101, smallest=1, seed=0))


# --- hyperplanes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloud() -> np.ndarray:
    return np.random.default_rng(1).normal(3, 7, size=(600, 4)).astype(np.float32)


@pytest.fixture
def _few_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_pipeline.partitions.hyperplanes._PLANES", 60)


few_planes = pytest.mark.usefixtures("_few_planes")


def planes(cloud: np.ndarray, **changes: Any) -> list[Partition]:
    asked = {"ways": 3, "smallest": 4, "seed": 0, "partitions": 3} | changes
    return list(hyperplanes(cloud, **cast(Any, asked)))


@few_planes
def test_zones_lie_between_planes(cloud: np.ndarray):
    """Without a margin all images are in one; ceil(log2 3) = 2 planes make four zones at most."""
    found = planes(cloud)
    for partition in found:
        assert 3 <= partition.clusters <= 4
        assert np.diff(partition.offsets).min() >= 4
        # Zones are convex: the middle of two images of a zone is nearer to none of another side.
        means = [cloud[rows].mean(axis=0) for rows in map(list, clusters(partition))]
        assert len({tuple(mean) for mean in means}) == partition.clusters
    assert len({partition.rows.tobytes() for partition in found}) == 3


@few_planes
def test_partitions_by_planes_are_functions_of_seed_and_number(cloud: np.ndarray):
    rows = [partition.rows.tolist() for partition in planes(cloud)]
    assert rows == [partition.rows.tolist() for partition in planes(cloud)]
    assert rows[:2] == [partition.rows.tolist() for partition in planes(cloud, partitions=2)]
    assert rows != [partition.rows.tolist() for partition in planes(cloud, seed=1)]


@few_planes
def test_within_the_margin_is_no_cluster(cloud: np.ndarray):
    """A margin leaves out what is near a plane; two zones are then at least twice as far apart."""
    margin = 0.2
    for partition in planes(cloud, margin=margin, ways=2):
        assert len(partition.rows) < len(cloud)
        one, other = (cloud[list(rows)] for rows in clusters(partition))
        apart = np.linalg.norm(one[:, None] - other[None], axis=2).min()
        assert apart >= 2 * margin * np.sqrt(cloud.var(axis=0).mean()) * (1 - 1e-5)


@few_planes
def test_the_scale_of_an_embedding_does_not_matter(cloud: np.ndarray):
    """A power of two, which rounds nothing."""
    one, other = (planes(cloud * scale, margin=0.3) for scale in (1, 64))
    assert [p.rows.tolist() for p in one] == [p.rows.tolist() for p in other]


@few_planes
def test_margins_that_leave_nothing_end_it(cloud: np.ndarray):
    with pytest.raises(DataError, match=r"no plane was found .*--margin 9"):
        planes(cloud, margin=9.0)
    # Three points divide a line into four zones, not into eight.
    with pytest.raises(DataError, match=r"no 3 of 60 planes .* 8 zones of 4 .*--ways 8"):
        planes(cloud[:, :1], ways=8)


# --- other ways of grouping -----------------------------------------------------------------------


def store(sizes: list[int]) -> ClassStore:
    part = SimpleNamespace(offsets=np.cumsum([0, *sizes]), images=np.zeros((sum(sizes), 1, 1, 1)))
    return cast(ClassStore, SimpleNamespace(parts={"train": part}))


def test_classes_are_one_partition():
    (partition,) = Grouping("classes", partitions=9, smallest=4).found(store([5, 3, 4]))
    assert clusters(partition) == {frozenset(range(5)), frozenset(range(8, 12))}
    with pytest.raises(TooFew, match="no cluster has 6 images"):
        list(Grouping("classes", smallest=6).found(store([5, 3, 4])))


def test_random_clusters_say_nothing():
    one, two = Grouping("random", 4, partitions=2, smallest=1).found(store([100, 100]))
    assert sorted(one.rows.tolist()) == list(range(200))
    assert clusters(one) != clusters(two)
    assert min(np.diff(one.offsets)) > 25


@pytest.mark.parametrize(
    "wrong",
    [{"clusters": 1}, {"partitions": 0}, {"smallest": 0}, {"ways": 1}, {"margin": -0.1}],
    ids=str,
)
def test_numbers_that_are_too_small_are_refused(wrong: dict[str, Any]):
    (name,) = wrong
    with pytest.raises(DataError, match=f"{name}: at least"):
        Grouping(**wrong)


def test_only_settings_that_count_are_described():
    assert Grouping("kmeans", starts=2).described() == {
        "by": "kmeans",
        "clusters": 500,
        "partitions": 1,
        "smallest": 6,
        "starts": 2,
        "seed": 0,
    }
    assert set(Grouping("classes").described()) == {"by", "smallest"}
    with pytest.raises(DataError, match="none were given"):
        list(Grouping("hyperplanes").found(store([5])))
