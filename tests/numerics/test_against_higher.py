"""The same weights, episodes and settings in ``higher``: same losses, same meta-gradients.

``higher`` (Grefenstette et al., "Generalized Inner Loop Meta-Learning", 2019) unrolls a stock
``torch.nn.Module`` under a stock optimiser; the modules here are twins of conv4 and mlp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metadist.compute.learners import build, context
from metadist.compute.strategies import ChunkResult, Loop, Vmap
from metadist.keys import Key
from metadist.recipe.schema import Recipe
from metadist.tasks import Params, TaskBatch, TaskShape
from tests.numerics.reference import EXACT, OTHER, distance, total, whole_distance

TASKS, WAYS, SHOTS, QUERIES = 3, 5, 1, 2
INPUTS = {"conv4": (1, 28, 28), "mlp": (3,)}
NORMS = {"conv4": "transductive", "mlp": "none"}
OPTIONS: dict[str, dict[str, Any]] = {
    "conv4": {"filters": 8, "affine": "scale_shift"},
    "mlp": {"hidden": 20, "layers": 2},
}


class ConvTwin(nn.Module):
    """conv4 in its Omniglot form, from stock layers."""

    def __init__(self) -> None:
        super().__init__()
        for block in range(1, 5):
            inputs = 1 if block == 1 else 8
            setattr(self, f"conv{block}", nn.Conv2d(inputs, 8, 3, 2, 1, bias=False))
            setattr(self, f"norm{block}", nn.BatchNorm2d(8, eps=1e-3, track_running_stats=False))
        self.head = nn.Linear(8, WAYS)

    def forward(self, x: Tensor) -> Tensor:
        for block in range(1, 5):
            x = F.relu(getattr(self, f"norm{block}")(getattr(self, f"conv{block}")(x)))
        return self.head(x.mean((2, 3)))


class MLPTwin(nn.Module):
    """mlp with two hidden layers, from stock layers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(3, 20)
        self.linear2 = nn.Linear(20, 20)
        self.linear3 = nn.Linear(20, WAYS)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear3(F.relu(self.linear2(F.relu(self.linear1(x)))))


def ours_to_theirs(name: str) -> str:
    if name.startswith("norm"):
        return name.replace("scale", "weight").replace("shift", "bias")
    return name


@dataclass(frozen=True)
class Problem:
    """Weights, tasks and settings, equal for both programs."""

    recipe: Recipe
    params: Params
    tasks: TaskBatch

    @property
    def adapted(self) -> list[str]:
        every = self.recipe.algorithm.options["adapt_norm"]
        return [n for n in self.params if every or not n.startswith("norm")]


def problem(model: str, steps: int, adapt_norm: bool, algorithm: str = "maml") -> Problem:
    recipe = Recipe.model_validate(
        {
            "data": {"dataset": "none"},
            "model": {"name": model, "norm": NORMS[model], **OPTIONS[model]},
            "algorithm": {"name": algorithm, "adapt_norm": adapt_norm},
            "inner": {"lr": 0.1, "steps": steps, "loss": "sum_over_ways"},
            "engine": {"dtype": "float64"},
        }
    )
    key = Key.of("peer", model)
    shape = TaskShape(INPUTS[model], WAYS, WAYS)
    params = {
        name: p.double() + 0.1 * key.fold(name).normal(p.shape, torch.float64)
        for name, p in build(recipe, shape).init(key).items()
    }
    columns: Params = {}
    for name, copies in (("support", SHOTS), ("query", QUERIES)):
        size = (TASKS, WAYS * copies, *shape.inputs)
        labels = torch.arange(WAYS).repeat_interleave(copies).repeat(TASKS, 1)
        columns[f"{name}_x"] = key.fold(name).uniform(size, torch.float64)
        columns[f"{name}_y"] = labels
    return Problem(recipe, params, TaskBatch(tuple(range(TASKS)), columns))


def ours(p: Problem, mode: str) -> ChunkResult:
    shape = TaskShape(INPUTS[p.recipe.model.name], WAYS, WAYS)
    algorithm, ctx = build(p.recipe, shape), context(p.recipe, "train", 0)
    noise: list[dict[str, Tensor]] = [{}] * TASKS
    if mode == "vmap":
        return Vmap(TASKS).chunk(algorithm, p.params, p.tasks, noise, ctx)
    return Loop().chunk(algorithm, p.params, p.tasks, noise, ctx)


def theirs(p: Problem) -> tuple[Tensor, Params]:
    """Query losses and the summed meta-gradient by ``higher``."""
    import higher

    net = (ConvTwin() if p.recipe.model.name == "conv4" else MLPTwin()).double()
    weights = {name: net.get_parameter(ours_to_theirs(name)) for name in p.params}
    assert len(weights) == len(list(net.parameters()))
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(p.params[name])
    optimizer = torch.optim.SGD([weights[n] for n in p.adapted], lr=p.recipe.inner.lr)
    losses, gradients = [], []
    for index in range(TASKS):
        task = p.tasks.task(index)
        unrolled = higher.innerloop_ctx(net, optimizer, copy_initial_weights=False)
        with unrolled as (functional, inner):
            for _ in range(p.recipe.inner.steps):
                loss = F.cross_entropy(functional(task.support.x), task.support.y)
                inner.step(WAYS * loss)
            value = F.cross_entropy(functional(task.query.x), task.query.y)
            parts = torch.autograd.grad(value, list(weights.values()))
        losses.append(value.detach())
        gradients.append(dict(zip(weights, parts, strict=True)))
    return torch.stack(losses), total(gradients)


def norm(gradients: Params) -> Tensor:
    return torch.stack([g.norm() for g in gradients.values()]).norm()


CASES = [("mlp", True), ("conv4", True), ("conv4", False)]


@pytest.mark.parametrize("mode", ["loop", "vmap"])
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize(("model", "adapt_norm"), CASES)
def test_loss_and_meta_gradient_are_those_of_higher(
    model: str, adapt_norm: bool, steps: int, mode: str
):
    p = problem(model, steps, adapt_norm)
    losses, gradients = theirs(p)
    result = ours(p, mode)
    torch.testing.assert_close(result.metrics["loss"], losses, rtol=EXACT, atol=0)
    torch.testing.assert_close(norm(result.gradients), norm(gradients), rtol=EXACT, atol=0)
    assert distance(result.gradients, gradients) <= EXACT


@pytest.mark.parametrize(("model", "adapt_norm"), CASES)
def test_first_order_is_not_what_higher_finds(model: str, adapt_norm: bool):
    p = problem(model, 2, adapt_norm, "fomaml")
    losses, gradients = theirs(p)
    result = ours(p, "loop")
    torch.testing.assert_close(result.metrics["loss"], losses, rtol=EXACT, atol=0)
    assert whole_distance(result.gradients, gradients) > OTHER


def test_the_other_choice_of_adapted_parameters_is_noticed():
    _, gradients = theirs(problem("conv4", 2, False))
    assert distance(ours(problem("conv4", 2, True), "loop").gradients, gradients) > EXACT
