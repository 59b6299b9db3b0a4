"""Results of evaluations that nobody has run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.protocols import EvalProtocol
from metadist.objectives.classification import Classification
from metadist.objectives.regression import Regression


def evaluation_of(
    protocol: EvalProtocol,
    regression: bool,
    score: NDArray[np.float64],
    loss: NDArray[np.float64],
    failed: NDArray[np.bool_],
    *,
    trained_steps: int | None = 1,
    episode_digest: str = "e" * 64,
    **more: Any,
) -> Evaluation:
    """Of accuracies, or of squared errors; columns are [E, K + 1]."""
    objective = Regression() if regression else Classification()
    return Evaluation(
        protocol=protocol,
        kind=objective.name,
        metrics=objective.metrics,
        trained_steps=trained_steps,
        columns={objective.metric.name: score, "loss": loss},
        failed=failed,
        episode_digest=episode_digest,
        **more,
    )
