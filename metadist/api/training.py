"""Training, from a recipe to a result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metadist.api.common import Plugins
from metadist.api.modules import of_factory
from metadist.api.result_types import Score, TrainResult
from metadist.driver.directories import data_directory, runs_directory
from metadist.process.announce import Announce, quiet

if TYPE_CHECKING:
    from torch import nn

    from metadist.compute.device import Device
    from metadist.driver.plan import DryRun
    from metadist.driver.request import RunRequest
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
    tensorboard: bool = False,
    profile: bool = False,
    device: Device = "auto",
    plugins: Plugins = (),
    backbone: Callable[..., nn.Module] | None = None,
    announce: Announce = quiet,
    progress: bool = False,
) -> TrainResult:
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
        tensorboard: write an event file too, into the run's folder ``tensorboard``.
        profile: record some outer steps of each worker, into the run's folder ``profile``: a trace
            for https://ui.perfetto.dev, and a page of where the time went.
        plugins: modules (``my_package.toy``) and files (``./toy.py``) of parts that the recipe may
            name by their last name (``toy``); ``./net.py:make`` names a factory of modules in one.
            Their code is run. A run made with one is continued with the same source only.
        backbone: a function or class of a file that makes the network, an ``nn.Module``; see
            :func:`metadist.from_module`. It becomes a plugin, and the recipe's model.
        announce: is told, in a line each, what is happening.
        progress: show a live progress line on standard error.

    Returns:
        A :class:`TrainResult`. Its items: run, steps, params_sha256, accuracy (or mse), ci95,
        best_step, episodes, failed, of images ways, classes and ci95_classes (see
        :func:`evaluate`), tasks_per_second, data_wait, restarts, as ``--json`` prints them.

    Raises:
        MetadistError, DataError: a mistake in the request, or a failure that trying again would
            meet again; the message says how to mend it.
    """
    arguments = {**locals()}
    del arguments["announce"]
    from metadist.driver import run

    return _result(*run.train(_request(**arguments), announce))


def dry_run(
    recipe: str | Path | Recipe | None = None, *, announce: Announce = quiet, **arguments: Any
) -> DryRun:
    """What :func:`train` would do with the same arguments; nothing is made.

    Returns:
        The resolved recipe, its hash, sizes, and where it would write:
        :class:`metadist.driver.plan.DryRun`.

    Raises:
        MetadistError, DataError: what :func:`train` would refuse, but for workers' places and the
            tracking server, which are not asked.
    """
    from metadist.driver.plan import plan_run

    return plan_run(_request(recipe=recipe, **arguments), announce)


def _request(
    *,
    workers: int | str = 0,
    overrides: Sequence[str] = (),
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    plugins: Plugins = (),
    backbone: Callable[..., nn.Module] | None = None,
    **others: Any,
) -> RunRequest:
    from metadist.driver.request import RunRequest
    from metadist.executors.world_size import WorldSize

    if backbone is not None:
        source, called = of_factory(backbone)
        plugins = (*([plugins] if isinstance(plugins, str | Path) else plugins), source)
        overrides = (f"model.name={called}", *overrides)
    return RunRequest(
        overrides=tuple(overrides),
        workers=WorldSize.of(workers),
        data_dir=data_directory(data_dir),
        runs_dir=runs_directory(runs_dir),
        plugins=plugins,
        **others,
    )


def _result(run: RunDir, record: dict[str, Any]) -> TrainResult:
    """A run's result; what its objective measures is read from its evaluation."""
    from metadist.errors import RunError
    from metadist.objectives import BUILT_IN
    from metadist.runs.readers.evaluations import own_names, read_figures
    from metadist.runs.readers.plugins import sources_of

    recipe = run.recipe()
    further: tuple[Score, ...] = ()
    try:
        main = read_figures(run, own_names(recipe)[0])
        metric = main.metric
        further = tuple(Score.further(own, main.figure_step) for own in main.further)
    except RunError:  # damaged since: the result is not
        known = [metric for name, metric in BUILT_IN.items() if name in record]
        if not known:
            raise
        metric = known[0]
    return TrainResult.of(
        record,
        directory=run.path,
        score=Score.read(metric, record),
        further=further,
        trained_ways=recipe.data.ways,
        plugins=tuple(sources_of(run.info().get("plugins", {}))),
    )
