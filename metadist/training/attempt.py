"""An attempt at a run: rank 0 claims it and writes, all workers load the newest checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metadist.compute.collectives import Group
from metadist.evaluation.results import Results
from metadist.process.code import code_digest
from metadist.runs import checkpoints
from metadist.runs.attempts import bits_of, history, losses
from metadist.runs.checkpoints import TrainState
from metadist.runs.log import LogWriter, Sink, write_parquet
from metadist.runs.run_dir import Attempt, RunDir
from metadist.training.trainer import Trainer
from metadist.training.twin import Twin


class RunWriter:
    """What a worker writes of a run while it trains: rank 0 log and checkpoints, others nothing.

    Args:
        attempt: None: nothing is written.
        numerics: of this worker.
    """

    def __init__(self, run: RunDir, attempt: Attempt | None, numerics: dict[str, str]) -> None:
        self._run = run
        self._attempt = attempt
        self._numerics = numerics
        self.log: Sink = Sink() if attempt is None else LogWriter(attempt)

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


def start_attempt(
    run: RunDir, trainer: Trainer, twin: Twin, group: Group, numerics: dict[str, str]
) -> RunWriter:
    """Claim a run and put its newest good checkpoint into the trainers of all workers.

    Args:
        numerics: of this worker.

    Raises:
        NumericsError: fresh parameters are others when all parts are built anew.
    """
    attempt, state, message = None, None, None
    if group.rank == 0:
        attempt, state = _claim(run, trainer.recipe.lineage, group.size, numerics)
        fresh = state is None
        if fresh and trainer.recipe.engine.reduction != "exact":
            state = trainer.state()  # machines may differ, parameters may not
        message = {"fresh": fresh, "state": state.scalars() if state else None}
    received = group.broadcast(message)
    if received["fresh"]:
        twin.check_fresh()
    if received["state"] is not None:
        tensors = group.broadcast_tensors(state.tensors() if state else None)
        trainer.restore(TrainState.of(received["state"], tensors))
    return RunWriter(run, attempt, numerics)


def _claim(
    run: RunDir, lineage: str, workers: int, numerics: dict[str, str]
) -> tuple[Attempt, TrainState | None]:
    """Become the writer of a run, and read the checkpoint to go on from, if there is one."""
    facts = {"world_size": workers, "numerics": numerics, "code": code_digest()}
    attempt = run.claim({**facts, "bits": bits_of(run, numerics)})
    # Only now does no earlier attempt commit any more.
    found = checkpoints.newest(run, lineage)
    state = found[0] if found else None
    attempt.record(from_step=state.step if state else 0)
    checkpoints.set_aside(attempt, state.step if state else -1)
    return attempt, state
