"""The checks can fail: each notices the mistakes that it is there for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from metadist.compute.strategies import Vmap
from metadist.context import Context
from metadist.contracts.differences import Kinks
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.sgd import SGD
from metadist.keys import Key
from metadist.learner import Estimator, Learner, Loss
from metadist.tasks import Examples, Params, Prediction, Task
from tests.contract.cases import Case
from tests.contract.checks import check_definition, check_differences, check_not_exact
from tests.contract.setting import Setting, chosen, make
from tests.contract.test_record import order_taken
from tests.numerics.reference import EXACT, distance

PROBE = Case("maml", "conv4-stride", "transductive", 3, (("adapt_norm", True),))
Mutation = Callable[[pytest.MonkeyPatch], None]


def check_modes(setting: Setting) -> None:
    """In both ways of taking gradients."""
    check_definition(setting, setting.loop())
    check_definition(setting, setting.vmap(len(setting))[0])


def drop_graph(patch: pytest.MonkeyPatch) -> None:
    plain = Context.grad

    def constant(self, loss, params, *, second_order=False):
        return plain(self, loss, params, second_order=False)

    patch.setattr(Context, "grad", constant)


def adapt_everything_but_norm(patch: pytest.MonkeyPatch) -> None:
    def adapted(self, params):
        return {n: p for n, p in params.items() if n not in self.backbone.norm_parameters}

    patch.setattr(InnerLoop, "adapted", adapted)


def update_by(patch: pytest.MonkeyPatch, update_of: Callable[[str, float, Tensor], Tensor]) -> None:
    def update(self, gradients, state, adapted, step):
        return {n: update_of(n, step.ctx.inner_lr, gradients[n]) for n in adapted}, {}

    patch.setattr(SGD, "update", update)


def ascend(patch: pytest.MonkeyPatch) -> None:
    update_by(patch, lambda name, lr, g: lr * g)


def detach_one_tensor(patch: pytest.MonkeyPatch) -> None:
    def update_of(name: str, lr: float, g: Tensor) -> Tensor:
        return -lr * (g.detach() if name == "norm2.scale" else g)

    update_by(patch, update_of)


MUTATIONS: list[Mutation] = [drop_graph, adapt_everything_but_norm, ascend, detach_one_tensor]


@pytest.mark.parametrize("mode", ["loop", "vmap"])
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.__name__)
def test_a_wrong_learner_is_noticed(mutation: Mutation, mode: str, monkeypatch: pytest.MonkeyPatch):
    setting = make(PROBE)
    mutation(monkeypatch)
    result = setting.loop() if mode == "loop" else setting.vmap(len(setting))[0]
    # By the definition alone: the derivative of a wrong loss is its derivative all the same.
    with pytest.raises(AssertionError):
        assert distance(result.gradients, setting.defined[1]) <= EXACT


@pytest.mark.parametrize("mutation", [drop_graph, detach_one_tensor], ids=lambda m: m.__name__)
def test_a_wrong_derivative_is_noticed_by_differences(
    mutation: Mutation, monkeypatch: pytest.MonkeyPatch
):
    setting = make(PROBE)
    check_differences(setting)
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        check_differences(setting)


def test_a_forgotten_sum_over_ways_is_noticed():
    setting = make(PROBE)
    check_modes(setting)
    assert isinstance(setting.algorithm, InnerLoop)
    wrong = replace(setting, algorithm=replace(setting.algorithm, support_reduction="mean"))
    with pytest.raises(AssertionError):
        check_modes(wrong)


def test_a_graph_left_in_first_order_is_noticed(monkeypatch: pytest.MonkeyPatch):
    plain = Context.grad

    def differentiable(self, loss, params, *, second_order=False):
        return plain(self, loss, params, second_order=True)

    setting = make(replace(PROBE, algorithm="fomaml"))
    check_modes(setting)
    check_not_exact(setting)
    monkeypatch.setattr(Context, "grad", differentiable)
    for result in (setting.loop(), setting.vmap(len(setting))[0]):
        with pytest.raises(AssertionError):
            check_definition(setting, result)
    with pytest.raises(AssertionError, match="is the estimator exact"):
        check_not_exact(setting)


@dataclass(frozen=True)
class Claiming(InnerLoop):
    """An inner loop that says something else of its gradient than what is true."""

    claim: Estimator = "exact"

    @property
    def estimator(self) -> Estimator:
        return self.claim


def claiming(setting: Setting, claim: Estimator) -> Setting:
    assert isinstance(setting.algorithm, InnerLoop)
    return replace(setting, algorithm=Claiming(**vars(setting.algorithm), claim=claim))


def test_a_first_order_gradient_that_is_called_exact_is_noticed():
    setting = claiming(make(replace(PROBE, algorithm="fomaml")), "exact")
    with pytest.raises(AssertionError):
        check_differences(setting)


def test_an_exact_gradient_that_is_called_something_else_is_noticed():
    with pytest.raises(AssertionError, match="is the estimator exact"):
        check_not_exact(claiming(make(PROBE), "first-order"))


def test_a_wrong_derivative_order_is_noticed(monkeypatch: pytest.MonkeyPatch):
    assert order_taken(make(PROBE), monkeypatch) == 2
    assert order_taken(make(replace(PROBE, algorithm="fomaml")), monkeypatch) == 1
    assert order_taken(make(Case("nearest_pixels", "mlp-relu", "none")), monkeypatch) == 0


def test_an_estimator_without_a_definition_is_noticed(monkeypatch: pytest.MonkeyPatch):
    setting = make(replace(PROBE, algorithm="fomaml"))
    monkeypatch.delitem(check_definition.__globals__["DEFINITIONS"], "fomaml")
    with pytest.raises(pytest.fail.Exception, match="write its definition a second time"):
        check_definition(setting, setting.loop())


def test_a_padding_task_that_counts_is_noticed():
    setting = make(PROBE)
    check_definition(setting, setting.vmap(5)[0])
    rows = [0, 1, 2, 2, 2]
    padded = Vmap(5).chunk(
        setting.algorithm,
        setting.params,
        chosen(setting.tasks, rows),
        [setting.noise[row] for row in rows],
        setting.ctx,
    )
    with pytest.raises(AssertionError):
        check_definition(setting, padded)


@pytest.mark.parametrize(
    "function",
    [
        torch.relu,
        torch.abs,
        torch.sign,
        torch.argmax,
        F.leaky_relu,
        lambda x: x > 0,
        lambda x: torch.where(x > 0, x, 0 * x),
        lambda x: x.clamp(0, 1),
        lambda x: x.clamp_min(0),
        lambda x: x.maximum(torch.zeros_like(x)),
        lambda x: x.sort().values,
        lambda x: x.topk(1).values,
        lambda x: x.max(0).values,
        lambda x: x.amax(0),
        lambda x: torch.round(x + 0.5),
        lambda x: F.max_pool1d(1 + x.reshape(1, 1, 2), 2),
        lambda x: F.max_pool2d(1 + x.reshape(1, 1, 1, 2), (1, 2)),
    ],
)
def test_kinks_and_jumps_are_seen(function: Callable[[Tensor], Any]):
    def sides(*numbers: float) -> list[Tensor]:
        with Kinks() as kinks:
            function(torch.tensor(numbers, dtype=torch.float64))
        return kinks.sides

    assert all(map(torch.equal, sides(1e-6, 0.0), sides(2e-6, 0.0)))
    assert not all(map(torch.equal, sides(1e-6, 0.0), sides(-1e-6, 0.0)))


@pytest.mark.parametrize("bad", ["loss", "gradient", "statistic", "nothing"])
def test_finite_means_loss_gradients_and_statistics(bad: str):
    setting = make(Case("maml", "mlp-tanh", "none"))
    infinite = torch.tensor(float("inf"), dtype=torch.float64)

    class Fake(Learner):
        """A learner whose loss, gradient and statistics go wrong one at a time."""

        metric_names = ("loss",)

        def statistics(self, ctx: Context) -> dict[str, tuple[int, ...]]:
            return {"seen": ()}

        def init(self, key: Key) -> Params:
            raise AssertionError

        def adapt(self, params: Params, task: Task, ctx: Context) -> Sequence[Any]:
            raise AssertionError

        def predict(self, fitted: Any, query: Examples, ctx: Context) -> Prediction:
            raise AssertionError

        def loss(self, params: Params, task: Task, ctx: Context) -> Loss:
            value = sum((p**2).sum() for p in params.values()) + 0 * task.query.x.sum()
            assert isinstance(value, Tensor)
            if bad == "gradient":
                at_zero = params["linear1.bias"][0] - params["linear1.bias"][0].detach()
                value = value + at_zero.abs().sqrt()
            reported = value.detach() + (infinite if bad == "loss" else 0)
            seen = task.support.x.sum() + (infinite if bad == "statistic" else 0)
            return Loss(value, {"loss": reported}, {"seen": seen})

    broken = replace(setting, algorithm=Fake())
    for result in (broken.loop(), *broken.vmap(2)):
        assert result.finite.tolist() == [bad == "nothing"] * len(result.finite)
