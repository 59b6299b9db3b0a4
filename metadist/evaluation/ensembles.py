"""Several learners as one: each adapts to the same task, and their predictions are averaged.

Published figures that carry a dagger are often such: Meta-Curvature's MC2† averages three models
that were trained independently (Park & Oliva, 2019), MAML++ five checkpoints of a run (Antoniou et
al., 2019). They are not to be compared with a single model's.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_pipeline.episodes.sources import require_identity
from data_pipeline.errors import DataError
from data_pipeline.storage.local import canonical_json, read_json, sha256_bytes, write_atomic
from metadist import objectives
from metadist.compute.determinism import reproducible
from metadist.episode_data import EpisodeData
from metadist.errors import RunError
from metadist.evaluation.evaluation import Evaluation
from metadist.evaluation.evaluator import columns, predictions, write_evaluation
from metadist.evaluation.protocols import EvalProtocol, EvalRequest, protocol
from metadist.evaluation.score_table import ScoreTable
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.objectives import Objective
from metadist.runs.record import encode
from metadist.statistics.format import finite
from metadist.tasks import TRAINING_ONLY

log = logging.getLogger(__name__)
#: Directory of all ensembles, beside the runs; it has no run.json and is no run.
FOLDER = "ensembles"


@dataclass(frozen=True)
class Member:
    """A run's best checkpoint.

    Attributes:
        name: of the run.
        facts: what its figures depend on: ``recipe_hash``, ``norm``, ``checkpoint``.
        of_ways: the learner for tasks of so many ways; raises RunError if there is none.
    """

    name: str
    trained: TrainedLearner
    data: EpisodeData
    facts: Mapping[str, Any]
    of_ways: Callable[[int], TrainedLearner]

    @property
    def objective(self) -> Objective:
        """What it is judged by."""
        return self.trained.learner.objective

    @property
    def needs(self) -> frozenset[str]:
        """What it is told of a task beside its examples."""
        return self.trained.learner.needs - TRAINING_ONLY

    @property
    def best_step(self) -> int:
        """Outer steps of training before the checkpoint; 0 where nothing is meta-learned."""
        learns = self.trained.learner.estimator != "none"
        return int(self.facts["checkpoint"]["step"]) if learns else 0

    def episodes(self) -> dict[str, Any]:
        """What decides its episodes, but for ways, shots and queries, by names people know."""
        # Nothing is opened: there may be too few test classes for the ways of training.
        recipe, spec = self.trained.recipe, asdict(self.data.spec(1))
        for asked in ("ways", "shots", "queries"):
            del spec[asked]
        options = objectives.options(self.objective.name, recipe.objective.options)
        return {
            "kind": self.objective.name,
            **{f"objective.{name}": value for name, value in vars(options).items()},
            "data.dataset": recipe.data.dataset,
            "split": self.data.store.split if self.data.store else "",
            "dataset digest": self.data.digest,
            "eval.seed": recipe.eval.seed,
            **{f"data.{name}": value for name, value in spec.items()},
        }


@dataclass(frozen=True)
class Ensemble:
    """Learners that predict together.

    Raises:
        RunError: there are none, or they do not predict for the same episodes.
    """

    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        if not self.members:
            raise RunError("an ensemble needs at least one run")
        first, *others = self.members
        mine = first.episodes()
        for other in others:
            theirs = other.episodes()
            different = [
                f"{name} ({first.name}: {mine[name]}, {other.name}: {theirs[name]})"
                for name in mine
                # Another kind has other options.
                if name in theirs and mine[name] != theirs[name]
            ]
            if different:
                raise RunError(
                    f"the members of an ensemble predict for the same episodes; {first.name} and "
                    f"{other.name} differ in {', '.join(different)}"
                )
        # Learners without parameters share the digest of nothing.
        learned = [member for member in self.members if member.trained.params]
        digests = [member.facts["checkpoint"]["params_sha256"] for member in learned]
        if len(set(digests)) < len(digests):
            log.warning("the same parameters are in this ensemble more than once")

    @property
    def digest(self) -> str:
        """SHA-256 of what the members are, in their order."""
        return sha256_bytes(canonical_json([dict(member.facts) for member in self.members]))

    @property
    def name(self) -> str:
        """The members' names, and the beginning of the digest."""
        return f"{'+'.join(m.name for m in self.members)[:100]}-{self.digest[:12]}"

    @property
    def objective(self) -> Objective:
        """What it is judged by."""
        return self.members[0].objective

    @property
    def needs(self) -> frozenset[str]:
        """What any of the members is told of a task beside its examples."""
        return frozenset().union(*(member.needs for member in self.members))

    def how(self, average: str | None) -> str:
        """What is averaged.

        Raises:
            RunError: what was asked for cannot be averaged here.
        """
        possible = self.objective.averages
        if average is not None and average not in possible:
            raise RunError(
                f"average: in {self.objective.name} {' or '.join(possible)} are averaged, "
                f"{average!r} were asked for; leave it out"
            )
        return average or possible[0]

    def of_ways(self, ways: int) -> Ensemble:
        """The same members for tasks of so many ways; raises RunError where one cannot."""
        return Ensemble(tuple(replace(m, trained=m.of_ways(ways)) for m in self.members))

    def protocol(self, asked: EvalRequest, average: str) -> EvalProtocol:
        """What was asked, the rest as the members' recipes say; raises as :func:`protocol` does."""
        result = protocol([(m.name, m.trained.recipe) for m in self.members], asked)
        usual = average == self.objective.averages[0]
        return result if usual else replace(result, name=f"{result.name}-{average}")


@dataclass(frozen=True)
class Together:
    """An ensemble's results, and those of each member on the same episodes."""

    ensemble: Evaluation
    members: tuple[Evaluation, ...]
    average: str


def evaluate_ensemble(
    ensemble: Ensemble, asked: EvalRequest, average: str | None = None
) -> Together:
    """Let every member adapt to the same episodes, and average what they predict.

    An episode on which one member fails (an output is not finite) is failed for the ensemble:
    the mean over the others would be that of another, smaller ensemble, chosen by its result.

    Args:
        asked: what to do otherwise than the members' recipes say.
        average: what is averaged, one of ``Objective.averages``; the first of them if None.

    Raises:
        RunError: the members do not agree on something that was not asked for.
        DataError: their episodes cannot be drawn, or are not the same.
    """
    by = ensemble.how(average)
    how, objective = ensemble.protocol(asked, by), ensemble.objective
    ensemble = ensemble.of_ways(how.ways)
    episodes = how.source(ensemble.members[0].data).identity
    for member in ensemble.members[1:]:
        require_identity(how.source(member.data).identity, episodes, f"those of {member.name}")
    together = ScoreTable(objective, how)
    own = [ScoreTable(member.objective, how) for member in ensemble.members]
    with reproducible(ensemble.members[0].trained.device):
        streams = [
            predictions(member.trained, how.source(member.data), range(how.episodes), how.steps)
            for member in ensemble.members
        ]
        for index, episode in enumerate(zip(*streams, strict=True)):
            target = episode[0][0].query
            for step in range(how.steps + 1):
                found = [after[step] for _, after in episode]
                whole = [t.write(index, step, p, target) for t, p in zip(own, found, strict=True)]
                if all(whole):
                    # What a single member predicts stays as it is.
                    one = found[0] if len(found) == 1 else objective.average(found, by)
                    together.write(index, step, one, target)
                else:
                    together.fail(index, step)
    trained = [member.trained.recipe.inner.steps for member in ensemble.members]
    first = ensemble.members[0]
    common = trained[0] if len(set(trained)) == 1 else None
    results = [
        table.evaluation(steps, episodes.digest, needs).with_classes(first.data)
        for table, steps, needs in zip(
            [together, *own],
            [common, *trained],
            [ensemble.needs, *(m.needs for m in ensemble.members)],
            strict=True,
        )
    ]
    return Together(results[0], tuple(results[1:]), by)


def write_ensemble(directory: Path, ensemble: Ensemble, result: Together) -> None:
    """``ensemble.json``, who the members are, and ``evaluation/<protocol>.json, .parquet``.

    The table has the columns of a run's, and ``_1``, ``_2``, … of each member. Raises RunError as
    :func:`check_directory` does.
    """
    check_directory(directory, ensemble)
    members = [
        {"run": m.name, "algorithm": m.trained.recipe.algorithm.name, **m.facts}
        for m in ensemble.members
    ]
    document = {"digest": ensemble.digest, "members": members}
    write_atomic(directory / "ensemble.json", encode(document))
    more: dict[str, pa.Array] = {}
    for number, own in enumerate(result.members, 1):
        more |= columns(own, f"_{number}")
    facts = {
        "average": result.average,
        "members": [
            own.summary(member.facts)
            for own, member in zip(result.members, ensemble.members, strict=True)
        ],
    }
    write_evaluation(directory / "evaluation", result.ensemble, facts, more)


def check_directory(directory: Path, ensemble: Ensemble) -> None:
    """See that results of this ensemble may be written there.

    Raises:
        RunError: the directory is a run's or another ensemble's.
    """
    for path in (directory, *directory.parents[:2]):
        if (path / "run.json").is_file():
            raise RunError(f"{path} is a run, an ensemble's results go elsewhere; name it by --out")
    record = directory / "ensemble.json"
    if not record.exists():
        return
    try:
        there = read_json(record)["digest"]
    except (DataError, KeyError, TypeError) as error:
        raise RunError(f"{record}: damaged ({error}); remove it or name another --out") from None
    if there != ensemble.digest:
        raise RunError(
            f"{directory}: holds results of an ensemble of other members or checkpoints (digest "
            f"{there}, this one has {ensemble.digest}); name another --out"
        )


def result_of(ensemble: Ensemble, result: Together) -> dict[str, Any]:
    """The figures of an ensemble and its members, JSON-able."""
    together = result.ensemble

    def figures(own: Evaluation) -> dict[str, Any]:
        mean, ci95 = finite(own.figure["mean"]), finite(own.figure["ci95"])
        return {own.metric.name: mean, "ci95": ci95, "failed": own.failures, **own.of_classes}

    return {
        "ensemble": ensemble.name,
        "average": result.average,
        **figures(together),
        "episodes": len(together.score),
        "members": [
            {
                "run": member.name,
                "algorithm": member.trained.recipe.algorithm.name,
                "best_step": member.best_step,
                **figures(own),
            }
            for member, own in zip(ensemble.members, result.members, strict=True)
        ],
        "protocols": {together.protocol.name: together.summary({"average": result.average})},
    }
