"""The verbs of the command line as functions."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_pipeline.class_store import ClassStore
    from data_pipeline.datasets import Option
    from metadist.launch.job import Announce, Device
    from metadist.recipe import Recipe

Result = dict[str, Any]


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
) -> ClassStore:
    """Turn a dataset's images into a class store under the data directory.

    Args:
        dataset: a name of ``metadist data list``.
        source: where the images are; not for datasets that make themselves.
        split: a named division of the classes; the dataset's default if empty.
        name: of the store; ``<dataset>-<split>`` if empty.

    Raises:
        DataError: no such dataset, or its source is missing, damaged or unsafe.
    """
    from data_pipeline.class_store import build_store

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
    announce: Announce = _quiet,
    progress: bool = False,
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
        announce: is told, in a line each, what is happening.
        progress: show a live progress line on standard error.

    Returns:
        run, steps, params_sha256, accuracy (or mse), ci95, best_step, episodes, failed,
        tasks_per_second, data_wait, restarts, as ``--json`` prints them.

    Raises:
        MetadistError, DataError: a mistake in the request, or a failure that trying again would
            meet again; the message says how to mend it.
    """
    from metadist.engine.data import open_data
    from metadist.engine.data import prepare as prepare_data
    from metadist.engine.learner import build, initial_params, resolve
    from metadist.launch.drive import Drive, drive
    from metadist.recipe import Recipe, load_recipe

    if isinstance(recipe, Recipe):
        parsed, stem = recipe, recipe.algorithm.name
    else:
        parsed, stem = load_recipe(str(recipe), tuple(overrides)), Path(str(recipe)).stem
    parsed = resolve(parsed)
    directory = data_directory(data_dir)
    prepare_data(parsed, directory, announce)
    data = open_data(parsed, directory)
    # Episodes that cannot be drawn, and shards of others, are refused before anything starts.
    data.training()
    data.live("val", parsed.eval.queries, parsed.eval.seed)
    for queries in parsed.protocols:
        data.live("test", queries, parsed.eval.seed)
    algorithm = build(parsed, data.shape)
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
    run: str,
    *,
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    device: Device = "auto",
) -> Result:
    """Evaluate a run's best checkpoint anew on its test episodes.

    Raises:
        RunError: no such run, or no good checkpoint.
        DataError: the data are missing, damaged or others than the run's.
    """
    from metadist.engine.group import Solo
    from metadist.engine.loop import Run
    from metadist.engine.rundir import open_run
    from metadist.launch.job import local_device

    directory = open_run(Path(runs_dir).resolve(), run)
    return Run(directory, data_directory(data_dir), Solo(), local_device(device)).evaluate()


def report(run: str, *, runs_dir: str | Path = "runs") -> Path:
    """Write a run's report and return its path.

    Raises:
        RunError: no such run.
    """
    from metadist.engine.rundir import open_run
    from metadist.report import write_report

    return write_report(open_run(Path(runs_dir).resolve(), run))
