"""Faults planted in inner optimizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted import Fault, check_found, fault


def optimizer(check: str, words: Any, line: str, level: str = "error") -> Fault:
    """An inner optimizer of its own."""
    return fault(
        "own_maml",
        check,
        words,
        (
            "class Own(",
            "class Rule(InnerOptimizer):\n"
            "    def update(self, gradients, state, adapted, step):\n"
            f"        {line}\n\n\nclass Own(",
        ),
        ("parts.inner_loop(Own)", "parts.inner_loop(Own, optimizer=Rule())"),
        ("PART =", "from metadist.inner.inner_optimizer import InnerOptimizer\n\nPART ="),
        level=level,
    )


FORM = "let update() return (updates, state) with the keys, shapes and types of adapted"
OPTIMIZERS = [
    optimizer(
        "runs",
        ("[6, 2] in float64 for linear1.weight", "[] in float64", FORM),
        "return {n: -0.1 * g.mean() for n, g in gradients.items()}, {}",
    ),
    optimizer(
        "runs", ("nothing", FORM), "return {n: -g for n, g in list(gradients.items())[1:]}, {}"
    ),
    optimizer(
        "runs", ("in float32", FORM), "return {n: -g.float() for n, g in gradients.items()}, {}"
    ),
    optimizer("runs", ("(updates, state)", "dict"), "return {n: -g for n, g in gradients.items()}"),
    optimizer(
        "support loss",
        ("look at the sign", "before and"),
        "return {n: step.ctx.inner_lr * g for n, g in gradients.items()}, {}",
        level="warning",
    ),
    optimizer(
        "hooks",
        ("begin", "call it 'start'"),
        "return {n: -step.ctx.inner_lr * g for n, g in gradients.items()}, {}\n\n"
        "    def begin(self, meta, adapted, ctx):\n        return {}",
        level="warning",
    ),
]


@pytest.mark.parametrize("planted", OPTIMIZERS, ids=str)
def test_a_planted_fault_is_found(tmp_path: Path, planted: Fault):
    check_found(tmp_path, planted)
