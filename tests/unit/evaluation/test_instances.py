"""Accuracy by instance: counted on the run's own test episodes, exact for any number of workers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ended_runs import IMAGES, ended_run, image_data

from metadist.compute.collectives import Group
from metadist.compute.learners import episode_key
from metadist.evaluation.measures.instances import by_instance, counted
from metadist.evaluation.protocols import own_protocols
from metadist.evaluation.trained_run import TrainedRun
from metadist.inner.blocks.sequence import order_noise
from metadist.runs.run_dir import RunDir
from metadist.statistics.instances import ByInstance, guessed
from metadist.tasks import Examples
from tests.numerics.conftest import RunGroup

PIXELS = ("algorithm.name=nearest_pixels", "eval.steps=0", "inner.steps=0", "eval.extra_queries=0")
WAYS, SHOTS, QUERIES, EPISODES = 3, 1, 2, 9


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ``nearest_pixels``."""
    root = tmp_path_factory.mktemp("instances")
    image_data(root)
    ended_run(root, "pixels", IMAGES, *PIXELS)
    return root


def loaded(root: Path, name: str = "pixels") -> TrainedRun:
    return TrainedRun.load(RunDir(root / "runs" / name), root / "data", torch.device("cpu"))


def nearest(run: TrainedRun) -> tuple[list[int], list[int]]:
    """Right answers and examples, of the first of an episode, then by instance, written again."""
    recipe, data = run.run.recipe(), run.evaluator.setup.data
    batch = data.live("test", QUERIES, 0, SHOTS, WAYS).episodes(range(EPISODES))
    right, shown = np.zeros(SHOTS + QUERIES + 1, int), np.zeros(SHOTS + QUERIES + 1, int)
    for episode in range(EPISODES):
        sets = ((batch.support_x, batch.support_y), (batch.query_x, batch.query_y))
        x = np.concatenate([images[episode] for images, _ in sets])
        y = np.concatenate([labels[episode] for _, labels in sets])
        numbers = order_noise(episode_key(recipe, "test", 0, episode))[: len(y)].tolist()
        order = sorted(range(len(y)), key=numbers.__getitem__)
        flat = x.reshape(len(x), -1).astype(np.float64)[order]
        flat, y = flat / np.linalg.norm(flat, axis=1, keepdims=True), y[order]
        for place, label in enumerate(y):
            said = y[(flat[:place] @ flat[place]).argmax()] if place else 0
            instance = int((y[: place + 1] == label).sum())
            for slot in [0, instance] if place == 0 else [instance]:
                shown[slot] += 1
                right[slot] += said == label
    return right.tolist(), shown.tolist()


def test_it_is_that_of_the_test_episodes_in_an_order_of_their_own(root: Path):
    run = loaded(root)
    right, shown = nearest(run)
    assert shown == [EPISODES, *[WAYS * EPISODES] * (SHOTS + QUERIES)]
    wanted = ByInstance.of(right, shown)
    # Nearest neighbours know no class that was not shown: all first ones are missed but guesses.
    assert wanted.accuracy[0] == pytest.approx(wanted.first_example / WAYS)
    assert wanted.accuracy[2] > 0.6
    path = root / "runs/pixels/evaluation/test-2q.json"
    assert json.loads(path.read_text())["by_instance"] == wanted.as_dict()
    results = run.evaluator.results(run.best, own_protocols(run.run.recipe()))
    for name, value in wanted.points.items():
        assert results.points[f"test/{name}"] == value
    assert set(wanted.points) == {
        "accuracy_first_example",
        *(f"accuracy_instance_{k}" for k in (1, 2, 3)),
    }


def test_it_is_the_same_for_any_number_of_workers(root: Path, run_group: RunGroup):
    run = loaded(root)
    (how,) = own_protocols(run.run.recipe())
    trained = run.evaluator.trained(run.best, how.ways)

    def share(group: Group) -> ByInstance | None:
        return by_instance(trained, how.source(run.evaluator.setup.data), how, group)

    (alone,) = run_group(1, share)
    assert alone is not None
    assert run_group(4, share) == [alone] * 4


def test_learners_that_do_not_predict_in_sequence_have_none(root: Path):
    run = ended_run(root, "network", IMAGES, "eval.steps=1", "eval.extra_queries=0")
    found = json.loads((run.evaluation / "test-2q.json").read_text())
    assert "by_instance" not in found


def test_instances_are_counted_in_order():
    y = torch.tensor([1, 0, 1, 1, 0])
    logits = torch.eye(2)[torch.tensor([1, 1, 0, 1, 0])]
    found = counted(Examples(y.double(), y), logits, 4)
    assert found.tolist() == [[1, 1, 1, 1, 0], [1, 2, 2, 1, 0]]
    # An answer that is none, or none of the ways; an example that does not count.
    none = torch.cat([logits, torch.full((5, 1), -1.0)], 1)
    none[2, 2], none[3, 0] = 5.0, math.nan
    mask = torch.tensor([True, True, True, True, False])
    found = counted(Examples(y.double(), y, mask=mask), none, 4)
    assert found.tolist() == [[1, 1, 0, 0, 0], [1, 2, 1, 1, 0]]


def test_a_record_of_them_is_read_again():
    found = ByInstance.of([1, 3, 0], [5, 10, 0])
    assert found.first_example == 0.2
    assert found.as_dict() == {"first_example": 0.2, "instances": [0.3, None]}
    again = ByInstance.read(json.loads(json.dumps(found.as_dict())))
    assert repr(again) == repr(found)
    assert found.points == {"accuracy_instance_1": 0.3, "accuracy_first_example": 0.2}
    for damaged in (3, {"instances": 0.5, "first_example": 0.1}, {"instances": [1.5]}):
        with pytest.raises((ValueError, KeyError)):
            ByInstance.read(damaged)
    with pytest.raises(ValueError, match="accuracies lie in"):
        ByInstance.read({"first_example": 0.1, "instances": [1.5]})


def test_the_best_guess_at_a_first_one_is_among_those_that_are_left():
    assert guessed(1) == 1
    assert guessed(5) == pytest.approx((1 / 5 + 1 / 4 + 1 / 3 + 1 / 2 + 1) / 5)
