"""Training, from a recipe to a result."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from metadist.api.common import Plugins, Result, data_directory, runs_directory
from metadist.process.announce import Announce, quiet

if TYPE_CHECKING:
    from metadist.compute.device import Device
    from metadist.driver.drive import Trial
    from metadist.recipe.schema import Recipe
    from metadist.runs.run_dir import RunDir


def train(
    recipe: str | Path | Recipe | None = None,
    *,
    name: str | None = None,
    workers: int | str = 0,
    address: str | None = None,
    overrides: Sequence[str] = (),
    resume: str | None = None,
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    tracking_uri: str | None = None,
    experiment: str = "metadist",
    offline: bool = False,
    device: Device = "auto",
    plugins: Plugins = (),
    announce: Announce = quiet,
    progress: bool = False,
    trial: Trial | None = None,
) -> Result:
    """Meta-train, evaluate on unseen classes and write the report.

    Args:
        recipe: name of a built-in recipe, path of a TOML file, or a recipe; None: that of the run
            which ``resume`` continues.
        name: of the run; made from the recipe's name and the time if not given.
        workers: Ray workers; 0 trains in this process and imports no ray. ``"2:8"``: as many as
            the cluster has between these, more or fewer while nodes come and go; the same bits.
        address: of a Ray cluster (``host:port``); RAY_ADDRESS if not given, else a private Ray.
        overrides: ``section.key=value`` strings.
        resume: None starts a run; ``auto`` continues the run called ``name``, or the newest of
            this recipe, or starts one; else the name or path of the run to continue.
        data_dir, runs_dir: paths, or places in an object store (``s3://bucket/prefix``).
        tracking_uri: of the MLflow server or store; MLFLOW_TRACKING_URI if not given, else a
            SQLite file beside ``runs_dir``.
        offline: do without MLflow; the run directory holds the same.
        plugins: modules (``my_package.toy``) and files (``./toy.py``) of parts that the recipe may
            name by their last name (``toy``). Their code is run. A run made with one is continued
            with the same source only.
        announce: is told, in a line each, what is happening.
        progress: show a live progress line on standard error.
        trial: makes the run one of a search (:func:`tune`): it may be stopped early, and is
            evaluated on test classes only if the trial says so.

    Returns:
        run, steps, params_sha256, accuracy (or mse), ci95, best_step, episodes, failed, of images
        ways, classes and ci95_classes (see :func:`evaluate`), tasks_per_second, data_wait,
        restarts, as ``--json`` prints them.

    Raises:
        MetadistError, DataError: a mistake in the request, or a failure that trying again would
            meet again; the message says how to mend it.
    """
    from metadist import plugins as outside
    from metadist.compute.learners import Learners, initial_params
    from metadist.compute.resolve import dropped_lines, resolve
    from metadist.driver.drive import Drive, drive
    from metadist.driver.resolve_run import meant_run
    from metadist.episode_data import open_data
    from metadist.episode_data import prepare as prepare_data
    from metadist.executors.job import check_place
    from metadist.executors.world_size import WorldSize
    from metadist.recipe.schema import Recipe, load_recipe
    from metadist.training.agreement import check_repeated, named

    size = WorldSize.of(workers)
    address = address or (os.environ.get("RAY_ADDRESS") if size.high else None) or None
    with outside.use(plugins):
        if (meant := meant_run(runs_directory(runs_dir), name, resume)) is not None:
            outside.require(meant.path, meant.info())
        if meant is None or meant.info().get("status") != "finished":
            check_place(size, device, address, announce)
        if recipe is None:
            recipe = _own_recipe(meant)
        if isinstance(recipe, Recipe):
            parsed, stem = recipe, recipe.algorithm.name
        else:
            parsed, stem = load_recipe(str(recipe), tuple(overrides)), Path(str(recipe)).stem
        for line in dropped_lines(parsed):
            announce(line)
        parsed = resolve(parsed)
        used = outside.of(parsed)
        for plugin in outside.unused(parsed):
            announce(f"The recipe does not name {plugin.kind} {plugin.name!r} of {plugin.source}")
        directory = data_directory(data_dir)
        prepare_data(parsed, directory, announce)
        data = open_data(parsed, directory)
        # Episodes that cannot be drawn, and shards of others, are refused before anything starts.
        data.training()
        data.live("val", parsed.eval.queries, parsed.eval.seed)
        for queries in parsed.protocols:
            data.live("test", queries, parsed.eval.seed)
        algorithm, again = (Learners(parsed, data.shape).after(0) for _ in range(2))
        fresh = initial_params(parsed, algorithm)
        if meant is None:
            check_repeated(fresh, initial_params(parsed, again), f"fresh {named(parsed)}")
        facts = {
            "dataset": {
                "name": parsed.data.dataset,
                "split": data.store.split if data.store else "",
                "digest": data.digest,
                "licence": data.store.licence if data.store else "",
            },
            "learner": {
                "algorithm": parsed.algorithm.name,
                "derivative_order": algorithm.derivative_order,
                "estimator": algorithm.estimator,
                "norm": parsed.model.norm,
                "parameters": sum(p.numel() for p in fresh.values()),
            },
            "plugins": outside.facts(used),
            "versions": versions(),
        }
        return drive(
            Drive(
                recipe=parsed,
                facts=facts,
                name=name,
                default_name=f"{stem}-{datetime.now():%Y%m%d-%H%M%S}",
                resume=resume,
                runs_dir=runs_directory(runs_dir),
                data_dir=directory,
                workers=size,
                address=address,
                device=device,
                tracking_uri=tracking_uri,
                experiment=experiment,
                offline=offline,
                progress=progress,
                plugins=tuple(used.values()),
                trial=trial,
            ),
            announce,
        )


def _own_recipe(run: RunDir | None) -> str:
    """The recipe that a run which goes on was made with.

    Raises:
        RecipeError: there is no run yet.
    """
    from metadist.errors import RecipeError

    if run is None:
        raise RecipeError(
            "a recipe is needed to start a run (see 'metadist recipes'); without one, --resume RUN "
            "goes on with a run by its own"
        )
    return str(run.path / "recipe.toml")


def versions() -> dict[str, str]:
    """Versions of what decides a run's behaviour."""
    names = ("metadist", "torch", "numpy", "pyarrow", "ray", "mlflow", "webdataset")
    return {"python": platform.python_version(), "platform": sys.platform} | {
        name: version(name) for name in names
    }
