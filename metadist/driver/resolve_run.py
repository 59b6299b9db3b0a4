"""Which run directory a request means: a new one, or one to continue."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metadist import plugins
from metadist.compute.outer_optimizer import schedule_depends_on_total
from metadist.driver.request import RunRequest
from metadist.errors import RecipeError, RunError
from metadist.recipe.schema import Recipe, differences
from metadist.runs.listing import create_run, list_runs, open_run
from metadist.runs.readers.plugins import changes
from metadist.runs.record import check_name
from metadist.runs.run_dir import RunDir

AUTO = "auto"


def find_run(request: RunRequest, recipe: Recipe, facts: dict[str, Any]) -> tuple[RunDir, bool]:
    """The run that a request means, and whether it goes on.

    Args:
        recipe: resolved.
        facts: of a new run's run.json.

    Raises:
        RunError: a name in use without resume, no such run, or a recipe or plugin that differs.
    """
    run = _continued(request, recipe, facts)
    if run is None:
        return _new(request, recipe, facts), False
    _take_up(run, recipe)
    return run, True


def planned_run(request: RunRequest, recipe: Recipe, facts: dict[str, Any]) -> tuple[RunDir, bool]:
    """The run that :func:`find_run` would find or make, and whether it is there; nothing is made.

    Raises:
        RunError: as :func:`find_run`.
    """
    run = _continued(request, recipe, facts)
    if run is not None:
        return run, True
    for name in _names(request):
        run = RunDir(request.runs_dir / name)
        if not (run.path.exists() or run.store.exists()):
            return run, False
    assert run is not None
    raise run.taken()


def _continued(request: RunRequest, recipe: Recipe, facts: dict[str, Any]) -> RunDir | None:
    """The run to go on with, which may be gone on with as asked; None: a new one is meant."""
    name, resume = request.name, request.resume
    explicit = resume is not None and resume != AUTO
    if explicit and name not in (None, Path(str(resume)).name):
        raise RunError(
            f"--name {name!r} with --resume {resume!r}: a run keeps its name; drop --name"
        )
    run = _named(request)
    if resume == AUTO and name is None:
        run = _newest(request.runs_dir, recipe, facts)
    if run is not None:
        _check_same(run, recipe, facts, may_extend=explicit)
    return run


def run_to_continue(request: RunRequest) -> RunDir | None:
    """The run that a request to continue names, before anything is known of its recipe.

    Raises:
        RunError: there is none of the name that ``resume`` gives.
        PluginError: it was made with a plugin that is not here.
    """
    run = _named(request)
    if run is not None:
        plugins.require(run.path, run.info())
    return run


def _new(request: RunRequest, recipe: Recipe, facts: dict[str, Any]) -> RunDir:
    root, facts = request.runs_dir, {**facts, "mlflow": None, "restarts": 0, "result": None}
    for name in _names(request):
        with contextlib.nullcontext() if request.name else contextlib.suppress(RunError):
            return create_run(root, name, recipe, facts)
    raise AssertionError("unreachable")


def _names(request: RunRequest) -> Iterator[str]:
    """What a new run may be called: runs that start in the same second would have one name."""
    if request.name is not None:
        yield check_name(request.name)
        return
    default = request.default_name
    yield default
    yield from (f"{default}-{number}" for number in itertools.count(2))


def _named(request: RunRequest) -> RunDir | None:
    """The run that a request to continue names; ``auto`` may name one that is still to be made."""
    if request.resume != AUTO:
        return open_run(request.runs_dir, request.resume) if request.resume is not None else None
    if request.name is None:
        return None
    run = RunDir(request.runs_dir / check_name(request.name))
    return RunDir(run.path.resolve()) if run.pull() else None


def _newest(root: Path, recipe: Recipe, facts: dict[str, Any]) -> RunDir | None:
    """The newest run of this recipe, data and plugins, unfinished ones first."""
    same = [
        run
        for run in list_runs(root)
        if run.info().get("recipe_hash") == recipe.hash
        and run.info()["dataset"]["digest"] == facts["dataset"]["digest"]
        and not changes(run.info().get("plugins", {}), facts.get("plugins", {}))
    ]
    unfinished = [run for run in same if run.info().get("status") != "finished"]
    return next(iter(unfinished or same), None)


def _check_same(run: RunDir, recipe: Recipe, facts: dict[str, Any], *, may_extend: bool) -> None:
    run.pull()
    info = run.info()
    digest, made_with = facts["dataset"]["digest"], info["dataset"]["digest"]
    if made_with != digest:
        raise RunError(
            f"{run.path}: made with dataset digest {made_with}, the data here has {digest}; name "
            "the right data with --data-dir or data.store, or start a run of another name"
        )
    there = _recorded_recipe(run, info, recipe)
    changed = changes(info.get("plugins", {}), facts.get("plugins", {}))
    if changed and recipe.lineage == there.lineage:
        raise RunError(
            f"{run.path}: {'; '.join(changed)}; the same bits need the same source: put it back, "
            "or start a run of another name"
        )
    if recipe.hash != there.hash:
        _check_extends(run, there, recipe, may_extend)


def _take_up(run: RunDir, recipe: Recipe) -> None:
    """Give a run that goes on the recipe, which may have more steps."""
    if recipe == run.recipe():
        return
    if recipe.hash != run.info()["recipe_hash"]:
        # A driver that is still ending the shorter run must not call the longer one finished.
        run.update(
            recipe_hash=recipe.hash, status="created", result=None, closed=False, driver=None
        )
    run.set_recipe(recipe)


def _recorded_recipe(run: RunDir, info: dict[str, Any], recipe: Recipe) -> Recipe:
    """The recipe that run.json names; raises RunError if recipe.toml is another one."""
    there = run.recipe()
    if recipe.hash == info["recipe_hash"] != there.hash and recipe.lineage == there.lineage:
        # A driver that was to add steps died between writing one and the other.
        return recipe
    if there.hash != info["recipe_hash"]:
        raise RunError(
            f"{run.path}: recipe.toml has hash {there.hash}, run.json says "
            f"{info['recipe_hash']}; one of them was altered, put it back"
        )
    return there


def _check_extends(run: RunDir, there: Recipe, recipe: Recipe, may_extend: bool) -> None:
    """Raise RunError or RecipeError unless a recipe is another one with more steps."""
    only_steps = recipe.lineage == there.lineage
    if not (may_extend and only_steps):
        hint = "; only outer.steps may grow, by an explicit --resume RUN" if only_steps else ""
        raise RunError(
            f"{run.path} was made by another recipe ({', '.join(differences(there, recipe))})"
            f"{hint}; use {run.path / 'recipe.toml'}, or start a run of another name"
        )
    if recipe.outer.steps < there.outer.steps:
        raise RecipeError(
            f"outer.steps: the run has {there.outer.steps}, at least that many are needed to "
            f"continue it, got {recipe.outer.steps}"
        )
    if schedule_depends_on_total(recipe.outer):
        raise RecipeError(
            f"outer.steps: the {recipe.outer.schedule} schedule of {run.path} was made for "
            f"{there.outer.steps} steps; more would change the steps already taken"
        )
