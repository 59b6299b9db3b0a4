"""What the report of a search is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from metadist.space import Space
from metadist.statistics.format import number

Status = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Validation:
    """A validation score of a run.

    Attributes:
        step: outer steps before it.
        time: in milliseconds since 1970.
    """

    step: int
    time: int
    score: float


@dataclass(frozen=True)
class TrialData:
    """A trial.

    Attributes:
        number: from 1.
        point: its values by ``section.key``, without those that do not count.
        status: ``stopped``: early, by the scheduler; ``failed``: it ended with an error.
        score: its best validation score; None if it has none.
        best_step: outer steps before the checkpoint that has it.
        steps, tasks: outer steps and tasks that it was trained for.
        full_tasks: tasks if nobody had stopped it.
        error: why it failed.
        curve: its validations, by step; empty if its run cannot be read.
    """

    number: int
    point: Mapping[str, Any]
    status: Status
    score: float | None = None
    best_step: int = 0
    steps: int = 0
    tasks: int = 0
    full_tasks: int = 0
    error: str = ""
    curve: Sequence[Validation] = ()


@dataclass(frozen=True)
class Anew:
    """A run that confirms the search: the setting that was found, or the default, trained anew."""

    setting: Literal["best", "default"]
    seed: int
    tasks: int
    curve: Sequence[Validation] = ()


@dataclass(frozen=True)
class SearchData:
    """A search as its directory stands.

    Attributes:
        status: of the search: running, finished, interrupted or failed.
        plan: name of its space.
        space: what was searched.
        planned: trials that there are to be.
        seed: of the searcher.
        overrides: ``section.key=value`` of every trial.
        default: what the base recipe has at the searched keys; empty if that is unknown.
        trials: those that were begun, by number.
        anew: runs that confirm the choice.
        result: ``result`` of search.json; None if there is none yet.
        recipe: path of the recipe that was found; empty if there is none yet.
        notes: what is missing or damaged.
    """

    name: str
    status: str
    created: str
    plan: str
    space: Space
    planned: int
    seed: int = 0
    overrides: Sequence[str] = ()
    default: Mapping[str, Any] = field(default_factory=dict)
    trials: Sequence[TrialData] = ()
    anew: Sequence[Anew] = ()
    result: Any = None
    recipe: str = ""
    notes: Sequence[str] = ()

    @property
    def regression(self) -> bool:
        """Whether scores are errors: the less the better, and not in percent."""
        return self.space.metric == "val/mse"

    @property
    def measure(self) -> Literal["accuracy", "mse"]:
        """What a score is."""
        return "mse" if self.regression else "accuracy"

    @property
    def score_name(self) -> str:
        """What a score is, for people."""
        return "mean squared error" if self.regression else "accuracy"

    def better(self, a: float, b: float) -> bool:
        """Whether score a is better than score b."""
        return a > b if self.space.mode == "max" else a < b

    def ranked(self) -> list[TrialData]:
        """Trials with a score, the best first; of equals the one with fewer tasks."""
        sign = -1.0 if self.space.mode == "max" else 1.0
        scored = [
            (sign * t.score, t.tasks, t.number, t) for t in self.trials if t.score is not None
        ]
        return [t for *_, t in sorted(scored, key=lambda row: row[:3])]

    def shown(self, score: float) -> str:
        """A score in words."""
        return number(score) if self.regression else f"{100 * score:.1f} %"


def value_text(value: Any) -> str:
    """A hyper-parameter's value in words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
