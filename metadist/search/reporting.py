"""The report of a search: what its directory says, handed to the room that draws it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from data_pipeline.errors import DataError
from metadist.errors import MetadistError, SpaceError
from metadist.process.announce import Announce
from metadist.report.search import write_search_report as write
from metadist.report.search.data import Anew, SearchData, TrialData, Validation
from metadist.runs.log import series
from metadist.search.plan import Plan, plan_of
from metadist.search.scores import validations
from metadist.search.search_dir import SearchDir, TrialRecord, open_search

log = logging.getLogger(__name__)


def write_search_report(search: SearchDir, announce: Announce) -> None:
    """Write the report of a search, finished or not; a failure is logged and costs nothing else."""
    try:
        announce(f"Report: {write(search_data(search), search.path)}")
    except Exception:
        # It can be made again at any time; the search's result must not depend on it.
        log.exception(
            "the report could not be written; try again with: metadist report %s", search.path
        )


def report_again(runs_dir: Path, name: str) -> Path | None:
    """Write the report of a search again; the page's path, or None if there is no such search.

    Args:
        name: of the search, or its path.

    Raises:
        SpaceError: its record is damaged.
    """
    try:
        search = open_search(runs_dir, name)
    except SpaceError:
        return None
    return write(search_data(search), search.path)


def search_data(search: SearchDir) -> SearchData:
    """Everything the report needs; what is missing or damaged is noted.

    Raises:
        SpaceError: search.json is missing or damaged.
    """
    info = search.info()
    plan = plan_of(info.get("plan"))
    notes: list[str] = []
    records = _records(search, notes)
    return SearchData(
        name=search.name,
        status=str(info.get("status", "unknown")),
        created=str(info.get("created", "unknown"))[:19].replace("T", " ") + " UTC",
        plan=plan.name,
        space=plan.space,
        planned=plan.trials,
        seed=plan.seed,
        overrides=plan.overrides,
        default=_default(plan, notes),
        trials=tuple(_trial(plan, search, record, notes) for record in records),
        anew=tuple(_anew(plan, search, info.get("result"), notes)),
        result=info.get("result"),
        recipe=str(search.best) if search.best.is_file() else "",
        notes=notes,
    )


def _records(search: SearchDir, notes: list[str]) -> list[TrialRecord]:
    sound, damaged = search.records()
    notes += [
        f"The record of a trial, {path.name}, cannot be read: {why}." for path, why in damaged
    ]
    return sound


def _default(plan: Plan, notes: list[str]) -> Mapping[str, Any]:
    """The default's values of the searched keys."""
    try:
        recipe = plan.recipe({})
    except MetadistError as error:
        notes.append(f"The default setting is not known: {error}.")
        return {}
    return plan.point_of(recipe)


def _trial(plan: Plan, search: SearchDir, record: TrialRecord, notes: list[str]) -> TrialData:
    curve, steps = _curve(plan, search, record.run, notes)
    if record.status == "running":
        record = _so_far(plan, record, curve, steps)
    return TrialData(
        number=record.number,
        point=record.point,
        status=record.status,
        score=record.score,
        best_step=record.best_step,
        steps=record.steps,
        tasks=record.tasks,
        full_tasks=plan.space.steps * _batch(plan, record),
        error=record.error,
        curve=curve,
    )


def _so_far(
    plan: Plan, record: TrialRecord, curve: Sequence[Validation], steps: int
) -> TrialRecord:
    """A trial that has not ended writes no figures into its record; its log has them."""
    record = replace(record, steps=steps, tasks=steps * _batch(plan, record))
    finite = [v for v in curve if math.isfinite(v.score)]
    if not finite:
        return record
    sign = -1.0 if plan.space.mode == "max" else 1.0
    best = min(finite, key=lambda v: sign * v.score)
    return replace(record, score=best.score, best_step=best.step)


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
) -> tuple[tuple[Validation, ...], int]:
    """Validations of a run, and the outer steps it was trained for."""
    if not search.run(name).path.is_dir():
        return (), 0
    try:
        found = series(search.run(name))
    except (MetadistError, DataError, OSError, KeyError, TypeError, AttributeError) as error:
        notes.append(f"The metric log of {name} cannot be read: {error}.")
        return (), 0
    losses = found.get("train/loss", [])
    points = validations(plan.space, search.run(name))
    curve = tuple(Validation(p.step, p.time, p.value) for p in points if p.value == p.value)
    return curve, losses[-1].step if losses else 0


def _anew(plan: Plan, search: SearchDir, result: Any, notes: list[str]) -> list[Anew]:
    """The runs that confirm the choice, as far as the result names them."""
    found = []
    settings: tuple[Literal["best"], Literal["default"]] = ("best", "default")
    for setting in settings:
        runs = result.get(setting) if isinstance(result, dict) else None
        for run in runs if isinstance(runs, list) else ():
            name, seed = (run.get("run"), run.get("seed")) if isinstance(run, dict) else (0, 0)
            if not isinstance(name, str) or "/" in name or not isinstance(seed, int):
                continue
            curve, steps = _curve(plan, search, name, notes)
            try:
                tasks = steps * search.run(name).recipe().outer.batch
            except (MetadistError, OSError, UnicodeDecodeError) as error:
                notes.append(f"The recipe of {name} cannot be read: {error}.")
                tasks = 0
            found.append(Anew(setting, seed, tasks, curve))
    return found
