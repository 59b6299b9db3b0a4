"""Models in memory of learners that want, or say, more than a network with an inner loop does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ended_runs import FUNCTIONS, IMAGES, image_data
from fresh_learners import fresh_model
from torch import Tensor

from metadist.context import Context
from metadist.errors import AdaptError, PluginError, RecipeError, RunError
from metadist.evaluation.inference.trained_model import TrainedModel
from metadist.keys import Key
from metadist.learner import Learner
from metadist.tasks import Examples, Params, Prediction, Task


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image data."""
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    return root


class Means(Learner):
    """The nearest mean of each class; it has no inner loop."""

    def __init__(self, objective: Any) -> None:
        self.objective = objective

    @property
    def derivative_order(self) -> int:
        return 0

    def init(self, key: Key) -> Params:
        return {}

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[Any]:
        x, y = task.support.x.flatten(1), task.support.y
        return [torch.stack([x[y == way].mean(0) for way in y.unique()])]

    def predict(self, fitted: Tensor, query: Examples, ctx: Context) -> Prediction:
        return Prediction(-torch.cdist(query.x.flatten(1), fitted))


class Unlabelled(Means):
    """Its means are drawn towards that of the unlabeled examples."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"unlabeled"})

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[Any]:
        (means,) = super().adapt(params, task, ctx)
        return [means + task.unlabeled.x.flatten(1).mean(0)]


class Transductive(Means):
    """It subtracts the mean of the queries."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"query_x"})

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[Any]:
        (means,) = super().adapt(params, task, ctx)
        return [means - task.query.x.flatten(1).mean(0)]


class Centred(Means):
    """It normalises by the batch that it is shown, and differentiates nothing."""

    def predict(self, fitted: Tensor, query: Examples, ctx: Context) -> Prediction:
        x = query.x.flatten(1)
        return Prediction(-torch.cdist(x - x.mean(0), fitted))


class Sampling(Means):
    """It says how sure it is, and draws values."""

    def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[Any]:
        return [task.support.y.mean()]

    def predict(self, fitted: Tensor, query: Examples, ctx: Context) -> Prediction:
        mean = fitted + query.x
        samples = torch.stack([mean - 1, mean, mean + 1])
        return Prediction(mean, torch.full_like(mean, 0.5), samples)


class Knowing(Means):
    """It wants to know what examples do not say."""

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"latent", "query_previous", "class_ids"})


def of(place: Path, learner: type[Means]) -> tuple[TrainedModel, Any]:
    model, source = fresh_model(IMAGES, root=place / "data")
    own = learner(model.trained.learner.objective)
    trained = replace(model.trained, learner=own, params={})
    return replace(model, trained=trained), source.episodes([0])


def flat(pixels: Any) -> Tensor:
    """Gray images uint8 [n, H, W, 1] as numbers in [0, 1]."""
    return torch.from_numpy(pixels[:, :, :, 0]).flatten(1) / 255


def flat_means(episode: Any) -> Tensor:
    """Mean support image of each class."""
    x, y = flat(episode.support_x[0]), torch.from_numpy(episode.support_y[0])
    return torch.stack([x[y == way].mean(0) for way in range(3)])


def test_unlabeled_examples_reach_the_learner(place):
    model, episode = of(place, Unlabelled)
    x, y, q = episode.support_x[0], episode.support_y[0], episode.query_x[0]
    found = model.adapt(x, y, unlabeled=q[:2]).predict(q)
    queries = flat(q)
    expected = -torch.cdist(queries, flat_means(episode) + queries[:2].mean(0))
    np.testing.assert_allclose(found.logits, expected.double().numpy(), rtol=1e-5)
    for none in (None, q[:0]):
        with pytest.raises(AdaptError, match="learns from unlabeled examples too; give some"):
            model.adapt(x, y, unlabeled=none)


def test_a_learner_that_adapts_to_its_queries_waits_for_them(place, monkeypatch):
    # However many there are, they are seen together.
    monkeypatch.setattr("metadist.evaluation.inference.fitted_model.PASS", 2)
    model, episode = of(place, Transductive)
    fitted = model.adapt(episode.support_x[0], episode.support_y[0])
    assert fitted.steps is None
    all_, some = fitted.predict(episode.query_x[0]), fitted.predict(episode.query_x[0][:2])
    assert not np.allclose(all_.logits[:2], some.logits)
    means, queries = flat_means(episode), flat(episode.query_x[0])
    expected = -torch.cdist(queries, means - queries.mean(0))
    np.testing.assert_allclose(all_.logits, expected.double().numpy(), rtol=1e-5)
    with pytest.raises(AdaptError, match="adapts when it sees queries"):
        fitted.state_dict()
    with pytest.raises(AdaptError, match="does not adapt by steps, 2 were asked"):
        model.adapt(episode.support_x[0], episode.support_y[0], steps=2).predict(episode.query_x[0])


def test_without_derivatives_a_network_may_normalise_all_the_same(place, monkeypatch):
    monkeypatch.setattr("metadist.evaluation.inference.fitted_model.PASS", 2)
    model, episode = of(place, Centred)
    q = episode.query_x[0]
    found = model.adapt(episode.support_x[0], episode.support_y[0]).predict(q)
    queries = flat(q)
    expected = -torch.cdist(queries - queries.mean(0), flat_means(episode))
    np.testing.assert_allclose(found.logits, expected.double().numpy(), rtol=1e-5)


def test_scale_and_samples_are_handed_on():
    model, _ = fresh_model(FUNCTIONS, shots=10)
    own = Sampling(model.trained.learner.objective)
    model = replace(model, trained=replace(model.trained, learner=own, params={}))
    found = model.adapt([0.0, 1.0], [2.0, 4.0]).predict(np.arange(600.0))
    np.testing.assert_array_equal(found.mean[:, 0], 3.0 + np.arange(600.0))
    assert found.scale is not None
    assert found.samples is not None
    assert found.scale.shape == (600, 1)
    assert (found.scale == 0.5).all()
    np.testing.assert_array_equal(found.samples, found.mean + np.array([-1, 0, 1])[:, None, None])
    lines = repr(found).splitlines()
    assert lines[1].split() == ["mean", "scale"]
    assert lines[2].split() == ["0", "3.00", "0.500"]
    assert lines[-1] == "… and 590 more"


def test_a_learner_that_wants_to_know_more_is_refused_by_name(place):
    model, episode = of(place, Knowing)
    with pytest.raises(AdaptError, match="wants to know latent, query_previous of a task"):
        model.adapt(episode.support_x[0], episode.support_y[0])


@pytest.mark.parametrize("error", [PluginError, RecipeError, RunError])
def test_what_cannot_be_built_for_other_ways_is_still_printed_and_saved(
    place, tmp_path, monkeypatch, error
):
    model, source = fresh_model(IMAGES, root=place / "data")
    asked = []

    def refuse(*arguments: Any) -> Any:
        asked.append(arguments)
        raise error("ways: three alone")

    monkeypatch.setattr("metadist.evaluation.inference.trained_model.with_ways", refuse)
    for _ in range(3):
        assert "tells 3 classes apart" in repr(model)
    assert '"ways": 3' in (model.save(tmp_path / "new") / "config.json").read_text()
    assert len(asked) == 1  # a network is drawn once
    if error is not PluginError:
        drawn = source.episodes([0])
        with pytest.raises(AdaptError, match="three alone; give 3 classes, got 2"):
            model.adapt(drawn.support_x[0][:2], ["a", "b"])


@pytest.mark.parametrize("steps", [1.5, "2", True, -1, 10**9, np.float64(1)])
def test_steps_are_a_whole_number(place, steps):
    model, source = fresh_model(IMAGES, root=place / "data")
    drawn = source.episodes([0])
    given = drawn.support_x[0], drawn.support_y[0]
    with pytest.raises(AdaptError, match="steps: a whole number between 0 and"):
        model.adapt(*given, steps=steps)
    two: Any = np.int64(2)
    assert model.adapt(*given, steps=two).steps == 2


def test_a_learner_without_parameters_tells_any_number_apart_and_is_saved(place, tmp_path):
    model, episode = fresh_model(IMAGES, "algorithm.name=nearest_pixels", root=place / "data")
    drawn = episode.episodes([0])
    x, y = drawn.support_x[0], drawn.support_y[0]
    two = model.adapt(x[y < 2], y[y < 2])
    assert two.predict(x).probabilities.shape == (6, 2)
    assert "tells any number of classes apart" in repr(model)
    assert '"ways": "any"' in (model.save(tmp_path / "new") / "config.json").read_text()
