"""A run that begins where another one stands, with other learning rates from there on.

The recipes of both agree on every outer step that is done, so the new run is the one that its
recipe would have come to by itself: the same parameters, log and best checkpoint, bit for bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metadist.errors import RunError
from metadist.recipe.rate_changes import Changes, rate_after
from metadist.recipe.schema import Recipe
from metadist.runs import checkpoints
from metadist.runs.listing import create_run
from metadist.runs.log import LogReader, log_line
from metadist.runs.run_dir import RunDir

#: What run.json says of a run that is none of its beginning.
_FRESH = {"mlflow": None, "restarts": 0, "result": None, "driver": None, "closed": False}


def past(recipe: Recipe, done: int) -> Recipe:
    """What a recipe says of the first ``done`` outer steps: later changes of rates left out."""
    inner = recipe.inner.model_copy(update={"lr_changes": _before(recipe.inner.lr_changes, done)})
    outer = recipe.outer.model_copy(update={"lr_changes": _before(recipe.outer.lr_changes, done)})
    return recipe.model_copy(update={"inner": inner, "outer": outer})


def _before(changes: Changes, done: int) -> Changes:
    return tuple(change for change in changes if change[0] < done)


def branch(run: RunDir, step: int, recipe: Recipe, name: str) -> RunDir:
    """Make a run that stands where another one stood after ``step`` outer steps.

    Args:
        recipe: of the new run; resolved.
        name: of the new run, beside the other one.

    Raises:
        RunError: the recipes differ in what is done, or there is no good checkpoint of that step.
    """
    there, info = run.recipe(), run.info()
    if past(there, step).hashed() != past(recipe, step).hashed():
        raise RunError(
            f"{run.path}: a run that begins at its step {step} needs a recipe that agrees with its "
            "own up to there"
        )
    state, body = checkpoints.load(checkpoints.directory(run, step))
    if body["lineage"] != there.lineage or state.step != step:
        raise RunError(f"{run.path}: its checkpoint of step {step} is of another recipe or step")
    facts = {key: value for key, value in info.items() if key not in _OWN} | _FRESH
    facts |= {"forked_from": {"run": run.name, "step": step}, "segments": segments(recipe)}
    new = create_run(run.path.parent, name, recipe, facts)
    first = run.attempt_facts(run.latest_attempt())
    facts = {k: v for k, v in first.items() if k not in ("attempt", "sealed")}
    attempt = new.claim({**facts, "from_step": 0})
    _copy_log(run, step, new.log / f"{attempt.number:04d}.jsonl")
    facts = {"numerics": body["numerics"]} if "numerics" in body else {}
    facts |= {"recipe_hash": recipe.hash, "lineage": recipe.lineage}
    checkpoints.save(attempt, state, facts)
    return new


def segments(recipe: Recipe) -> list[dict[str, Any]]:
    """The learning rates of a recipe from each step on at which one of them changes."""
    inner, outer = recipe.inner.lr_changes, recipe.outer.lr_changes
    steps = sorted({0, *(step for step, _ in inner + outer)})
    return [
        {
            "from_step": step,
            "inner.lr": rate_after(recipe.inner.lr, inner, step),
            "outer.lr": rate_after(recipe.outer.lr, outer, step),
        }
        for step in steps
    ]


#: Of run.json: what is a run's own.
_OWN = ("format", "name", "created", "status", "recipe_hash", "made_by", "claims", "copy")


def _copy_log(run: RunDir, step: int, path: Path) -> None:
    """Every point up to a step, each with its own time."""
    path.parent.mkdir(exist_ok=True)
    points = (point for point in LogReader(run).poll() if point.step <= step)
    path.write_text("".join(log_line(p.step, p.time, {p.metric: p.value}) for p in points))
