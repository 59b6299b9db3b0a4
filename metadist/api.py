"""The verbs of the command line as functions."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from data_pipeline.class_store import ClassStore
    from data_pipeline.datasets import Option
    from metadist.engine.protocol import EvalPart
    from metadist.launch.drive import Trial
    from metadist.launch.job import Announce, Device
    from metadist.recipe import Recipe

Result = dict[str, Any]
#: Modules and files that hold parts from outside this package.
Plugins = Sequence[str | Path]


def _quiet(line: str) -> None:
    """Nobody to tell."""


def data_directory(given: str | Path | None = None) -> Path:
    """Where prepared data live: as given, else METADIST_DATA_DIR, else ./data."""
    return Path(given or os.environ.get("METADIST_DATA_DIR") or "data").resolve()


def prepare(
    dataset: str,
    *,
    source: str | Path | None = None,
    split: str = "",
    name: str = "",
    options: Mapping[str, Option] | None = None,
    data_dir: str | Path | None = None,
    plugins: Plugins = (),
) -> ClassStore:
    """Turn a dataset's images into a class store under the data directory.

    Args:
        dataset: a name of ``metadist data list``.
        source: where the images are; not for datasets that make themselves.
        split: a named division of the classes; the dataset's default if empty.
        name: of the store; ``<dataset>-<split>`` if empty.
        plugins: see :func:`train`.

    Raises:
        DataError: no such dataset, or its source is missing, damaged or unsafe.
        PluginError: a plugin cannot be used.
    """
    from data_pipeline.class_store import build_store
    from metadist.plugins import use

    with use(plugins):
        return build_store(
            dataset,
            data_directory(data_dir),
            source=None if source is None else Path(source),
            split=split,
            name=name,
            options=options,
        )


def train(
    recipe: str | Path | Recipe,
    *,
    name: str | None = None,
    workers: int = 0,
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
    announce: Announce = _quiet,
    progress: bool = False,
    trial: Trial | None = None,
) -> Result:
    """Meta-train, evaluate on unseen classes and write the report.

    Args:
        recipe: name of a built-in recipe, path of a TOML file, or a recipe.
        name: of the run; made from the recipe's name and the time if not given.
        workers: Ray workers; 0 trains in this process and imports no ray.
        address: of a Ray cluster (``host:port``); RAY_ADDRESS if not given, else a private Ray.
        overrides: ``section.key=value`` strings.
        resume: None starts a run; ``auto`` continues the run called ``name``, or the newest of
            this recipe, or starts one; else the name or path of the run to continue.
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
        run, steps, params_sha256, accuracy (or mse), ci95, best_step, episodes, failed,
        tasks_per_second, data_wait, restarts, as ``--json`` prints them.

    Raises:
        MetadistError, DataError: a mistake in the request, or a failure that trying again would
            meet again; the message says how to mend it.
    """
    from metadist import plugins as outside
    from metadist.engine.data import open_data
    from metadist.engine.data import prepare as prepare_data
    from metadist.engine.learner import Learners, initial_params, resolve
    from metadist.launch.drive import Drive, drive
    from metadist.launch.start import meant_run
    from metadist.recipe import Recipe, load_recipe

    with outside.use(plugins):
        if (meant := meant_run(Path(runs_dir).resolve(), name, resume)) is not None:
            outside.require(meant.path, meant.info())
        if isinstance(recipe, Recipe):
            parsed, stem = recipe, recipe.algorithm.name
        else:
            parsed, stem = load_recipe(str(recipe), tuple(overrides)), Path(str(recipe)).stem
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
        algorithm = Learners(parsed, data.shape).after(0)
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
                "parameters": sum(p.numel() for p in initial_params(parsed, algorithm).values()),
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
                runs_dir=Path(runs_dir).resolve(),
                data_dir=directory,
                workers=workers,
                address=address or (os.environ.get("RAY_ADDRESS") if workers else None) or None,
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


def versions() -> dict[str, str]:
    """Versions of what decides a run's behaviour."""
    names = ("metadist", "torch", "numpy", "pyarrow", "ray", "mlflow", "webdataset")
    return {"python": platform.python_version(), "platform": sys.platform} | {
        name: version(name) for name in names
    }


def evaluate(
    run: str | Sequence[str],
    *,
    part: EvalPart = "test",
    shots: int | None = None,
    queries: int | None = None,
    steps: int | None = None,
    episodes: int | None = None,
    seed: int | None = None,
    average: Literal["probabilities", "logits"] | None = None,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    device: Device = "auto",
    plugins: Plugins = (),
) -> Result:
    """Evaluate a run's best checkpoint anew, or those of several runs as an ensemble.

    Without more arguments than the run, its recipe's own protocols are repeated. Otherwise the
    results have files of their own, named by what differs (``evaluation/test-5shot-10q.json``).

    Args:
        run: a run; or several, as a list: each adapts to the same episodes and their predictions
            are averaged. They must be of the same data, ways and ``eval.seed``.
        part: ``test`` or ``val``: whose classes or functions.
        shots, queries: support and query examples per class (points of a function), episodes and
            adaptation steps are as the recipe says if not given. Ways are the learner's.
        steps: adaptation steps; the figure is then the one after so many.
        seed: of the episodes; the recipe's ``eval.seed`` if not given.
        average: of an ensemble's classifiers: the mean of ``probabilities`` (if None) or of
            ``logits``.
        out: directory of an ensemble's results; under ``<runs_dir>/ensembles`` if not given.
        plugins: those that the run was made with; see :func:`train`. Another source than the
            run's is told of by a warning.

    Returns:
        Of a run: run, steps, params_sha256, accuracy (or mse), ci95, episodes, failed, best_step.
        Of an ensemble: ensemble, average, accuracy (or mse), ci95, episodes, failed, members,
        directory. Of both: ``protocols``, which maps names to figures after every step.

    Raises:
        RunError: no such run, no good checkpoint, a plugin of the run is missing, runs that do
            not go together, or a protocol that is none.
        DataError: the data are missing, damaged or others than the run's.
    """
    from metadist import plugins as outside
    from metadist.engine import ensemble as ensembles
    from metadist.engine.group import Solo
    from metadist.engine.loop import Run
    from metadist.engine.protocol import Asked
    from metadist.engine.rundir import open_run
    from metadist.errors import RunError
    from metadist.launch.job import local_device

    asked = Asked(part, shots, queries, steps, episodes, seed)
    root, alone = Path(runs_dir).resolve(), isinstance(run, str)
    if alone and (average is not None or out is not None):
        raise RunError("average and out are about ensembles: name several runs, or leave them out")
    with outside.use(plugins):
        runs = []
        for name in [run] if isinstance(run, str) else run:
            directory = open_run(root, name)
            outside.require(directory.path, directory.info(), warn=True)
            runs.append(Run(directory, data_directory(data_dir), Solo(), local_device(device)))
        if alone:
            return runs[0].evaluate(asked)
        members = ensembles.Ensemble(tuple(one.member() for one in runs))
        where = Path(out).resolve() if out else root / ensembles.FOLDER / members.name
        ensembles.check_directory(where, members)
        together = ensembles.evaluate_ensemble(members, asked, average)
        ensembles.write_ensemble(where, members, together)
        return {**ensembles.result_of(members, together), "directory": str(where)}


def report(run: str, *, runs_dir: str | Path = "runs") -> Path:
    """Write a run's report and return its path.

    Raises:
        RunError: no such run.
    """
    from metadist.engine.rundir import open_run
    from metadist.report import write_report

    return write_report(open_run(Path(runs_dir).resolve(), run))
