"""The masks of MT-net: their distribution, their derivative and how long they hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metadist.algorithms import mtnet
from metadist.algorithms.mtnet import Masks, gumbel, sampled_mask
from metadist.inner.inner_loop import AdaptedModel
from metadist.inner.inner_optimizer import InnerStep
from metadist.keys import Key
from tests.numerics.preconditioning_models import CONV, KEY, Model, mlp, noticed, shaken
from tests.numerics.preconditioning_reference import relaxation
from tests.numerics.reference import CLOSED_FORM, EXACT

ENTRIES, BATCHES = 20_000, 10


def sampled(optimizer: Masks, zeta: float, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Masks: what is left of a gradient of 1, with the logits and the noise."""
    _, ctx = mlp(1).learner("maml", 1)
    ctx = ctx.for_task(optimizer.noise(KEY.fold("p", number), ctx))
    logits = torch.full((ENTRIES,), zeta, dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(ENTRIES, 2, dtype=torch.float64)
    step = InnerStep(0, {"layer.logits": logits}, zeros.sum(), ctx)
    ones = {"layer.weight": zeros + 1}
    masked, _ = optimizer.update(ones, {}, {"layer.weight": zeros}, step)
    rows = masked["layer.weight"]
    assert torch.equal(rows[:, 0], rows[:, 1])
    return rows[:, 0], logits, ctx.noise["layer.0"]


ONES = Masks({"layer.weight": (ENTRIES, 2)})


def check_frequency(zeta: float) -> None:
    masks = torch.cat([sampled(ONES, zeta, i)[0].detach() for i in range(BATCHES)])
    assert torch.equal(masks, masks.round())
    p = 1 / (1 + math.exp(-zeta))
    error = math.sqrt(p * (1 - p) / len(masks))
    assert abs(float(masks.mean()) - p) <= 3 * error


@pytest.mark.parametrize("zeta", [-2.0, 0.0, 0.8, 3.0])
def test_a_mask_is_one_with_the_probability_of_its_logit(zeta: float):
    check_frequency(zeta)


def test_a_dropped_gumbel_is_noticed(monkeypatch: pytest.MonkeyPatch):
    def half(key: Key, shape: tuple[int, ...]) -> Tensor:
        return torch.stack([gumbel(key, shape)[0], torch.zeros(shape[1:])])

    monkeypatch.setattr(mtnet, "gumbel", half)
    for zeta in (-2.0, 0.0, 0.8, 3.0):
        with noticed():
            check_frequency(zeta)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_a_hard_mask_has_the_derivative_of_its_relaxation(temperature: float):
    optimizer = replace(ONES, temperature=temperature)
    hard, logits, noise = sampled(optimizer, 0.8, 0)
    (got,) = torch.autograd.grad(hard.sum(), logits)
    again = logits.detach().requires_grad_()
    relaxed = relaxation(again, noise.double(), temperature)
    (wanted,) = torch.autograd.grad(relaxed.sum(), again)
    torch.testing.assert_close(got, wanted, rtol=CLOSED_FORM, atol=1e-300)
    soft, _, _ = sampled(replace(optimizer, hard=False), 0.8, 0)
    torch.testing.assert_close(soft, relaxed, rtol=CLOSED_FORM, atol=1e-300)
    assert torch.equal(hard, (relaxed > 0.5).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_hard_mask_is_exactly_zero_or_one(dtype: torch.dtype):
    noise = gumbel(KEY, (2, 100_000)).to(dtype)
    got = sampled_mask(KEY.fold("z").normal((100_000,), dtype), noise, 0.7, hard=True)
    assert set(got.tolist()) == {0.0, 1.0}


def test_gumbel_numbers_are_finite_at_the_ends_of_the_uniform(monkeypatch: pytest.MonkeyPatch):
    ends = torch.tensor([2.0**-54, 1 - 2.0**-53], dtype=torch.float64)
    monkeypatch.setattr(Key, "uniform", lambda self, shape, dtype=torch.float32: ends.to(dtype))
    low, high = gumbel(KEY, (2,)).tolist()
    assert -3.7 < low < high < 36.8


@pytest.mark.parametrize("per", ["unit", "weight"])
@pytest.mark.parametrize("model", [mlp(2), CONV], ids=["mlp", "conv4"])
def test_nothing_moves_where_no_mask_is_one(model: Model, per: str):
    learner, ctx = model.learner("mtnet", 3, mask_per=per)
    params = {
        n: p - 1e6 if n.endswith(".logits") else p for n, p in shaken(learner.init(KEY)).items()
    }
    ctx = ctx.for_task(learner.noise(KEY, ctx))
    task = model.tasks().task(0)
    last = learner.adapt(params, task, ctx)[-1].params
    assert all(torch.equal(p, params[n]) for n, p in last.items())


def moved(path: Sequence[AdaptedModel], name: str, step: int) -> Tensor:
    """Which entries of a parameter a step changes."""
    return path[step].params[name] != path[step - 1].params[name]


def test_a_mask_holds_for_a_task_and_bias_or_is_drawn_anew_for_each_weight():
    model = mlp(2)
    name = "linear2.weight"
    for per in ("unit", "weight"):
        learner, ctx = model.learner("mtnet", 3, mask_per=per)
        ctx = ctx.for_task(learner.noise(KEY, ctx))
        task = model.tasks().task(0)
        params = shaken(learner.init(KEY))
        path = list(learner.adapt(params, task, ctx))
        first, second = moved(path, name, 1), moved(path, name, 2)
        bias = moved(path, "linear2.bias", 1)
        assert 0 < int(bias.sum()) < len(bias)
        if per == "unit":
            assert torch.equal(first, second)
            assert torch.equal(first.any(1), bias)
        else:
            assert not torch.equal(first, second)
            assert not torch.equal(first.any(1), bias)
        # More steps change no number of the steps before.
        more = learner.noise(KEY, replace(ctx, inner_steps=5))
        assert all(torch.equal(noise, more[n]) for n, noise in ctx.noise.items())


def test_masks_at_test_are_drawn_or_expected():
    model = mlp(1)
    task = model.tasks().task(0)
    for how in ("sampled", "expected"):
        learner, ctx = model.learner("mtnet", 1, mask_at_test=how, transform=False)
        params = shaken(learner.init(KEY))
        assert learner.noise(KEY, ctx)
        test = replace(ctx, phase="test")
        noise = learner.noise(KEY, test)
        test = test.for_task(noise)
        path = list(learner.adapt(params, task, test))
        change = {n: path[1].params[n] - path[0].params[n] for n in params if "linear" in n[:6]}
        plain, _ = model.learner("maml", 1)
        theta = {n: p for n, p in params.items() if not n.startswith("rule.")}
        full = list(plain.adapt(theta, task, ctx))
        for layer in ("linear1", "linear2"):
            zeta = params[f"rule.{layer}.logits"]
            wanted = 1 / (1 + (-zeta).exp())
            if how == "sampled":
                drawn = noise[f"{layer}.0"]
                wanted = (zeta + drawn[0] > drawn[1]).double()
            else:
                assert noise == {}
            bias = f"{layer}.bias"
            torch.testing.assert_close(
                change[bias],
                wanted * (full[1].params[bias] - theta[bias]),
                rtol=EXACT,
                atol=1e-12,
            )
