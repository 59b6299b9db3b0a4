"""What a run comes to: figures, examples and diagnostics of a checkpoint, to be written at once.

Computing them takes minutes and needs nobody's leave. Writing takes a moment, in which whoever may
write to the run must still be the one: all files are written in one commit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
from torch import Tensor

from data_pipeline.storage.local import write_atomic
from metadist.evaluation.diagnostics import diagnostic_points, write_diagnostics
from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.evaluator import write_evaluation
from metadist.statistics.format import finite


class Writer(Protocol):
    """The right to write to a run: an attempt's, or that of an evaluation of a run that ended."""

    def commit(self, *documents: str) -> AbstractContextManager[object]:
        """Write ``documents`` inside this block; raises RunError if another has the right now."""


@dataclass(frozen=True)
class Results:
    """What was computed of a checkpoint.

    Attributes:
        facts: what the figures depend on beside their protocols.
        evaluations: by protocol, the main one first.
        examples: see :func:`metadist.evaluation.evaluator.examples` and
            :func:`metadist.evaluation.explanations.explanations`; empty: none are shown.
        diagnostics: see :func:`metadist.evaluation.diagnostics.diagnose`; empty: none are wanted.
    """

    facts: Mapping[str, Any]
    evaluations: Sequence[Evaluation]
    examples: dict[str, Tensor] = field(default_factory=dict)
    diagnostics: dict[str, Any] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, Any]:
        """The figures of the run's result: the main protocol's, and the means of the others.

        All are of the same classes; the interval over new ones is that of the first.
        """
        main, *others = self.evaluations
        return {
            main.metric.name: finite(main.figure["mean"]),
            "ci95": finite(main.figure["ci95"]),
            **{_other_name(other): finite(other.figure["mean"]) for other in others},
            **{name: finite(value) for name, value in main.further.items()},
            "episodes": len(main.score),
            "failed": main.failures,
            **({"needs": sorted(main.needs)} if main.needs else {}),
            **main.of_classes,
        }

    @property
    def points(self) -> dict[str, float]:
        """The same as metrics, the main protocol's mean after each number of steps, and the
        diagnostics that are few enough."""
        main, *others = self.evaluations
        name = f"test/{main.metric.name}"
        points = {name: main.figure["mean"]}
        if math.isfinite(main.figure["ci95"]):
            points[f"{name}_ci95"] = main.figure["ci95"]
        if main.classes is not None:
            points["test/classes"] = float(main.classes.count)
            if math.isfinite(main.ci95_classes):
                points[f"{name}_ci95_classes"] = main.ci95_classes
        points["test/failed"] = float(main.failures)
        for step in range(main.score.shape[1]):
            points[f"{name}_step_{step}"] = main.at(step)["mean"]
        points |= {f"test/{_other_name(other)}": other.figure["mean"] for other in others}
        points |= {f"test/{name}": value for name, value in main.further.items()}
        if main.by_instance is not None:
            points |= {f"test/{name}": value for name, value in main.by_instance.points.items()}
        return points | diagnostic_points(self.diagnostics)

    def write(self, writer: Writer, directory: Path) -> None:
        """All of it into a run's ``evaluation/``.

        Raises:
            RunError: another attempt has taken over, or the run was continued; nothing is written.
        """
        with writer.commit("evaluation"):
            for result in self.evaluations:
                write_evaluation(directory, result, self.facts)
            if self.examples:
                tensors = safetensors.torch.save(self.examples)
                write_atomic(directory / "examples.safetensors", tensors)
            if self.diagnostics:
                write_diagnostics(directory, self.diagnostics)


def _other_name(evaluation: Evaluation) -> str:
    return f"{evaluation.metric.name}_{evaluation.protocol.queries}q"
