"""What the report of a search is made from, read from its directory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from data_pipeline.errors import DataError
from metadist.errors import MetadistError
from metadist.objectives import Metric
from metadist.runs.log import Point
from metadist.search.plan import Plan, plan_of
from metadist.search.report.result_schema import Found, read_found
from metadist.search.search_dir import SearchDir, TrialRecord, rank, ranked
from metadist.search.trial import steps_done, validations
from metadist.space import Space
from metadist.statistics.format import score as score_text


@dataclass(frozen=True)
class TrialData(TrialRecord):
    """A trial's record with what the log of its run has.

    Attributes:
        curve: its validations, by step; empty if its run cannot be read.
        full_tasks: tasks if nobody had stopped it.
    """

    curve: Sequence[Point] = ()
    full_tasks: int = 0


@dataclass(frozen=True)
class Confirmed:
    """A run that confirms the search: the setting found (``best``) or ``default``, trained anew."""

    setting: str
    seed: int
    tasks: int
    curve: Sequence[Point] = ()


@dataclass(frozen=True)
class SearchData:
    """A search as its directory stands.

    Attributes:
        status: of the search: running, finished, interrupted or failed.
        plan: what was searched.
        default: what the base recipe has at the searched keys; empty if that is unknown.
        trials: those that were begun, by number.
        confirmed: runs that confirm the choice.
        found: what it has come to; None if there is none yet.
        recipe: path of the recipe that was found; empty if there is none yet.
        notes: what is missing or damaged.
    """

    name: str
    status: str
    created: str
    plan: Plan
    default: Mapping[str, Any] = field(default_factory=dict)
    trials: Sequence[TrialData] = ()
    confirmed: Sequence[Confirmed] = ()
    found: Found | None = None
    recipe: str = ""
    notes: Sequence[str] = ()

    @property
    def space(self) -> Space:
        """What was searched."""
        return self.plan.space

    @property
    def metric(self) -> Metric:
        """What a score is."""
        return self.plan.metric

    @property
    def labels(self) -> bool:
        """Whether tasks have classes; by the metric where the recipe is damaged."""
        try:
            return self.plan.recipe({}).data.ways > 0
        except MetadistError:
            return self.metric.percent

    def ranked(self) -> list[TrialData]:
        """Trials with a score, the best first."""
        return ranked(self.trials, self.space.mode)

    def shown(self, score: float) -> str:
        """A score in words."""
        return score_text(self.metric, score)


def value_text(value: Any) -> str:
    """A hyper-parameter's value in words."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def shown(point: Mapping[str, Any], key: str) -> str:
    """A point's value of a key in words."""
    return value_text(point[key]) if key in point else "not set"


def search_data(search: SearchDir) -> SearchData:
    """Everything the report needs; what is missing or damaged is noted.

    Raises:
        SpaceError: search.json is missing or damaged.
    """
    info = search.info()
    plan = plan_of(info.get("plan"))
    sound, damaged = search.records()
    notes = [f"The record of a trial, {path.name}, cannot be read: {why}." for path, why in damaged]
    found = _found(info.get("result"), notes)
    return SearchData(
        name=search.name,
        status=str(info.get("status", "unknown")),
        created=str(info.get("created", "unknown"))[:19].replace("T", " ") + " UTC",
        plan=plan,
        default=_default(plan, notes),
        trials=tuple(_trial(plan, search, record, notes) for record in sound),
        confirmed=tuple(_confirmed(plan, search, found, notes)),
        found=found,
        recipe=str(search.best) if search.best.is_file() else "",
        notes=notes,
    )


def _default(plan: Plan, notes: list[str]) -> Mapping[str, Any]:
    try:
        return plan.point_of(plan.recipe({}))
    except MetadistError as error:
        notes.append(f"The default setting is not known: {error}.")
        return {}


def _trial(plan: Plan, search: SearchDir, record: TrialRecord, notes: list[str]) -> TrialData:
    curve, steps = _curve(plan, search, record.run, notes)
    batch = _batch(plan, record)
    trial = TrialData(**vars(record), curve=curve, full_tasks=plan.space.steps * batch)
    if trial.over:
        return trial
    # A trial that has not ended writes no figures into its record; its log has them.
    trial = replace(trial, steps=steps, tasks=steps * batch)
    finite = [v for v in curve if math.isfinite(v.value)]
    if not finite:
        return trial
    best = min(finite, key=lambda v: rank(v.value, plan.space.mode))
    return replace(trial, score=best.value, best_step=best.step)


def _batch(plan: Plan, record: TrialRecord) -> int:
    """Tasks of an outer step."""
    if record.tasks:
        return record.tasks // max(record.steps, 1)
    try:
        return plan.recipe(record.point).outer.batch
    except MetadistError:
        return 0


def _curve(
    plan: Plan, search: SearchDir, name: str, notes: list[str]
) -> tuple[tuple[Point, ...], int]:
    """Validations of a run, and the outer steps it was trained for."""
    run = search.run(name)
    if not run.path.is_dir():
        return (), 0
    try:
        steps, points = steps_done(run), validations(plan, run)
    except (MetadistError, DataError, OSError, KeyError, TypeError, AttributeError) as error:
        notes.append(f"The metric log of {name} cannot be read: {error}.")
        return (), 0
    return tuple(p for p in points if not math.isnan(p.value)), steps


def _confirmed(
    plan: Plan, search: SearchDir, found: Found | None, notes: list[str]
) -> Iterator[Confirmed]:
    """The runs that confirm the choice, as far as they can be read."""
    settings = {} if found is None else {"best": found.best, "default": found.default}
    for setting, of in settings.items():
        for run in () if of is None else of.runs:
            if "/" in run.run:
                continue
            curve, steps = _curve(plan, search, run.run, notes)
            try:
                tasks = steps * search.run(run.run).recipe().outer.batch
            except (MetadistError, OSError, UnicodeDecodeError) as error:
                notes.append(f"The recipe of {run.run} cannot be read: {error}.")
                tasks = 0
            yield Confirmed(setting, run.seed, tasks, curve)


def _found(raw: Any, notes: list[str]) -> Found | None:
    try:
        return None if raw is None else read_found(raw)
    except ValueError as error:
        notes.append(f"The result in search.json cannot be read: {error}.")
        return None
