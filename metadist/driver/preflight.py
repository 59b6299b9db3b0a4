"""What is looked at before anything starts: recipe, data, learner, workers, once for all.

Training, a search, a table and the data commands all go through here, so that what one of them
refuses the others refuse in the same words, before there is anything to clean up.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from data_pipeline.episodes.sources import check_drawn
from data_pipeline.episodes.types import EpisodeSource
from metadist import episode_data, plugins
from metadist.compute.agreement import check_repeated, named
from metadist.compute.device import Device, check_device, local_device
from metadist.compute.resolve import dropped_lines, resolve, where_it_runs
from metadist.compute.setup import Setup
from metadist.episode_data import EpisodeData, places
from metadist.errors import RecipeError
from metadist.evaluation.inference import task_facts
from metadist.evaluation.protocols import own_protocols, validation_protocol
from metadist.executors.world_size import WorldSize
from metadist.process.announce import Announce, quiet
from metadist.process.provenance import versions
from metadist.recipe.schema import Recipe
from metadist.runs.readers.evaluations import metric_facts
from metadist.tasks import TRAINING_ONLY

log = logging.getLogger(__name__)


def resolve_recipe(
    stated: Recipe, announce: Announce = quiet, there: Recipe | None = None
) -> Recipe:
    """The recipe with every option of its parts; what was dropped or is not used is said.

    Args:
        there: that of the run to go on with, if it is known.

    Raises:
        RecipeError: an unknown part or option.
    """
    for line in dropped_lines(stated):
        announce(line)
    recipe = resolve(stated)
    recipe = where_it_runs(recipe, there, announce)
    for plugin in plugins.unused(recipe):
        log.warning(
            "The recipe does not name %s %r of %s, which is not used: name it by --set %s=%s",
            plugin.kind, plugin.name, plugin.source, plugins.key(plugin.kind), plugin.name,
        )  # fmt: skip
    return recipe


def open_data(recipe: Recipe, data_dir: Path, announce: Announce = quiet) -> EpisodeData:
    """The data of a recipe, made first if they are embedded and not there.

    Raises:
        DataError: what is there is damaged, of another dataset, or made by other code of this one.
        RecipeError: data that has to be brought is not there; the message says how to bring it.
    """
    places.prepare(recipe, data_dir, announce)
    return episode_data.open_data(recipe, data_dir)


def preflight(recipe: Recipe, data_dir: Path, announce: Announce = quiet) -> Setup:
    """See that a resolved recipe can be trained and evaluated, and return what does it.

    Raises:
        DataError: see :func:`open_data`; shards of other episodes, or too few.
        RecipeError: episodes of that size cannot be drawn, parts do not fit, or tasks have not
            what the learner needs to know.
        RunError: what is learned depends on the number of ways, and evaluation has another.
    """
    setup = Setup.of(open_data(recipe, data_dir, announce))
    protocols = (validation_protocol(recipe), *own_protocols(recipe))
    # Episodes that cannot be drawn, and shards of others, are refused here.
    training, held = setup.training, [how.source(setup.data) for how in protocols]
    if setup.data.staged is not None:
        check_drawn(training)
    for source in (training, *held):
        _check_needs(setup, source)
        _check_alike(training, source)
    if recipe.eval_ways != recipe.data.ways:
        setup.for_ways(recipe.eval_ways, setup.fresh_params)
    return setup


def _check_needs(setup: Setup, source: EpisodeSource) -> None:
    """See that tasks of a part have what their learner wants to know of them there."""
    columns, part = source.schema, source.identity.part
    for need in sorted(setup.learner.needs - (frozenset() if part == "train" else TRAINING_ONLY)):
        column = "unlabeled_x" if need == "unlabeled" else need
        if column in columns:
            continue
        cure = "set data.unlabeled" if need.startswith("unlabeled") else "choose other data"
        if need == "class_attributes":
            cure = "set data.attributes = true"
        raise RecipeError(
            f"algorithm {setup.recipe.algorithm.name!r} needs {need} of each task, the {part} "
            f"episodes of {setup.recipe.data.dataset} have {', '.join(columns)}; {cure}"
        )


def _check_alike(training: EpisodeSource, other: EpisodeSource) -> None:
    for name in ("support_x", "support_y"):
        demanded, got = (source.schema[name] for source in (training, other))
        if (got.dtype, got.shape[1:]) != (demanded.dtype, demanded.shape[1:]):
            raise RecipeError(
                f"{other.identity.dataset}: {name} of {other.identity.part} episodes is "
                f"{got.dtype} {list(got.shape)}, of training episodes {demanded.dtype} "
                f"{list(demanded.shape)}; they may differ in the number of examples alone"
            )


def check_fresh(setup: Setup) -> None:
    """See that fresh parameters are the same when all parts are built anew.

    Raises:
        NumericsError: they are not.
    """
    what = f"fresh {named(setup.recipe)}"
    check_repeated(setup.fresh_params, setup.rebuilt().fresh_params, what)


def check_workers(
    workers: WorldSize, device: Device, address: str | None, announce: Announce = quiet
) -> None:
    """See that there is a place to compute.

    Args:
        address: of the Ray cluster of workers.

    Raises:
        ResourceError: there is none; see also :func:`check_device`.
    """
    check_device(device)
    if workers.high:
        from metadist.executors.cluster import connection

        connection.check_workers(workers, device, address, announce)
    else:
        local_device(device)


def partition_facts(data: EpisodeData) -> dict[str, Any]:
    """What ``run.json`` says of the partitions whose clusters stand for classes, if there are."""
    held = data.partitions
    if held is None:
        return {}
    digests = {"digest": held.digest, "store_digest": held.store_digest}
    return {"partition": {"name": data.recipe.data.partition, **digests, **held.made}}


def facts_of(setup: Setup) -> dict[str, Any]:
    """What ``run.json`` says of data, learner, plugins and versions."""
    recipe, store, learner = setup.recipe, setup.data.store, setup.learner
    # What readers of the log cannot know without a plug-in's code.
    metrics = {m.name: m.as_dict() for m in learner.objective.metrics if metric_facts(m)}
    return {
        "dataset": {
            "name": recipe.data.dataset,
            "split": store.split if store else "",
            "digest": setup.data.digest,
            "licence": store.licence if store else "",
            **partition_facts(setup.data),
        },
        "learner": {
            "algorithm": recipe.algorithm.name,
            "derivative_order": learner.derivative_order,
            "estimator": learner.estimator,
            **({"needs": sorted(learner.needs)} if learner.needs else {}),
            **({"metrics": metrics} if metrics else {}),
            "norm": recipe.model.norm,
            "parameters": sum(p.numel() for p in setup.fresh_params.values()),
        },
        "plugins": plugins.facts(plugins.of(recipe)),
        task_facts.KEY: task_facts.TaskFacts.of(setup.data).document(),
        "versions": versions(),
    }
