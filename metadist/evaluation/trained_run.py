"""A run that has been trained, evaluated anew from its checkpoint alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from metadist.compute.collectives import Solo
from metadist.compute.determinism import numerics, reproducible
from metadist.compute.setup import Setup
from metadist.errors import RunError
from metadist.evaluation.ensembles import Member
from metadist.evaluation.evaluation_lock import EvaluationLock
from metadist.evaluation.evaluator import adapts_by_steps
from metadist.evaluation.protocols import OWN, EvalRequest, protocol
from metadist.evaluation.run_evaluator import RunEvaluator
from metadist.runs.attempts import bits_of
from metadist.runs.checkpoints import Best, TrainState
from metadist.runs.log import Sink
from metadist.runs.run_dir import RunDir


@dataclass(frozen=True)
class TrainedRun:
    """The state at a run's end, and its best checkpoint."""

    run: RunDir
    evaluator: RunEvaluator
    lock: EvaluationLock
    state: TrainState
    best: Best

    @classmethod
    def load(cls, run: RunDir, data_dir: Path, device: torch.device) -> TrainedRun:
        """Read a run's last checkpoint and open its data.

        Raises:
            RunError: see :meth:`EvaluationLock.state`.
            NumericsError: the data are others than the run's.
            DataError: they are missing or damaged.
        """
        setup = Setup.open(run.recipe(), data_dir)
        setup.data.check(run.path, run.info()["dataset"]["digest"])
        evaluator = RunEvaluator(run.name, setup, Solo(), device)
        lock = EvaluationLock.of(run, setup.recipe)
        state = lock.state()
        bits_of(run, numerics(device, setup.recipe.engine.kernels))
        with reproducible(device):
            best = evaluator.best(state, Sink())
        return cls(run, evaluator, lock, state, best)

    def evaluate(self, asked: EvalRequest = OWN) -> dict[str, Any]:
        """Evaluate the best checkpoint by the recipe's protocols or by another one.

        Args:
            asked: what to do otherwise than the recipe says; its results have files of their own.

        Returns:
            The run's figures, and what is in ``evaluation/<name>.json`` under ``protocols``.

        Raises:
            RunError: the run was continued meanwhile, or steps were asked of a learner without.
        """
        work, best = self.evaluator, self.best
        with reproducible(work.device):
            work.check_predictions(best, work.setup.rebuilt())
            if asked == OWN:
                results = work.explained_results(best)
            else:
                how = protocol([(self.run.name, work.setup.recipe)], asked)
                source = how.source(work.setup.data)
                trained = work.trained(best, how.ways)
                if asked.steps and not adapts_by_steps(trained, source):
                    raise RunError(
                        f"{self.run.path}: {work.setup.recipe.algorithm.name} does not adapt by "
                        f"steps, {asked.steps} were asked for; leave the number of steps out"
                    )
                results = work.results(best, [how])
            results.write(self.lock, self.run.evaluation)
        summaries = {r.protocol.name: r.summary({}) for r in results.evaluations}
        return work.result(self.state, best, results.figures) | {"protocols": summaries}

    def member(self) -> Member:
        """The best checkpoint, for an ensemble."""
        work, best = self.evaluator, self.best
        trained = work.trained(best, work.setup.recipe.data.ways)
        of_ways = partial(work.trained, best)
        return Member(self.run.name, trained, work.setup.data, work.facts(best), of_ways)
