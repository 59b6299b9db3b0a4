"""A run that has ended: the last state that may be evaluated again, and the right to write results.

An evaluation takes minutes, in which its run may be continued. Figures of the old checkpoint must
then not be put over those of the new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from metadist.errors import RunError
from metadist.recipe.schema import Recipe
from metadist.runs import checkpoints
from metadist.runs.checkpoints import TrainState
from metadist.runs.run_dir import RunDir


@dataclass(frozen=True)
class EvaluationLock:
    """A run as it stood before its state was loaded.

    Attributes:
        recipe: the run's own.
        attempt: the latest one.
    """

    run: RunDir
    recipe: Recipe
    attempt: int

    @classmethod
    def of(cls, run: RunDir, recipe: Recipe) -> EvaluationLock:
        """The run as it stands now."""
        return cls(run, recipe, run.latest_attempt())

    def state(self) -> TrainState:
        """The state at the end of the run, which holds its best checkpoint.

        Raises:
            RunError: there is no good checkpoint, the run is in progress or was continued
                meanwhile, or what is there is not what the run's record says.
        """
        run, recipe, info = self.run, self.recipe, self.run.info()
        if info["recipe_hash"] != recipe.hash:
            raise RunError(f"{run.path}: recipe.toml is not the recipe that run.json names")
        if info["status"] == "running":
            raise RunError(
                f"{run.path}: still running, or its driver was killed; let it end, or go on with "
                f"--resume {run.name}"
            )
        found = checkpoints.newest(run, recipe.lineage)
        # A state of other steps must not stand beside this recipe's hash.
        self.check()
        if found is None:
            raise RunError(f"{run.path}: no good checkpoint to evaluate")
        state = found[0]
        if info["status"] == "finished" and state.step != recipe.outer.steps:
            raise RunError(
                f"{run.path}: its last checkpoint is damaged or gone, the newest good one is of "
                f"step {state.step}; its figures stay as they are"
            )
        return state

    @contextlib.contextmanager
    def commit(self, *documents: str) -> Iterator[None]:
        """Write inside this block: no attempt can start to continue the run before it ends.

        Args:
            documents: what is written that an object store keeps as one.

        Raises:
            RunError: the run has been continued; nothing may be written.
        """
        self.run.pull()
        with self.run.store.locked("attempt"):
            self.check()
            yield
            self.run.store.push_documents(*documents)

    def check(self) -> None:
        """Raise RunError if the run has been continued, or given more steps."""
        attempt, digest = self.run.latest_attempt(), self.run.info()["recipe_hash"]
        if (attempt, digest) != (self.attempt, self.recipe.hash):
            raise RunError(
                f"{self.run.path}: continued while it was evaluated (attempt {self.attempt} of "
                f"recipe {self.recipe.hash[:12]} was read, there is attempt {attempt} of recipe "
                f"{digest[:12]} now); nothing was written; let the run end and evaluate it again"
            )
