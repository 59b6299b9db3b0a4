"""Of how many classes runs were evaluated, and what their episodes say of new ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from metadist.comparison.entry import Entry
from metadist.statistics.classes import few_classes
from metadist.statistics.classes import of_classes as beside
from metadist.statistics.paired import Paired


def of_classes(entry: Entry) -> dict[str, Any]:
    """How many classes a run's episodes are of, and the half-width over new ones.

    None where they are not recorded; nothing of functions, which have none.
    """
    if entry.protocol.score == "mse":
        return {}
    known, half = entry.protocol.classes, entry.protocol.figure.ci95_classes
    return {
        "ways": entry.recipe.data.ways,
        "classes": None,
        **(known.told() if known else {}),
        "ci95_classes": half if math.isfinite(half) else None,
    }


def over_classes(entry: Entry, base: Entry, apart: Paired) -> dict[str, Any]:
    """The half-width of a paired difference over new classes and episodes, and its verdict.

    None where they are not recorded; nothing of functions, which have none. Both runs have the same
    episodes, so one that has recorded their classes is enough.
    """
    if entry.protocol.score == "mse":
        return {}
    known, half = entry.protocol.classes or base.protocol.classes, math.nan
    common = min(len(entry.rows.score), len(base.rows.score))
    if known is not None and apart.n == common:
        scores = entry.rows.score[:common] - base.rows.score[:common]
        half = float(known.ci95(scores[:, None])[0])
    return {
        "ci95_classes": half if math.isfinite(half) else None,
        "verdict_classes": replace(apart, ci95=half).word(entry.protocol.score),
    }


def about(runs: Sequence[Mapping[str, Any]]) -> str:
    """`` of 384 classes``; nothing where they are not known."""
    known = {run["classes"]: run for run in runs if run.get("classes") is not None}
    if len(known) > 1:
        return f" of {min(known):,}–{max(known):,} classes"
    return "".join(beside(run, "accuracy") for run in known.values())


def notes(result: Mapping[str, Any]) -> list[str]:
    """What has to be said of the classes, a sentence each."""
    runs = [run for run in result["runs"] if "classes" in run]
    warnings = dict.fromkeys(
        few_classes(run["classes"], run["ways"], result["part"])
        for run in runs
        if run["classes"] is not None
    )
    said = [f"{warning}." for warning in warnings if warning]
    if unknown := [run["run"] for run in runs if run["classes"] is None]:
        said.append(
            f"{', '.join(unknown)}: the classes of the episodes are not recorded; 'metadist "
            "evaluate RUN' does so."
        )
    return said
