"""Fixed labels: a class has one label for ever, and says so in everything that names episodes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from shard_sets import rows_of

from data_pipeline.datasets import PARTS, Part
from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.sources import live_source
from data_pipeline.episodes.types import EpisodeBatch, EpisodeSpec, Identity, Labels, Rotations
from data_pipeline.errors import DataError
from data_pipeline.shards.layout import read_layout
from data_pipeline.shards.reader import ShardSource, open_shards
from data_pipeline.shards.verify import verify_shards
from data_pipeline.shards.writer import write_shards
from data_pipeline.storage.local import sha256_bytes
from data_pipeline.store.class_store import ClassStore

WAYS = 3
ROTATIONS: list[Rotations] = ["none", "per_episode", "as_classes"]


def source(
    store: ClassStore,
    rotations: Rotations = "none",
    labels: Labels = "fixed",
    *,
    seed: int = 0,
    ways: int = WAYS,
    queries: int = 2,
    part: Part = "train",
) -> ImageEpisodes:
    return ImageEpisodes(store, part, EpisodeSpec(ways, 1, queries, rotations, labels), seed)


def classes(episodes: ImageEpisodes, rotations: Rotations, count: int = 1000) -> np.ndarray:
    """[count, N], what is a class of its own by label: with turns only where they make classes."""
    ids = rows_of(episodes, range(count)).class_ids
    return ids if rotations == "as_classes" else ids // 4


def labels_of(classes: np.ndarray) -> dict[int, set[int]]:
    """The labels that each class ever had."""
    found: dict[int, set[int]] = {}
    for row in classes.tolist():
        for label, c in enumerate(row):
            found.setdefault(c, set()).add(label)
    return found


def digest(batch: EpisodeBatch) -> str:
    return sha256_bytes(b"".join(array.tobytes() for array in batch.arrays().values()))


# --- labels -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotations", ROTATIONS)
@pytest.mark.parametrize("part", PARTS)
def test_a_class_keeps_its_label(rotations: Rotations, part: Part, toy_store: ClassStore) -> None:
    found = labels_of(classes(source(toy_store, rotations, part=part), rotations))
    assert all(len(labels) == 1 for labels in found.values())
    # Every class is in a group, and the groups are alike in size.
    turns = 4 if rotations == "as_classes" else 1
    assert set(found) == set(range(turns * len(toy_store.parts[part].class_names)))
    sizes = np.bincount([label for labels in found.values() for label in labels])
    assert len(sizes) == WAYS
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("rotations", ROTATIONS)
def test_permuted_labels_are_uniform(rotations: Rotations, toy_store: ClassStore) -> None:
    drawn = classes(source(toy_store, rotations, "permuted"), rotations, 2000)
    table = np.zeros((4 * 8, WAYS))
    np.add.at(table, (drawn, np.arange(WAYS)), 1)
    table = table[table.sum(axis=1) > 0]
    expected = table.sum(axis=1, keepdims=True) / WAYS
    statistic = ((table - expected) ** 2 / expected).sum()
    freedom = len(table) * (WAYS - 1)
    # Wilson and Hilferty's quantile, exceeded once in a thousand times; the draws are fixed.
    spread = 2 / (9 * freedom)
    assert statistic < freedom * (1 - spread + 3.09 * spread**0.5) ** 3


@pytest.mark.parametrize("rotations", ROTATIONS)
def test_each_class_of_a_group_is_as_likely(rotations: Rotations, toy_store: ClassStore) -> None:
    drawn = classes(source(toy_store, rotations), rotations, 3000)
    for label in range(WAYS):
        counts = np.unique(drawn[:, label], return_counts=True)[1]
        expected = 3000 / len(counts)
        # At most 11 classes in a group: 29.6 is exceeded once in a thousand times.
        assert ((counts - expected) ** 2 / expected).sum() < 29.6


def test_the_partition_depends_on_seed_and_data(toy_store: ClassStore) -> None:
    def partition(seed: int = 0, ways: int = WAYS, part: Part = "train") -> str:
        episodes = source(toy_store, seed=seed, ways=ways, part=part)
        return str(sorted(labels_of(classes(episodes, "none", 300)).items()))

    assert partition() == partition()
    assert len({partition(), partition(seed=1), partition(seed=2), partition(ways=4)}) == 4
    # Validation and test have four classes each: one partition may well be that of the other.
    val, test = ([partition(seed=i, part=part) for i in range(6)] for part in PARTS[1:])
    assert val != test


def test_the_label_of_a_class_is_that_of_its_images(toy_store: ClassStore) -> None:
    episodes = source(toy_store, queries=4)
    rows = rows_of(episodes, range(200))
    fixed = {c: label for c, (label,) in labels_of(rows.class_ids // 4).items()}
    of_row = np.searchsorted(toy_store.parts["train"].offsets, np.arange(8 * 12), side="right") - 1
    for chosen, labels in ((rows.support_rows, rows.support_y), (rows.query_rows, rows.query_y)):
        assert np.array_equal(np.vectorize(fixed.__getitem__)(of_row[chosen]), labels)
    # Position still says nothing about the label.
    for position in range(WAYS):
        assert np.bincount(rows.support_y[:, position]).min() > 40


# --- bits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rotations", "expected"),
    [
        ("none", "768b047c00ebbb0894f67e7201789c554492d59232049f63c35caacab0b1c1fa"),
        ("per_episode", "79222c3e84f6027bba81b5563eb905deda096ad44e3e6fdce6c85024fe59fb3a"),
        ("as_classes", "35b2a31bb3780024678e4928298089f9dd228e5dedc10929e02023dad90fdebd"),
    ],
)
def test_the_episodes_are_frozen(
    rotations: Rotations, expected: str, toy_store: ClassStore
) -> None:
    assert digest(source(toy_store, rotations).episodes(range(40))) == expected


@pytest.mark.parametrize("rotations", ROTATIONS)
def test_fewer_queries_are_the_same_tasks(rotations: Rotations, toy_store: ClassStore) -> None:
    few = rows_of(source(toy_store, rotations, queries=1), range(50))
    many = rows_of(source(toy_store, rotations, queries=8), range(50))
    assert np.array_equal(few.class_ids, many.class_ids)
    assert np.array_equal(few.support_rows, many.support_rows)
    alone = rows_of(source(toy_store, rotations, queries=8), [17])
    assert np.array_equal(alone.query_rows[0], many.query_rows[17])


# --- identity and shards ------------------------------------------------------------------------


def test_the_identity_of_permuted_labels_is_what_it_was() -> None:
    spec = EpisodeSpec(0, 5, 10)
    identity = FunctionEpisodes("sinusoid", "train", spec, 0).identity
    assert identity.digest == "cc9b968946afa0955bdf07c4bc5323008b7ccd75c30e4188629059c573127567"
    images = Identity("images", "toy", "0" * 64, "train", 7, EpisodeSpec(3, 2, 4))
    assert images.digest == "39f804a281178a804fae71350e08f8ed9d42ddbf5d5bb4546b0186ce32f0377f"
    assert list(images.as_dict()["spec"]) == ["ways", "shots", "queries", "rotations"]


def test_the_identity_of_fixed_labels_says_so(toy_store: ClassStore) -> None:
    fixed, permuted = source(toy_store).identity, source(toy_store, labels="permuted").identity
    assert fixed.as_dict()["spec"]["labels"] == "fixed"
    assert fixed != permuted
    assert fixed.digest != permuted.digest
    assert live_source(fixed, toy_store).identity == fixed


@pytest.mark.parametrize("payload", ["inline", "index"])
@pytest.mark.parametrize("rotations", ROTATIONS)
def test_shards_are_the_live_episodes(
    payload, rotations: Rotations, toy_store: ClassStore, tmp_path: Path
) -> None:
    live = source(toy_store, rotations)
    write_shards(live, 70, tmp_path / "set", payload=payload)
    held = open_shards(tmp_path / "set", live.identity, 70, toy_store)
    assert held.identity == live.identity
    assert digest(held.episodes(range(70))) == digest(live.episodes(range(70)))
    assert verify_shards(tmp_path / "set", deep=True, store=toy_store) == []


def test_shards_of_other_labels_are_refused(toy_store: ClassStore, tmp_path: Path) -> None:
    sources = {labels: source(toy_store, labels=labels) for labels in ("fixed", "permuted")}
    for held, wanted in (("fixed", "permuted"), ("permuted", "fixed")):
        write_shards(sources[held], 10, tmp_path / held)
        with pytest.raises(DataError, match=f"spec.labels: demanded '{wanted}', got '{held}'"):
            open_shards(tmp_path / held, sources[wanted].identity, 10)


@pytest.mark.parametrize(("key", "value"), [("labels", "fixxed"), ("rotations", "sometimes")])
def test_shards_of_no_known_labels_are_refused(
    key: str, value: str, toy_store: ClassStore, tmp_path: Path
) -> None:
    write_shards(source(toy_store), 10, tmp_path / "set")
    assert ShardSource(tmp_path / "set").identity.spec.labels == "fixed"
    body = json.loads((tmp_path / "set" / "dataset.json").read_text())["body"]
    body["identity"]["spec"][key] = value
    with pytest.raises(ValueError, match="impossible identity"):
        read_layout(body)
