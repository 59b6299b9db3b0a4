"""A trained learner in a folder of its own, which needs neither its run nor its data any more.

    recipe.toml          what it was trained by
    weights.safetensors  meta-parameters and running statistics
    config.json          shapes, how images are read, where it comes from; sealed, with digests

Nothing in it is a pickle, and reading it runs no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from data_pipeline.errors import DataError
from data_pipeline.storage.local import (
    new_directory,
    read_sealed_json,
    sha256_bytes,
    write_sealed_json,
)
from data_pipeline.storage.typed_paths import typed_path
from metadist.compute.learners import build, context, initial_params
from metadist.errors import AdaptError, DamagedCheckpoint, RunError
from metadist.evaluation.inference.task_facts import TaskFacts
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.recipe.schema import parse_recipe
from metadist.runs.checkpoints import join_groups, move, split_groups
from metadist.runs.readers.fields import count, mapping, real, text
from metadist.runs.readers.plugins import read_plugins
from metadist.runs.record import UNREADABLE, describe

#: Of the first, shapes name a kind of tasks; nothing else differs.
FORMATS = (1, 2)
#: What is saved beside the configuration, which holds their digests.
_CONFIG, _WEIGHTS, _RECIPE = "config.json", "weights.safetensors", "recipe.toml"
#: What it comes from in words; all else that is told of it are numbers, but for its checkpoint.
TEXTS = frozenset({"run", "recipe_hash", "dataset", "split", "dataset_digest", "licence"})
#: Where a model of MLflow's keeps it, below its own folder.
_ARTIFACT = Path("artifacts", "learner")


def write(
    folder: str | Path,
    trained: TrainedLearner,
    tasks: TaskFacts,
    ways: int | Literal["any"],
    facts: Mapping[str, Any],
    plugins: Mapping[str, Any],
) -> Path:
    """Write a learner to a folder that is new or empty, which is returned.

    Args:
        ways: numbers of classes that it tells apart; 0 where it learned values.
        facts, plugins: see :class:`metadist.evaluation.inference.trained_model.TrainedModel`.

    Raises:
        AdaptError: something is there already.
    """
    path = typed_path(folder).resolve()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise AdaptError(f"{path} exists already and is kept: name a new folder")
    data = safetensors.torch.save(join_groups({"params": trained.params, "state": trained.state}))
    text = trained.recipe.to_toml().encode()
    body = {
        "format": FORMATS[-1],
        **tasks.document(),
        "norm": trained.recipe.model.norm,
        "steps": trained.recipe.inner.steps,
        "ways": ways,
        "facts": dict(facts),
        "plugins": dict(plugins),
        "sha256": {_WEIGHTS: sha256_bytes(data), _RECIPE: sha256_bytes(text)},
    }
    with new_directory(path, replace=path.exists()) as temporary:
        (temporary / _WEIGHTS).write_bytes(data)
        (temporary / _RECIPE).write_bytes(text)
        write_sealed_json(temporary / _CONFIG, body)
    return path


def find(folder: Path) -> Path | None:
    """The folder with the configuration: this one, or a part of a model of MLflow's; or None."""
    places = (folder, folder / _ARTIFACT)
    return next((place for place in places if (place / _CONFIG).is_file()), None)


@dataclass(frozen=True)
class SavedModel:
    """What :func:`write` has written, read and held against its digests."""

    folder: Path
    recipe: bytes
    weights: bytes
    tasks: TaskFacts
    facts: Mapping[str, Any]
    plugins: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> SavedModel:
        """Read a folder.

        Raises:
            DamagedCheckpoint: a file is missing or not what was written; it is named.
            RunError: it was written by another version of the format.
        """
        config = folder / _CONFIG
        try:
            body = read_sealed_json(config)
        except (DataError, OSError) as error:
            raise DamagedCheckpoint(f"{folder}: {error}") from None
        if body.get("format") not in FORMATS:
            known = " or ".join(map(str, FORMATS))
            raise RunError(f"{folder}: format {known} expected, got {body.get('format')!r}")
        try:
            # Never a name that it gives: that may lead anywhere.
            expected = {name: body["sha256"][name] for name in (_WEIGHTS, _RECIPE)}
            read = {name: (folder / name).read_bytes() for name in expected}
            facts, plugins = _facts(body["facts"]), read_plugins(body.get("plugins", {}))
            shape = body["shape"]
            if body["format"] == 1:
                shape = {
                    k: v for k, v in {**shape, "ways": shape["outputs"]}.items() if k != "kind"
                }
            tasks = TaskFacts.read(shape, body["preparation"])
        except UNREADABLE as error:
            raise DamagedCheckpoint(f"{config}: {describe(error)}") from None
        for name, data in read.items():
            if (got := sha256_bytes(data)) != expected[name]:
                raise DamagedCheckpoint(
                    f"{folder / name}: digest {expected[name]} expected, got {got}"
                )
        return cls(folder, read[_RECIPE], read[_WEIGHTS], tasks, facts, plugins)

    def learner(self, device: torch.device) -> TrainedLearner:
        """The learner. Its plugins must be in use.

        Raises:
            DamagedCheckpoint: its files are no parameters, or others than the learner's.
            RecipeError: a part of the recipe is not there.
        """
        try:
            text = self.recipe.decode()
            groups = split_groups(move(safetensors.torch.load(self.weights), device))
        except (SafetensorError, UnicodeDecodeError) as error:
            raise DamagedCheckpoint(f"{self.folder}: {error}") from None
        recipe = parse_recipe(text, str(self.folder / _RECIPE))
        learner = build(recipe, self.tasks.shape)
        fresh = {
            "params": initial_params(recipe, learner),
            "state": learner.initial_state(context(recipe, "train", 0)),
        }
        try:
            _check_tensors(groups, fresh)
        except ValueError as error:
            raise DamagedCheckpoint(f"{self.folder / _WEIGHTS}: {error}") from None
        return TrainedLearner(learner, groups["params"], groups["state"], recipe, device)


def _facts(value: Any) -> dict[str, Any]:
    """Where a learner comes from; figures are numbers; raises ValueError."""
    facts = dict(mapping(value, "facts"))
    for name, fact in facts.items():
        if name == "checkpoint":
            checkpoint = mapping(fact, "facts.checkpoint")
            count(checkpoint.get("step"), "facts.checkpoint.step")
            text(checkpoint.get("params_sha256"), "facts.checkpoint.params_sha256")
        elif name in TEXTS:
            text(fact, f"facts.{name}")
        else:
            real(fact, f"facts.{name}")
    return facts


def _check_tensors(
    found: Mapping[str, Mapping[str, Tensor]], wanted: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """See that tensors have the names, types and shapes of fresh ones; raises ValueError."""
    own, fresh = (
        {name: f"{t.dtype} {list(t.shape)}" for name, t in join_groups(groups).items()}
        for groups in (found, wanted)
    )
    for name in sorted(own.keys() | fresh.keys()):
        needed, got = fresh.get(name, "none"), own.get(name, "none")
        if needed != got:
            raise ValueError(f"{name}: {needed} is needed, got {got}")
