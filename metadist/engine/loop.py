"""A run from its newest checkpoint to its result, on one worker of a group of any size."""

from __future__ import annotations

import logging
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from data_pipeline.datasets import Part
from data_pipeline.loader import Loader
from metadist.engine import checkpoint
from metadist.engine.checkpoint import Best, TrainState
from metadist.engine.data import EpisodeData, open_data
from metadist.engine.digest import params_sha256
from metadist.engine.evaluate import (
    Evaluation,
    evaluate,
    finite,
    write_evaluation,
    write_examples,
)
from metadist.engine.group import Group
from metadist.engine.learner import build
from metadist.engine.numerics import numerics, numerics_digest, reproducible
from metadist.engine.rundir import Attempt, RunDir
from metadist.engine.runlog import LogWriter, NullSink, Sink, write_parquet
from metadist.engine.trainer import Trainer
from metadist.errors import NonFiniteError, NumericsError, RunError
from metadist.recipe import Recipe

log = logging.getLogger(__name__)
#: Outer steps between two points of ``perf/*``.
PERF_EVERY = 10
#: Test episodes whose predictions are kept for the report.
EXAMPLES = 6


@dataclass
class Clock:
    """Where the time of training goes, in seconds. Validation and checkpoints stand apart."""

    engine: float = 0.0
    waited: float = 0.0
    apart: float = 0.0
    began: float = 0.0

    @property
    def training(self) -> float:
        """Seconds since the start without validation and checkpoints."""
        return max(time.perf_counter() - self.began - self.apart, 1e-9)


class Run:
    """One worker's part in a run.

    Args:
        run: the run directory, which all workers see.
        data_dir: where prepared data lie.
        group: all workers.
        device: where this worker computes.
    """

    def __init__(self, run: RunDir, data_dir: Path, group: Group, device: torch.device) -> None:
        self._run = run
        self._group = group
        self._device = device
        self.recipe: Recipe = run.recipe()
        self.data: EpisodeData = open_data(self.recipe, data_dir)
        self.kind = self.data.shape.kind
        self.algorithm = build(self.recipe, self.data.shape)
        self._numerics = numerics(device)
        self._check_group()
        self._check_data()
        self.trainer = Trainer(self.recipe, self.algorithm, self.kind, group, device)
        self._attempt: Attempt | None = None
        self._sink: Sink = NullSink()
        self._clock = Clock()
        self._last_speed = {"perf/tasks_per_second": 0.0, "perf/data_wait": 0.0}

    def _check_group(self) -> None:
        """An exact group must compute the same bits everywhere."""
        mine = numerics_digest(self._numerics)
        first = self._group.broadcast({"digest": mine, "numerics": self._numerics})
        differs = torch.tensor([int(mine != first["digest"])], dtype=torch.int64)
        self._group.sum_(differs)
        if int(differs) and self.recipe.engine.reduction == "exact":
            different = {
                k: (first["numerics"].get(k), v)
                for k, v in self._numerics.items()
                if first["numerics"].get(k) != v
            }
            raise NumericsError(
                "engine.reduction = 'exact' needs workers whose arithmetic is the same; "
                f"{int(differs)} of {self._group.size} differ from rank 0"
                f"{f' (here, rank 0 against this worker: {different})' if different else ''}; "
                "use equal machines, or engine.reduction = 'fast'"
            )

    def _check_data(self) -> None:
        recorded = self._run.info()["dataset"]["digest"]
        if recorded != self.data.digest:
            raise NumericsError(
                f"{self._run.path}: made with dataset digest {recorded}, the data here has "
                f"{self.data.digest}; name the right data with --data-dir, or start a new run"
            )

    @property
    def _higher_is_better(self) -> bool:
        return self.kind == "classification"

    def _start(self) -> None:
        """Rank 0 claims the run and picks the newest good checkpoint; all workers load it."""
        scalars: dict[str, Any] | None = None
        state: TrainState | None = None
        if self._group.rank == 0:
            bits = self._bits()
            self._attempt = self._run.claim(
                {"world_size": self._group.size, "numerics": self._numerics, "bits": bits}
            )
            # Only now does no earlier attempt commit any more.
            found = checkpoint.newest(self._run, self.recipe.lineage)
            state = found[0] if found else None
            scalars = {"state": state.scalars() if state else None}
            self._attempt.record(from_step=state.step if state else 0)
            checkpoint.set_aside(self._attempt, state.step if state else -1)
            self._sink = LogWriter(self._attempt)
        received = self._group.broadcast(scalars)
        if received["state"] is not None:
            tensors = self._group.broadcast_tensors(state.tensors() if state else None)
            self.trainer.restore(TrainState.of(received["state"], tensors))

    def _bits(self) -> Literal["verified", "unverified"]:
        """Unverified once a run has been continued under other numerics."""
        for number in range(1, self._run.latest_attempt() + 1):
            if self._run.attempt_facts(number)["numerics"] != self._numerics:
                log.warning(
                    "%s was computed under other numerics (torch build, CPU or GPU) before: its "
                    "bits can no longer be compared with an uninterrupted run",
                    self._run.path,
                )
                return "unverified"
        return "verified"

    def _save(self) -> None:
        """Commit a checkpoint; the log is made durable first."""
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
        checkpoint.save(self._attempt, trainer.state(), facts)
        best = trainer.best.step if trainer.best else None
        checkpoint.prune(self._attempt, self.recipe.run.keep, best)

    def _evaluate(self, part: Part, queries: int, count: int, best: Best) -> Evaluation:
        return evaluate(
            self.algorithm,
            checkpoint.move(best.params, self._device),
            checkpoint.move(best.learner, self._device),
            self.data.live(part, queries, self.recipe.eval.seed),
            count,
            self.recipe,
            self.kind,
            self._group,
            self._device,
        )

    def _current(self, score: float) -> Best:
        """The parameters of this moment."""
        state = self.trainer.state()
        return Best(state.step, score, state.params, state.learner)

    def _validate(self) -> float:
        """Score on validation classes with the trained number of adaptation steps.

        NaN, which is never the best, where an episode of functions has failed: a mean over the
        rest would favour learners that diverge on what is hard for them.
        """
        section = self.recipe.eval
        result = self._evaluate("val", section.queries, section.val_episodes, self._current(0.0))
        figures = result.at(self.recipe.inner.steps)
        name = f"val/{result.score_name}"
        failed = int(result.failed[:, self.recipe.inner.steps].sum())
        points = {name: figures["mean"], "val/loss": figures["loss"]}
        self._sink.add(self.trainer.step_done, points | ({"val/failed": failed} if failed else {}))
        return math.nan if failed and self.kind == "regression" else figures["mean"]

    def train(self) -> dict[str, Any]:
        """Train to the last step, evaluate the best checkpoint and return the run's result.

        Raises:
            NonFiniteError: see :meth:`Trainer.step`; a checkpoint of the state before it is kept.
            SupersededError: another attempt has taken over.
        """
        with reproducible(self._device):
            self._start()
            self._steps()
            chosen = self._choose()
            results = self._test(chosen)
        result = self._result(chosen, results)
        self._log_result(results)
        return result

    def evaluate(self) -> dict[str, Any]:
        """Evaluate the best checkpoint of a run anew; the run's figures.

        Raises:
            RunError: there is no good checkpoint, the run is still in progress, or what is there
                is not what the run's record says.
        """
        info = self._run.info()
        if info["recipe_hash"] != self.recipe.hash:
            raise RunError(f"{self._run.path}: recipe.toml is not the recipe that run.json names")
        if info["status"] == "running":
            raise RunError(
                f"{self._run.path}: still running, or its driver was killed; let it end, or go on "
                f"with --resume {self._run.name}"
            )
        found = checkpoint.newest(self._run, self.recipe.lineage)
        if found is None:
            raise RunError(f"{self._run.path}: no good checkpoint to evaluate")
        if info["status"] == "finished" and found[0].step != self.recipe.outer.steps:
            raise RunError(
                f"{self._run.path}: its last checkpoint is damaged or gone, the newest good one is "
                f"of step {found[0].step}; its figures stay as they are"
            )
        self._bits()
        with reproducible(self._device):
            self.trainer.restore(found[0])
            chosen = self._choose()
            results = self._test(chosen)
        return self._result(chosen, results)

    def _steps(self) -> None:
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
                try:
                    report = trainer.step(episodes, sequence.ids(step * batch, (step + 1) * batch))
                except NonFiniteError:
                    self._save()
                    raise
                clock.engine += time.perf_counter() - began
                clock.waited = loader.waited
                if report.bad_episodes:
                    log.warning("step %d: left out episodes %s", step + 1, report.bad_episodes)
                self._sink.add(step + 1, {f"train/{k}": v for k, v in report.metrics.items()})
                if (step + 1) % PERF_EVERY == 0 or step + 1 == total:
                    self._sink.add(step + 1, self._speed(step + 1 - start))
                began = time.perf_counter()
                self._pause()
                clock.apart += time.perf_counter() - began
        self._last_speed = self._speed(trainer.step_done - start)
        self._sink.flush()

    def _pause(self) -> None:
        """Validation and checkpoints, where they are due."""
        recipe, trainer = self.recipe, self.trainer
        done = trainer.step_done
        improved = False
        if done % recipe.eval.every == 0:
            improved = trainer.consider_best(self._validate(), self._higher_is_better)
        if improved or done % recipe.run.checkpoint_every == 0 or done == recipe.outer.steps:
            self._save()

    def _speed(self, steps: int) -> dict[str, float]:
        """Tasks per second over all workers, and shares of the time."""
        clock = self._clock
        return {
            "perf/tasks_per_second": steps * self.recipe.outer.batch / clock.training,
            "perf/data_wait": clock.waited / clock.training,
            "perf/engine": clock.engine / clock.training,
        }

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
        better = last.score > best.score if self._higher_is_better else last.score < best.score
        return last if better else best

    def _test(self, chosen: Best) -> list[Evaluation]:
        """Both protocols on test classes, written to the run directory."""
        section, protocols = self.recipe.eval, self.recipe.protocols
        facts = {
            "recipe_hash": self.recipe.hash,
            "norm": self.recipe.model.norm,
            "checkpoint": {"step": chosen.step, "params_sha256": params_sha256(chosen.params)},
        }
        results = []
        for queries in protocols:
            result = self._evaluate("test", queries, section.episodes, chosen)
            results.append(result)
            if self._group.rank == 0:
                with self._attempt.commit() if self._attempt else nullcontext():
                    write_evaluation(self._run.evaluation, result, facts)
        if self._group.rank == 0:
            write_examples(
                self._run.evaluation,
                self.algorithm,
                checkpoint.move(chosen.params, self._device),
                checkpoint.move(chosen.learner, self._device),
                self.data.live("test", protocols[-1], section.seed),
                min(EXAMPLES, section.episodes),
                self.recipe,
                self._device,
            )
        return results

    def _result(self, chosen: Best, results: list[Evaluation]) -> dict[str, Any]:
        """The figures of the run, with the trained number of adaptation steps."""
        main = results[0]
        figures = main.at(self.recipe.inner.steps)
        result: dict[str, Any] = {
            "run": self._run.name,
            "steps": self.trainer.step_done,
            "params_sha256": params_sha256(self.trainer.params),
            main.score_name: finite(figures["mean"]),
            "ci95": finite(figures["ci95"]),
        }
        for extra in results[1:]:
            mean = extra.at(self.recipe.inner.steps)["mean"]
            result[f"{extra.score_name}_{extra.queries}q"] = finite(mean)
        return result | {
            "best_step": chosen.step,
            "episodes": len(main.score),
            "failed": main.summary({})["failed"],
            "tasks_per_second": self._last_speed["perf/tasks_per_second"],
            "data_wait": self._last_speed["perf/data_wait"],
        }

    def _log_result(self, results: list[Evaluation]) -> None:
        """Test figures as points of the last step, and the whole log as Parquet."""
        if self._attempt is None:
            return
        main = results[0]
        points = {f"test/{main.score_name}": main.at(self.recipe.inner.steps)["mean"]}
        for step in range(main.score.shape[1]):
            points[f"test/{main.score_name}_step_{step}"] = main.at(step)["mean"]
        for extra in results[1:]:
            name = f"test/{extra.score_name}_{extra.queries}q"
            points[name] = extra.at(self.recipe.inner.steps)["mean"]
        self._sink.add(self.trainer.step_done, points)
        self._sink.flush()
        write_parquet(self._run)
