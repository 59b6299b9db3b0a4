"""What a worker writes of a run while it trains: rank 0 log and checkpoints, the others nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metadist.evaluation.results import Results
from metadist.runs import checkpoints
from metadist.runs.attempts import history, losses
from metadist.runs.log import LogWriter, NullSink, Sink, write_parquet
from metadist.runs.run_dir import Attempt, RunDir
from metadist.training.trainer import Trainer


class RunWriter:
    """Writes for one attempt.

    Args:
        attempt: None: nothing is written.
        numerics: of this worker.
    """

    def __init__(self, run: RunDir, attempt: Attempt | None, numerics: dict[str, str]) -> None:
        self._run = run
        self._attempt = attempt
        self._numerics = numerics
        self.log: Sink = NullSink() if attempt is None else LogWriter(attempt)

    def save(self, trainer: Trainer) -> None:
        """Commit a checkpoint; the log is made durable first.

        Raises:
            SupersededError: another attempt has taken over.
        """
        if self._attempt is None:
            return
        self.log.flush()
        recipe = trainer.recipe
        facts: dict[str, Any] = {
            "recipe_hash": recipe.hash,
            "lineage": recipe.lineage,
            "numerics": self._numerics,
            "mlflow": self._run.info().get("mlflow"),
        }
        checkpoints.save(self._attempt, trainer.state(), facts)
        best = trainer.best.step if trainer.best else None
        checkpoints.prune(self._attempt, recipe.run.keep, best)

    def write_results(self, results: Results) -> None:
        """Into the run's ``evaluation/``; raises SupersededError as :meth:`save` does."""
        if self._attempt is not None:
            results.write(self._attempt, self._run.evaluation)

    def close(self, step: int, points: Mapping[str, float]) -> None:
        """Figures of the result as points of the last step, and the whole log as Parquet."""
        if self._attempt is None:
            return
        self.log.add(step, {**points, **losses(history(self._run))})
        self.log.flush()
        with self._attempt.commit("summary"):
            write_parquet(self._run)
