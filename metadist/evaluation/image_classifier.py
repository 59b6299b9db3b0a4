"""A trained classifier at work: it adapts to a few labelled images and labels others.

``metadist adapt`` and the model in MLflow's registry both go through
:meth:`ImageClassifier.label`. Saved to a folder, a classifier needs neither its run nor its dataset
any more:

    recipe.toml          what it was trained by
    weights.safetensors  meta-parameters and running statistics
    config.json          shapes, how images are read, where it comes from; sealed, with digests
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from data_pipeline import datasets
from data_pipeline.errors import DataError
from data_pipeline.formats.images import Preparation
from data_pipeline.storage.local import read_sealed_json, sha256_bytes, write_sealed_json
from metadist.compute.determinism import reproducible
from metadist.compute.learners import build, initial_params
from metadist.errors import AdaptError, DamagedCheckpoint, RunError
from metadist.evaluation.ensembles import Member
from metadist.evaluation.trained_learner import TrainedLearner
from metadist.recipe.schema import parse_recipe
from metadist.recipe.sections import MOST_STEPS
from metadist.runs.checkpoints import join_groups, move, split_groups
from metadist.runs.record import UNREADABLE, describe
from metadist.tasks import Examples, Task, TaskShape, to_inputs

FORMAT = 1
#: What is saved beside the configuration, which holds their digests.
_WEIGHTS, _RECIPE = "weights.safetensors", "recipe.toml"
#: The random numbers of a learner that draws some are those of the test episode of this id.
EPISODE = 0
#: Queries of one pass of the network, where they do not depend on each other.
_PASS = 512


@dataclass(frozen=True)
class Labels:
    """What a learner says of Q queries after adaptation.

    Attributes:
        names: the labels, sorted.
        logits: float64 [Q, N], the learner's outputs for them.
        shots: support images of each label.
        steps: adaptation steps taken; None of a learner that takes none.
        notes: what to know of these predictions, in sentences.
    """

    names: tuple[str, ...]
    logits: NDArray[np.float64]
    shots: tuple[int, ...]
    steps: int | None
    notes: tuple[str, ...]

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """The softmax of the outputs, [Q, N]."""
        powers = np.exp(self.logits - self.logits.max(1, keepdims=True))
        result: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
        return result

    @property
    def predicted(self) -> tuple[str, ...]:
        """The most probable label of each query."""
        return tuple(self.names[way] for way in self.logits.argmax(1))


@dataclass(frozen=True)
class ImageClassifier:
    """A trained learner, and how images are read for it.

    Attributes:
        shape: of the tasks it was trained for.
        facts: where it comes from: run, recipe hash, dataset and its digest, checkpoint, result.
    """

    trained: TrainedLearner
    shape: TaskShape
    preparation: Preparation
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, member: Member, info: Mapping[str, Any]) -> ImageClassifier:
        """The best checkpoint of a finished run.

        Args:
            info: the run's run.json.

        Raises:
            RunError: the run learned no classification of images.
        """
        store = member.data.store
        if store is None:
            raise RunError(
                f"{member.name}: a run that classifies images is needed, it learned functions "
                f"({member.trained.recipe.data.dataset})"
            )
        result = info.get("result") or {}
        facts = {
            "run": member.name,
            "recipe_hash": member.facts["recipe_hash"],
            "dataset": store.dataset,
            "split": store.split,
            "dataset_digest": store.digest,
            "licence": store.licence,
            "checkpoint": dict(member.facts["checkpoint"]),
            "accuracy": result.get("accuracy"),
            "ci95": result.get("ci95"),
            "classes": result.get("classes"),
            "ci95_classes": result.get("ci95_classes"),
        }
        preparation = datasets.preparation(store.dataset, store.shape, store.options)
        return cls(member.trained, member.data.shape, preparation, facts)

    @property
    def ways(self) -> int:
        """Classes of the tasks it was trained for."""
        return self.shape.outputs

    def reading(self, invert: bool = False) -> Preparation:
        """How images are read; with ``invert`` light and dark are exchanged."""
        return replace(self.preparation, invert=self.preparation.invert != invert)

    @property
    def any_ways(self) -> bool:
        """Whether it can tell another number of classes than it was trained for.

        It can if nothing that was learned has the size of that number.
        """
        one_more = build(
            self.trained.recipe, replace(self.shape, outputs=self.ways + 1, ways=self.ways + 1)
        )
        fresh = initial_params(self.trained.recipe, one_more)
        return {n: p.shape for n, p in fresh.items()} == {
            n: p.shape for n, p in self.trained.params.items()
        }

    @property
    def transductive(self) -> bool:
        """Whether predictions for queries depend on the other queries."""
        trained = self.trained
        # What differentiates nothing has no network to normalise.
        return trained.recipe.model.norm == "transductive" and trained.learner.derivative_order > 0

    def label(
        self,
        support: NDArray[np.uint8],
        labels: Sequence[str],
        queries: NDArray[np.uint8],
        steps: int | None = None,
    ) -> Labels:
        """Adapt to the support and predict the labels of the queries.

        Labels take the learner's outputs in sorted order, and support images are shown in that
        order (those of a label as they are given), so the order of labels does not matter. Random
        numbers, where a learner draws some, are the same at each call.

        Args:
            support: uint8 [S, H, W, C], prepared.
            labels: of the support images.
            queries: uint8 [Q, H, W, C], prepared.
            steps: adaptation steps; as trained if None.

        Raises:
            AdaptError: no or too many classes for this learner, no queries, steps that cannot be
                taken, or outputs that are not finite.
        """
        names = tuple(sorted(set(labels)))
        self._check(names, support, queries, steps)
        order = sorted(range(len(labels)), key=lambda row: labels[row])
        ways = {name: way for way, name in enumerate(names)}
        trained, device = self.trained, self.trained.device
        if len(names) != self.ways:
            shape = replace(self.shape, outputs=len(names), ways=len(names))
            trained = replace(trained, learner=build(trained.recipe, shape))
        taken = trained.recipe.inner.steps if steps is None else steps
        dtype = getattr(torch, trained.recipe.engine.dtype)
        with reproducible(device), torch.no_grad():
            x = to_inputs(support[order], dtype, device)
            y = torch.tensor([ways[labels[row]] for row in order], device=device)
            fitted, ctx = trained.fit(Task(Examples(x, y)), "test", EPISODE, taken)
            if steps and len(fitted) == 1:
                raise AdaptError(
                    f"steps: {trained.recipe.algorithm.name} does not adapt by steps, {steps} were "
                    "asked for; leave the number of steps out"
                )
            # Queries that depend on each other are seen together.
            size = len(queries) if self.transductive else _PASS
            parts = [queries[at : at + size] for at in range(0, len(queries), size)]
            outputs = [
                trained.learner.predict(
                    fitted[-1], Examples(to_inputs(part, dtype, device)), ctx
                ).mean
                for part in parts
            ]
        logits = torch.cat(outputs).double().cpu().numpy()
        if not np.isfinite(logits).all():
            raise AdaptError(
                f"the learner's outputs are not finite after {taken} adaptation steps: it has "
                "diverged; take fewer steps, or look at the images"
            )
        shots = tuple(list(labels).count(name) for name in names)
        by_steps = taken if len(fitted) > 1 or taken == 0 else None
        return Labels(names, logits, shots, by_steps, self._notes(len(queries)))

    def _check(
        self,
        names: Sequence[str],
        support: NDArray[np.uint8],
        queries: NDArray[np.uint8],
        steps: int | None,
    ) -> None:
        if not len(support):
            raise AdaptError("no support image: the learner adapts to labelled images, give some")
        if not len(queries):
            raise AdaptError("no query image: there is nothing to label")
        if steps is not None and not 0 <= steps <= MOST_STEPS:
            raise AdaptError(f"steps: between 0 and {MOST_STEPS} are possible, got {steps}")
        if len(queries) == 1 and self.transductive:
            raise AdaptError(
                "one query alone: this learner normalises queries by the statistics of all of them "
                "(model.norm = 'transductive'), which one does not have; give several at once, "
                "best some of every class, or train with model.norm = 'support'"
            )
        if len(names) < 2:
            raise AdaptError(f"at least two classes are needed to tell apart, got {names[0]!r}")
        if len(names) != self.ways and not self.any_ways:
            shown = ", ".join(names[:10]) + (", …" if len(names) > 10 else "")
            raise AdaptError(
                f"{self.trained.recipe.algorithm.name} was trained to tell {self.ways} classes "
                f"apart and has as many outputs: give {self.ways} classes, got {len(names)} "
                f"({shown}); a learner for {len(names)} needs training with "
                f"data.ways = {len(names)}"
            )

    def _notes(self, queries: int) -> tuple[str, ...]:
        if not self.transductive:
            return ()
        note = (
            "Transductive normalisation: the network sees all queries at once, and what it says of "
            "one depends on the others: label together what belongs together."
        )
        if queries < self.ways:
            note += (
                f" It was trained with queries of all {self.ways} classes together; with "
                f"{queries} its figures do not hold."
            )
        return (note,)

    def save(self, folder: Path) -> None:
        """Write it to a folder that exists."""
        groups = {"params": self.trained.params, "state": self.trained.state}
        data = safetensors.torch.save(join_groups(groups))
        text = self.trained.recipe.to_toml().encode()
        (folder / _WEIGHTS).write_bytes(data)
        (folder / _RECIPE).write_bytes(text)
        body = {
            "format": FORMAT,
            "shape": asdict(self.shape),
            "preparation": asdict(self.preparation),
            "norm": self.trained.recipe.model.norm,
            "steps": self.trained.recipe.inner.steps,
            "ways": "any" if self.any_ways else self.ways,
            "facts": dict(self.facts),
            "sha256": {_WEIGHTS: sha256_bytes(data), _RECIPE: sha256_bytes(text)},
        }
        write_sealed_json(folder / "config.json", body)

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> ImageClassifier:
        """What :meth:`save` has written. Nothing is unpickled.

        Raises:
            DamagedCheckpoint: a file is missing or not what was written; it is named.
            RunError: it was written by another version of the format.
            RecipeError: a part of the recipe is not there.
        """
        config = folder / "config.json"
        try:
            body = read_sealed_json(config)
        except (DataError, OSError) as error:
            raise DamagedCheckpoint(f"{folder}: {error}") from None
        if body.get("format") != FORMAT:
            raise RunError(f"{folder}: format {FORMAT} expected, got {body.get('format')!r}")
        try:
            # Never a name that it gives: that may lead anywhere.
            expected = {name: body["sha256"][name] for name in (_WEIGHTS, _RECIPE)}
            read = {name: (folder / name).read_bytes() for name in expected}
        except UNREADABLE as error:
            raise DamagedCheckpoint(f"{config}: {describe(error)}") from None
        for name, data in read.items():
            if (got := sha256_bytes(data)) != expected[name]:
                raise DamagedCheckpoint(
                    f"{folder / name}: digest {expected[name]} expected, got {got}"
                )
        try:
            text = read[_RECIPE].decode()
            shape, preparation = body["shape"], body["preparation"]
            shape = TaskShape(**{**shape, "inputs": tuple(shape["inputs"])})
            preparation = Preparation(**{**preparation, "shape": tuple(preparation["shape"])})
            facts = dict(body["facts"])
        except UNREADABLE as error:
            raise DamagedCheckpoint(f"{config}: {describe(error)}") from None
        recipe = parse_recipe(text, str(folder / _RECIPE))
        try:
            groups = split_groups(move(safetensors.torch.load(read[_WEIGHTS]), device))
        except SafetensorError as error:
            raise DamagedCheckpoint(f"{folder / _WEIGHTS}: {error}") from None
        trained = TrainedLearner(
            build(recipe, shape), groups["params"], groups["state"], recipe, device
        )
        return cls(trained, shape, preparation, facts)
