"""Learners with kernels: every gradient is what it is without them, and the same bits in chunks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from metadist.compute.determinism import numerics
from metadist.context import NormMode
from metadist.kernels import functions
from metadist.kernels.library import Library
from tests.contract.cases import Case, Options, works_on
from tests.contract.setting import Setting, make
from tests.numerics.reference import EXACT, distance

#: Learners, and options that change what they do with gradients or features.
LEARNERS: dict[str, Options] = {
    "maml": (),
    "maml-norm": (("adapt_norm", True),),
    "fomaml": (),
    "reptile": (),
    "anil": (),
    "nil": (),
    "meta_sgd": (),
    "meta_curvature": (),
    "mamlpp": (),
    "mamlpp-first": (("first_order", True),),
    "tnet": (),
    "mtnet": (),
    "taml": (),
    "taml-entropy": (("variant", "entropy"),),
    "maml_input_bias": (),
    "finetune": (),
    "nearest_embedding": (),
    "baselinepp": (),
    "protonet": (),
    "matching": (("support_lstm", True), ("query_lstm_steps", 1)),
    "relation": (),
    "snail": (("filters", 8),),
    "gnn": (("width", 8),),
    "siamese": (("embedding", 8),),
    "mann": (("units", 8), ("memory_rows", 16)),
}
#: Those that others hold as well.
LATER = {"maml-norm", "nil", "mamlpp-first", "tnet", "taml", "taml-entropy", "maml_input_bias"}
LATER |= {"baselinepp", "relation", "snail", "gnn", "siamese", "mann"}
MODELS = ("conv4-stride", "conv4-pool", "conv4-shift", "conv4-plain", "mlp-relu", "mlp-tanh")


@pytest.fixture(autouse=True)
def _built(kernels: Library) -> None:
    """There are kernels."""


def both(case: Case) -> tuple[Setting, Setting]:
    """With kernels and without."""
    return make(replace(case, engine={"kernels": "fused"})), make(case)


def held(case: Case) -> None:
    """Gradients, metrics and statistics of the kernels are the tape's."""
    fused, plain = (setting.loop() for setting in both(case))
    assert bool(plain.finite.all())
    assert distance(fused.gradients, plain.gradients) <= EXACT
    assert distance(fused.metrics, plain.metrics) <= EXACT
    assert distance(fused.statistics, plain.statistics) <= EXACT


def case_of(learner: str, model: str, steps: int = 2) -> Case:
    norm: NormMode = "none" if model.startswith("mlp") else "transductive"
    return Case(learner.partition("-")[0], model, norm, steps, LEARNERS[learner])


@pytest.mark.parametrize(
    "learner",
    [pytest.param(x, marks=pytest.mark.slow) if x in LATER else x for x in LEARNERS],
)
def test_a_learner_is_the_same(learner: str):
    held(case_of(learner, "conv4-stride"))


@pytest.mark.parametrize("model", MODELS[1:])
def test_maml_is_the_same_on_every_network(model: str):
    held(case_of("maml", model))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS[1:])
@pytest.mark.parametrize("learner", [name for name in LEARNERS if name != "maml"])
def test_every_learner_is_the_same_on_every_network(learner: str, model: str):
    case = case_of(learner, model)
    no_norm = model.startswith("mlp") and learner == "maml-norm"
    if no_norm or not works_on(case.algorithm, model, case.options):
        pytest.skip("not for such tasks")
    held(case)


@pytest.mark.parametrize("norm", ["running", "support", "none"])
@pytest.mark.parametrize("learner", ["maml", "mamlpp", "anil"])
def test_other_normalisation_is_the_same(learner: str, norm: NormMode):
    held(replace(case_of(learner, "conv4-stride"), norm=norm))


def test_chunks_have_the_bits_of_their_tasks():
    setting, _ = both(replace(case_of("maml", "conv4-stride"), dtype="float32"))
    parts = [setting.part(start, start + 1).loop() for start in range(len(setting))]
    whole = setting.loop()
    for name, got in whole.gradients.items():
        added = sum(part.gradients[name].double() for part in parts[1:])
        assert torch.equal(got, parts[0].gradients[name].double() + added)
    again = setting.loop()
    assert all(torch.equal(again.gradients[n], g) for n, g in whole.gradients.items())


@pytest.mark.parametrize(
    "learner",
    [
        *("maml", "fomaml", "reptile", "anil", "meta_sgd", "mamlpp", "tnet", "mtnet"),
        *("taml-entropy", "finetune", "nearest_embedding", "protonet", "baselinepp"),
    ],
)
def test_kernels_are_really_asked(monkeypatch: pytest.MonkeyPatch, learner: str):
    setting, _ = both(case_of(learner, "conv4-stride"))

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("torch computes")

    monkeypatch.setattr(torch.nn.functional, "conv2d", forbidden)
    assert bool(setting.loop().finite.all())


def test_what_only_changes_the_head_passes_the_rest_once(monkeypatch: pytest.MonkeyPatch):
    setting, _ = both(case_of("anil", "conv4-stride", steps=3))
    passes: list[str] = []
    for name in ("loss_gradient", "loss", "outputs"):
        done = getattr(functions, name)

        def counted(*given: object, _name: str = name, _done: Any = done, **how: object) -> Any:
            passes.append(_name)
            return _done(*given, **how)

        monkeypatch.setattr(functions, name, counted)
    setting.loop()
    assert passes == ["outputs", "loss"] * len(setting)


def test_vmap_leaves_them_alone():
    fused, plain = both(case_of("maml", "mlp-relu"))
    (got,), (wanted,) = fused.vmap(3), plain.vmap(3)
    assert all(torch.equal(g, wanted.gradients[n]) for n, g in got.gradients.items())


def test_the_build_is_part_of_what_decides_the_bits(kernels: Library):
    cpu = torch.device("cpu")
    plain, fused = numerics(cpu), numerics(cpu, "fused")
    assert fused == {**plain, "kernels": f"{kernels.target} {kernels.digest}"}
