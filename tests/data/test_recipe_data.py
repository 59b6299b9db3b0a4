"""What a recipe's data section asks for is what is drawn, and what it cannot mean is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipeline import functions
from data_pipeline.datasets import PARTS, Part
from data_pipeline.episodes.staged import Stage, open_stage
from data_pipeline.errors import DataError
from data_pipeline.shards.reader import ShardSource
from data_pipeline.shards.writer import write_shards
from data_pipeline.store.class_store import ClassStore
from metadist import plugins
from metadist.episode_data import EpisodeData, open_data
from metadist.episode_data.places import shards_root
from metadist.errors import RecipeError
from metadist.recipe.schema import Recipe, load_recipe


def images(*overrides: str) -> Recipe:
    return load_recipe("strokes-5w1s-maml", ("data.ways=3", "data.episodes=40", *overrides))


def points(*overrides: str) -> Recipe:
    return load_recipe("sinusoid-10shot-maml", overrides)


@pytest.mark.parametrize("labels", ["permuted", "fixed"])
def test_all_parts_have_the_labels_of_the_recipe(labels, toy_store: ClassStore) -> None:
    data = EpisodeData(images(f"data.labels={labels}"), Path("data"), toy_store, toy_store.digest)
    for part in PARTS:
        assert data.live(part, 2, 0).identity.spec.labels == labels


@pytest.mark.parametrize(
    ("part", "overrides", "words"),
    [
        ("train", ("data.ways=99",), ["train classes", "data.ways (99)", "data.split"]),
        ("val", ("data.ways=99",), ["val classes", "data.ways (99)"]),
        ("train", ("data.queries=99",), ["data.shots (1)", "data.queries (99)"]),
        ("train", ("data.shots=99",), ["data.shots (99)", "data.queries (1)"]),
        ("val", ("eval.queries=99",), ["data.shots (1)", "eval.queries (99)"]),
        (
            "test",
            ("eval.queries=99", "eval.extra_queries=0"),
            ["data.shots (1)", "eval.queries (99)"],
        ),
        ("test", ("eval.extra_queries=99",), ["data.shots (1)", "eval.extra_queries (99; 0"]),
        ("val", ("eval.shots=99",), ["eval.shots (99)", "eval.queries (1)"]),
        ("val", ("eval.ways=99",), ["val classes", "eval.ways (99)"]),
        ("train", ("data.unlabeled=99",), ["data.shots (1)", "data.unlabeled (99)"]),
        (
            "train",
            ("data.unlabeled=1", "data.distractors=99"),
            ["data.ways (3)", "data.distractors (99)"],
        ),
        ("val", ("data.unlabeled=1", "data.distractors=2"), ["data.distractors (2)"]),
    ],
)
def test_episodes_that_are_too_large_name_every_key(
    part: Part, overrides: tuple[str, ...], words: list[str], toy_store: ClassStore
) -> None:
    recipe = images(*overrides)
    data = EpisodeData(recipe, Path("data"), toy_store, toy_store.digest)
    own = recipe.protocols[-1] if part == "test" else recipe.eval.queries
    sizes = own, 0, recipe.eval_shots, recipe.eval_ways
    with pytest.raises(DataError) as error:
        data.training() if part == "train" else data.live(part, *sizes)
    for word in words:
        assert word in str(error.value)


def test_another_protocol_names_the_options_that_ask_for_it(toy_store: ClassStore) -> None:
    data = EpisodeData(images(), Path("data"), toy_store, toy_store.digest)
    with pytest.raises(DataError, match=r"lower --shots \(77\) or --queries \(66\)"):
        data.live("test", 66, 0, shots=77)


def test_shards_of_fixed_labels_have_a_place_of_their_own(
    toy_store: ClassStore, tmp_path: Path
) -> None:
    fixed, permuted = (
        EpisodeData(
            images(f"data.labels={labels}", "data.storage=shards"), tmp_path, toy_store, "0"
        )
        for labels in ("fixed", "permuted")
    )
    root = shards_root(tmp_path, fixed.recipe)
    assert root.name == "3w1s1q-fixed-seed0"
    assert shards_root(tmp_path, permuted.recipe).name == "3w1s1q-seed0"
    turned = images("data.labels=fixed", "data.rotations=as_classes")
    assert shards_root(tmp_path, turned).name == "3w1s1q-as_classes-fixed-seed0"
    live = fixed.live("train", 1, 0)
    write_shards(live, 40, root)
    held = fixed.training()
    assert isinstance(held, ShardSource)
    assert held.identity == live.identity
    with pytest.raises(RecipeError, match="none are there"):
        permuted.training()
    root.rename(shards_root(tmp_path, permuted.recipe))
    with pytest.raises(DataError, match=r"spec\.labels: demanded 'permuted', got 'fixed'"):
        permuted.training()


def test_unlabeled_images_are_of_all_parts_and_have_shards_of_their_own(
    toy_store: ClassStore, tmp_path: Path
) -> None:
    recipe = images("data.unlabeled=4", "data.distractors=1", "data.storage=shards")
    data = EpisodeData(recipe, tmp_path, toy_store, "0")
    for part in PARTS:
        batch = data.live(part, 2, 0).episodes([0])
        assert batch.columns["unlabeled_x"].shape == (1, 16, 6, 6, 1)
    root = shards_root(tmp_path, recipe)
    assert root.name == "3w1s1q4u1d-seed0"
    assert shards_root(tmp_path, points("data.unlabeled=3")).name == "10s10q3u-seed0"
    write_shards(data.live("train", 1, 0), 40, root)
    assert data.training().episodes([7]).columns["unlabeled_y"].shape == (1, 16)
    # What a learner is told of its tasks is the same.
    assert data.shape == EpisodeData(images(), tmp_path, toy_store, "0").shape


@pytest.mark.parametrize("name", functions.names())
def test_every_family_is_a_dataset_of_a_recipe(name: str, tmp_path: Path) -> None:
    data = open_data(points(f"data.dataset={name}"), tmp_path)
    spec = functions.load(name).SPEC
    batch = data.training().episodes([0, 1])
    assert batch.support_x.shape == (2, 10, *data.shape.inputs) == (2, 10, spec.inputs)
    assert batch.support_y.shape == (2, 10, data.shape.outputs) == (2, 10, 1)
    assert batch.columns["latent"].shape == (2, data.shape.latent)


STAGED = '''"""Sinusoids of a stage, moved by its number."""

from data_pipeline.episode_sources import SourceSpec
from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.sources import identity_of
from data_pipeline.episodes.staged import staged_identity

PART = "episode_source"
SPEC = SourceSpec("rollouts", "sinusoids in stages", version=1)


class Plain:
    def __init__(self, part, spec, seed, identity=None):
        inner = FunctionEpisodes("sinusoid", part, spec, seed)
        self.identity = identity or identity_of(SPEC, part, spec, seed)
        self.schema, self.episodes = inner.schema, inner.episodes


class Staged:
    stages = 10

    def __init__(self, spec, seed):
        self.identity = identity_of(SPEC, "train", spec, seed)
        self.schema, self._asked = Plain("train", spec, seed).schema, (spec, seed)

    def stage(self, number, params_digest, params):
        return Plain("train", *self._asked, staged_identity(self.identity, number, params_digest))


def open(part, spec, seed):
    return Staged(spec, seed) if part == "train" else Plain(part, spec, seed)
'''


def test_training_episodes_may_be_staged(tmp_path: Path) -> None:
    (tmp_path / "rollouts.py").write_text(STAGED, encoding="utf-8")
    with plugins.use(tmp_path / "rollouts.py"):
        data = open_data(points("data.dataset=rollouts"), tmp_path)
        assert data.staged is not None
        assert data.staged.stages == 10
        stage = open_stage(data.staged, Stage.at(data.staged, 25), "d", {})
        assert stage.identity.payload == {"stage": 2, "params_sha256": "d"}
        assert data.shape == open_data(points(), tmp_path).shape
        with pytest.raises(DataError, match="train episodes depend on the parameters"):
            data.training()
        assert len(data.live("test", 5, 0).episodes([0, 1])) == 2
    assert open_data(points(), tmp_path).staged is None


def test_functions_have_no_fixed_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sinusoid_fixed"):
        open_data(points("data.labels=fixed"), tmp_path).training()


@pytest.mark.parametrize("key", ["store", "split"])
def test_what_has_no_effect_on_functions_is_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=rf"data\.{key}: sinusoid is a family.*got 'mine'"):
        open_data(points(f"data.{key}=mine"), tmp_path)
