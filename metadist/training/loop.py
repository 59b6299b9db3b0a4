"""The training loop of one worker of a group of any size: steps, validation, checkpoints."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch

from data_pipeline.episodes.loader import Loader
from data_pipeline.episodes.types import EpisodeBatch
from metadist.compute.agreement import check_workers
from metadist.compute.collectives import Group
from metadist.compute.determinism import check_equal, numerics, reproducible
from metadist.compute.setup import Setup
from metadist.errors import NonFiniteError
from metadist.evaluation.run_evaluator import RunEvaluator
from metadist.kernels.library import load
from metadist.runs.run_dir import RunDir
from metadist.statistics.format import finite
from metadist.tasks import Params
from metadist.training.attempt import start_attempt
from metadist.training.episodes import open_loader
from metadist.training.profile import StepProfile
from metadist.training.run_control import Command, GroupControl, Progress, RunControl
from metadist.training.timing import Clock
from metadist.training.trainer import Trainer
from metadist.training.twin import Twin

log = logging.getLogger(__name__)
#: Outer steps between two points of ``perf/*``.
PERF_EVERY = 10


class TrainingLoop:
    """One worker's part in a run, from its newest checkpoint to its result.

    Args:
        run: the run directory, which all workers see.
        setup: data and learner of its recipe.
        group: all workers.
        device: where this worker computes.
        controls: asked on rank 0; may want a checkpoint, the workers to yield, or the run to stop.
            What the first wants that wants anything is done.
        tested: evaluate on test classes at the end.
        profiled: record some outer steps, into the run's folder ``profile``.

    Raises:
        NumericsError: the data are others than the run's, or the workers compute other bits.
    """

    def __init__(
        self,
        run: RunDir,
        setup: Setup,
        group: Group,
        device: torch.device,
        controls: Sequence[RunControl] = (),
        *,
        tested: bool = True,
        profiled: bool = False,
    ) -> None:
        setup.data.check(run.path, run.info()["dataset"]["digest"])
        self._run = run
        self._setup = setup
        self._recipe = setup.recipe
        self._group = group
        self._controls = [GroupControl(control, group) for control in controls]
        self._tested = tested
        self._numerics = numerics(device, setup.recipe.engine.kernels)
        check_equal(self._numerics, group, setup.recipe.engine.reduction)
        if setup.recipe.engine.kernels == "fused":
            load()
        self._evaluator = RunEvaluator(run.name, setup, group, device)
        self._trainer = Trainer(setup.recipe, setup.learner, group, device)
        self._clock = Clock()
        self._saved = -1
        self._profile = None
        if profiled:
            first, last = self._trainer.share
            what = f"worker {group.rank} of {group.size}, {last - first} tasks"
            self._profile = StepProfile(run.path / "profile", group.rank, what)

    def train(self) -> dict[str, Any]:
        """Train to the last step, evaluate the best checkpoint and return the run's result.

        Where the workers were told to yield, ``{"yielded": steps done}`` instead.

        Raises:
            NonFiniteError: see :meth:`Trainer.step`; a checkpoint of the state before it is kept.
            NumericsError: workers, or parts that are built anew, do not compute the same bits.
            SupersededError: another attempt has taken over.
        """
        with reproducible(self._evaluator.device):
            rebuilt = self._setup.rebuilt()
            twin = Twin(self._trainer, rebuilt, self._group)
            self._writer = start_attempt(
                self._run, self._trainer, twin, self._group, self._numerics
            )
            self._check_workers()
            current = self._trainer.state().current()
            self._check_workers(self._evaluator.check_predictions(current, rebuilt))
            if self._steps(twin) == "yield":
                return {"yielded": self._trainer.step_done}
            return self._result() | self._clock.last_speed

    def _result(self) -> dict[str, Any]:
        """Choose the best checkpoint, evaluate it and close the log."""
        evaluator, state = self._evaluator, self._trainer.state()
        best = evaluator.best(state, self._writer.log)
        figures, points = {f"val_{self._setup.objective.metric.name}": finite(best.score)}, {}
        if self._tested:
            results = evaluator.explained_results(best)
            self._writer.write_results(results)
            figures, points = results.figures, results.points
        self._writer.close(state.step, points)
        stopped = {"stopped": True} if state.step < self._recipe.outer.steps else {}
        return evaluator.result(state, best, figures) | stopped

    def _check_workers(self, found: Params | None = None) -> None:
        """See that all workers have the same state, or what else they have found."""
        if self._recipe.engine.reduction == "exact" and self._group.size > 1:
            tensors = self._trainer.state().tensors() if found is None else found
            check_workers(tensors, self._group, f"after {self._trainer.step_done} steps")

    def _steps(self, twin: Twin) -> Command:
        """Take the outer steps that are left; why there are no more of them."""
        self._clock.start(self._trainer.step_done)
        if self._setup.learner.estimator == "none":
            return self._skip_training()
        command: Command = "go"
        batch, total = self._recipe.outer.batch, self._recipe.outer.steps
        sequence = self._setup.data.sequence
        while command not in ("yield", "stop") and self._trainer.step_done < total:
            with open_loader(self._setup, self._trainer) as loader:
                for step, episodes in loader:
                    ids = sequence.ids(step * batch, (step + 1) * batch)
                    twin.follow()
                    self._step(step, episodes, ids, loader)
                    with self._clock.during("apart"):
                        twin.check_step(episodes, ids)
                        command = self._pause()
                    if command in ("yield", "stop"):
                        break
        if self._profile is not None:
            self._profile.close()
        self._clock.speed(self._trainer.step_done, batch)
        self._writer.log.flush()
        return command

    def _step(
        self, step: int, episodes: EpisodeBatch | None, ids: Sequence[int], loader: Loader
    ) -> None:
        """One outer step, and what it says to the log."""
        done, clock, points = step + 1, self._clock, self._writer.log
        if self._profile is not None:
            self._profile.before_step()
        try:
            with clock.during("engine"):
                report = self._trainer.step(episodes, ids)
        except NonFiniteError:
            self._save()
            raise
        if self._profile is not None:
            self._profile.after_step()
        clock.waited = loader.waited
        if report.bad_episodes:
            log.warning("step %d: left out episodes %s", done, report.bad_episodes)
        points.add(done, {f"train/{name}": value for name, value in report.metrics.items()})
        if done % PERF_EVERY == 0 or done == self._recipe.outer.steps:
            speed = clock.speed(done, self._recipe.outer.batch)
            points.add(done, speed | {"perf/world_size": self._group.size})

    def _skip_training(self) -> Command:
        """A learner that does not meta-learn is as good after no step as after all of them."""
        log.info("%s does not meta-learn: no outer steps are taken", self._recipe.algorithm.name)
        if self._trainer.step_done < self._recipe.outer.steps:
            self._trainer.step_done = self._recipe.outer.steps
            self._pause()
        self._writer.log.flush()
        return "go"

    def _pause(self) -> Command:
        """Validation and checkpoints, where they are due or wanted; what is to be done then."""
        recipe, trainer = self._recipe, self._trainer
        done, total = trainer.step_done, recipe.outer.steps
        score, improved = None, False
        if done % recipe.eval.every == 0:
            score = self._evaluator.validate(trainer.state(), self._writer.log)
            improved = trainer.consider_best(score)
        judged = score is not None and any(control.judges for control in self._controls)
        if improved or judged or done == total or done % recipe.run.checkpoint_every == 0:
            self._save()
        best = math.nan if trainer.best is None else trainer.best.score
        progress = Progress(done, total, score, best)
        commands = (control.command(progress) for control in self._controls)
        command: Command = next((command for command in commands if command != "go"), "go")
        if command != "go" and self._saved < done:
            self._save()
        return command

    def _save(self) -> None:
        """Commit a checkpoint, if all workers have the same state."""
        self._saved = self._trainer.step_done
        self._check_workers()
        self._writer.save(self._trainer)
