"""The same bits for any number of workers and after any interruption, whatever the algorithm."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from tiers import each_pair, one_in
from torch import Tensor

from metadist.compute.collectives import Group
from metadist.inner.sgd import SGD
from metadist.training.trainer import Trainer
from tests.contract.cases import LEARNING, Case, first_model, switched, works_on
from tests.contract.training import bits, same_bits, train, trainer
from tests.numerics.conftest import RunGroup

STEPS, BEFORE = 2, 1
#: Uneven on purpose: chunks of 2, 2 and 1 tasks.
BATCH, CHUNK = 5, 2
Mode = Literal["loop", "vmap"]


def case_of(algorithm: str, model: str, mode: Mode, options=()) -> Case:
    return Case(
        algorithm,
        model,
        "running" if model.startswith("conv4") else "none",
        1 if model.startswith("conv4") else 2,
        options,
        dtype="float32",
        outer={"batch": BATCH, "lr": 0.01},
        engine={"mode": mode, "chunk": CHUNK},
    )


def cases(mode: Mode, models: tuple[str, ...]) -> list[Case]:
    """With defaults."""
    return [
        case_of(algorithm, model, mode)
        for algorithm in LEARNING
        for model in models
        if works_on(algorithm, model)
    ]


def resumed(case: Case) -> Trainer:
    """Stopped and gone on by another worker."""
    state = train(trainer(case), case, BEFORE).state()
    other = trainer(case)
    other.restore(state)
    return train(other, case, STEPS)


def check(case: Case, run_group: RunGroup, sizes: tuple[int, ...] = (3,)) -> None:
    fresh = trainer(case)
    alone = train(trainer(case), case, STEPS).state()
    assert all(bool(torch.isfinite(t).all()) for t in bits(alone).values())
    assert any(not torch.equal(p, alone.params[n]) for n, p in fresh.params.items())

    def work(group: Group) -> Trainer:
        return train(trainer(case, group), case, STEPS)

    for size in sizes:
        for worker in run_group(size, work):
            assert same_bits(worker.state(), alone), f"{size} workers"
    assert same_bits(resumed(case).state(), alone), "resumed"


# The networks that have state beside the parameters.
@pytest.mark.parametrize("case", one_in(2, cases("loop", ("conv4-stride",))), ids=str)
def test_workers_and_interruptions_do_not_matter(case: Case, run_group: RunGroup):
    check(case, run_group)


@pytest.mark.parametrize("case", one_in(2, cases("vmap", ("mlp-tanh", "mlp-relu"))), ids=str)
def test_workers_and_interruptions_do_not_matter_under_vmap(case: Case, run_group: RunGroup):
    check(case, run_group)


@each_pair("algorithm", LEARNING, "model", ["mlp-tanh", "conv4-stride"], 2)
def test_nor_with_any_option(
    algorithm: str, model: str, run_group: RunGroup, subtests: pytest.Subtests
):
    # What is one by one on one network is together on the other.
    modes: list[Mode] = ["loop", "vmap"] if model == "mlp-tanh" else ["vmap", "loop"]
    for number, options in enumerate(((), *switched(algorithm))):
        if works_on(algorithm, model, options):
            case = case_of(algorithm, model, modes[number % 2], options)
            with subtests.test(str(case)):
                check(case, run_group, (2, 4))


def test_a_learner_with_a_memory_is_noticed(run_group: RunGroup, monkeypatch: pytest.MonkeyPatch):
    calls: list[Tensor] = []
    update = SGD.update

    def remembering(self, gradients, state, adapted, step):
        calls.append(torch.empty(0))
        scaled = {n: g * (1 + 1e-3 * len(calls)) for n, g in gradients.items()}
        return update(self, scaled, state, adapted, step)

    monkeypatch.setattr(SGD, "update", remembering)
    with pytest.raises(AssertionError):
        check(case_of("maml", first_model("maml"), "loop"), run_group)
