"""What the verbs return: typed, printable, and with the items that ``--json`` prints."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from metadist.api import text
from metadist.statistics.format import finite

if TYPE_CHECKING:
    from metadist.objectives import Metric
    from metadist.runs.readers.evaluations import FurtherFigures


@dataclass(frozen=True)
class Score:
    """A figure of any objective.

    Attributes:
        name: of the metric: ``accuracy``, ``mse``, …
        value: mean over episodes; None where no episode has a finite one.
        ci95: half-width of its 95 % interval over episodes; None where there is none.
        metric: what it measures: title, which direction is better, whether it is read in percent.
    """

    name: str
    value: float | None
    ci95: float | None
    metric: Metric

    @classmethod
    def read(cls, metric: Metric, record: Mapping[str, Any]) -> Self:
        """From a record that has it under the metric's name, and ``ci95``."""
        return cls(metric.name, record[metric.name], record.get("ci95"), metric)

    @classmethod
    def further(cls, own: FurtherFigures, step: int) -> Self:
        """Of another metric after so many adaptation steps."""
        value, ci95 = finite(own.mean[step]), finite(own.ci95[step])
        return cls(own.metric.name, value, ci95, own.metric)

    def __str__(self) -> str:
        return text.score(self.metric, self.value, self.ci95)


@dataclass(frozen=True, eq=False)
class Result(Mapping[str, Any]):
    """A result: attributes for code, ``print`` for people, items as ``--json`` has them."""

    record: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, record: Mapping[str, Any], **given: Any) -> Self:
        """From a record; what is not given is what the record has under the attribute's name."""
        named = (f.name for f in fields(cls) if f.name not in ("record", *given))
        found = {name: record.get(name) for name in named}
        return cls(record=dict(record), **found, **given)

    def to_dict(self) -> dict[str, Any]:
        """What ``--json`` prints: plain values that are the caller's own."""
        return deepcopy(self.record)

    @abstractmethod
    def lines(self) -> list[str]:
        """What a person wants to see."""

    def __getitem__(self, key: str) -> Any:
        return self.record[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.record)

    def __len__(self) -> int:
        return len(self.record)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        """A dictionary of both, as of dictionaries."""
        return {**self.to_dict(), **other}

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**other, **self.to_dict()}

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """As a notebook shows it."""
        printer.text("…" if cycle else str(self))


@dataclass(frozen=True, eq=False)
class TrainResult(Result):
    """A run that was trained.

    Attributes:
        run: its name.
        directory: where it lies; of a run in an object store its working copy.
        score: on test episodes.
        further: what else the objective measures, and what is pooled over all episodes.
        trained_ways: classes of a task of training; 0 where values are learned.
        plugins: what it is made with from outside, as ``plugins`` has it.
        steps: outer steps taken; 0 where nothing is meta-learned.
        best_step: those before the checkpoint that was chosen on validation episodes.
        episodes, failed: test episodes, and those without a finite prediction.
        ways, classes: of an episode and of all of them; None of functions.
        ci95_classes: half-width of the score's interval over new classes; None where there is none.
        params_sha256: of the last parameters.
        tasks_per_second: of training.
        restarts: attempts after the first.
    """

    run: str
    directory: Path
    score: Score
    further: tuple[Score, ...]
    trained_ways: int
    plugins: tuple[str, ...]
    steps: int
    best_step: int
    episodes: int
    failed: int
    ways: int | None
    classes: int | None
    ci95_classes: float | None
    params_sha256: str
    tasks_per_second: float | None
    restarts: int | None

    @property
    def labels(self) -> bool:
        """Whether labels are predicted, or values."""
        return self.trained_ways > 0

    def lines(self) -> list[str]:
        """The figures, where the run lies and what can be done with it."""
        return _lines(self)


@dataclass(frozen=True, eq=False)
class EvaluationResult(Result):
    """A run that was evaluated anew, or several as an ensemble.

    Attributes:
        name: of the run, or of the ensemble.
        directory: of the run, or of the ensemble's results.
        score: of the first protocol.
        further: what else the objective measures, and what is pooled over all episodes.
        trained_ways: classes of a task of training; 0 where values are learned.
        plugins: what it is made with from outside, as ``plugins`` has it.
        steps, best_step: as of :class:`TrainResult`; None of an ensemble.
        episodes, failed, ways, classes, ci95_classes: as of :class:`TrainResult`.
        protocols: figures after every number of adaptation steps, by the protocol's name.
        members: an ensemble's members: run, algorithm, best_step and figures of each.
    """

    name: str
    directory: Path
    score: Score
    further: tuple[Score, ...]
    trained_ways: int
    plugins: tuple[str, ...]
    steps: int | None
    best_step: int | None
    episodes: int
    failed: int
    ways: int | None
    classes: int | None
    ci95_classes: float | None
    protocols: Mapping[str, Mapping[str, Any]]
    members: tuple[Mapping[str, Any], ...]

    @property
    def labels(self) -> bool:
        """Whether labels are predicted, or values."""
        return self.trained_ways > 0

    def lines(self, *, curves: bool = False) -> list[str]:
        """The figures, where the files lie and what can be done with a run.

        Args:
            curves: with the figures after each number of adaptation steps, a line for each.
        """
        return _lines(self, text.curves(self) if curves else ())


def _lines(result: TrainResult | EvaluationResult, curves: Sequence[str] = ()) -> list[str]:
    from data_pipeline.storage.object_uri import address_of

    where, figures = address_of(result.directory), map(str, result.further)
    headline = text.headline(result, result.score.metric, result.trained_ways)
    # An ensemble is no run.
    then = [] if "members" in result else [text.what_next(where, result.labels, result.plugins)]
    return [*headline, *figures, *curves, text.where(where), *then]


@dataclass(frozen=True, eq=False)
class TuneResult(Result):
    """A search.

    Attributes:
        search: its name.
        directory: where it lies.
        best_recipe: the file with what was found.
        score: of the setting that was found, on test episodes; on fresh validation episodes where
            none was trained anew.
        trials: how many have ended how.
        trial: number of the one that won.
        point: its values by ``section.key``.
        tasks: spent by all trials.
        within_noise: whether fresh episodes cannot tell it from another.
    """

    search: str
    directory: Path
    best_recipe: Path
    score: Score
    trials: Mapping[str, int]
    trial: int
    point: Mapping[str, Any]
    tasks: int
    within_noise: bool

    def lines(self) -> list[str]:
        """What was found, how good it is, and how it is trained."""
        from metadist.search.summary import text as summary

        return [*summary(self), text.where(str(self.directory))]


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs of a comparison.

    Attributes:
        run: its name, or its path where names are not unique.
        difference: to the baseline on the same episodes; None of the baseline, and of a run that
            cannot be paired with it.
        verdict: ``better``, ``worse``, ``within noise``, ``baseline``, …
    """

    run: str
    directory: Path
    score: Score
    difference: Score | None
    verdict: str


@dataclass(frozen=True, eq=False)
class CompareResult(Result):
    """Runs beside each other.

    Attributes:
        protocol: the evaluation that is compared.
        metric: what is measured.
        baseline: the run that the others are compared with.
        runs: in the order in which they are shown.
        differences: field -> run -> value, of all in which they differ.
        left_out: runs of an experiment that are not compared, and why.
    """

    protocol: str
    metric: Metric
    baseline: str
    runs: tuple[ComparedRun, ...]
    differences: Mapping[str, Mapping[str, Any]]
    left_out: tuple[Mapping[str, str], ...]

    @property
    def score(self) -> Score:
        """The baseline's."""
        return next(run.score for run in self.runs if run.run == self.baseline)

    @property
    def scores(self) -> dict[str, Score]:
        """Of all runs."""
        return {run.run: run.score for run in self.runs}

    def lines(self) -> list[str]:
        """The tables, as wide as the terminal."""
        from metadist.comparison import text as tables

        return tables(self, shutil.get_terminal_size((100, 24)).columns)


@dataclass(frozen=True, eq=False)
class AdaptResult(Result):
    """Images that a learner has labelled.

    Attributes:
        run: whose checkpoint it is.
        directory: of predictions.csv, predictions.svg and adaptation.json.
        algorithm: of the run.
        steps: adaptation steps; None of a learner that takes none.
        labels: with their numbers of support images.
        queries: how many images were labelled.
        right: how many rightly; None where true labels are not known.
        score: the share that is right; None where that is not known.
        notes: what has to be known of the figures.
    """

    run: str
    directory: Path
    algorithm: str
    steps: int | None
    labels: Mapping[str, int]
    queries: int
    right: int | None
    score: Score | None
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """What came of it, and where it lies."""
        return [*text.adapted(self), text.where(str(self.directory))]
