"""Hyper-parameters, searched."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metadist.api.common import Plugins
from metadist.api.result_types import Score, TuneResult
from metadist.driver.directories import data_directory, runs_directory
from metadist.process.announce import Announce, quiet

if TYPE_CHECKING:
    from metadist.compute.device import Device
    from metadist.driver.plan import DryRun
    from metadist.search.request import SearchRequest
    from metadist.space import Searcher


def tune(
    space: str | None = None,
    *,
    name: str | None = None,
    resume: str | None = None,
    base: str | None = None,
    overrides: Sequence[str] = (),
    trials: int | None = None,
    steps: int | None = None,
    every: int | None = None,
    searcher: Searcher | None = None,
    seed: int | None = None,
    workers_per_trial: int = 0,
    concurrent: int | None = None,
    cpus_per_trial: float = 1.0,
    gpus_per_trial: float | None = None,
    seeds: int | None = None,
    episodes: int | None = None,
    default: bool | None = None,
    address: str | None = None,
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    tracking_uri: str | None = None,
    experiment: str | None = None,
    offline: bool = False,
    device: Device = "auto",
    plugins: Plugins = (),
    announce: Announce = quiet,
    live: bool = False,
) -> TuneResult:
    """Search a space, confirm the winner, write ``best.toml`` and a report.

        result = metadist.tune("maml-lr", name="first", trials=16, seed=0)
        metadist.train(result.best_recipe, name="best")

    Trials are judged on validation classes. The best three are compared on fresh validation
    episodes, the winner of them is trained anew with several seeds beside the default setting at
    the same budget, and only these are evaluated on test classes, once.

    Args:
        space: a name of ``metadist tune --list``, or a TOML file; not needed with ``resume``.
        name: of the search; made from the space's name and the time if not given.
        resume: name or path of a search to go on with; what is finished is not done again.
            ``auto``: the search called ``name``, if the same was asked of it, or a new one.
        base, overrides: another base recipe; ``section.key=value`` for every trial.
        trials, steps, every, searcher: instead of the space's own.
        seed: of the searcher, 0 if not given. Points of a random search are a function of it and
            their number; those proposed by TPE depend also on the order in which trials end.
        workers_per_trial: Ray workers of each trial; 0 and 1: it trains in its own process.
        concurrent: trials at once; as many as fit if not given.
        cpus_per_trial, gpus_per_trial: of a trial's own process; fractions share. One GPU if there
            are any and none is said. Workers take one CPU or one GPU each.
        seeds: runs of the winner and of the default, 3 if not given; 0: none are trained anew.
        episodes: fresh validation episodes, 1,000 if not given: as many to choose the winner, and
            others to judge it.
        default: train the default setting for comparison too, as is done if nothing is said.
        live: show a live table on standard error.
        address, data_dir, runs_dir, tracking_uri, experiment, offline, device, plugins, announce:
            see :func:`metadist.train`.

    Returns:
        A :class:`TuneResult`. Its items: search, directory, trials (by status), tasks, best_recipe
        and what search.json holds under ``result``.

    Raises:
        SpaceError: the space, or the request to search it, is wrong; before any trial starts.
        ResourceError: the cluster lacks what a trial asks for.
        TrackingError: the tracking server cannot be reached.
        KeyboardInterrupt: it was interrupted; ``resume`` goes on.
    """
    arguments = {**locals()}
    del arguments["announce"]
    from metadist.search.run_search import run_search
    from metadist.search.summary import metric_of

    record = run_search(_request(**arguments), announce)
    metric = metric_of(record)
    # Without runs that were trained anew there is the winner on fresh episodes.
    figure = record["best_test"] if record["best"] else record["top"][0]
    return TuneResult.of(
        record,
        directory=Path(record["directory"]),
        best_recipe=Path(record["best_recipe"]),
        score=Score(metric.name, figure["mean"], figure["ci95"], metric),
    )


def dry_run(space: str | None = None, *, announce: Announce = quiet, **arguments: Any) -> DryRun:
    """What :func:`tune` would do with the same arguments; nothing is made.

    Returns:
        The recipe that trials start from, resolved, and what would be searched:
        :class:`metadist.driver.plan.DryRun`.

    Raises:
        MetadistError, DataError: what :func:`tune` would refuse, but for the cluster and the
            tracking server, which are not asked.
    """
    from metadist.search.run_search import plan_search

    return plan_search(_request(space, **arguments), announce)


def _request(
    space: str | None,
    *,
    overrides: Sequence[str] = (),
    workers_per_trial: int = 0,
    cpus_per_trial: float = 1.0,
    gpus_per_trial: float | None = None,
    data_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    plugins: Plugins = (),
    **others: Any,
) -> SearchRequest:
    from metadist.search.request import SearchRequest
    from metadist.search.spaces import space_name

    changes = {name: others.pop(name, None) for name in ("trials", "steps", "every", "searcher")}
    return SearchRequest(
        space=space,
        default_name=f"{space_name(space or 'search')}-{datetime.now():%Y%m%d-%H%M%S}",
        overrides=tuple(overrides),
        changes=changes,
        workers=workers_per_trial,
        cpus=cpus_per_trial,
        gpus=gpus_per_trial,
        data_dir=data_directory(data_dir),
        runs_dir=runs_directory(runs_dir, local_for="a search"),
        plugins=(plugins,) if isinstance(plugins, str | Path) else tuple(plugins),
        **others,
    )
