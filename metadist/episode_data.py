"""The episodes a recipe asks for: opened live from the class store, or from shards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_pipeline import datasets, functions
from data_pipeline.datasets import Part
from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.sequence import EpisodeSequence
from data_pipeline.episodes.sources import require_drawn
from data_pipeline.episodes.types import TURNS, EpisodeSource, EpisodeSpec
from data_pipeline.errors import TooFew
from data_pipeline.functions import family_digest
from data_pipeline.registry import part_hint
from data_pipeline.shards.index import DESCRIPTION as SHARDS
from data_pipeline.shards.reader import open_shards
from data_pipeline.storage.object_uri import address_of
from data_pipeline.storage.working_copies import pull, push
from data_pipeline.store.build import build_store, check_current, store_root
from data_pipeline.store.class_store import ClassStore, open_store
from data_pipeline.store.layout import DESCRIPTION
from metadist.errors import NumericsError, RecipeError
from metadist.recipe.schema import Recipe
from metadist.recipe.sections import DataSection
from metadist.statistics.classes import EpisodeClasses
from metadist.tasks import TaskShape


def is_function(name: str) -> bool:
    """Whether a recipe's dataset is a family of functions.

    Raises:
        RecipeError: it is neither a family nor an image dataset.
    """
    if name in functions.names():
        return True
    known = [*datasets.names(), *functions.names()]
    if name not in known:
        raise RecipeError(
            f"data.dataset: unknown dataset {name!r}.{part_hint(name, known)} There are "
            f"{', '.join(known)}"
        )
    return False


def shards_root(data_dir: Path, recipe: Recipe) -> Path:
    """Where the training shards of a recipe lie: one directory per shape and seed of episodes."""
    section = recipe.data
    turned = "" if section.rotations == "none" else f"-{section.rotations}"
    labels = "" if section.labels == "permuted" else f"-{section.labels}"
    name = (
        f"{section.ways}w{section.shots}s{section.queries}q{turned}{labels}-seed{section.seed}"
        if section.ways
        else f"{section.shots}s{section.queries}q-seed{section.seed}"
    )
    if is_function(section.dataset):
        return data_dir / section.dataset / "shards" / name
    return _store_root(data_dir, section).parent / "shards" / name


def _store_root(data_dir: Path, section: DataSection) -> Path:
    spec = datasets.load(section.dataset).SPEC
    split = datasets.check_split(spec, section.split)
    return store_root(data_dir, section.dataset, split, section.store)


def prepare(
    recipe: Recipe, data_dir: Path, announce: Callable[[str], None] = lambda line: None
) -> None:
    """Make embedded data if it is not there yet. Families of functions need nothing.

    Raises:
        DataError: what is there is of another dataset, or was made by other code of this one.
        RecipeError: data that has to be brought is not there; the message says how to bring it.
    """
    section = recipe.data
    if is_function(section.dataset):
        return
    root = _store_root(data_dir, section)
    pull(root, DESCRIPTION)
    if (root / DESCRIPTION.name).is_file():
        check_current(root, section.dataset, section.split)
        # An interrupted preparation may not have filled an object store yet.
        push(root, DESCRIPTION)
        return
    spec = datasets.load(section.dataset).SPEC
    if spec.embedded:
        announce(f"Making {section.dataset} ({spec.summary}) in {address_of(root)}")
        # Another process may be making the same data; whoever is later takes the other's.
        with contextlib.suppress(FileExistsError):
            build_store(section.dataset, data_dir, split=section.split, name=section.store)
        return
    split = f" --split {section.split}" if section.split else ""
    name = f" --name {section.store}" if section.store else ""
    raise RecipeError(
        f"{address_of(root)}: no prepared {section.dataset!r} data there (data.split and "
        "data.store say which); run "
        f"'metadist data prepare {section.dataset} --source PATH{split}{name}' first, or name "
        "the directory that has it with --data-dir or METADIST_DATA_DIR"
    )


@dataclass(frozen=True)
class EpisodeData:
    """The episodes of a recipe.

    Attributes:
        store: the class store; None for a family of functions.
        digest: of the dataset.
    """

    recipe: Recipe
    data_dir: Path
    store: ClassStore | None
    digest: str

    def check(self, run: Path, recorded: str) -> None:
        """See that they are those that a run was made with.

        Raises:
            NumericsError: its record names another digest.
        """
        if recorded != self.digest:
            raise NumericsError(
                f"{run}: made with dataset digest {recorded}, the data here has {self.digest}; "
                "name the right data with --data-dir, or start a new run"
            )

    @property
    def sequence(self) -> EpisodeSequence:
        """The run's walk through its training episodes."""
        section = self.recipe.data
        length = None if section.episodes == "unlimited" else int(section.episodes)
        return EpisodeSequence(length, section.seed)

    @property
    def shape(self) -> TaskShape:
        """What a learner must know of the tasks."""
        section = self.recipe.data
        if self.store is None:
            spec = functions.load(section.dataset).SPEC
            latent = len(spec.latent)
            return TaskShape((spec.inputs,), spec.outputs, latent=latent)
        height, width, channels = self.store.shape
        turns = 1 if section.rotations == "none" else TURNS
        classes = turns * (len(self.store.parts["train"].offsets) - 1)
        inputs = (channels, height, width)
        return TaskShape(inputs, section.ways, section.ways, classes=classes)

    def live(self, part: Part, queries: int, seed: int, shots: int | None = None) -> EpisodeSource:
        """Episodes drawn when they are asked for; with the recipe's shots if none are given."""
        section = self.recipe.data
        shots = shots or section.shots
        spec = EpisodeSpec(section.ways, shots, queries, section.rotations, section.labels)
        if self.store is None:
            return FunctionEpisodes(section.dataset, part, spec, seed)
        try:
            return ImageEpisodes(self.store, part, spec, seed)
        except TooFew as error:
            raise TooFew(error.what, error.of, self._cure(error.of, part, spec)) from None

    def _cure(self, of: str, part: Part, spec: EpisodeSpec) -> str:
        """How to ask for smaller episodes: every key that has made them so large."""
        section, evaluation = self.recipe.data, self.recipe.eval
        if of == "classes":
            return (
                f"lower data.ways ({spec.ways}), or take data with more {part} classes "
                "(data.dataset, data.split, data.store)"
            )
        shots = "data.shots" if spec.shots == section.shots else "--shots"
        own = (
            {section.queries: "data.queries"}
            if part == "train"
            else {
                evaluation.extra_queries: "eval.extra_queries",
                evaluation.queries: "eval.queries",
            }
        )
        queries = own.get(spec.queries, "--queries")
        none = "; 0: no such protocol" if queries == "eval.extra_queries" else ""
        sizes = f"{shots} ({spec.shots}) or {queries} ({spec.queries}{none})"
        return f"lower {sizes}, or remove such classes"

    def classes(self, part: Part, episodes: int, seed: int) -> EpisodeClasses | None:
        """The classes of the first episodes of a part, with any shots and queries.

        None for a family of functions, which has no classes.
        """
        if self.store is None:
            return None
        section = self.recipe.data
        spec = EpisodeSpec(section.ways, 1, 1, section.rotations, section.labels)
        ids = ImageEpisodes(self.store, part, spec, seed).class_ids(range(episodes))
        count = len(self.store.parts[part].class_names)
        turns = TURNS if section.rotations == "as_classes" else 1
        return EpisodeClasses(ids, count, turns * count)

    @property
    def needed(self) -> int:
        """How many training episodes the run reads, from id 0."""
        section, outer = self.recipe.data, self.recipe.outer
        return outer.steps * outer.batch if section.episodes == "unlimited" else section.episodes

    def training(self) -> EpisodeSource:
        """Training episodes, live or from shards as the recipe says; the same bytes either way.

        Raises:
            DataError: the shards are of other episodes, or hold too few.
        """
        section = self.recipe.data
        live = self.live("train", section.queries, section.seed)
        if section.storage == "live":
            return live
        root = shards_root(self.data_dir, self.recipe)
        pull(root, SHARDS)
        if not root.is_dir():
            raise RecipeError(
                f"{address_of(root)}: data.storage = 'shards', but none are there; make them with "
                "'metadist data shard RECIPE' and the same --set, or use data.storage = 'live'"
            )
        shards = open_shards(root, live.identity, self.needed, self.store)
        if self.store is None:
            require_drawn(shards, self.needed, live, f"the shards in {root}")
        return shards


def open_data(recipe: Recipe, data_dir: Path) -> EpisodeData:
    """Open what :func:`prepare` made or found.

    Raises:
        DataError: missing or damaged.
        RecipeError: ways, a split or a store given for functions, or ways missing for images.
    """
    section = recipe.data
    if is_function(section.dataset):
        if section.ways != 0:
            raise RecipeError(
                f"data.ways: {section.dataset} is a family of functions and has no classes; "
                f"set data.ways = 0, got {section.ways}"
            )
        for key, value in (("split", section.split), ("store", section.store)):
            if value:
                raise RecipeError(
                    f"data.{key}: {section.dataset} is a family of functions and makes itself; "
                    f"leave data.{key} out, got {value!r}"
                )
        digest = family_digest(functions.load(section.dataset).SPEC)
        return EpisodeData(recipe, data_dir, None, digest)
    if section.ways < 2:
        raise RecipeError(f"data.ways: at least 2 for images, got {section.ways}")
    store = open_store(_store_root(data_dir, section))
    return EpisodeData(recipe, data_dir, store, store.digest)
