"""Diagnostics: similarity and alignment follow their formulas."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from ended_runs import FUNCTIONS
from fresh_learners import learner, sources
from torch import Tensor

from metadist.compute.learners import context, episode_key
from metadist.context import Context
from metadist.evaluation.diagnostics import (
    GRADIENT_TASKS,
    diagnose,
    gradient_alignment,
    gram,
    hsic,
    mean_cosine,
    pooled_cka,
)
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.inner.inner_loop import InnerLoop
from metadist.learner import Loss
from metadist.tasks import Params, Task


def normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rotation(n: int) -> Tensor:
    return torch.linalg.qr(normal(n, n, seed=9))[0]


def cka(x: Tensor, y: Tensor) -> float:
    return pooled_cka([(gram(x), gram(y))])


def textbook(x: Tensor, y: Tensor) -> float:
    """Kornblith et al., 2019, section 3: the biased formula, with features."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


# --- similarity of representations ----------------------------------------------------------------


def test_hsic_is_the_mean_over_all_different_four():
    """Its definition as a U-statistic, over ordered quadruples of different examples."""
    a, b = gram(normal(7, 3)), gram(normal(7, 2, seed=1))
    terms = [
        float(a[i, j] * (b[i, j] + b[q, r] - 2 * b[i, q]))
        for i, j, q, r in itertools.permutations(range(7), 4)
    ]
    assert hsic(a, b) == pytest.approx(sum(terms) / len(terms), rel=1e-10)
    assert hsic(a, b) == pytest.approx(hsic(b, a), rel=1e-12)


def test_equal_representations_have_exactly_one():
    for n, p, seed in ((4, 1, 0), (5, 3000, 1), (75, 64, 2)):
        x = normal(n, p, seed=seed).float()
        assert cka(x, x.clone()) == 1.0


def test_rotation_scale_and_shift_change_nothing():
    x = normal(30, 6)
    assert cka(x, 3.7 * x @ rotation(6) + 5.0) == pytest.approx(1.0, abs=1e-12)
    y = normal(30, 4, seed=1) + x[:, :4]
    moved = cka(0.2 * x @ rotation(6) - 1.0, 40.0 * y @ rotation(4))
    assert moved == pytest.approx(cka(x, y), abs=1e-12)
    # It is not blind to what is no rotation: one direction stretched is another representation.
    assert cka(x, x * torch.tensor([30.0, 1, 1, 1, 1, 1], dtype=torch.float64)) < 0.7


def test_it_agrees_with_the_textbook_formula_where_that_is_not_biased():
    x = normal(1000, 3)
    y = x @ normal(3, 3, seed=4) + normal(1000, 3, seed=5)
    assert 0.2 < textbook(x, y) < 0.95
    assert cka(x, y) == pytest.approx(textbook(x, y), abs=5e-3)


def test_independent_representations_are_low_with_more_features_than_examples():
    x, y = normal(75, 3000), normal(75, 3000, seed=1)
    assert textbook(x, y) > 0.9  # why the textbook formula is not used
    assert abs(cka(x, y)) < 0.1


def test_batches_are_pooled_before_the_ratio():
    batches = [
        (normal(8, 2, seed=s), normal(8, 2, seed=s) + normal(8, 2, seed=s + 50)) for s in (1, 2)
    ]
    grams = [(gram(x), gram(y)) for x, y in batches]
    xy, xx, yy = (
        sum(hsic(pair[i], pair[j]) for pair in grams) for i, j in ((0, 1), (0, 0), (1, 1))
    )
    assert pooled_cka(grams) == pytest.approx(xy / math.sqrt(xx * yy), rel=1e-12)


def test_where_there_is_no_similarity():
    x = normal(9, 3)
    assert math.isnan(cka(x, torch.ones(9, 3)))
    assert math.isnan(cka(x[:3], x[:3]))
    assert math.isnan(pooled_cka([]))


# --- alignment of gradients -----------------------------------------------------------------------


def test_mean_cosine_by_hand():
    rows = torch.tensor([[2.0, 0.0], [0.0, 3.0], [5.0, 5.0]], dtype=torch.float64)
    assert mean_cosine(rows @ rows.T) == pytest.approx((0 + 2 * math.sqrt(0.5)) / 3, rel=1e-14)
    with_zero = torch.cat([rows, torch.zeros(2, 2, dtype=torch.float64)])
    assert mean_cosine(with_zero @ with_zero.T) == pytest.approx(math.sqrt(2) / 3, rel=1e-14)
    opposite = torch.tensor([[1.0], [-4.0]], dtype=torch.float64)
    assert mean_cosine(opposite @ opposite.T) == -1.0
    assert math.isnan(mean_cosine(rows[:1] @ rows[:1].T))
    assert math.isnan(mean_cosine(torch.zeros(0, 0, dtype=torch.float64)))


def task_gradients(
    trained: TrainedLearner, source: Any, step_scalars: dict[str, Tensor]
) -> list[Params]:
    """Gradients of single tasks, taken plainly."""
    recipe, algorithm = trained.recipe, trained.learner
    tasks = trained.tasks(source, range(GRADIENT_TASKS))
    found = []
    for row, index in enumerate(tasks.ids):
        ctx = context(recipe, "train", recipe.outer.steps - 1)
        noise = algorithm.noise(episode_key(recipe, "train", 0, index), ctx)
        ctx = replace(ctx.for_task(noise), step_scalars=step_scalars)
        leaves = {n: p.clone().requires_grad_() for n, p in trained.params.items()}
        algorithm.loss(leaves, tasks.task(row), ctx).value.backward()
        found.append({n: p.grad for n, p in leaves.items() if p.grad is not None})
    return found


def expected_alignment(gradients: list[Params]) -> dict[str, float]:
    """Mean cosines, pair by pair."""

    def mean(vectors: list[Tensor]) -> float:
        pairs = list(itertools.combinations([v.double() for v in vectors], 2))
        return sum(float(a @ b / (a.norm() * b.norm())) for a, b in pairs) / len(pairs)

    names = gradients[0]
    each = {n: mean([g[n].flatten() for g in gradients]) for n in names}
    return {**each, "all": mean([torch.cat([g[n].flatten() for n in names]) for g in gradients])}


@pytest.mark.parametrize("algorithm", ["maml", "mtnet", "meta_sgd"])
def test_alignment_is_that_of_the_tasks_gradients(algorithm):
    trained, data = learner(FUNCTIONS, f"algorithm.name={algorithm}")
    training, _ = sources(trained, data)
    found, failed = gradient_alignment(trained, training)
    assert failed == 0
    assert found == pytest.approx(
        expected_alignment(task_gradients(trained, training, {})), abs=1e-6
    )
    assert list(found) == [*trained.params, "all"]


@dataclass(frozen=True)
class Together(InnerLoop):
    """A loss that depends on a signal of all tasks of the step."""

    @property
    def step_scalar_names(self) -> tuple[str, ...]:
        return ("size",)

    def step_scalars(self, params: Params, task: Task, ctx: Context) -> dict[str, Tensor]:
        return {"size": task.query.y.abs().mean()}

    def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
        own = super().loss(params, task, ctx)
        pull = sum((p**2).sum() for p in params.values()) * ctx.step_scalars["size"].mean()
        return replace(own, value=own.value + pull)


def test_signals_are_those_of_all_tasks():
    trained, data = learner()
    assert isinstance(trained.learner, InnerLoop)
    trained = replace(trained, learner=Together(**vars(trained.learner)))
    training, _ = sources(trained, data)
    tasks = trained.tasks(training, range(GRADIENT_TASKS))
    step_scalars = {"size": tasks.tensors["query_y"].abs().flatten(1).mean(1)}
    expected = expected_alignment(task_gradients(trained, training, step_scalars))
    assert gradient_alignment(trained, training)[0] == pytest.approx(expected, abs=1e-6)
    # All tasks share the pull, so they agree more than without it.
    plain = gradient_alignment(learner()[0], training)[0]
    assert expected["all"] > plain["all"] + 0.05


@pytest.mark.parametrize("algorithm", ["taml", "reptile", "mamlpp", "fomaml", "meta_curvature"])
def test_every_kind_of_meta_gradient(algorithm):
    trained, data = learner(FUNCTIONS, f"algorithm.name={algorithm}")
    found, failed = gradient_alignment(trained, sources(trained, data)[0])
    assert failed == 0
    assert {*found} == {*trained.params, "all"}
    assert all(-1.0 <= v <= 1.0 + 1e-12 for v in found.values() if math.isfinite(v))
    assert math.isfinite(found["all"])


def test_a_small_bank_of_training_episodes_is_not_left(monkeypatch):
    trained, data = learner(FUNCTIONS, "data.episodes=3")
    training, test = sources(trained, data)
    asked: list[list[int]] = []
    real = type(training).episodes

    def episodes(self: Any, ids: Any) -> Any:
        asked.append(list(ids))
        return real(self, ids)

    monkeypatch.setattr(type(training), "episodes", episodes)
    assert diagnose(trained, training, test, {})["tasks"] == 3
    assert [0, 1, 2] in asked
    assert len(asked) == 2  # the other are the test episodes
