"""What an inner loop and an inner optimizer may do otherwise than MAML, against plain loops.

In float64, on the tape and under vmap. Each statement is also made of a learner with an obvious
mistake, and must then fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist.backbones import Norm, Statistics
from metadist.context import Context
from metadist.inner.adam import Adam
from metadist.inner.inner_loop import InnerLoop
from metadist.inner.inner_optimizer import Chain, InnerOptimizer, InnerStep
from metadist.keys import Key
from metadist.learner import LearnedQuantities
from metadist.objectives import Objective
from metadist.tasks import Examples, Params, Task
from tests.contract.cases import Case
from tests.contract.checks import check_differences, check_same
from tests.contract.setting import Setting, make
from tests.numerics import test_linear_regression as linear
from tests.numerics.baselines_reference import tuned
from tests.numerics.reference import (
    CLOSED_FORM,
    EXACT,
    Episode,
    Reference,
    Tensors,
    derivative,
    distance,
    leaves,
    total,
)

CASE = Case("maml", "mlp-tanh", "none", 3)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def with_learner(learner: InnerLoop, **more: Tensor) -> Setting:
    """The tasks and the network's parameters of MAML, for another learner with more parameters."""
    plain = make(CASE)
    return replace(plain, algorithm=learner, params={**plain.params, **more})


def with_optimizer(optimizer: InnerOptimizer, **meta: Tensor) -> Setting:
    own = {f"rule.{name}": value for name, value in meta.items()}
    return with_learner(replace(plain_loop(), optimizer=optimizer), **own)


def plain_loop() -> InnerLoop:
    loop = make(CASE).algorithm
    assert isinstance(loop, InnerLoop)
    return loop


#: ``definition(reference, start, episode)``: the loss of a task, from leaves.
Defined = Callable[[Reference, Tensors, Episode], Tensor]


def check_defined(setting: Setting, definition: Defined) -> None:
    """The gradient is that of the definition, in both modes, and of differences of the loss."""
    parts = []
    for index, episode in enumerate(setting.episodes):
        start = leaves(setting.params)
        value = definition(setting.case.reference, start, episode)
        loss = setting.loss(setting.params, index).detach()
        torch.testing.assert_close(loss, value.detach(), rtol=EXACT, atol=EXACT)
        parts.append(derivative(value, start))
    assert distance(setting.loop().gradients, total(parts)) <= EXACT
    check_same(setting.vmap(2), setting.loop())


@contextmanager
def noticed() -> Iterator[None]:
    with pytest.raises(AssertionError):
        yield


# --- optimizers with a state ----------------------------------------------------------------------


@dataclass(frozen=True)
class HeavyBall(InnerOptimizer):
    """v = decay * v + gradient, and a step of -lr * v; the decay is learned.

    Attributes:
        name: of the decay.
        descend: make an update of v; or hand tanh(v) on.
    """

    name: str = "decay"
    descend: bool = True

    def init(self, adapted: Params, key: Key) -> Params:
        return {self.name: torch.tensor(0.5)}

    def noise(self, key: Key, ctx: Context) -> dict[str, Tensor]:
        return {self.name: key.uniform((1,))}

    def start(self, meta: Params, adapted: Params, ctx: Context) -> Params:
        return {name: torch.zeros_like(p) for name, p in adapted.items()}

    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        v = {n: step.meta[self.name] * state[n] + gradients[n] for n in adapted}
        if not self.descend:
            return {n: x.tanh() for n, x in v.items()}, v
        return {n: -step.ctx.inner_lr * x for n, x in v.items()}, v

    def learned_quantities(self, meta: Params) -> LearnedQuantities:
        return {self.name: {"all": [float(meta[self.name])]}}


def heavy_balls(*names: str) -> Defined:
    """Descent with one velocity after the other, each of what the one before it gave."""

    def definition(learner: Reference, start: Tensors, episode: Episode) -> Tensor:
        velocities: list[Tensors] = [{} for _ in names]

        def update(step: int, adapted: Tensors, gradients: Tensors) -> Tensors:
            moved = {}
            for n, p in adapted.items():
                g = gradients[n]
                for place, name in enumerate(names):
                    before = velocities[place].get(n, scalar(0.0))
                    v = velocities[place][n] = g + start[f"rule.{name}"] * before
                    g = v.tanh() if place < len(names) - 1 else v
                moved[n] = p - learner.lr * g
            return moved

        *_, final = learner.path(start, episode, graph=True, update=update)
        return learner.query_loss(final, episode)

    return definition


def test_an_optimizer_keeps_its_state_from_step_to_step():
    setting = with_optimizer(HeavyBall(), decay=scalar(0.7))
    check_defined(setting, heavy_balls("decay"))
    check_differences(setting)


def forgetful(self: HeavyBall, g: Params, state: Params, adapted: Params, step: InnerStep) -> Any:
    return RIGHT(self, g, self.start({}, adapted, step.ctx), adapted, step)


def cut_off(self: HeavyBall, g: Params, state: Params, adapted: Params, step: InnerStep) -> Any:
    return RIGHT(self, g, {n: v.detach() for n, v in state.items()}, adapted, step)


RIGHT = HeavyBall.update


@pytest.mark.parametrize("wrong", [forgetful, cut_off])
def test_a_state_that_is_lost_is_noticed(wrong: Any, monkeypatch: pytest.MonkeyPatch):
    setting = with_optimizer(HeavyBall(), decay=scalar(0.7))
    monkeypatch.setattr(HeavyBall, "update", wrong)
    with noticed():
        check_defined(setting, heavy_balls("decay"))


def check_adam() -> None:
    """Predictions after 0 ... 3 steps are those of a network that PyTorch's Adam has tuned."""
    loop = replace(plain_loop(), optimizer=Adam(), second_order=False)
    setting = with_learner(loop).at(phase="test")
    for index, episode in enumerate(setting.episodes):
        for steps, got in enumerate(setting.predictions(index)):
            reference = replace(setting.case.reference, steps=steps)
            wanted = tuned(reference, setting.params, episode, "adam")
            torch.testing.assert_close(got, wanted, rtol=EXACT, atol=EXACT)


def test_adam_in_the_inner_loop_is_pytorchs():
    check_adam()


def test_adam_without_its_moments_is_noticed(monkeypatch: pytest.MonkeyPatch):
    right = Adam.update

    def wrong(self, gradients, state, adapted, step):
        return right(self, gradients, self.start({}, adapted, step.ctx), adapted, step)

    monkeypatch.setattr(Adam, "update", wrong)
    with noticed():
        check_adam()


def test_the_gradient_of_adam_is_that_of_the_query_loss_where_it_leads():
    """First order: the update is a constant."""
    loop = replace(plain_loop(), optimizer=Adam(), second_order=False)
    setting = with_learner(loop).only(1)
    learner, task = setting.case.reference, setting.episodes[0]
    ended = leaves(setting.adapted(0)[-1].params)
    wanted = derivative(learner.query_loss(ended, task), ended)
    assert distance(setting.loop().gradients, wanted) <= EXACT
    check_same(setting.vmap(1), setting.loop())


# --- what an optimizer is told --------------------------------------------------------------------


class LossScaled(InnerOptimizer):
    """The step is longer where the support loss is larger."""

    def update(
        self, gradients: Params, state: Params, adapted: Params, step: InnerStep
    ) -> tuple[Params, Params]:
        size = step.ctx.inner_lr * step.loss / (1 + step.index)
        return {n: -size * gradients[n] for n in adapted}, {}


def loss_scaled(learner: Reference, start: Tensors, episode: Episode) -> Tensor:
    phi = dict(start)
    for step in range(learner.steps):
        value = learner.support_loss(phi, episode, step)
        gradients = torch.autograd.grad(value, list(phi.values()), create_graph=True)
        size = learner.lr * value.detach() / (1 + step)
        phi = {n: p - size * g for (n, p), g in zip(phi.items(), gradients, strict=True)}
    return learner.query_loss(phi, episode)


def test_an_optimizer_knows_the_loss_and_the_step():
    check_defined(with_optimizer(LossScaled()), loss_scaled)


@pytest.mark.parametrize("changed", ["index", "loss"])
def test_another_loss_or_step_is_noticed(changed: str, monkeypatch: pytest.MonkeyPatch):
    right = LossScaled.update

    def wrong(self, gradients, state, adapted, step):
        return right(self, gradients, state, adapted, replace(step, **{changed: step.index + 1}))

    monkeypatch.setattr(LossScaled, "update", wrong)
    with noticed():
        check_defined(with_optimizer(LossScaled()), loss_scaled)


def test_the_rate_is_that_of_the_context():
    """Of two outer steps between which it changes, each has the gradient of its own rate."""
    for lr in (CASE.network.lr, 0.2):
        setting = make(CASE).at(inner_lr=lr)

        def of_rate(learner: Reference, start: Tensors, episode: Episode, lr: float = lr) -> Tensor:
            *_, final = replace(learner, lr=lr).path(start, episode, graph=True)
            return learner.query_loss(final, episode)

        check_defined(setting, of_rate)
        with noticed():
            check_defined(setting.at(inner_lr=0.1), of_rate)


# --- chains ---------------------------------------------------------------------------------------

CHAIN = Chain((HeavyBall("first", descend=False), HeavyBall("second")))


def chained() -> Setting:
    return with_optimizer(CHAIN, first=scalar(0.7), second=scalar(0.3))


def test_parts_of_a_chain_keep_states_of_their_own():
    check_defined(chained(), heavy_balls("first", "second"))


def test_a_chain_of_one_is_that_one():
    alone = with_optimizer(HeavyBall(), decay=scalar(0.7)).loop()
    chain = with_optimizer(Chain((HeavyBall(),)), decay=scalar(0.7)).loop()
    assert all(torch.equal(g, chain.gradients[n]) for n, g in alone.gradients.items())


def test_a_chain_has_what_its_parts_have():
    adapted = {"w": torch.zeros(2)}
    meta = CHAIN.init(adapted, Key.of("a"))
    assert list(meta) == ["first", "second"]
    assert list(CHAIN.noise(Key.of("a"), make(CASE).ctx)) == ["first", "second"]
    assert CHAIN.learned_quantities(meta) == {"first": {"all": [0.5]}, "second": {"all": [0.5]}}
    assert len(CHAIN.start(meta, adapted, make(CASE).ctx)) == 2


def one_state(self: Chain, g: Params, state: Params, adapted: Params, step: InnerStep) -> Any:
    own = {name.partition("/")[2]: value for name, value in state.items()}
    for part in self.parts:
        g, own = part.update(g, own, adapted, step)
    return g, {f"0/{name}": value for name, value in own.items()}


def backwards(self: Chain, g: Params, state: Params, adapted: Params, step: InnerStep) -> Any:
    return RIGHT_CHAIN(Chain(self.parts[::-1]), g, state, adapted, step)


RIGHT_CHAIN = Chain.update


@pytest.mark.parametrize("wrong", [one_state, backwards])
def test_a_wrong_chain_is_noticed(wrong: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Chain, "update", wrong)
    with noticed():
        check_defined(chained(), heavy_balls("first", "second"))


# --- where the loop starts ------------------------------------------------------------------------


@dataclass(frozen=True)
class Modulated(InnerLoop):
    """The initialisation depends on the task, by a learned gate, which costs something."""

    def adapts(self, name: str) -> bool:
        return super().adapts(name) and name != "gate"

    def initial(self, params: Params, task: Task, ctx: Context) -> tuple[Params, Tensor | None]:
        start, _ = super().initial(params, task, ctx)
        seen = (task.support.x.mean(0) @ params["gate"]).tanh()
        return {name: p * (1 + seen) for name, p in start.items()}, 0.3 * seen**2


def gated(start: Tensors, episode: Episode) -> tuple[Tensors, Tensor]:
    seen = (episode.support_x.mean(0) @ start["gate"]).tanh()
    theta = {n: p * (1 + seen) if n != "gate" else p for n, p in start.items()}
    return theta, seen


def modulated(learner: Reference, start: Tensors, episode: Episode) -> Tensor:
    theta, seen = gated(start, episode)
    adapted = replace(learner, adapted=lambda name: name != "gate")
    *_, final = adapted.path(theta, episode, graph=True)
    return learner.query_loss(final, episode) + 0.3 * seen**2


def modulating() -> Setting:
    gate = torch.tensor([0.4, -0.9], dtype=torch.float64)
    return with_learner(Modulated(**vars(plain_loop())), gate=gate)


def test_a_loop_may_start_elsewhere_at_a_price():
    setting = modulating()
    check_defined(setting, modulated)
    check_differences(setting)
    # So does what predicts.
    episode = setting.episodes[0]
    theta, _ = gated(setting.params, episode)
    wanted, _ = setting.case.reference.net(theta, episode.query_x, "off")
    torch.testing.assert_close(setting.predictions(0)[0], wanted, rtol=EXACT, atol=EXACT)


def without_price(self: Modulated, params: Params, task: Task, ctx: Context) -> Any:
    return RIGHT_START(self, params, task, ctx)[0], None


def elsewhere(self: Modulated, params: Params, task: Task, ctx: Context) -> Any:
    return InnerLoop.initial(self, params, task, ctx)[0], RIGHT_START(self, params, task, ctx)[1]


RIGHT_START = Modulated.initial


@pytest.mark.parametrize("wrong", [without_price, elsewhere])
def test_a_wrong_start_is_noticed(wrong: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Modulated, "initial", wrong)
    with noticed():
        check_defined(modulating(), modulated)


# --- gradients that are none ----------------------------------------------------------------------


@dataclass(frozen=True)
class Synthetic(InnerLoop):
    """Steps along what a learned map makes of parameters and inputs; labels are not looked at."""

    def adapts(self, name: str) -> bool:
        return super().adapts(name) and name != "map"

    def inner_gradient(
        self, adapted: Params, frozen: Params, task: Task, step: int, ctx: Context
    ) -> tuple[Params, Tensor, Statistics]:
        seen = task.support.x.square().mean()
        g = {n: (frozen["map"] * p + (step + 1) * seen).tanh() for n, p in adapted.items()}
        return g, seen, {}


def synthetic(learner: Reference, start: Tensors, episode: Episode) -> Tensor:
    phi = {n: p for n, p in start.items() if n != "map"}
    for step in range(1, learner.steps + 1):
        size = episode.support_x.square().mean()
        phi = {n: p - learner.lr * (start["map"] * p + step * size).tanh() for n, p in phi.items()}
    return learner.query_loss(phi, episode)


def synthesising() -> Setting:
    return with_learner(Synthetic(**vars(plain_loop())), map=scalar(0.8))


def test_what_stands_for_the_gradient_is_taken():
    setting = synthesising()
    check_defined(setting, synthetic)
    other = setting.tasks.tensors["support_y"] + 1.0
    blind = replace(setting, tasks=replace_column(setting, "support_y", other))
    assert distance(blind.loop().gradients, setting.loop().gradients) == 0.0


def replace_column(setting: Setting, name: str, column: Tensor) -> Any:
    return replace(setting.tasks, tensors={**setting.tasks.tensors, name: column})


def test_a_constant_that_stands_for_the_gradient_is_noticed(monkeypatch: pytest.MonkeyPatch):
    right = Synthetic.inner_gradient

    def constant(self, adapted, frozen, task, step, ctx):
        g, loss, statistics = right(self, adapted, frozen, task, step, ctx)
        return {name: value.detach() for name, value in g.items()}, loss, statistics

    monkeypatch.setattr(Synthetic, "inner_gradient", constant)
    with noticed():
        check_defined(synthesising(), synthetic)


# --- gradients that a network knows ---------------------------------------------------------------


class Closed(linear.Linear):
    """A linear map that knows the gradient of its squared error."""

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[str, ...], float]] = []

    def loss_gradient(
        self,
        params: Params,
        wrt: tuple[str, ...],
        examples: Examples,
        norm: Norm,
        objective: Objective,
        scale: float,
    ) -> tuple[Tensor, Params, Statistics] | None:
        assert objective.fused == "squared_error"
        self.asked.append((wrt, scale))
        x, rest = examples.x, examples.x @ params["w"] - examples.y
        return scale * rest.square().mean(), {"w": 2 * scale / len(x) * x.T @ rest}, {}


class Doubled(Closed):
    """The mistake: twice the gradient."""

    def loss_gradient(self, *given: Any, **more: Any) -> tuple[Tensor, Params, Statistics] | None:
        found = super().loss_gradient(*given, **more)
        assert found
        return found[0], {name: 2 * g for name, g in found[1].items()}, found[2]


class Constant(Closed):
    """The mistake: a gradient that cannot be differentiated."""

    def loss_gradient(self, *given: Any, **more: Any) -> tuple[Tensor, Params, Statistics] | None:
        found = super().loss_gradient(*given, **more)
        assert found
        return found[0], {name: g.detach() for name, g in found[1].items()}, found[2]


def check_fused(mode: linear.Mode, steps: int, closed: Closed, *, second_order: bool) -> None:
    """With what the network knows the meta-gradient is what the tape finds, and the closed form."""
    batch, ctx = linear.tasks(), linear.context(steps)
    taped = linear.learner(second_order)
    known = replace(taped, backbone=closed)
    got = linear.compute(known, mode, batch, ctx)
    wanted = linear.compute(taped, mode, batch, ctx)
    assert distance(got.gradients, wanted.gradients) <= CLOSED_FORM
    torch.testing.assert_close(got.metrics["loss"], wanted.metrics["loss"], rtol=1e-12, atol=0)
    form = linear.closed_form(linear.theta()["w"], batch, steps, second_order=second_order)
    assert distance(got.gradients, {"w": form}) <= CLOSED_FORM
    times = steps if mode == "vmap" else steps * len(batch)
    assert closed.asked == [(("w",), 1)] * times


@pytest.mark.parametrize("mode", ["loop", "vmap"])
@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("second_order", [True, False], ids=["second order", "first order"])
def test_what_the_network_knows_is_used(mode: linear.Mode, steps: int, second_order: bool):
    check_fused(mode, steps, Closed(), second_order=second_order)


@pytest.mark.parametrize("mode", ["loop", "vmap"])
@pytest.mark.parametrize("wrong", [Doubled, Constant])
def test_a_wrong_gradient_of_the_network_is_noticed(mode: linear.Mode, wrong: type[Closed]):
    with noticed():
        check_fused(mode, 3, wrong(), second_order=True)


def test_a_network_that_is_asked_for_more_than_the_mean_is_told_so():
    task = linear.tasks().task(0)
    summed = replace(linear.learner(second_order=True), ways=3, support_reduction="sum_over_ways")
    closed = Closed()
    got, wanted = (
        loop.adapt(linear.theta(), task, linear.context(2))[-1].params
        for loop in (replace(summed, backbone=closed), summed)
    )
    assert distance(detached(got), detached(wanted)) <= CLOSED_FORM
    assert [scale for _, scale in closed.asked] == [3, 3]
    plain = linear.learner(second_order=True).adapt(linear.theta(), task, linear.context(2))
    assert distance(detached(plain[-1].params), detached(wanted)) > EXACT


def detached(params: Mapping[str, Tensor]) -> Tensors:
    return {name: p.detach() for name, p in params.items()}
