"""Checkpoints of a run at work: validated, chosen, evaluated, explained.

At the end of training all workers of the group do this together; later one process does it alone,
and gets the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from metadist.compute.agreement import check_repeated, named
from metadist.compute.collectives import Group
from metadist.compute.digest import params_sha256
from metadist.compute.learners import at_checkpoint
from metadist.compute.setup import Setup
from metadist.evaluation.diagnostics import diagnose
from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.evaluator import evaluate, examples, predictions
from metadist.evaluation.explanations import explanations
from metadist.evaluation.measures.instances import by_instance
from metadist.evaluation.measures.pairs import pair_scores, verify
from metadist.evaluation.protocols import EvalProtocol, own_protocols, validation_protocol
from metadist.evaluation.results import Results
from metadist.evaluation.score_table import ScoreTable
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.runs.checkpoints import Best, TrainState
from metadist.runs.log import Sink
from metadist.tasks import Params

#: Test episodes whose predictions are kept for the report.
EXAMPLES = 6


@dataclass(frozen=True)
class RunEvaluator:
    """Evaluates checkpoints of a run, as one worker of a group.

    Attributes:
        run: its name.
        group: all workers; they evaluate together.
    """

    run: str
    setup: Setup
    group: Group
    device: torch.device

    def trained(self, best: Best, ways: int, setup: Setup | None = None) -> TrainedLearner:
        """The learner at a checkpoint for tasks of so many ways, built as in ``setup`` if given.

        Raises:
            RunError: something that it has learned has the size of the number of ways.
        """
        setup = setup or self.setup
        if ways != setup.recipe.data.ways:
            setup = setup.for_ways(ways, best.params)
        recipe = at_checkpoint(setup.recipe, best.step)
        return TrainedLearner.of(setup.learner, best, recipe, self.device)

    def evaluate(self, best: Best, how: EvalProtocol) -> Evaluation:
        """Evaluate a checkpoint under a protocol."""
        source = how.source(self.setup.data)
        return evaluate(self.trained(best, how.ways), source, how, self.group)

    def validate(self, state: TrainState, log: Sink) -> float:
        """The validation score of a state, which goes to the log.

        NaN, which is never the best, where an episode of functions has failed: a mean over the
        rest would favour learners that diverge on what is hard for them.
        """
        result = self.evaluate(state.current(), validation_protocol(self.setup.recipe))
        figures, failed = result.figure, result.failures
        points = {f"val/{result.metric.name}": figures["mean"], "val/loss": figures["loss"]}
        log.add(state.step, points | ({"val/failed": failed} if failed else {}))
        return math.nan if failed and result.metric.leaves_out_failed else figures["mean"]

    def best(self, state: TrainState, log: Sink) -> Best:
        """The best checkpoint on validation classes, the last one included.

        A last step that no validation fell on is validated here and not recorded as best, so that
        a run which is later given more steps goes on as if it had had them from the start.
        """
        best = state.best
        if best is not None and state.step % self.setup.recipe.eval.every == 0:
            return best
        last = state.current(self.validate(state, log))
        metric = self.setup.objective.metric
        return last if best is None or metric.better(last.score, best.score) else best

    def check_predictions(self, best: Best, rebuilt: Setup) -> Params:
        """What a checkpoint predicts for the first validation episode, by a name for messages.

        Args:
            rebuilt: the setup with all parts built anew.

        Raises:
            NumericsError: the same parts predict otherwise when they are built anew.
            RecipeError: the recipe asks for scores of pairs, and the learner has none.
        """
        how = validation_protocol(self.setup.recipe)
        source = how.source(self.setup.data)
        if self.setup.recipe.eval.verification:
            pair_scores(self.trained(best, how.ways), source, [0], how.steps)

        def first(setup: Setup) -> Params:
            trained = self.trained(best, how.ways, setup)
            ((task, found),) = predictions(trained, source, [0], how.steps)
            # An objective that cannot judge them says so before anything is trained.
            ScoreTable(setup.objective, replace(how, episodes=1)).write_all(0, found, task.query)
            return {
                f"predictions after step {number}" + ("" if name == "mean" else f" ({name})"): value
                for number, prediction in enumerate(found)
                for name, value in prediction.tensors().items()
            }

        found = first(self.setup)
        check_repeated(found, first(rebuilt), named(self.setup.recipe))
        return found

    def facts(self, best: Best) -> dict[str, Any]:
        """What the figures of a checkpoint depend on beside the protocol."""
        return {
            "recipe_hash": self.setup.recipe.hash,
            "norm": self.setup.recipe.model.norm,
            "checkpoint": {"step": best.step, "params_sha256": params_sha256(best.params)},
        }

    def results(self, best: Best, protocols: Sequence[EvalProtocol]) -> Results:
        """The figures of a checkpoint under each protocol."""
        found = [self._judged(best, how).with_classes(self.setup.data) for how in protocols]
        if self.setup.recipe.eval.verification:
            found = self.verified(best, found)
        return Results(self.facts(best), found)

    def verified(self, best: Best, found: Sequence[Evaluation]) -> list[Evaluation]:
        """The same with verification beside it, at the threshold that validation pairs choose."""
        data, own = self.setup.data, validation_protocol(self.setup.recipe)
        chosen = verify(self.trained(best, own.ways), own.source(data), own, self.group)
        threshold = chosen.pairs[own.figure_step].best_threshold()
        told = []
        for one in found:
            how = one.protocol
            trained = self.trained(best, how.ways)
            pairs = verify(trained, how.source(data), how, self.group, threshold)
            told.append(pairs.told(one, threshold, own.part))
        return told

    def _judged(self, best: Best, how: EvalProtocol) -> Evaluation:
        """An evaluation, with what is said of learners that predict in sequence."""
        trained, source = self.trained(best, how.ways), how.source(self.setup.data)
        result = evaluate(trained, source, how, self.group)
        return replace(result, by_instance=by_instance(trained, source, how, self.group))

    def explained_results(self, best: Best) -> Results:
        """The figures under the recipe's own protocols, with examples and diagnostics.

        Rank 0 alone has the latter two; they are of the last of the protocols.
        """
        recipe, data = self.setup.recipe, self.setup.data
        results = self.results(best, own_protocols(recipe))
        if self.group.rank != 0:
            return results
        # After a restart parameters stand in another order; what is written must not.
        params = {name: best.params[name] for name in self.setup.fresh_params}
        best = replace(best, params=params)
        how = own_protocols(recipe)[-1]
        # Gradients are those of training, in tasks of as many ways.
        learner, trainee = (self.trained(best, ways) for ways in (how.ways, recipe.data.ways))
        training = (
            data.live("train", recipe.data.queries, recipe.data.seed)
            if data.staged is None
            else self.setup.stage(best.step, params)
        )
        test, shown = how.source(data), min(EXAMPLES, how.episodes)
        return replace(
            results,
            examples=examples(learner, test, shown, how.steps) | explanations(learner, test, shown),
            diagnostics=diagnose(learner, training, test, results.facts, trainee),
        )

    def result(self, state: TrainState, best: Best, figures: dict[str, Any]) -> dict[str, Any]:
        """A run's result, from its last state; steps are 0 where there is nothing to train."""
        trained = self.setup.learner.estimator != "none"
        return {
            "run": self.run,
            "steps": state.step if trained else 0,
            "params_sha256": params_sha256(state.params),
            **figures,
            "best_step": best.step if trained else 0,
        }
