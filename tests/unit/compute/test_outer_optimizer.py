"""The outer optimiser against a slow one written here, and its state against being cut in two."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiers import one_in
from torch import Tensor

from metadist.compute.outer_optimizer import (
    OuterOptimizer,
    learning_rate,
    schedule_depends_on_total,
)
from metadist.keys import Key
from metadist.recipe.sections import OuterSection

SHAPES = {"conv1.weight": (3, 2), "head/bias": (4,), "scalar": ()}
STEPS = 50


def start(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {n: Key.of("start", n).normal(s, torch.float64).to(dtype) for n, s in SHAPES.items()}


def gradients(step: int) -> dict[str, Tensor]:
    """Averaged meta-gradients come in float64; sizes differ by orders of magnitude."""
    return {
        n: 10.0 ** (step % 7 - 3) * Key.of("gradient", step, n).normal(s, torch.float64)
        for n, s in SHAPES.items()
    }


def section(**values: Any) -> OuterSection:
    return OuterSection(**{"steps": STEPS, "lr": 0.01, **values})


def run(outer: OuterOptimizer, first: int, last: int) -> None:
    for step in range(first, last):
        outer.step(gradients(step), step)


def slow(settings: OuterSection, steps: int) -> dict[str, list[float]]:
    """Kingma & Ba (2015), algorithm 1, and plain descent, one number at a time."""
    theta = {n: p.reshape(-1).tolist() for n, p in start().items()}
    first = {n: [0.0] * len(values) for n, values in theta.items()}
    second = {n: [0.0] * len(values) for n, values in theta.items()}
    for t in range(1, steps + 1):
        lr = settings.lr
        if settings.schedule == "cosine":
            lr = settings.final_lr + 0.5 * (settings.lr - settings.final_lr) * (
                1 + math.cos(math.pi * (t - 1) / settings.steps)
            )
        for name, values in theta.items():
            for i, g in enumerate(gradients(t - 1)[name].reshape(-1).tolist()):
                if settings.clip:
                    g = max(-settings.clip, min(settings.clip, g))
                if settings.optimizer == "sgd":
                    values[i] -= lr * g
                    continue
                first[name][i] = 0.9 * first[name][i] + 0.1 * g
                second[name][i] = 0.999 * second[name][i] + 0.001 * g * g
                m = first[name][i] / (1 - 0.9**t)
                v = second[name][i] / (1 - 0.999**t)
                values[i] -= lr * m / (math.sqrt(v) + 1e-8)
    return theta


def check(settings: OuterSection) -> None:
    outer = OuterOptimizer(start(), settings)
    run(outer, 0, STEPS)
    for name, values in slow(settings, STEPS).items():
        wanted = torch.tensor(values, dtype=torch.float64).reshape(SHAPES[name])
        torch.testing.assert_close(outer.params[name], wanted, rtol=1e-12, atol=1e-12)


SETTINGS = {
    "adam": {},
    "adam, clipped": {"clip": 0.5},
    "adam, cosine": {"schedule": "cosine", "final_lr": 1e-4},
    "sgd": {"optimizer": "sgd"},
    "sgd, clipped": {"optimizer": "sgd", "clip": 0.5},
    "sgd, cosine": {"optimizer": "sgd", "schedule": "cosine"},
}
each_setting = pytest.mark.parametrize("values", SETTINGS.values(), ids=SETTINGS)


@each_setting
def test_it_is_the_published_update(values: dict[str, Any]):
    check(section(**values))


@pytest.mark.parametrize(
    "wrong", [{"lr": 0.0101}, {"clip": 0.49}, {"schedule": "constant"}, {"final_lr": 2e-4}], ids=str
)
def test_a_wrong_setting_is_noticed(wrong: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    right = {"clip": 0.5, "schedule": "cosine", "final_lr": 1e-4}
    check(section(**right))
    reference = slow(section(**{**right, **wrong}), STEPS)
    monkeypatch.setitem(globals(), "slow", lambda settings, steps: reference)
    with pytest.raises(AssertionError):
        check(section(**right))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("cut", one_in(3, [1, 0, 20]))
@each_setting
def test_a_restored_optimiser_goes_on_with_the_same_bits(
    values: dict[str, Any], cut: int, dtype: torch.dtype
):
    whole = OuterOptimizer(start(dtype), section(**values))
    run(whole, 0, 40)

    first = OuterOptimizer(start(dtype), section(**values))
    run(first, 0, cut)
    params, state = {n: p.clone() for n, p in first.params.items()}, first.state()
    run(first, cut, 40)  # What was saved must not move with the optimiser it was taken from.

    elsewhere = {n: torch.full_like(p, 7.0) for n, p in start(dtype).items()}
    second = OuterOptimizer(elsewhere, section(**values))
    run(second, 0, 3)  # A used optimiser forgets what it knew.
    second.load(params, state)
    run(second, cut, 40)
    for name, wanted in whole.params.items():
        assert wanted.dtype == dtype
        assert torch.equal(second.params[name], wanted)
        assert torch.equal(first.params[name], wanted)
    assert second.state().keys() == whole.state().keys()
    for name, wanted in whole.state().items():
        assert torch.equal(second.state()[name], wanted)


def test_a_lost_state_is_noticed():
    whole, second = OuterOptimizer(start(), section()), OuterOptimizer(start(), section())
    run(whole, 0, 20)
    second.load({n: p.clone() for n, p in whole.params.items()}, {})
    run(whole, 20, 21)
    run(second, 20, 21)
    assert not any(torch.equal(second.params[n], p) for n, p in whole.params.items())


def test_the_state_is_named_by_quantity_and_parameter():
    outer = OuterOptimizer(start(), section())
    assert outer.state() == {}
    run(outer, 0, 3)
    state = outer.state()
    assert set(state) == {
        f"{quantity}/{name}" for quantity in ("step", "exp_avg", "exp_avg_sq") for name in SHAPES
    }
    assert all(value.device.type == "cpu" for value in state.values())
    assert all(float(state[f"step/{name}"]) == 3 for name in SHAPES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_types_are_kept_and_the_start_is_copied(dtype: torch.dtype):
    given = start(dtype)
    outer = OuterOptimizer(given, section())
    run(outer, 0, 3)
    assert all(torch.equal(p, start(dtype)[n]) for n, p in given.items())
    assert {p.dtype for p in outer.params.values()} == {dtype}
    assert not any(p.requires_grad for p in outer.params.values())
    assert list(outer.params) == list(given)


def test_clipping_bounds_each_entry_and_no_norm():
    settings = section(optimizer="sgd", lr=1.0, clip=10.0)
    outer = OuterOptimizer({"w": torch.zeros(4, dtype=torch.float64)}, settings)
    outer.step({"w": torch.tensor([11.0, -1e9, 9.0, -10.0]).double()}, 0)
    assert outer.params["w"].tolist() == [-10.0, 10.0, -9.0, 10.0]


def test_no_clip_means_no_bound():
    outer = OuterOptimizer(
        {"w": torch.zeros(1, dtype=torch.float64)}, section(optimizer="sgd", lr=1.0)
    )
    outer.step({"w": torch.tensor([1e30], dtype=torch.float64)}, 0)
    assert outer.params["w"].item() == -1e30


def test_the_constant_schedule():
    settings = section(lr=0.3, final_lr=0.1)
    assert {learning_rate(settings, step) for step in range(100)} == {0.3}
    assert not schedule_depends_on_total(settings)


def test_the_cosine_schedule():
    settings = section(schedule="cosine", lr=0.3, final_lr=0.1, steps=100)
    rates = [learning_rate(settings, step) for step in range(101)]
    assert rates[0] == 0.3
    assert rates[50] == pytest.approx(0.2, abs=1e-15)
    assert rates[100] == pytest.approx(0.1, abs=1e-15)
    assert rates == sorted(rates, reverse=True)
    assert rates[25] == pytest.approx(0.2 + 0.1 * math.sqrt(0.5), abs=1e-15)
    assert schedule_depends_on_total(settings)
