"""What a run comes to: figures, examples and diagnostics of a checkpoint, to be written at once.

Computing them takes minutes and needs nobody's leave. Writing takes a moment, in which whoever may
write to the run must still be the one: all files are written in one commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from metadist.evaluation.diagnostics import diagnostic_points, write_diagnostics
from metadist.evaluation.evaluator import (
    Evaluation,
    figures_of,
    points_of,
    write_evaluation,
    write_examples,
)

#: What ``evaluation/`` is called among the documents of a run.
EVALUATION = "evaluation"


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
        examples: see :func:`metadist.evaluation.evaluator.examples`; empty: none are shown.
        diagnostics: see :func:`metadist.evaluation.diagnostics.diagnose`; empty: none are wanted.
    """

    facts: Mapping[str, Any]
    evaluations: Sequence[Evaluation]
    examples: dict[str, Tensor] = field(default_factory=dict)
    diagnostics: dict[str, Any] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, Any]:
        """The figures of the run's result."""
        return figures_of(self.evaluations)

    @property
    def points(self) -> dict[str, float]:
        """The same, and the diagnostics that are few enough, as metrics."""
        return points_of(self.evaluations) | diagnostic_points(self.diagnostics)

    def write(self, writer: Writer, directory: Path) -> None:
        """All of it into a run's ``evaluation/``.

        Raises:
            RunError: another attempt has taken over, or the run was continued; nothing is written.
        """
        with writer.commit(EVALUATION):
            for result in self.evaluations:
                write_evaluation(directory, result, self.facts)
            if self.examples:
                write_examples(directory, self.examples)
            if self.diagnostics:
                write_diagnostics(directory, self.diagnostics)
