"""Other inner loops and optimizers on the tasks of the contract, and what defines them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metadist.inner.inner_loop import InnerLoop
from metadist.inner.inner_optimizer import InnerOptimizer
from tests.contract.cases import Case
from tests.contract.checks import check_same
from tests.contract.setting import Setting, make
from tests.numerics.reference import (
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
