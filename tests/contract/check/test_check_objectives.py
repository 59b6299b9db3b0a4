"""Faults planted in objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import Fault, check_found, fault, written

import metadist


def judged(check: str, words: Any, *edits: tuple[str, str], level: str = "error") -> Fault:
    return fault("laplace", check, words, *edits, level=level)


MEAN = "(away + (2 * prediction.scale).log()).mean()"
OBJECTIVES = [
    judged(
        "builds",
        "set name = 'laplace' in the class, or rename the file",
        ('name = "laplace"', 'name = "other"'),
    ),
    judged("builds", "got None; set name = 'laplace'", ('    name = "laplace"\n', "")),
    judged(
        "declared", "train_metrics", ('train_metrics = ("error",)', 'train_metrics = ("errors",)')
    ),
    judged(
        "declared",
        "'mse' as metadist knows it",
        ('"error"', '"mse"'),
        ('"mean absolute error"', '"mean"'),
    ),
    judged(
        "loss",
        "central differences",
        (MEAN, "(away.detach() + (2 * prediction.scale).log() * away).mean()"),
    ),
    judged("loss", "got a tensor [2]", (MEAN, MEAN.replace(".mean()", ".mean(0)"))),
    judged("mean", "every example is there twice", (MEAN, MEAN.replace(".mean()", ".sum()"))),
    judged("loss", "float32", (MEAN, MEAN + ".double()")),
    judged(
        "fused",
        "squared_error",
        ("    train_metrics", '    fused = "squared_error"\n    train_metrics'),
    ),
    judged("score", "a score of each of metrics", (', "error": error', "")),
    judged(
        "pure",
        ("global generator of NumPy", "draw nothing"),
        (MEAN, MEAN + " + __import__('numpy').random.rand()"),
    ),
    judged("order", "in another order", (MEAN, "(away[0] + (2 * prediction.scale).log()).mean()")),
    judged("counts", "count_shapes", ('{"near": (), "values": ()}', '{"near": ()}')),
    judged("counts", "int64", ("(away < 2).sum()", "(away < 2).double().sum()")),
    judged(
        "counts", ("laplace.py:", "ZeroDivisionError"), (' if sums["values"] else math.nan', "")
    ),
    judged(
        "average",
        "judged as that one",
        (
            "    def counts",
            "    def average(self, predictions, how):\n"
            "        one = super().average(predictions, how)\n"
            "        return type(one)(one.mean, 2 * one.scale)\n\n"
            "    def counts",
        ),
    ),
    judged(
        "better",
        "higher_is_better = True",
        ('"negative log-density", higher_is_better=False', '"density", higher_is_better=True'),
    ),
    judged("better", "lower loss", (MEAN, "-" + MEAN)),
    judged(
        "better",
        "failed = 0",
        (
            '"negative log-density", higher_is_better=False',
            '"density", higher_is_better=False, failed=0.0',
        ),
    ),
    judged(
        "bare",
        "RecipeError",
        (
            "        if prediction.scale is None:\n"
            '            raise RecipeError("a scale is needed, and this learner predicts none")\n',
            "",
        ),
    ),
    judged("targets", "TARGETS", ('TARGETS = ("values",)', 'TARGETS = ("values", "things")')),
]


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ((MEAN, MEAN.replace(".mean()", "")), "got a tensor [12, 2]; "),
        (
            ("error = (target.y - prediction.mean).abs().mean()", "error = target.y.abs().mean(1)"),
            "got error: a tensor [12]; ",
        ),
    ],
)
def test_a_tensor_that_is_no_scalar_is_one_mistake(tmp_path: Path, planted: Any, told: str):
    report = metadist.check(written(tmp_path, "laplace", planted))
    (error,) = report.of("error")
    assert told in str(error)
    assert [finding.check for finding in report.of("note")] == ["the rest"]


@pytest.mark.parametrize("planted", OBJECTIVES, ids=str)
def test_a_planted_fault_is_found(tmp_path: Path, planted: Fault):
    check_found(tmp_path, planted)
