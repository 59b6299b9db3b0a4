"""Episodes are a pure function of their identity and index, and fair."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from shard_sets import rows_of

from data_pipeline.datasets import PARTS, Part
from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.images import ImageEpisodes, fetch
from data_pipeline.episodes.sequence import EpisodeSequence
from data_pipeline.episodes.types import (
    BLOCK,
    EpisodeBatch,
    EpisodeSource,
    EpisodeSpec,
    Identity,
    Rotations,
    stack,
)
from data_pipeline.errors import DataError
from data_pipeline.rng import Stream, fold
from data_pipeline.store.class_store import ClassStore, StorePart


def memory_store(
    classes: int = 6, per_class: int = 8, shape: tuple[int, int, int] = (6, 6, 1)
) -> ClassStore:
    """A store that exists in memory only; every image is different and has no symmetry."""
    count = classes * per_class
    raw = np.arange(count * int(np.prod(shape)), dtype=np.int64) * 2654435761 >> 7
    images = (raw % 251).astype(np.uint8).reshape(count, *shape)
    offsets = np.arange(0, count + 1, per_class, dtype=np.int64)
    part = StorePart("train", images, tuple(f"c{i}" for i in range(classes)), offsets)
    return ClassStore(Path("toy"), "toy", "s", shape, "0" * 64, "none", {}, {"train": part})


def episodes_of(
    ways: int = 3, shots: int = 2, queries: int = 4, rotations: Rotations = "none", seed: int = 7
) -> ImageEpisodes:
    return ImageEpisodes(
        memory_store(), "train", EpisodeSpec(ways, shots, queries, rotations), seed
    )


def digest(batch: EpisodeBatch) -> str:
    total = hashlib.sha256()
    for name, array in batch.arrays().items():
        total.update(f"{name}{array.dtype}{array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def assert_same(got: EpisodeBatch, expected: EpisodeBatch) -> None:
    assert digest(got) == digest(expected)


SOURCES = [
    pytest.param(lambda: episodes_of(), id="images"),
    pytest.param(lambda: episodes_of(rotations="per_episode"), id="rotated"),
    pytest.param(
        lambda: FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 5, 10), 0), id="sinusoid"
    ),
]


# --- the bits -----------------------------------------------------------------------------------


def test_stream_is_frozen() -> None:
    assert fold("episode", 1) == 96548516728112611107088980150032864189
    stream = Stream(fold("golden", 1), 3)
    assert [stream.raw() for _ in range(3)] == [
        13286568896069507905,
        16509155324442490150,
        7098155142819629604,
    ]
    assert [stream.below(n) for n in (2, 10, 1000, 10**18, 1 << 63)] == [
        0,
        6,
        713,
        660559880401755684,
        4218934104770666469,
    ]
    assert stream.permutation(8) == [1, 5, 0, 4, 3, 2, 7, 6]
    assert stream.uniforms(2).tolist() == [0.8280200229011281, 0.07182545099803062]


@pytest.mark.parametrize(
    ("channels", "rotations", "expected"),
    [
        (1, "none", "cc87485cf84c871c7987a7a0147ccf96935f88014733a16d24c9b53c4bf494a5"),
        (1, "per_episode", "e18e6c8be16e2a072e8546748f6afc8431a116b52b53f8410acb36fecab5b6b4"),
        (1, "as_classes", "1e31df036077f15abe672c1ea141653ea62e7b09108e02b146eb1f52efe5fba7"),
        (3, "none", "78e7acfc5fdb0e348fdd3acbbd82d23d8b1920f2cb4333cfdcf3d76060cf4702"),
        (3, "per_episode", "febfaff65a19dce957f92908a78085414b5da0ecee1abb116af735314ab1e3a9"),
        (3, "as_classes", "535696c102fd4748fd2a0ac0118ddc2125df612ecfbe875faec116dad94f6163"),
    ],
)
def test_image_episodes_are_frozen(channels: int, rotations: Rotations, expected: str) -> None:
    store = memory_store(shape=(6, 6, channels))
    source = ImageEpisodes(store, "train", EpisodeSpec(3, 2, 4, rotations), 7)
    assert digest(source.episodes(range(40))) == expected


def test_function_episodes_are_frozen() -> None:
    source = FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 5, 10), 0)
    expected = "be8af418b6e6d11fa6c4ac7571f1a16a3679afe0d9781cbfe714e79cef9f21f8"
    assert digest(source.episodes(range(40))) == expected


# --- purity -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", SOURCES)
def test_episodes_do_not_depend_on_the_order_of_access(make) -> None:
    expected = make().episodes(range(30))
    order = random.Random(0).sample(range(30), 30)
    shuffled = make().episodes(order)
    one_by_one = make()
    for position, index in enumerate(order):
        alone = one_by_one.episodes([index])
        for name, array in expected.arrays().items():
            assert np.array_equal(shuffled.arrays()[name][position], array[index])
            assert np.array_equal(alone.arrays()[name][0], array[index])
    assert_same(stack([make().episodes([i]) for i in range(30)]), expected)


def test_everything_in_the_identity_changes_the_episodes() -> None:
    spec = EpisodeSpec(0, 5, 10)
    parts = [FunctionEpisodes("sinusoid", part, spec, 0) for part in ("train", "val", "test")]
    sources: list[EpisodeSource] = [*parts, FunctionEpisodes("sinusoid", "train", spec, 1)]
    assert len({s.identity.digest for s in sources}) == 4
    assert len({s.episodes([0]).support_x.tobytes() for s in sources}) == 4

    store = memory_store()
    other = dataclasses.replace(store, digest="1" * 64)
    images = [
        ImageEpisodes(s, "train", EpisodeSpec(3, 2, 4), seed)
        for s, seed in ((store, 7), (store, 8), (other, 7))
    ]
    assert len({s.identity.digest for s in images}) == 3
    assert len({rows_of(s, range(10)).support_rows.tobytes() for s in images}) == 3


def test_equal_identities_are_equal() -> None:
    assert episodes_of().identity == episodes_of().identity
    fields = episodes_of().identity.as_dict()
    assert Identity(**{**fields, "spec": EpisodeSpec(**fields["spec"])}) == episodes_of().identity


def test_each_part_has_images_of_its_own() -> None:
    store = memory_store()
    train = store.parts["train"]
    parts: dict[Part, StorePart] = {"train": train}
    for turn, name in enumerate(PARTS[1:], 1):
        images = train.images ^ np.uint8(turn)
        parts[name] = dataclasses.replace(train, part=name, images=images)
    whole = dataclasses.replace(store, parts=parts)
    for name, part in parts.items():
        source = ImageEpisodes(whole, name, EpisodeSpec(3, 2, 4), 7)
        assert_same(source.episodes(range(5)), fetch(part.images, source.rows(range(5))))


def test_rows_and_pixels_are_the_same_episodes() -> None:
    source = episodes_of(rotations="per_episode")
    images = source.store.parts["train"].images
    assert_same(fetch(images, source.rows(range(9))), source.episodes(range(9)))
    assert len(source.episodes([])) == 0


# --- fairness -----------------------------------------------------------------------------------


def test_labels_are_permuted_per_episode() -> None:
    class_ids = rows_of(episodes_of(ways=3), range(1000)).class_ids // 4
    for c in range(6):
        labels = np.nonzero(class_ids == c)[1]
        counts = np.bincount(labels, minlength=3)
        # About 500 appearances over 3 labels: 5 sigma is about 53.
        assert abs(counts - len(labels) / 3).max() < 53
        assert 400 < len(labels) < 600


def test_support_and_query_are_disjoint_and_complete() -> None:
    rows = rows_of(episodes_of(), range(200))
    for t in range(200):
        support, query = rows.support_rows[t], rows.query_rows[t]
        assert len({*support.tolist(), *query.tolist()}) == 3 * (2 + 4)
        assert np.bincount(rows.support_y[t]).tolist() == [2, 2, 2]
        assert np.bincount(rows.query_y[t]).tolist() == [4, 4, 4]
        # A label means one class throughout the episode.
        assert np.array_equal(support // 8, rows.class_ids[t, rows.support_y[t]] // 4)
        assert np.array_equal(query // 8, rows.class_ids[t, rows.query_y[t]] // 4)


@pytest.mark.parametrize("name", ["support_y", "query_y"])
def test_position_says_nothing_about_the_label(name: str) -> None:
    labels = getattr(rows_of(episodes_of(), range(1000)), name)
    for position in range(labels.shape[1]):
        counts = np.bincount(labels[:, position], minlength=3)
        assert abs(counts - 1000 / 3).max() < 75


def test_every_image_is_drawn() -> None:
    rows = rows_of(episodes_of(), range(300))
    assert set(rows.support_rows.ravel().tolist()) == set(range(48))
    assert set(rows.query_rows.ravel().tolist()) == set(range(48))


@pytest.mark.parametrize("rotations", ["none", "per_episode", "as_classes"])
def test_fewer_queries_are_a_subset(rotations: Rotations) -> None:
    few = rows_of(episodes_of(queries=1, rotations=rotations), range(100))
    many = rows_of(episodes_of(queries=6, rotations=rotations), range(100))
    assert np.array_equal(few.class_ids, many.class_ids)
    assert np.array_equal(few.support_rows, many.support_rows)
    assert np.array_equal(few.support_y, many.support_y)
    for t in range(100):
        pairs = zip(few.query_rows[t].tolist(), few.query_y[t].tolist(), strict=True)
        assert set(pairs) <= set(
            zip(many.query_rows[t].tolist(), many.query_y[t].tolist(), strict=True)
        )


def test_function_with_fewer_queries_is_a_prefix() -> None:
    few, many = (
        FunctionEpisodes("sinusoid", "test", EpisodeSpec(0, 5, n), 0).episodes(range(20))
        for n in (3, 50)
    )
    assert np.array_equal(few.support_x, many.support_x)
    assert np.array_equal(few.support_y, many.support_y)
    assert np.array_equal(few.query_x, many.query_x[:, :3])
    assert np.array_equal(few.query_y, many.query_y[:, :3])


# --- rotations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rotations", ["none", "per_episode", "as_classes"])
def test_each_way_is_turned_as_its_class_id_says(rotations: Rotations) -> None:
    source = episodes_of(rotations=rotations)
    images = source.store.parts["train"].images
    batch, rows = source.episodes(range(50)), rows_of(source, range(50))
    class_ids = batch.columns["class_ids"]
    for t in range(50):
        for x, row, y in zip(batch.query_x[t], rows.query_rows[t], batch.query_y[t], strict=True):
            turns = int(class_ids[t, y]) % 4
            assert np.array_equal(x, np.rot90(images[row], turns))
    seen = set((class_ids % 4).ravel().tolist())
    assert seen == ({0} if rotations == "none" else {0, 1, 2, 3})


def test_rotations_as_classes_are_classes_of_their_own() -> None:
    class_ids = rows_of(episodes_of(ways=6, rotations="as_classes"), range(300)).class_ids
    assert all(len(set(row)) == 6 for row in class_ids.tolist())
    assert set(class_ids.ravel().tolist()) == set(range(24))
    # The same drawing in two positions may be two classes of one episode.
    assert any(len({c // 4 for c in row}) < 6 for row in class_ids.tolist())


def test_rotations_per_episode_keep_classes_apart() -> None:
    class_ids = rows_of(episodes_of(ways=6, rotations="per_episode"), range(100)).class_ids
    assert all(sorted(c // 4 for c in row) == list(range(6)) for row in class_ids.tolist())


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (EpisodeSpec(7, 1, 1), "7-way episodes need that many train classes, toy .* has 6"),
        (EpisodeSpec(3, 2, 7), "need 9 images per class, class 'c0' of toy has 8"),
        (EpisodeSpec(3, 0, 7), "shots >= 1"),
        (EpisodeSpec(0, 1, 1), "ways"),
    ],
)
def test_impossible_episodes_are_refused(spec: EpisodeSpec, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        ImageEpisodes(memory_store(), "train", spec, 0)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)  # workers send it


def test_parts_that_are_not_there_are_refused() -> None:
    with pytest.raises(DataError, match="no 'val' classes"):
        ImageEpisodes(memory_store(), "val", EpisodeSpec(2, 1, 1), 0)


def test_oblong_images_are_not_turned() -> None:
    store = memory_store(shape=(4, 6, 1))
    ImageEpisodes(store, "train", EpisodeSpec(2, 1, 1), 0)
    with pytest.raises(DataError, match="square"):
        ImageEpisodes(store, "train", EpisodeSpec(2, 1, 1, "per_episode"), 0)


@pytest.mark.parametrize("spec", [EpisodeSpec(5, 1, 1), EpisodeSpec(0, 0, 1), EpisodeSpec(0, 1, 0)])
def test_functions_have_points_and_no_classes(spec: EpisodeSpec) -> None:
    with pytest.raises(DataError):
        FunctionEpisodes("sinusoid", "train", spec, 0)


def test_unknown_family_names_the_nearest() -> None:
    with pytest.raises(DataError, match="'sinusoid'"):
        FunctionEpisodes("sinusoids", "train", EpisodeSpec(0, 1, 1), 0)


def test_sinusoids_are_what_their_latent_says() -> None:
    batch = FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 5, 95), 0).episodes(range(200))
    latent = batch.columns["latent"]
    amplitude, phase = latent[:, 0, None, None], latent[:, 1, None, None]
    np.testing.assert_allclose(
        batch.query_y, amplitude * np.sin(batch.query_x.astype(float) - phase), atol=5e-6
    )
    assert abs(batch.query_x).max() <= 5
    assert (amplitude.min(), amplitude.max()) > (0.1, 4.9)
    assert 0 <= phase.min() < phase.max() <= 3.1416


# --- sequences ----------------------------------------------------------------------------------


def test_first_epoch_is_the_identity() -> None:
    assert EpisodeSequence(150, 0).ids(0, 150) == list(range(150))


def test_unlimited_sequence_counts() -> None:
    assert EpisodeSequence(None, 0).ids(10**9, 10**9 + 3) == [10**9, 10**9 + 1, 10**9 + 2]


@pytest.mark.parametrize("length", [1, 5, 64, 65, 150, 640])
def test_each_epoch_permutes_blocks_and_then_their_inside(length: int) -> None:
    sequence = EpisodeSequence(length, 3)
    for epoch in range(1, 5):
        ids = sequence.ids(epoch * length, (epoch + 1) * length)
        assert sorted(ids) == list(range(length))
        blocks = [i // BLOCK for i in ids]
        runs = [b for place, b in enumerate(blocks) if place == 0 or blocks[place - 1] != b]
        # Each block comes in one piece, the short one too.
        assert len(runs) == len(set(blocks)) == -(-length // BLOCK)


def test_epochs_and_seeds_differ_and_are_shuffled() -> None:
    length = 1000
    epochs = [tuple(EpisodeSequence(length, 0).ids(e * length, (e + 1) * length)) for e in range(4)]
    other = tuple(EpisodeSequence(length, 1).ids(length, 2 * length))
    assert len({*epochs, other}) == 5
    inside = [i % BLOCK for i in epochs[1][:BLOCK]]
    assert inside != sorted(inside)
    # Fewer than a handful of fixed points: 1 is expected.
    assert sum(p == i for p, i in enumerate(epochs[1])) < 12


def test_sequence_does_not_depend_on_the_order_of_access() -> None:
    expected = EpisodeSequence(150, 5).ids(0, 1000)
    sequence = EpisodeSequence(150, 5)
    starts = list(range(0, 1000, 7))
    random.Random(0).shuffle(starts)
    for start in starts:
        stop = min(start + 7, 1000)
        assert sequence.ids(start, stop) == expected[start:stop]


def test_empty_bank_is_refused() -> None:
    with pytest.raises(DataError, match="at least one episode"):
        EpisodeSequence(0, 0)
