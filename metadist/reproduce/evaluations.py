"""What a run's evaluation says, read as something that may be damaged or of another time."""

from __future__ import annotations

import math
from typing import Any

from data_pipeline.errors import DataError
from data_pipeline.storage.local import read_json
from metadist.errors import RunError
from metadist.evaluation.protocols import own_protocols
from metadist.recipe.schema import Recipe
from metadist.runs.run_dir import RunDir


def read_summary(run: RunDir, recipe: Recipe, name: str) -> dict[str, Any]:
    """The figures of a protocol, of the run's best checkpoint.

    Raises:
        RunError: there are none, they are damaged, or they are of another checkpoint than the
            run's own evaluation, as those of a run that was evaluated before it ended.
    """
    own = own_protocols(recipe)[0].name
    summary, main = _read(run, name), _read(run, own)
    if main["recipe_hash"] != recipe.hash:
        raise RunError(f"{run.evaluation / own}.json: of another recipe than the run's")
    for key in ("recipe_hash", "checkpoint"):
        if summary[key] != main[key]:
            raise RunError(
                f"{run.evaluation / name}.json: of another {key.replace('_', ' ')} than {own}.json"
            )
    return summary


def has_summary(run: RunDir, recipe: Recipe, name: str) -> bool:
    """Whether it can be read and need not be made again."""
    try:
        read_summary(run, recipe, name)
    except RunError:
        return False
    return True


def _read(run: RunDir, name: str) -> dict[str, Any]:
    path = run.evaluation / f"{name}.json"
    try:
        summary = dict(read_json(path))
        curve = [dict(row) for row in summary["by_step"]]
        numbers = [row[key] for row in curve for key in ("mean", "ci95")]
        sound = (
            [row["step"] for row in curve] == list(range(len(curve)))
            and len(summary["failed_by_step"]) == len(curve) > int(summary["figure_step"]) >= 0
            and all(n is None or math.isfinite(float(n)) for n in numbers)
            and all(0 <= int(n) <= int(summary["episodes"]) for n in summary["failed_by_step"])
            and {"score", "recipe_hash", "checkpoint"} <= summary.keys()
        )
    except (DataError, OSError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise RunError(f"{path}: cannot be read ({error!r})") from None
    if not sound:
        raise RunError(f"{path}: damaged, its numbers do not fit together")
    return summary
