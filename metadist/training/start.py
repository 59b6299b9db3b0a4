"""The beginning of an attempt: rank 0 claims the run, all workers load the newest checkpoint."""

from __future__ import annotations

from typing import Any

from metadist.compute.collectives import Group
from metadist.process.code import code_digest
from metadist.runs import checkpoints
from metadist.runs.attempts import bits_of
from metadist.runs.checkpoints import TrainState
from metadist.runs.run_dir import Attempt, RunDir
from metadist.training.trainer import Trainer
from metadist.training.twin import Twin


def start(
    run: RunDir, trainer: Trainer, twin: Twin, group: Group, numerics: dict[str, str]
) -> Attempt | None:
    """Claim a run and put its newest good checkpoint into the trainers of all workers.

    Args:
        numerics: of this worker.

    Returns:
        The right to write to the run; None on other workers than rank 0.

    Raises:
        NumericsError: fresh parameters are others when all parts are built anew.
    """
    attempt: Attempt | None = None
    state: TrainState | None = None
    message: dict[str, Any] | None = None
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
    return attempt


def _claim(
    run: RunDir, lineage: str, workers: int, numerics: dict[str, str]
) -> tuple[Attempt, TrainState | None]:
    """Become the writer of a run, and read the checkpoint to go on from, if there is one."""
    attempt = run.claim(
        {
            "world_size": workers,
            "numerics": numerics,
            "code": code_digest(),
            "bits": bits_of(run, numerics),
        }
    )
    # Only now does no earlier attempt commit any more.
    found = checkpoints.newest(run, lineage)
    state = found[0] if found else None
    attempt.record(from_step=state.step if state else 0)
    checkpoints.set_aside(attempt, state.step if state else -1)
    return attempt, state
