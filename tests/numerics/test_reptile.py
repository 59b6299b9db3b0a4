"""Reptile against what it is by definition, and its mini-batches, in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metadist.algorithms.reptile import shuffled
from metadist.keys import Key
from metadist.tasks import Params
from tests.contract.cases import Case
from tests.contract.setting import Setting, make
from tests.contract.training import train, trainer
from tests.numerics.reference import (
    EXACT,
    OTHER,
    Tensors,
    cross_entropy,
    derivative,
    distance,
    leaves,
    squared_error,
    total,
    whole_distance,
)
from tests.numerics.variants_reference import orders

JOINT = 1e-10
PLAIN = (("inner_optimizer", "sgd"), ("inner_batch", 0))
CASES = [
    Case("reptile", "mlp-tanh", "none", 1, PLAIN),
    Case("reptile", "mlp-relu", "none", 1, PLAIN),
    Case("reptile", "conv4-stride", "transductive", 1, PLAIN),
]


def joint_gradient(setting: Setting) -> Tensors:
    """Summed over tasks: of the loss of theta on support and query as one set."""
    learner = setting.case.reference
    score = squared_error if setting.case.network.targets == "values" else cross_entropy
    parts = []
    for task in setting.episodes:
        start = leaves(setting.params)
        x, y = torch.cat([task.support_x, task.query_x]), torch.cat([task.support_y, task.query_y])
        outputs, _ = learner.net(start, x, "off" if learner.norm == "none" else "batch")
        parts.append(derivative(learner.scale * score(outputs, y), start))
    return total(parts)


def check_joint(setting: Setting) -> None:
    """One step on everything: (theta - phi) / alpha is the gradient of joint training."""
    wanted = joint_gradient(setting)
    for result in (setting.loop(), setting.vmap(len(setting))[0]):
        scaled = {n: g / setting.case.network.lr for n, g in result.gradients.items()}
        assert distance(scaled, wanted) <= JOINT


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_step_is_the_joint_gradient(case: Case):
    check_joint(make(case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_extra_step_is_noticed(case: Case):
    with pytest.raises(AssertionError):
        check_joint(make(replace(case, steps=2)))


@pytest.mark.parametrize("case", CASES[:1], ids=str)
def test_a_mini_batch_is_noticed(case: Case):
    with pytest.raises(AssertionError):
        check_joint(make(replace(case, options=(PLAIN[0], ("inner_batch", 4)))))


def test_normalisation_layers_are_adapted():
    setting = make(CASES[2])
    for name in ("norm1.scale", "norm4.shift"):
        assert bool((setting.looped.gradients[name] != 0).all())


def test_the_outer_step_goes_towards_phi():
    """theta + epsilon mean(phi - theta), by the engine's own trainer."""
    epsilon = 0.5
    outer = {"optimizer": "sgd", "lr": epsilon, "batch": 3}
    case = Case("reptile", "mlp-tanh", "none", 3, outer=outer)
    worker = trainer(case)
    theta = {n: p.clone() for n, p in worker.params.items()}
    seen: list[Params] = []
    plain = worker._compute

    def recorded(episodes):
        chunks = plain(episodes)
        seen.extend({n: theta[n] - g for n, g in c.gradients.items()} for c in chunks)
        return chunks

    worker._compute = recorded  # type: ignore[method-assign]
    train(worker, case, 1)
    phi = total(seen)
    wanted = {n: p + epsilon * (phi[n] / len(seen) - p) for n, p in theta.items()}
    assert len(seen) == 3
    assert distance(worker.params, wanted) <= EXACT
    assert whole_distance(theta, wanted) > OTHER


def test_the_reported_loss_is_that_of_all_examples():
    setting = make(CASES[0]).only(0)
    phi = {
        n: p - g
        for (n, p), g in zip(setting.params.items(), setting.looped.gradients.values(), strict=True)
    }
    task, net = setting.episodes[0], setting.case.reference.net
    x, y = torch.cat([task.support_x, task.query_x]), torch.cat([task.support_y, task.query_y])
    wanted = squared_error(net(phi, x, "off")[0], y)
    torch.testing.assert_close(setting.looped.metrics["loss"][0], wanted, rtol=EXACT, atol=0)


# --- mini-batches ---------------------------------------------------------------------------------


def numbers(name: str | int, wanted: int) -> Tensor:
    return Key.of("mini-batches", name).uniform((wanted,), torch.float64)


@pytest.mark.parametrize("wanted", [1, 4, 5, 6, 23])
@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_each_epoch_has_every_example_once(count: int, wanted: int):
    drawn = numbers(count, wanted)
    order = shuffled(drawn, count)
    assert order.dtype == torch.int64
    assert order.tolist() == list(orders(drawn.tolist(), count))
    for start in range(0, wanted, count):
        epoch = order[start : start + count].tolist()
        assert len(set(epoch)) == len(epoch)
        assert set(epoch) <= set(range(count))


def test_a_shuffle_is_the_same_under_vmap():
    rows = torch.stack([numbers(i, 12) for i in range(4)])
    together = torch.func.vmap(lambda row: shuffled(row, 5))(rows)
    assert torch.equal(together, torch.stack([shuffled(row, 5) for row in rows]))


def test_extreme_numbers_stay_inside():
    for extreme in (2.0**-54, 1.0 - 2.0**-53):
        for count in (1, 3, 7, 100, 333):
            order = shuffled(torch.full((count,), extreme, dtype=torch.float64), count)
            assert sorted(order.tolist()) == list(range(count))


def test_all_orders_are_equally_likely():
    trials = 6000
    counts: dict[tuple[int, ...], int] = {}
    drawn = numbers("all", 3 * trials)
    for row in shuffled(drawn, 3).reshape(trials, 3).tolist():
        counts[tuple(row)] = counts.get(tuple(row), 0) + 1
    assert len(counts) == 6
    # Five standard deviations of a count.
    assert all(abs(n - trials / 6) < 5 * (trials * 5 / 36) ** 0.5 for n in counts.values())
