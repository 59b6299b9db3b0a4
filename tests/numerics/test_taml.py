"""TAML against its objective written in one go over all tasks, and its measures of inequality.

In float64. Each statement is also made of a learner with an obvious mistake, and must then fail.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from tiers import one_in
from torch import Tensor

from data_pipeline.episodes.types import stack
from metadist.algorithms.taml import TAML, Inequality, Measure
from metadist.compute.collectives import Group, Solo
from metadist.compute.order_free_sum import Layout, reduce_step
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.tasks import Task, to_tasks
from metadist.training.trainer import Trainer
from tests.contract.cases import Case, built
from tests.contract.setting import CPU, Setting, chosen, of_tasks, synthetic_episodes, with_columns
from tests.contract.training import same_bits, train, trainer
from tests.numerics import variants_reference as reference
from tests.numerics.conftest import RunGroup
from tests.numerics.reference import CLOSED_FORM, EXACT, OTHER, distance, total, whole_distance
from tests.numerics.test_maml_variants import TASKS, same, seven

MEASURES: tuple[Measure, ...] = get_args(Measure)


@pytest.mark.parametrize("variant", ["entropy", *MEASURES])
def test_taml_of_weight_zero_is_maml_to_the_bit(variant: str):
    plain = seven(Case("maml", "mlp-relu", "none", 3))
    options = {"variant": variant, "weight": 0.0}
    assert same(
        seven(Case("taml", "mlp-relu", "none", 3, tuple(options.items()))).loop(), plain.loop()
    )
    options["weight"] = 1e-3
    assert not same(
        seven(Case("taml", "mlp-relu", "none", 3, tuple(options.items()))).loop(), plain.loop()
    )


VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "entropy": ({},),
    "theil": ({}, {"losses": "support"}),
    "generalised_entropy": ({}, {"alpha": 1.0}, {"alpha": 0.0}, {"alpha": -0.5}),
    "atkinson": ({}, {"epsilon": 1.0}, {"epsilon": 2.0}),
    "gini": ({}, {"losses": "support"}, {"first_order": True}),
    "variance_of_logs": ({},),
}
WHOLE = [
    Case("taml", "mlp-relu", "none", 2, (("variant", v), ("weight", 0.7), *o.items()))
    for v, options in VARIANTS.items()
    for o in options
] + [Case("taml", "mlp-tanh", "none", 2, (("variant", v), ("weight", 0.7))) for v in MEASURES]


def step_of(setting: Setting, mode: str) -> dict[str, Tensor]:
    """The averaged gradient of a step, by the engine's own sum."""
    sizes = {n: tuple(p.shape) for n, p in setting.params.items()}
    chunk = 1 if mode == "loop" else 3
    layout = Layout(sizes, {}, ("loss",), TASKS, chunk)
    parts = [setting.part(*layout.bounds(c)) for c in range(layout.chunks)]
    chunks = [p.loop() if mode == "loop" else p.vmap(chunk)[0] for p in parts]
    return reduce_step(chunks, 0, layout, Solo(), CPU).gradients


def check_whole_batch(setting: Setting, mode: str) -> None:
    learner = replace(setting.case.reference, step_scalars=setting.ctx.step_scalars)
    value, wanted = reference.whole_batch(learner, setting.params, setting.episodes)
    assert distance(step_of(setting, mode), wanted) <= EXACT
    losses = [setting.loss(setting.params, i).detach() for i in range(TASKS)]
    torch.testing.assert_close(torch.stack(losses).mean(), value, rtol=EXACT, atol=0)


@pytest.mark.parametrize("mode", ["loop", "vmap"])
@pytest.mark.parametrize("case", one_in(3, WHOLE), ids=str)
def test_the_average_is_the_gradient_of_the_whole_objective(case: Case, mode: str):
    check_whole_batch(seven(case), mode)


@pytest.mark.parametrize("variant", MEASURES)
def test_the_inequality_matters(variant: Measure):
    case = Case("taml", "mlp-relu", "none", 2, (("variant", variant), ("weight", 0.7)))
    plain = seven(replace(case, options=(("variant", variant), ("weight", 0.0))))
    assert whole_distance(step_of(seven(case), "loop"), step_of(plain, "loop")) > OTHER


def without_count(
    self: TAML, inequality: Inequality, own: Tensor, everyones: Tensor, task: Task
) -> Tensor:
    place = torch.arange(TASKS) == task.slot
    return inequality(torch.where(place, own, everyones), everyones.isfinite())


def through_the_own_mean(
    self: TAML, inequality: Inequality, own: Tensor, everyones: Tensor, task: Task
) -> Tensor:
    return inequality(everyones, everyones.isfinite()) + own - own.detach()


@pytest.mark.parametrize("wrong", [without_count, through_the_own_mean])
def test_a_wrong_share_is_noticed(wrong: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch):
    setting = seven(WHOLE[1])
    monkeypatch.setattr(TAML, "_share", wrong)
    with pytest.raises(AssertionError):
        check_whole_batch(setting, "loop")


@pytest.mark.parametrize("variant", ["theil", "gini"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_task_that_is_not_finite_spoils_no_other(value: float, variant: str):
    case = Case("taml", "mlp-relu", "none", 2, (("variant", variant), ("weight", 0.7)))
    setting = seven(case)
    good = [0, 1, 2, 4, 5, 6]
    tasks = setting.tasks
    spoilt = tasks.tensors["query_x"].clone()
    spoilt[3, 0, 0] = value
    every = with_columns(tasks, query_x=spoilt)
    with_bad = of_tasks(case, setting.algorithm, setting.params, every, setting.ctx)
    assert not bool(torch.isfinite(with_bad.ctx.step_scalars["before"][3]))
    rest = with_columns(chosen(tasks, good), slot=torch.arange(len(good)))
    without = of_tasks(case, setting.algorithm, setting.params, rest, setting.ctx)
    parts = [with_bad.only(i).loop() for i in range(TASKS)]
    assert [bool(p.finite) for p in parts] == [i in good for i in range(TASKS)]
    assert distance(total(parts[i].gradients for i in good), without.loop().gradients) <= EXACT


@pytest.mark.parametrize("size", one_in(4, [5, 1, 2, 3]))
@pytest.mark.parametrize("mode", ["loop", "vmap"])
@pytest.mark.parametrize("variant", ["theil", "gini"])
def test_idle_workers_exchange_losses_too(variant: str, mode: str, size: int, run_group: RunGroup):
    """Three tasks on up to five workers: some have two tasks, some have none."""
    case = Case(
        "taml",
        "mlp-tanh",
        "none",
        2,
        (("variant", variant),),
        dtype="float32",
        outer={"batch": 3, "lr": 0.01},
        engine={"mode": mode},
    )
    alone = train(trainer(case), case, 2).state()

    def work(group: Group) -> Any:
        worker = trainer(case, group)
        return worker.share, train(worker, case, 2).state()

    results = run_group(size, work)
    shares = [last - first for (first, last), _ in results]
    assert sum(shares) == 3
    assert (0 in shares) == (size > 3)
    assert all(same_bits(state, alone) for _, state in results)


# --- tasks that are equally hard ------------------------------------------------------------------

TWINS = Case(
    "taml",
    "mlp-tanh",
    "none",
    2,
    (("variant", "theil"), ("weight", 0.7)),
    outer={"batch": 5, "lr": 0.01},
)
#: Of five tasks the second and the last are the first again, the fourth is the third.
SAME = [0, 0, 2, 2, 0]


def twins(mode: str, group: Group | None = None) -> Trainer:
    """A worker after a step whose tasks are partly the same, with equal losses."""
    case = replace(TWINS, engine={"mode": mode, "chunk": 2})
    worker = trainer(case, group)
    start, stop = worker.share
    each = [synthetic_episodes(case.network.shape, Key.of("twins", i), 1, i) for i in range(5)]
    mine = [each[i] for i in SAME[start:stop]]
    worker.step(stack(mine) if mine else None, SAME)
    return worker


def check_twins(mode: str, run_group: RunGroup) -> None:
    alone = twins(mode).state()
    for size in (2, 3):
        workers = run_group(size, lambda group: twins(mode, group))
        assert all(same_bits(worker.state(), alone) for worker in workers), size


@pytest.mark.parametrize("mode", ["loop", "vmap"])
def test_tasks_with_equal_losses_are_the_same_for_any_number_of_workers(
    mode: str, run_group: RunGroup
):
    check_twins(mode, run_group)


def test_places_counted_by_each_worker_are_noticed(
    run_group: RunGroup, monkeypatch: pytest.MonkeyPatch
):
    right = to_tasks

    def from_zero(*given: Any, **more: Any) -> Any:
        return right(*given, **{**more, "first_slot": 0})

    monkeypatch.setattr("metadist.training.trainer.to_tasks", from_zero)
    with pytest.raises(AssertionError):
        check_twins("loop", run_group)


@pytest.mark.parametrize("mode", ["loop", "vmap"])
@pytest.mark.parametrize("variant", ["theil", "gini", "variance_of_logs"])
def test_tasks_with_equal_losses_have_the_gradient_of_the_whole(variant: str, mode: str):
    case = replace(TWINS, options=(("variant", variant), ("weight", 0.7)))
    plain = seven(case)
    rows = [0, 0, 2, 2, 0, 5, 6]
    tasks = with_columns(chosen(plain.tasks, rows), slot=torch.arange(TASKS))
    setting = of_tasks(case, plain.algorithm, plain.params, tasks, plain.ctx)
    before = setting.ctx.step_scalars["before"]
    assert len(set(before.tolist())) == 4
    check_whole_batch(setting, mode)


def test_another_tasks_place_is_noticed(monkeypatch: pytest.MonkeyPatch):
    setting = seven(WHOLE[1])
    check_whole_batch(setting, "loop")
    turned = with_columns(setting.tasks, slot=torch.arange(TASKS).roll(1))
    with pytest.raises(AssertionError):
        check_whole_batch(replace(setting, tasks=turned), "loop")


def test_values_have_no_entropy():
    with pytest.raises(RecipeError, match="'entropy' is of predicted classes"):
        built(Case("taml", "mlp-tanh", "none", options=(("variant", "entropy"),)))


# --- measures of inequality -----------------------------------------------------------------------

ALL = [
    *(Inequality(m) for m in MEASURES),
    Inequality("generalised_entropy", alpha=0.0),
    Inequality("generalised_entropy", alpha=1.0),
    Inequality("atkinson", epsilon=1.0),
    Inequality("atkinson", epsilon=3.0),
]
each_measure = pytest.mark.parametrize("measure", ALL, ids=str)


def of(measure: Inequality, values: list[float]) -> float:
    return float(
        measure(torch.tensor(values, dtype=torch.float64), torch.full((len(values),), True))
    )


@each_measure
def test_equal_losses_and_only_these_have_no_inequality(measure: Inequality):
    assert of(measure, [0.3] * 5) == pytest.approx(0, abs=CLOSED_FORM)
    assert of(measure, [2.0]) == pytest.approx(0, abs=CLOSED_FORM)
    small, large = of(measure, [1.0, 1.1, 1.0]), of(measure, [1.0, 3.0, 1.0])
    assert 1e-4 < small < large


@each_measure
def test_inequality_has_no_unit(measure: Inequality):
    values = [0.2, 1.0, 3.0, 0.7]
    assert of(measure, [10 * v for v in values]) == pytest.approx(of(measure, values), rel=1e-12)


@each_measure
def test_what_does_not_count_changes_nothing(measure: Inequality):
    values = torch.tensor([0.2, math.nan, 3.0, math.inf], dtype=torch.float64).requires_grad_()
    counted = values.isfinite()
    got = measure(values, counted)
    assert float(got.detach()) == pytest.approx(of(measure, [0.2, 3.0]), rel=CLOSED_FORM)
    (slopes,) = torch.autograd.grad(got, values)
    assert bool(slopes.isfinite().all())
    assert slopes[~counted].tolist() == [0.0, 0.0]


@each_measure
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_losses_of_zero_stay_finite(measure: Inequality, dtype: torch.dtype):
    for numbers in ([0.0, 1.0, 2.0], [0.0, 0.0, 0.0], [1e-38, 1.0, 1.0]):
        values = torch.tensor(numbers, dtype=dtype).requires_grad_()
        got = measure(values, values.isfinite())
        (slopes,) = torch.autograd.grad(got, values)
        assert bool(got.isfinite())
        assert bool(slopes.isfinite().all())


def test_bounds():
    key = Key.of("bounds")
    for trial in range(50):
        drawn = key.fold(trial).uniform((6,), torch.float64) ** 8
        assert 0 < of(Inequality("theil"), drawn.tolist()) <= math.log(6)
        assert 0 < of(Inequality("gini"), drawn.tolist()) < 1
        assert 0 < of(Inequality("atkinson"), drawn.tolist()) < 1
    assert of(Inequality("theil"), [1.0, *[1e-9] * 5]) == pytest.approx(math.log(6), abs=1e-4)
