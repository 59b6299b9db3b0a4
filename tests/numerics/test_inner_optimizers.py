"""Inner optimizers with a state, in chains, and what they are told, against plain loops.

In float64, on the tape and under vmap. Each statement is also made of a learner with an obvious
mistake, and must then fail.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist.context import Context
from metadist.errors import PluginError
from metadist.inner.adam import Adam
from metadist.inner.inner_optimizer import Chain, InnerOptimizer, InnerStep
from metadist.keys import Key
from metadist.learner import LearnedQuantities
from metadist.tasks import Params
from tests.contract.checks import check_differences, check_same
from tests.contract.setting import Setting, make
from tests.numerics.baselines_reference import tuned
from tests.numerics.hooks import (
    CASE,
    Defined,
    check_defined,
    noticed,
    plain_loop,
    scalar,
    with_learner,
    with_optimizer,
)
from tests.numerics.reference import (
    EXACT,
    Episode,
    Reference,
    Tensors,
    derivative,
    distance,
    leaves,
)

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
        size = learner.lr * value / (1 + step)
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


def test_parts_of_one_name_are_refused():
    """One of them would lose what is its own."""
    with pytest.raises(PluginError, match="meta-parameters of different names, two have decay"):
        Chain((HeavyBall(), HeavyBall())).init({}, Key.of("chain"))
    with pytest.raises(PluginError, match="at least one inner optimizer"):
        Chain(())
