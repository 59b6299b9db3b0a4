"""A run from its newest checkpoint to its result, on one worker of a group of any size."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_pipeline.episodes.loader import Loader
from metadist.compute.collectives import Group
from metadist.compute.determinism import check_equal, numerics, reproducible
from metadist.compute.digest import params_sha256
from metadist.compute.learners import Learners
from metadist.episode_data import EpisodeData, open_data
from metadist.errors import NonFiniteError, RunError
from metadist.evaluation.diagnostics import diagnostic_points
from metadist.evaluation.ensembles import Member
from metadist.evaluation.evaluation_lock import EvaluationLock
from metadist.evaluation.evaluator import (
    Evaluation,
    adapts_by_steps,
    evaluate,
    figures_of,
    finite,
    points_of,
)
from metadist.evaluation.protocols import OWN, EvalProtocol, EvalRequest, own_protocols, protocol
from metadist.evaluation.results import Outcome, Writer, explain, show, source
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.objectives import higher_is_better, score_name
from metadist.process.code import code_digest
from metadist.recipe.schema import Recipe
from metadist.runs import checkpoints
from metadist.runs.attempts import bits_of, history, losses
from metadist.runs.checkpoints import Best, TrainState
from metadist.runs.log import LogWriter, NullSink, Sink, write_parquet
from metadist.runs.run_dir import Attempt, RunDir
from metadist.training.agreement import (
    Twin,
    check_repeated,
    check_workers,
    first_predictions,
    named,
)
from metadist.training.run_control import Command, GroupControl, Progress, RunControl
from metadist.training.timing import Clock
from metadist.training.trainer import Trainer

log = logging.getLogger(__name__)
#: Outer steps between two points of ``perf/*``.
PERF_EVERY = 10


class Run:
    """One worker's part in a run.

    Args:
        run: the run directory, which all workers see.
        data_dir: where prepared data lie.
        group: all workers.
        device: where this worker computes.
        control: asked on rank 0; may want a checkpoint, the workers to yield, or the run to stop.
        tested: evaluate on test classes at the end. A trial of a search is not: what it shows
            there must not decide anything.
    """

    def __init__(
        self,
        run: RunDir,
        data_dir: Path,
        group: Group,
        device: torch.device,
        *,
        control: RunControl | None = None,
        tested: bool = True,
    ) -> None:
        self._run = run
        self._control = GroupControl(control, group)
        self._tested = tested
        self._group = group
        self._device = device
        self.recipe: Recipe = run.recipe()
        self.data: EpisodeData = open_data(self.recipe, data_dir)
        self.kind = self.data.shape.kind
        self._learners = Learners(self.recipe, self.data.shape)
        self.algorithm = self._learners.after(0)
        self._numerics = numerics(device)
        check_equal(self._numerics, group, self.recipe.engine.reduction)
        self.data.check(run.path, run.info()["dataset"]["digest"])
        self.trainer = Trainer(self.recipe, self.algorithm, self.kind, group, device)
        self._attempt: Attempt | None = None
        self._ended: EvaluationLock | None = None
        self._sink: Sink = NullSink()
        self._saved = -1
        self._clock = Clock()
        self._last_speed = {"perf/tasks_per_second": 0.0, "perf/data_wait": 0.0}

    @property
    def _exact(self) -> bool:
        return self.recipe.engine.reduction == "exact"

    def _start(self) -> Twin:
        """Rank 0 claims the run and picks the newest good checkpoint; all workers load it.

        Raises:
            NumericsError: the workers do not begin from the same state.
        """
        twin = Twin(self.trainer, self.data.shape, self._group)
        scalars: dict[str, Any] | None = None
        state: TrainState | None = None
        if self._group.rank == 0:
            self._attempt = self._run.claim(
                {
                    "world_size": self._group.size,
                    "numerics": self._numerics,
                    "code": code_digest(),
                    "bits": bits_of(self._run, self._numerics),
                }
            )
            # Only now does no earlier attempt commit any more.
            found = checkpoints.newest(self._run, self.recipe.lineage)
            state = found[0] if found else None
            scalars = {"fresh": state is None}
            self._attempt.record(from_step=state.step if state else 0)
            checkpoints.set_aside(self._attempt, state.step if state else -1)
            self._sink = LogWriter(self._attempt)
            if state is None and not self._exact:
                state = self.trainer.state()  # machines may differ, parameters may not
            scalars["state"] = state.scalars() if state else None
        received = self._group.broadcast(scalars)
        if received["fresh"]:
            twin.check_fresh()
        if received["state"] is not None:
            tensors = self._group.broadcast_tensors(state.tensors() if state else None)
            self.trainer.restore(TrainState.of(received["state"], tensors))
        self._check_workers()
        self._check_workers(self._probe(self._current(0.0)))
        return twin

    def _check_workers(self, found: dict[str, Tensor] | None = None) -> None:
        """See that all workers have the same state, or what else they have found."""
        if self._exact and self._group.size > 1:
            tensors = self.trainer.state().tensors() if found is None else found
            check_workers(tensors, self._group, f"after {self.trainer.step_done} steps")

    def _probe(self, best: Best) -> dict[str, Tensor]:
        """What a checkpoint predicts for a validation episode.

        Raises:
            NumericsError: it is not what the same parts predict when they are built anew.
        """
        how = self._validation
        anew = Learners(self.recipe, self.data.shape)
        learner, other = self._trained(best), self._trained(best, anew)
        episodes = source(learner, self.data, how)
        found, again = (first_predictions(t, episodes, how.steps) for t in (learner, other))
        check_repeated(found, again, named(self.recipe))
        return found

    def _save(self) -> None:
        """Commit a checkpoint; the log is made durable first."""
        self._saved = self.trainer.step_done
        self._check_workers()
        if self._attempt is None:
            return
        self._sink.flush()
        trainer = self.trainer
        facts = {
            "recipe_hash": self.recipe.hash,
            "lineage": self.recipe.lineage,
            "numerics": self._numerics,
            "mlflow": self._run.info().get("mlflow"),
        }
        checkpoints.save(self._attempt, trainer.state(), facts)
        best = trainer.best.step if trainer.best else None
        checkpoints.prune(self._attempt, self.recipe.run.keep, best)

    def _trained(self, best: Best, learners: Learners | None = None) -> TrainedLearner:
        algorithm, recipe = (learners or self._learners).at(best.step)
        return TrainedLearner.of(algorithm, best, recipe, self._device)

    def _evaluate(self, how: EvalProtocol, best: Best) -> Evaluation:
        learner = self._trained(best)
        episodes = source(learner, self.data, how)
        return evaluate(learner, episodes, how, self.kind, self._group)

    def _current(self, score: float) -> Best:
        """The parameters of this moment."""
        state = self.trainer.state()
        return Best(state.step, score, state.params, state.learner_state)

    @property
    def _validation(self) -> EvalProtocol:
        # Only the figure after the trained steps is looked at; a longer curve would be for nothing.
        asked = EvalRequest(part="val", steps=self.recipe.inner.steps)
        return protocol([(self._run.name, self.recipe)], asked)

    def _validate(self) -> float:
        """Score on validation classes with the trained number of adaptation steps.

        NaN, which is never the best, where an episode of functions has failed: a mean over the
        rest would favour learners that diverge on what is hard for them.
        """
        result = self._evaluate(self._validation, self._current(0.0))
        figures = result.figure
        name = f"val/{result.score_name}"
        failed = int(result.failed[:, self.recipe.inner.steps].sum())
        points = {name: figures["mean"], "val/loss": figures["loss"]}
        self._sink.add(self.trainer.step_done, points | ({"val/failed": failed} if failed else {}))
        return math.nan if failed and self.kind == "regression" else figures["mean"]

    def train(self) -> dict[str, Any]:
        """Train to the last step, evaluate the best checkpoint and return the run's result.

        Where the workers were told to yield, ``{"yielded": steps done}`` instead.

        Raises:
            NonFiniteError: see :meth:`Trainer.step`; a checkpoint of the state before it is kept.
            SupersededError: another attempt has taken over.
        """
        with reproducible(self._device):
            if not self._steps(self._start()):
                return {"yielded": self.trainer.step_done}
            chosen = self._choose()
            if self._tested:
                outcome = self._outcome(chosen, own_protocols(self.recipe), explained=True)
                figures = figures_of(outcome.results)
                points = points_of(outcome.results) | diagnostic_points(outcome.diagnostics)
            else:
                figures, points = {f"val_{score_name(self.kind)}": finite(chosen.score)}, {}
        result = self._result(chosen, figures)
        self._log_result(points)
        if self.trainer.step_done < self.recipe.outer.steps:
            result["stopped"] = True
        return result | {
            "tasks_per_second": self._last_speed["perf/tasks_per_second"],
            "data_wait": self._last_speed["perf/data_wait"],
        }

    def evaluate(self, asked: EvalRequest = OWN) -> dict[str, Any]:
        """Evaluate the best checkpoint anew, by the recipe's protocols or by another one.

        Args:
            asked: what to do otherwise than the recipe says; its results have files of their own.

        Returns:
            The run's figures, and what is in ``evaluation/<name>.json`` under ``protocols``.

        Raises:
            RunError: see :meth:`EvaluationLock.state`; the run was continued meanwhile; or steps
                were asked of a learner without.
        """
        with reproducible(self._device):
            chosen = self.best()
            self._probe(chosen)
            if asked == OWN:
                outcome = self._outcome(chosen, own_protocols(self.recipe), explained=True)
            else:
                how = protocol([(self._run.name, self.recipe)], asked)
                self._check_steps(asked, how, chosen)
                outcome = self._outcome(chosen, [how], explained=False)
        summaries = {r.protocol.name: r.summary({}) for r in outcome.results}
        return self._result(chosen, figures_of(outcome.results)) | {"protocols": summaries}

    def _check_steps(self, asked: EvalRequest, how: EvalProtocol, chosen: Best) -> None:
        learner = self._trained(chosen)
        if asked.steps and not adapts_by_steps(learner, source(learner, self.data, how)):
            raise RunError(
                f"{self._run.path}: {self.recipe.algorithm.name} does not adapt by steps, "
                f"{asked.steps} were asked for; leave the number of steps out"
            )

    def member(self) -> Member:
        """This run's best checkpoint, for an ensemble; see :meth:`EvaluationLock.state`."""
        with reproducible(self._device):
            chosen = self.best()
        return Member(self._run.name, self._trained(chosen), self.data, self._facts(chosen))

    def best(self) -> Best:
        """The best checkpoint of a run that has ended; see :meth:`EvaluationLock.state`."""
        self._ended = EvaluationLock.of(self._run, self.recipe)
        state = self._ended.state()
        bits_of(self._run, self._numerics)
        self.trainer.restore(state)
        return self._choose()

    def _steps(self, twin: Twin) -> bool:
        """Train; False if the workers were told to yield before the end."""
        if self.algorithm.estimator == "none":
            self._skip_training()
            return True
        command: Command = "go"
        recipe, trainer, clock = self.recipe, self.trainer, self._clock
        batch, total = recipe.outer.batch, recipe.outer.steps
        sequence = self.data.sequence
        clock.began = time.perf_counter()
        start = trainer.step_done
        with Loader(
            self.data.training(),
            self.data.sequence,
            per_step=batch,
            share=trainer.share,
            start=start,
            stop=total,
        ) as loader:
            for step, episodes in loader:
                began = time.perf_counter()
                trainer.algorithm = self._learners.after(step)
                ids = sequence.ids(step * batch, (step + 1) * batch)
                twin.follow()
                try:
                    report = trainer.step(episodes, ids)
                except NonFiniteError:
                    self._save()
                    raise
                clock.engine += time.perf_counter() - began
                clock.waited = loader.waited
                if report.bad_episodes:
                    log.warning("step %d: left out episodes %s", step + 1, report.bad_episodes)
                self._sink.add(step + 1, {f"train/{k}": v for k, v in report.metrics.items()})
                if (step + 1) % PERF_EVERY == 0 or step + 1 == total:
                    speed = clock.speed((step + 1 - start) * batch)
                    self._sink.add(step + 1, speed | {"perf/world_size": self._group.size})
                began = time.perf_counter()
                twin.check_step(episodes, ids)
                command = self._pause()
                clock.apart += time.perf_counter() - began
                if command in ("yield", "stop"):
                    break
        self._last_speed = clock.speed((trainer.step_done - start) * batch)
        self._sink.flush()
        return command != "yield"

    def _skip_training(self) -> None:
        """A learner that does not meta-learn is as good after no step as after all of them."""
        log.info("%s does not meta-learn: no outer steps are taken", self.recipe.algorithm.name)
        self._clock.began = time.perf_counter()
        if self.trainer.step_done < self.recipe.outer.steps:
            self.trainer.step_done = self.recipe.outer.steps
            self._pause()
        self._sink.flush()

    def _pause(self) -> Command:
        """Validation and checkpoints, where they are due or wanted; what is to be done then."""
        recipe, trainer = self.recipe, self.trainer
        done, total = trainer.step_done, recipe.outer.steps
        score, improved = None, False
        if done % recipe.eval.every == 0:
            score = self._validate()
            improved = trainer.consider_best(score, higher_is_better(self.kind))
        judged = score is not None and self._control.judges
        if improved or judged or done == total or done % recipe.run.checkpoint_every == 0:
            self._save()
        best = math.nan if trainer.best is None else trainer.best.score
        command = self._control.command(Progress(done, total, score, best))
        if command != "go" and self._saved < done:
            self._save()
        return command

    def _choose(self) -> Best:
        """The best checkpoint on validation classes, the last one included.

        A last step that no validation fell on is validated here and not recorded as best, so that
        a run which is later given more steps goes on as if it had had them from the start.
        """
        best = self.trainer.best
        if best is not None and self.trainer.step_done % self.recipe.eval.every == 0:
            return best
        last = self._current(self._validate())
        if best is None:
            return last
        better = last.score > best.score if higher_is_better(self.kind) else last.score < best.score
        return last if better else best

    def _facts(self, chosen: Best) -> dict[str, Any]:
        """What the figures of a checkpoint depend on beside the protocol."""
        return {
            "recipe_hash": self.recipe.hash,
            "norm": self.recipe.model.norm,
            "checkpoint": {"step": chosen.step, "params_sha256": params_sha256(chosen.params)},
        }

    def _outcome(
        self, chosen: Best, protocols: Sequence[EvalProtocol], *, explained: bool
    ) -> Outcome:
        """Evaluate a checkpoint, and write what comes of it to the run directory.

        Args:
            explained: with examples and diagnostics for the report; rank 0 alone has them.
        """
        results = [self._evaluate(how, chosen).with_classes(self.data) for how in protocols]
        outcome = Outcome(self._facts(chosen), results)
        if explained:
            shown, found = self._show(chosen), self._explain(chosen)
            outcome = replace(outcome, examples=shown, diagnostics=found)
        writer: Writer | None = self._attempt or self._ended
        if writer is not None:
            outcome.write(writer, self._run.evaluation)
        return outcome

    def _show(self, chosen: Best) -> dict[str, Tensor]:
        """Examples for the report; nothing on other workers than rank 0."""
        return show(self._in_order(chosen), self.data) if self._group.rank == 0 else {}

    def _explain(self, chosen: Best) -> dict[str, Any]:
        """Diagnostics for the report; nothing on other workers than rank 0."""
        if self._group.rank != 0:
            return {}
        return explain(self._in_order(chosen), self.data, self._facts(chosen))

    def _in_order(self, chosen: Best) -> TrainedLearner:
        # After a restart parameters stand in another order; what is written must not.
        params = {name: chosen.params[name] for name in self.trainer.params}
        return self._trained(replace(chosen, params=params))

    def _result(self, chosen: Best, figures: dict[str, Any]) -> dict[str, Any]:
        """The figures of the run; its steps are 0 where there is nothing to train."""
        trained = self.algorithm.estimator != "none"
        return {
            "run": self._run.name,
            "steps": self.trainer.step_done if trained else 0,
            "params_sha256": params_sha256(self.trainer.params),
            **figures,
            "best_step": chosen.step if trained else 0,
        }

    def _log_result(self, points: dict[str, float]) -> None:
        """Figures of the result as points of the last step, and the whole log as Parquet."""
        if self._attempt is None:
            return
        self._sink.add(self.trainer.step_done, points | losses(history(self._run)))
        self._sink.flush()
        with self._attempt.commit("summary"):
            write_parquet(self._run)
