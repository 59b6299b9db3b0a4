"""What a run comes to: figures, examples and diagnostics of a checkpoint, computed, then written.

Computing takes minutes and needs nobody's leave. Writing takes a moment, in which whoever may write
to the run must still be the one: all files of an outcome are written in one commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from data_pipeline.episodes.types import EpisodeSource
from metadist.episode_data import EpisodeData
from metadist.evaluation.diagnostics import diagnose, write_diagnostics
from metadist.evaluation.evaluator import Evaluation, examples, write_evaluation, write_examples
from metadist.evaluation.protocols import EvalProtocol, own_protocols
from metadist.evaluation.trained_learner import TrainedLearner

#: Test episodes whose predictions are kept for the report.
EXAMPLES = 6
#: What ``evaluation/`` is called among the documents of a run.
EVALUATION = "evaluation"


class Writer(Protocol):
    """The right to write to a run: an attempt's, or that of an evaluation of a run that ended."""

    def commit(self, *documents: str) -> AbstractContextManager[object]:
        """Write ``documents`` inside this block; raises RunError if another has the right now."""


def source(learner: TrainedLearner, data: EpisodeData, how: EvalProtocol) -> EpisodeSource:
    """The episodes of a protocol."""
    return data.live(how.part, how.queries, how.seed, how.shots)


def show(learner: TrainedLearner, data: EpisodeData) -> dict[str, Tensor]:
    """A few test episodes with predictions, by the last of the recipe's protocols."""
    how = own_protocols(learner.recipe)[-1]
    count = min(EXAMPLES, how.episodes)
    return examples(learner, source(learner, data, how), count, how.steps)


def explain(learner: TrainedLearner, data: EpisodeData, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Diagnostics, on training episodes and those of the last of the recipe's protocols.

    Args:
        facts: what else the numbers depend on.
    """
    recipe = learner.recipe
    training = data.live("train", recipe.data.queries, recipe.data.seed)
    return diagnose(learner, training, source(learner, data, own_protocols(recipe)[-1]), facts)


@dataclass(frozen=True)
class Outcome:
    """What was computed of a checkpoint.

    Attributes:
        facts: what the figures depend on beside their protocols.
        results: by protocol, the main one first.
        examples: see :func:`show`; empty where nothing is to be shown.
        diagnostics: see :func:`explain`; empty where nothing is to be explained.
    """

    facts: Mapping[str, Any]
    results: Sequence[Evaluation]
    examples: dict[str, Tensor] = field(default_factory=dict)
    diagnostics: dict[str, Any] = field(default_factory=dict)

    def write(self, writer: Writer, directory: Path) -> None:
        """All of it into a run's ``evaluation/``.

        Raises:
            RunError: another attempt has taken over, or the run was continued; nothing is written.
        """
        with writer.commit(EVALUATION):
            for result in self.results:
                write_evaluation(directory, result, self.facts)
            if self.examples:
                write_examples(directory, self.examples)
            if self.diagnostics:
                write_diagnostics(directory, self.diagnostics)
