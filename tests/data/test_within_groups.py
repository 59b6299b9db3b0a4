"""Episodes within a group of classes, and of images by the same drawer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipeline import datasets
from data_pipeline.datasets import PARTS, DatasetSpec, RawImage
from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.types import TURNS, EpisodeSpec, Identity
from data_pipeline.errors import DataError, TooFew
from data_pipeline.shards.reader import open_shards
from data_pipeline.shards.writer import write_shards
from data_pipeline.store.build import build_store
from data_pipeline.store.class_store import ClassStore
from metadist.episode_data import EpisodeData
from metadist.episode_data.places import shards_root
from metadist.recipe.schema import Recipe, load_recipe

#: Classes of each group, and drawers of each class.
GROUPS, DRAWERS = {"a": 5, "b": 3, "c": 7, "d": 4}, 8
SPEC = EpisodeSpec(4, 2, 3)
COUNT = 200


def _images(source: Path | None = None, split: str = "only", odd: str = "") -> Iterator[RawImage]:
    for number, part in enumerate(PARTS):
        shade = 0
        for group, classes in GROUPS.items():
            for c in range(classes):
                for drawer in range(DRAWERS):
                    shade += 1
                    pixels = np.full((2, 2, 1), shade % 256, np.uint8)
                    pixels[0, 0] = number
                    name = f"drawer{drawer:02d}{odd if group == 'c' else ''}"
                    yield RawImage(part, f"{group}/{c}", name, pixels)


def made(place: Path, **how: str) -> ClassStore:
    shape = (2, 2, 1)
    spec = DatasetSpec("grouped", "squares", "none", shape, ("only",), version=1, embedded=True)

    def images(source: Path | None = None, split: str = "only") -> Iterator[RawImage]:
        return _images(source, split, **how)

    module = SimpleNamespace(SPEC=spec, iter_images=images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", lambda name: module)
        return build_store("grouped", place)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ClassStore:
    return made(tmp_path_factory.mktemp("grouped"))


def episodes(store: ClassStore, spec: EpisodeSpec = SPEC, **changes: object) -> ImageEpisodes:
    return ImageEpisodes(store, "train", replace(spec, **changes), 3)  # type: ignore[arg-type]


def group_of(store: ClassStore, class_id: int) -> str:
    return store.parts["train"].class_names[class_id // TURNS].split("/")[0]


# --- groups ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotations", ["none", "per_episode", "as_classes"])
def test_the_ways_of_an_episode_are_of_one_group(store: ClassStore, rotations: str):
    source = episodes(store, rotations=rotations, within="group")
    ids = source.rows(range(COUNT)).columns["class_ids"]
    assert np.array_equal(ids, source.class_ids(range(COUNT)))
    drawn: Counter[str] = Counter()
    for ways in ids.tolist():
        assert len(set(ways)) == SPEC.ways
        (group,) = {group_of(store, way) for way in ways}
        drawn[group] += 1
    # b is too small; the others have equal chances whatever their size.
    assert set(drawn) == {"a", "c", "d"}
    assert all(abs(count - COUNT / 3) < 4 * (COUNT * 2 / 9) ** 0.5 for count in drawn.values())
    anywhere = episodes(store, rotations=rotations).class_ids(range(COUNT))
    assert any(len({group_of(store, way) for way in ways}) > 1 for ways in anywhere.tolist())


def test_all_classes_of_a_group_are_met_in_all_orders(store: ClassStore):
    source = episodes(store, ways=5, within="group")
    met = Counter(way // TURNS for ways in source.class_ids(range(400)) for way in ways.tolist())
    large = sum(classes for classes in GROUPS.values() if classes >= 5)
    assert len(met) == large
    firsts = {group_of(store, ways[0]) + str(ways[0]) for ways in source.class_ids(range(400))}
    assert len(firsts) == large


def test_images_are_those_of_the_classes(store: ClassStore):
    batch = episodes(store, within="group").episodes(range(20))
    offsets = store.parts["train"].offsets
    rows = episodes(store, within="group").rows(range(20)).columns
    for t in range(20):
        classes = np.searchsorted(offsets, rows["query_rows"][t], side="right") - 1
        wanted = batch.columns["class_ids"][t][batch.columns["query_y"][t]] // TURNS
        assert np.array_equal(classes, wanted)


def test_an_episode_is_the_same_alone_and_has_an_identity_of_its_own(store: ClassStore):
    source = episodes(store, within="group")
    together, alone = source.episodes([4, 9]), source.episodes([9])
    for name, column in alone.columns.items():
        assert np.array_equal(column[0], together.columns[name][1])
    plain = episodes(store).identity
    assert source.identity.digest != plain.digest
    assert "within" not in plain.as_dict()["spec"]
    fields = source.identity.as_dict()
    assert Identity(**{**fields, "spec": EpisodeSpec(**fields["spec"])}) == source.identity


def test_distractors_may_be_of_any_group(store: ClassStore):
    source = episodes(store, within="group", unlabeled=2, distractors=3)
    rows = source.rows(range(50)).columns
    classes = (
        np.searchsorted(store.parts["train"].offsets, rows["unlabeled_rows"], side="right") - 1
    )
    for ways, found, labels in zip(rows["class_ids"], classes, rows["unlabeled_y"], strict=True):
        others = {*found[labels < 0].tolist()}
        assert len(others) == 3
        assert others.isdisjoint((ways // TURNS).tolist())


def test_shards_are_the_same_bytes(store: ClassStore, tmp_path: Path):
    live = episodes(store, within="group", drawer="same")
    write_shards(live, 70, tmp_path / "set", episodes_per_shard=64)
    shards = open_shards(tmp_path / "set", live.identity, 70, store)
    got, wanted = shards.episodes(range(70)), live.episodes(range(70))
    assert all(np.array_equal(got.columns[n], a) for n, a in wanted.columns.items())


def test_what_cannot_be(store: ClassStore, toy_store: ClassStore):
    with pytest.raises(TooFew, match="'c', has 7"):
        episodes(store, ways=8, within="group")
    with pytest.raises(DataError, match="'group/class' are needed"):
        episodes(toy_store, ways=2, within="group")
    with pytest.raises(DataError, match="fixed labels divide all classes"):
        episodes(store, within="group", labels="fixed")
    with pytest.raises(DataError, match="no classes in groups"):
        FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 1, 1, within="group"), 0)


# --- drawers --------------------------------------------------------------------------------------


def drawers(
    store: ClassStore, source: ImageEpisodes, count: int
) -> Iterator[dict[str, np.ndarray]]:
    """Of each episode the drawers of support and query, [N, shots] and [N, queries]."""
    rows = source.rows(range(count)).columns
    for t in range(count):
        found = {}
        for name in ("support", "query"):
            order = np.argsort(rows[f"{name}_y"][t], kind="stable")
            found[name] = (rows[f"{name}_rows"][t] % DRAWERS)[order].reshape(SPEC.ways, -1)
        yield found


def test_every_way_is_by_the_same_drawers(store: ClassStore):
    met: Counter[int] = Counter()
    for found in drawers(store, episodes(store, drawer="same"), 60):
        of_each = {name: [frozenset(way) for way in by.tolist()] for name, by in found.items()}
        (support,), (query,) = (set(ways) for ways in of_each.values())
        assert len(support) == SPEC.shots
        assert len(query) == SPEC.queries
        assert support.isdisjoint(query)
        met.update(support | query)
    assert len(met) == DRAWERS
    mixed = [found["support"] for found in drawers(store, episodes(store), 60)]
    assert any(len({frozenset(way) for way in by.tolist()}) > 1 for by in mixed)


def test_more_queries_leave_the_support_as_it_is(store: ClassStore):
    few, many = (episodes(store, drawer="same", queries=q).rows([0, 1]).columns for q in (1, 5))
    assert np.array_equal(few["support_rows"], many["support_rows"])


def test_other_drawers_are_refused(tmp_path: Path):
    other = made(tmp_path, odd="x")
    with pytest.raises(DataError, match="images of the same names in all classes"):
        episodes(other, drawer="same")


# --- recipes --------------------------------------------------------------------------------------


def recipe(*overrides: str) -> Recipe:
    return load_recipe("strokes-5w1s-maml", ("data.ways=4", *overrides))


def test_evaluation_may_be_within_groups_alone(store: ClassStore):
    data = EpisodeData(recipe("eval.within=group", "eval.drawer=same"), Path(), store, store.digest)
    drawn = {part: data.live(part, 2, 0).identity.spec for part in PARTS}
    assert {(s.within, s.drawer) for s in drawn.values()} == {("all", "any"), ("group", "same")}
    assert drawn["train"].within == "all"
    classes = data.classes("test", 9, 0)
    assert classes is not None
    assert np.array_equal(classes.ids, data.live("test", 2, 0).class_ids(range(9)))  # type: ignore[attr-defined]
    own = EpisodeData(recipe("data.within=group"), Path(), store, store.digest)
    assert all(own.live(part, 2, 0).identity.spec.within == "group" for part in PARTS)


def test_a_group_that_is_too_small_names_the_keys(store: ClassStore):
    data = EpisodeData(recipe("eval.within=group", "eval.ways=9"), Path(), store, store.digest)
    with pytest.raises(DataError, match=r"eval\.ways \(9\) or eval\.within \('group'; 'all'\)"):
        data.live("val", 1, 0, ways=9)


def test_shards_within_groups_have_a_place_of_their_own(tmp_path: Path):
    assert shards_root(tmp_path, recipe()).name == "4w1s1q-seed0"
    other = recipe("data.within=group", "data.drawer=same")
    assert shards_root(tmp_path, other).name == "4w1s1q-within_group-same_drawer-seed0"
    assert other.hash != recipe().hash
    assert "within" not in recipe().hashed()["data"]
    assert not {"within", "drawer"} & recipe().hashed()["eval"].keys()
