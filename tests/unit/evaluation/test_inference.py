"""A trained learner labels images outside of any dataset, as the engine does, or says why not."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ended_runs import IMAGES, image_data
from fresh_learners import CPU, fresh_model
from own_images import export
from tiers import one_in

from data_pipeline.formats.labelled_images import read_queries, read_support
from metadist.compute.determinism import reproducible
from metadist.errors import AdaptError
from metadist.evaluation.inference.predictions import Predictions
from metadist.evaluation.inference.saved_model import SavedModel
from metadist.evaluation.inference.trained_model import TrainedModel

#: Learners whose answer depends on random numbers, on normalisation in each mode, and on neither.
LEARNERS = {
    "maml": ("eval.steps=3",),
    "running": ("model.norm=running",),
    "support": ("model.norm=support",),
    "mtnet": ("algorithm.name=mtnet",),
    "scratch": ("algorithm.name=scratch",),
    "reptile": ("algorithm.name=reptile",),
    "finetune": ("algorithm.name=finetune", "algorithm.head_init=drawn"),
    "pixels": ("algorithm.name=nearest_pixels", "eval.steps=0"),
    "embedding": ("algorithm.name=nearest_embedding", "eval.steps=0"),
}
ANY_WAYS = {"scratch", "finetune", "pixels", "embedding"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image data."""
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    return root


@lru_cache
def fresh(place: Path, name: str) -> tuple[TrainedModel, Any]:
    return fresh_model(IMAGES, *LEARNERS[name], root=place / "data")


def said(
    model: TrainedModel, support: Any, labels: Any, queries: Any, steps: int | None = None
) -> Predictions:
    """What a model says of prepared images."""
    return model.adapt_prepared(support, labels, steps=steps).predict_prepared(queries)


def opened(folder: Path) -> TrainedModel:
    return TrainedModel.of_saved(SavedModel.read(folder), CPU)


# --- as the engine does -----------------------------------------------------------------------


@pytest.mark.parametrize("name", one_in(3, LEARNERS))
def test_exported_images_give_the_engines_own_logits(place, tmp_path, name):
    model, source = fresh(place, name)
    trained, prepare = model.trained, model.tasks.preparation
    assert prepare is not None
    support, query = export(source.episodes([0]), tmp_path)
    given, asked = read_support(support, prepare), read_queries(query, prepare)
    result = said(model, given.pixels, given.labels, asked.pixels)
    # The engine in its own order of the support, and in that of the labels.
    tasks = trained.tasks(source, [0])
    order = tasks.tensors["support_y"][0].argsort(stable=True)
    sorted_ = {name: tasks.tensors[name][:, order] for name in ("support_x", "support_y")}
    tasks = replace(tasks, tensors={**tasks.tensors, **sorted_})
    with reproducible(CPU):
        ((*_, expected),) = trained.predict(tasks, "test", trained.recipe.inner.steps)
    np.testing.assert_array_equal(result.logits, expected.mean.double().numpy())
    np.testing.assert_allclose(result.probabilities.sum(1), 1.0, atol=1e-12)


@pytest.mark.parametrize("name", LEARNERS)
def test_saved_and_loaded_it_says_the_same(place, tmp_path, name):
    model, source = fresh(place, name)
    episode = source.episodes([0])
    names = [f"w{way}" for way in episode.support_y[0]]
    model.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "config.json",
        "recipe.toml",
        "weights.safetensors",
    ]
    loaded = opened(tmp_path)
    before = said(model, episode.support_x[0], names, episode.query_x[0])
    after = said(loaded, episode.support_x[0], names, episode.query_x[0])
    np.testing.assert_array_equal(before.logits, after.logits)
    assert loaded.facts == model.facts
    assert loaded.tasks == model.tasks


# --- what it can tell apart -------------------------------------------------------------------


def drawn(place: Path, ways: int, shots: tuple[int, ...] = (1,), name: str = "maml") -> Any:
    """Support of some shots per class, labels and a query of each class."""
    model, _ = fresh(place, name)
    rng = np.random.default_rng(ways)
    assert model.tasks.preparation is not None
    shape = model.tasks.preparation.shape
    kinds = rng.integers(0, 256, (ways, *shape), dtype=np.uint8)
    counts = [shots[way % len(shots)] for way in range(ways)]
    support = np.concatenate([np.stack([kinds[way]] * counts[way]) for way in range(ways)])
    labels = [f"kind {way}" for way in range(ways) for _ in range(counts[way])]
    return model, support, labels, kinds


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("ways", [2, 4])
def test_other_numbers_of_classes(place, name, ways):
    model, support, labels, queries = drawn(place, ways, name=name)
    if name in ANY_WAYS:
        result = said(model, support, labels, queries)
        assert result.logits.shape == (ways, ways)
        return
    with pytest.raises(AdaptError, match=rf"trained to tell 3 classes apart.*got {ways}"):
        said(model, support, labels, queries)


@pytest.mark.parametrize("name", LEARNERS)
def test_classes_may_have_different_numbers_of_images(place, name):
    model, support, labels, queries = drawn(place, 3, (1, 4, 2), name=name)
    assert model.adapt_prepared(support, labels).shots == (1, 4, 2)
    result = said(model, support, labels, queries)
    assert np.isfinite(result.logits).all()
    if name == "pixels":
        assert result.labels == result.classes


def test_the_order_of_labels_does_not_matter_and_that_of_outputs_is_sorted(place):
    model, support, labels, queries = drawn(place, 3, (2,), name="mtnet")
    first = said(model, support, labels, queries)
    turned = [4, 5, 0, 1, 2, 3]
    second = said(model, support[turned], [labels[row] for row in turned], queries)
    assert first.classes == ("kind 0", "kind 1", "kind 2")
    np.testing.assert_array_equal(first.logits, second.logits)


def test_transductive_predictions_depend_on_other_queries_and_say_so(place):
    for name, depends in (("maml", True), ("support", False), ("pixels", False)):
        model, support, labels, queries = drawn(place, 3, name=name)
        together = said(model, support, labels, queries)
        fewer = said(model, support, labels, queries[:2])
        same = np.allclose(together.logits[:2], fewer.logits, atol=1e-5)
        assert same is not depends
        assert any("depends on the others" in note for note in together.notes) is depends
        assert any("figures do not hold" in note for note in fewer.notes) is depends
        if depends:
            with pytest.raises(AdaptError, match="one query alone"):
                said(model, support, labels, queries[:1])
        else:
            assert len(said(model, support, labels, queries[:1]).logits) == 1


def test_many_queries_in_several_passes(place, monkeypatch):
    model, support, labels, queries = drawn(place, 3, name="running")
    whole = said(model, support, labels, queries)
    monkeypatch.setattr("metadist.evaluation.inference.fitted_model.PASS", 2)
    parts = said(model, support, labels, queries)
    np.testing.assert_allclose(whole.logits, parts.logits, atol=1e-5)


def test_steps(place):
    model, support, labels, queries = drawn(place, 3)
    trained = said(model, support, labels, queries)
    assert model.adapt_prepared(support, labels).steps == 1
    more = said(model, support, labels, queries, 3)
    assert model.adapt_prepared(support, labels, steps=3).steps == 3
    assert not np.allclose(trained.logits, more.logits)
    for steps in (-1, 10**6):
        with pytest.raises(AdaptError, match="steps: a whole number between 0 and"):
            said(model, support, labels, queries, steps)
    pixels, *rest = drawn(place, 3, name="pixels")
    assert pixels.adapt_prepared(*rest[:2]).steps is None
    with pytest.raises(AdaptError, match="does not adapt by steps, 2 were asked"):
        pixels.adapt_prepared(*rest[:2], steps=2)


def test_requests_that_make_no_sense(place):
    model, support, labels, queries = drawn(place, 3)
    with pytest.raises(AdaptError, match="no support image"):
        said(model, support[:0], [], queries)
    with pytest.raises(AdaptError, match="no query image"):
        said(model, support, labels, queries[:0])
    with pytest.raises(AdaptError, match=r"at least two classes.*'kind 0'"):
        said(model, support[:1], labels[:1], queries)


def test_divergence_is_an_error_and_no_label(place):
    model, support, labels, queries = drawn(place, 3)
    wild = {name: p * np.inf for name, p in model.trained.params.items()}
    broken = replace(model, trained=replace(model.trained, params=wild))
    with pytest.raises(AdaptError, match="not finite after 1 adaptation steps"):
        said(broken, support, labels, queries)


def test_probabilities_of_large_outputs():
    logits = np.array([[1e4, 0.0], [-1e4, -1e4]])
    found = Predictions(logits, ("a", "b"))
    np.testing.assert_array_equal(found.probabilities, [[1.0, 0.0], [0.5, 0.5]])
    assert found.labels == ("a", "a")
