"""Records of trials that are missing or damaged, made again from what else the search holds.

A trial that is over may have taken hours. Its run says which point it was made for and how it
ended, so losing a record costs nothing; where the run is lost too it costs that one trial.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from data_pipeline.errors import DataError
from metadist.errors import MetadistError
from metadist.search.plan import Plan
from metadist.search.search_dir import SearchDir, TrialRecord
from metadist.search.trial import is_of, scored
from metadist.space import Point, Population


def repair_records(plan: Plan, search: SearchDir, announce: Callable[[str], None]) -> None:
    """Leave a search with sound records, and where a searcher proposes points with no gap in them:
    they are proposed again in their order. Nothing is deleted.

    Only a driver that is alone may do so, before any trial runs.
    """
    sound, damaged = search.records()
    for path, why in damaged:
        announce(f"{path}: damaged ({why}); set aside, and made again from what else is there")
        search.set_aside(path)
    for trial in sound:
        if trial.number > plan.trials:
            announce(f"trial {trial.number}: there are {plan.trials}; its record is set aside")
            search.set_aside(search.record_path(trial.number))
    if isinstance(plan.space.scheduler, Population):
        return  # its rounds say who runs what, and are gone through again
    there = {trial.number for trial in search.trials()}
    points = plan.points
    for number, name in search.trial_runs():
        if number in there:
            continue
        record = _from_run(plan, search, number, name, points)
        if record is None:
            announce(f"{name}: no trial of this search; set aside")
            search.set_run_aside(number, name)
        else:
            announce(f"trial {number}: its record is made again from its run ({record.status})")
            search.record(record)
            there.add(number)
    for number in range(1, max(there, default=0)):
        if number not in there and points is None:
            # What a searcher would propose here depends on more than is known by now.
            point = plan.drawn(number - 1)
            search.record(TrialRecord(number, point, f"trial-{number:04d}", "running"))
            announce(
                f"trial {number}: nothing is left of it; it has another point, drawn at random"
            )
    for path in search.stop_files.glob("[0-9]*"):
        if path.is_file() and path.name not in {f"{n:04d}" for n in there}:
            path.unlink()


def _from_run(
    plan: Plan, search: SearchDir, number: int, name: str, points: list[Point] | None
) -> TrialRecord | None:
    """The record of a trial whose run is there; None if it is none of this search."""
    run = search.run(name)
    if number > plan.trials:
        return None
    try:
        point = plan.point_of(run.recipe()) if points is None else points[number - 1]
        if not is_of(run, plan.recipe(point)):
            return None
        status: Any = run.info()["status"]
        record = TrialRecord(number, point, name, "running")
        # One that failed fails again, and then says why.
        over = status in ("finished", "stopped")
        return replace(scored(plan, run, record), status=status) if over else record
    except (MetadistError, DataError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        return None
