"""What a request would come to, without beginning it: ``--dry-run``.

It goes the way that a run goes, up to where something would be made. Workers are not asked for
their places, for that takes a cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from data_pipeline.datasets import PARTS
from data_pipeline.storage.object_uri import address_of
from metadist import plugins
from metadist.compute.device import check_device
from metadist.compute.setup import Setup
from metadist.driver.preflight import check_fresh, facts_of, preflight, resolve_recipe
from metadist.driver.request import RunRequest
from metadist.driver.resolve_run import planned_run, run_to_continue
from metadist.driver.tracking import store_for
from metadist.episode_data.places import store_of, to_be_made
from metadist.process.announce import Announce, quiet
from metadist.recipe.schema import Recipe
from metadist.report.phrases import plural
from metadist.runs import checkpoints
from metadist.runs.run_dir import RunDir
from metadist.track import public_uri

#: Tensors of the parameters' sizes in a checkpoint: newest, best, and moments of the optimizer.
_COPIES = {"adam": 4, "sgd": 2}
_ITEM = {"float32": 4, "float64": 8}


@dataclass(frozen=True)
class DryRun:
    """A run, or a search, that was not begun.

    Attributes:
        recipe: resolved; of a search the one that trials start from.
        document: everything else, JSON-able; sizes that are known with the data alone are None
            where these are still to be made.
        said: the same for people.
    """

    recipe: Recipe
    document: dict[str, Any]
    said: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it, as ``--json`` prints it."""
        return {**self.document, "recipe": self.recipe.to_toml()}

    def lines(self) -> list[str]:
        """A recipe that can be trained, with everything else as comments above it."""
        said = (f"# {' '.join(line.split())}" for line in self.said)
        return [*said, "", *self.recipe.to_toml().rstrip().split("\n")]


def _said(recipe: Recipe, it: dict[str, Any]) -> Iterator[str]:
    begun = "new"
    if it["resumed"]:
        begun = f"{it['status']}, goes on from step {it['step']}"
    yield f"run {it['run']} ({begun}): {it['directory']}"
    yield f"recipe hash {it['recipe_hash']}"
    data, learner = it["dataset"], it["learner"]
    if learner is None:
        yield f"{data['name']}: made first, in {data['directory']}; sizes are known after that"
    else:
        classes = [f"{n:,} {part} classes" for part, n in data["classes"].items()]
        size = [f"{data['bytes']:,} bytes"] if data["bytes"] else []
        yield ", ".join([data["name"], *classes, *size])
        yield f"{recipe.algorithm.name}: {plural(learner['parameters'], 'parameter')}"
    tasks = plural(recipe.outer.batch, "task")
    chunks = plural(it["chunks"], "chunk")
    yield f"{plural(recipe.outer.steps, 'step')} of {tasks} in {chunks}: {it['tasks']:,} tasks"
    yield ", ".join(f"{part} episodes: {n}" for part, n in it["episodes"].items())
    kept = it["checkpoints"]
    each = f" of about {kept['bytes']:,} bytes" if kept["bytes"] else ""
    yield f"a checkpoint every {plural(kept['every'], 'step')}, {kept['most']} kept{each}"
    yield f"workers: {it['workers']}, device: {it['device']}, MLflow: {it['mlflow'] or 'none'}"


def plan_run(request: RunRequest, announce: Announce = quiet) -> DryRun:
    """What :func:`metadist.driver.run.train` would do; nothing is made.

    Raises:
        MetadistError, DataError: what it would refuse.
    """
    with plugins.use(request.plugins):
        run = run_to_continue(request)
        check_device(request.device)
        there = None if run is None else run.recipe()
        recipe = resolve_recipe(request.load_recipe(run), announce, there)
        if to_be_made(recipe, request.data_dir):
            # Whether a run fits data that are not there is not known.
            fresh = replace(request, resume=None)
            found = (run, True) if run is not None else planned_run(fresh, recipe, {})
            setup = None
        else:
            setup = preflight(recipe, request.data_dir, announce)
            if run is None:
                check_fresh(setup)
            found = planned_run(request, recipe, facts_of(setup))
        document = _document(request, recipe, *found, setup)
        return DryRun(recipe, document, tuple(_said(recipe, document)))


def _document(
    request: RunRequest, recipe: Recipe, run: RunDir, resumed: bool, setup: Setup | None
) -> dict[str, Any]:
    newest = checkpoints.newest(run, recipe.lineage) if resumed else None
    learner = None if setup is None else facts_of(setup)["learner"]
    each = _COPIES[recipe.outer.optimizer] * _ITEM[recipe.engine.dtype]
    kept = {"every": recipe.run.checkpoint_every, "most": recipe.run.keep + 1}
    parts = recipe.data.episodes, recipe.eval.val_episodes, recipe.eval.episodes
    return {
        "run": run.name,
        "directory": address_of(run.path),
        "resumed": resumed,
        "status": run.info()["status"] if resumed else "new",
        "step": newest[0].step if newest else 0,
        "recipe_hash": recipe.hash,
        "dataset": _dataset(recipe, request, setup),
        "learner": learner,
        "chunks": -(-recipe.outer.batch // recipe.engine.chunk),
        "tasks": recipe.outer.steps * recipe.outer.batch,
        "episodes": dict(zip(PARTS, parts, strict=True)),
        "checkpoints": {**kept, "bytes": learner and each * learner["parameters"]},
        "workers": str(request.workers),
        "device": request.device,
        "mlflow": None if request.offline else public_uri(store_for(request)),
    }


def _dataset(recipe: Recipe, request: RunRequest, setup: Setup | None) -> dict[str, Any]:
    """Name, directory, digest, bytes and classes by part, as far as they are known."""
    store = setup and setup.data.store
    root = store.root if store else None
    if setup is None:
        root = store_of(request.data_dir, recipe.data)
    files = [file for file in store.root.iterdir() if file.is_file()] if store else []
    parts = store.parts if store else {}
    return {
        "name": recipe.data.dataset,
        "digest": setup.data.digest if setup else None,
        "directory": root and address_of(root),
        "bytes": sum(file.stat().st_size for file in files) if store else None,
        "classes": {part: len(held.class_names) for part, held in parts.items()},
    }
