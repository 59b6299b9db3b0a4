"""The last state of a run that has ended: what may be evaluated again."""

from __future__ import annotations

from metadist.engine import checkpoint
from metadist.engine.checkpoint import TrainState
from metadist.engine.rundir import RunDir
from metadist.errors import RunError
from metadist.recipe import Recipe


def last_state(run: RunDir, recipe: Recipe) -> TrainState:
    """The state at the end of a run, which holds its best checkpoint.

    Raises:
        RunError: there is no good checkpoint, the run is still in progress, or what is there is
            not what the run's record says.
    """
    info = run.info()
    if info["recipe_hash"] != recipe.hash:
        raise RunError(f"{run.path}: recipe.toml is not the recipe that run.json names")
    if info["status"] == "running":
        raise RunError(
            f"{run.path}: still running, or its driver was killed; let it end, or go on with "
            f"--resume {run.name}"
        )
    found = checkpoint.newest(run, recipe.lineage)
    if found is None:
        raise RunError(f"{run.path}: no good checkpoint to evaluate")
    state = found[0]
    if info["status"] == "finished" and state.step != recipe.outer.steps:
        raise RunError(
            f"{run.path}: its last checkpoint is damaged or gone, the newest good one is of step "
            f"{state.step}; its figures stay as they are"
        )
    return state
