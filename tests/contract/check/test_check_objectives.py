"""Faults planted in objectives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import Fault, check_found, fault


def judged(check: str, words: Any, *edits: tuple[str, str], level: str = "error") -> Fault:
    return fault("laplace", check, words, *edits, level=level)


MEAN = "(away + (2 * prediction.scale).log()).mean()"
OBJECTIVES = [
    judged("declared", "name = 'laplace'", ('name = "laplace"', 'name = "other"')),
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
    judged("loss", "a finite scalar", (MEAN, MEAN.replace(".mean()", ".mean(0)"))),
    judged("loss", "float32", (MEAN, MEAN + ".double()")),
    judged(
        "fused",
        "squared_error",
        ("    train_metrics", '    fused = "squared_error"\n    train_metrics'),
    ),
    judged("score", "a score of each of metrics", (', "error": error', "")),
    judged(
        "score", "global generator of NumPy", (MEAN, MEAN + " + __import__('numpy').random.rand()")
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


@pytest.mark.parametrize("planted", OBJECTIVES, ids=str)
def test_a_planted_fault_is_found(tmp_path: Path, planted: Fault):
    check_found(tmp_path, planted)
