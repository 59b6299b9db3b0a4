"""What an algorithm predicts, and what it reports of itself.

An algorithm that does not meta-learn (``none``) owes nothing but its predictions: they are held
against a second program. Metrics are those of the predictions after the last step wherever the
loss is one of an adapted learner: always outside training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from metadist.compute.strategies import Loop, Vmap
from metadist.context import NormMode
from metadist.tasks import Phase
from tests.contract.cases import (
    ALGORITHMS,
    MODELS,
    Case,
    Options,
    anywhere,
    each_mode,
    first_model,
    models_of,
    switched,
)
from tests.contract.setting import Setting, make
from tests.numerics.definitions import PREDICTIONS
from tests.numerics.reference import EXACT, cross_entropy, squared_error

PREDICTED = [
    name for name in ALGORITHMS if anywhere(name).estimator == "none" or name in PREDICTIONS
]
#: Of predictions of several tasks at once, relative to the largest.
TOGETHER = 1e-12
#: Of these the reference knows the statistics; ``running`` needs the engine's.
WITHOUT_STATE: tuple[NormMode, ...] = ("transductive", "support", "none")


@pytest.mark.parametrize(
    ("algorithm", "options", "norm"),
    [
        pytest.param(
            name, options, norm, marks=[pytest.mark.slow] if options and norm != "none" else []
        )
        for name in PREDICTED
        for options in ((), *switched(name))
        for norm in WITHOUT_STATE
    ],
    ids=str,
)
def test_predictions_are_those_of_a_second_program(
    algorithm: str, options: Options, norm: NormMode
):
    if algorithm not in PREDICTIONS:
        pytest.fail(
            f"{algorithm} does not meta-learn: write what it predicts a second time in a "
            "PREDICTIONS of tests/numerics"
        )
    for model in models_of(algorithm, options):
        if norm not in MODELS[model].norms:
            continue
        for steps in (3,) if options else (0, 3):
            case = Case(algorithm, model, norm, 2, options)
            setting = make(case).at(phase="test", inner_steps=steps)
            learner = replace(case.reference, steps=steps)
            for index, episode in enumerate(setting.episodes):
                got = setting.predictions(index)[-1]
                noise = setting.noise[index]
                wanted = PREDICTIONS[algorithm](learner, setting.params, episode, noise)
                torch.testing.assert_close(got, wanted, rtol=EXACT, atol=EXACT)


# --- however they are computed --------------------------------------------------------------------


def check_together(setting: Setting, size: int) -> None:
    """Predictions of ``size`` tasks at once are those of one task after the other."""
    alone = setting.predicted(Loop())
    parts = [setting.part(start, start + size) for start in range(0, len(setting), size)]
    together = [after for part in parts for after in part.predicted(Vmap(size))]
    assert len(together) == len(alone) == len(setting)
    for one, other in zip(alone, together, strict=True):
        assert len(one) == len(other)
        for wanted, got in zip(one, other, strict=True):
            assert list(got.tensors()) == list(wanted.tensors())
            for name, tensor in wanted.tensors().items():
                scale = float(tensor.abs().max())
                assert tensor.dtype == torch.float64
                assert float((got.tensors()[name] - tensor).abs().max()) <= TOGETHER * scale


@each_mode(ALGORITHMS)
def test_predictions_are_the_same_however_they_are_computed(algorithm: str, norm: NormMode):
    for model in models_of(algorithm):
        if model not in ("conv4-stride", "mlp-relu", "mlp-tanh"):
            continue
        if norm not in MODELS[model].norms:
            continue
        setting = make(Case(algorithm, model, norm, 2)).at(phase="test", inner_steps=3)
        # A chunk that is full and one that is padded; all at once.
        for size in (2, len(setting)):
            check_together(setting, size)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_with_any_option_too(algorithm: str):
    for options in switched(algorithm):
        model = first_model(algorithm, options)
        setting = make(Case(algorithm, model, MODELS[model].norms[0], 2, options))
        check_together(setting.at(phase="test", inner_steps=3), 2)


def test_predictions_of_another_task_or_step_are_noticed(monkeypatch: pytest.MonkeyPatch):
    setting = make(Case("maml", "mlp-tanh", "none", 2)).at(phase="test", inner_steps=3)
    right = Vmap.predict
    mistakes: dict[str, Callable[[Any], Any]] = {
        "tasks": lambda found: found[::-1],
        "steps": lambda found: [after[::-1] for after in found],
        "last": lambda found: [after[-1:] for after in found],
    }
    for mistake in mistakes.values():
        monkeypatch.setattr(Vmap, "predict", lambda *given, wrong=mistake: wrong(right(*given)))
        with pytest.raises(AssertionError):
            check_together(setting, 3)


# --- metrics --------------------------------------------------------------------------------------


def check_metrics(setting: Setting, metrics: list[dict[str, Tensor]]) -> None:
    """Loss and accuracy are those of the predictions after the last step."""
    classification = setting.case.network.targets == "labels"
    for index, episode in enumerate(setting.episodes):
        outputs = setting.predictions(index)[-1]
        score = cross_entropy if classification else squared_error
        wanted = {"loss": score(outputs, episode.query_y).detach()}
        if classification:
            right = [row.tolist().index(max(row.tolist())) for row in outputs]
            hits = sum(int(a == b) for a, b in zip(right, episode.query_y, strict=True))
            wanted["accuracy"] = torch.tensor(hits / len(outputs))
        assert set(metrics[index]) == set(wanted)
        for name, value in wanted.items():
            got = metrics[index][name].double()
            torch.testing.assert_close(got, value.double(), rtol=1e-6, atol=1e-9)


@each_mode(ALGORITHMS)
def test_metrics_are_those_of_the_predictions(algorithm: str, norm: NormMode):
    for model in models_of(algorithm):
        if model not in ("conv4-stride", "mlp-relu", "mlp-tanh"):
            continue
        if norm not in MODELS[model].norms:
            continue
        setting = make(Case(algorithm, model, norm, 2))
        phases: list[Phase] = ["train", "test"]
        for phase in phases:
            now = setting.at(phase=phase, inner_steps=2 if phase == "train" else 3)
            metrics = now.metrics()
            assert not any(m.requires_grad for some in metrics for m in some.values())
            order, estimator = now.algorithm.derivative_order, now.algorithm.estimator
            if phase == "train" and estimator == "exact" and order == 1:
                # Trained without adapting: the metrics are those of what is differentiated, and
                # nothing but a second program knows what it should predict.
                assert algorithm in PREDICTIONS
                losses = [now.loss(now.params, i).detach() for i in range(len(now))]
                torch.testing.assert_close([m["loss"] for m in metrics], losses)
            else:
                check_metrics(now, metrics)
