"""The episodes a recipe asks for: opened live from the class store, or from shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from data_pipeline import episode_sources, functions
from data_pipeline.datasets import Part
from data_pipeline.episode_sources import source_digest
from data_pipeline.episodes.functions import FunctionEpisodes, points_schema
from data_pipeline.episodes.images import ImageEpisodes, images_schema
from data_pipeline.episodes.sequence import EpisodeSequence
from data_pipeline.episodes.sources import open_source, require_drawn, require_plain
from data_pipeline.episodes.staged import StagedSource
from data_pipeline.episodes.types import TURNS, EpisodeSource, EpisodeSpec, Schema
from data_pipeline.errors import TooFew
from data_pipeline.functions import family_digest
from data_pipeline.partitions.layout import open_partitions
from data_pipeline.partitions.partition import Partitions
from data_pipeline.shards.index import DESCRIPTION as SHARDS
from data_pipeline.shards.reader import open_shards
from data_pipeline.storage.local import canonical_json, sha256_bytes
from data_pipeline.storage.object_uri import address_of
from data_pipeline.storage.working_copies import pull
from data_pipeline.store.attributes import open_attributes
from data_pipeline.store.class_store import ClassStore, open_store
from metadist.episode_data.places import KINDS, kind_of, partitions_of, shards_root, store_of
from metadist.errors import NumericsError, RecipeError
from metadist.recipe.schema import Recipe
from metadist.statistics.classes import EpisodeClasses
from metadist.tasks import TaskShape


@dataclass(frozen=True)
class EpisodeData:
    """The episodes of a recipe.

    Attributes:
        store: the class store; None of what is not made of images.
        digest: of the dataset, and of the partitions whose clusters stand for classes.
        partitions: of the training images; None: the classes are as labelled.
    """

    recipe: Recipe
    data_dir: Path
    store: ClassStore | None
    digest: str
    partitions: Partitions | None = None

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

    @cached_property
    def shape(self) -> TaskShape:
        """What a learner must know of the training tasks.

        Raises:
            RecipeError: ways are asked of tasks with values, or none of tasks with labels.
        """
        section = self.recipe.data
        schema = self.schema
        inputs, targets = schema["support_x"], schema["support_y"]
        side = inputs.shape[1:]
        if inputs.dtype == "uint8":  # [H, W, C], see metadist.tasks.to_inputs
            side = (side[-1], *side[:-1])
        latent = schema["latent"].shape[0] if "latent" in schema else 0
        classes = self._training_classes
        if targets.dtype != "int64":
            self._check_ways(section.ways == 0, "its targets are values; set data.ways = 0")
            return TaskShape(side, targets.shape[-1], 0, classes, latent)
        self._check_ways(section.ways >= 2, "its targets are labels; at least 2 are needed")
        attributes = schema.get("class_attributes")
        told = attributes.shape[-1] if attributes else 0
        return TaskShape(side, section.ways, section.ways, classes, latent, told)

    @property
    def schema(self) -> Schema:
        """The columns of training episodes; of images and functions also of impossible ones."""
        section = self.recipe.data
        spec = self.spec(section.queries)
        if self.store is not None:
            return images_schema(spec, self.store.shape)
        if kind_of(section.dataset) == "functions":
            known = functions.load(section.dataset).SPEC
            return points_schema(spec, known.inputs, known.outputs, len(known.latent))
        return self._training.schema

    def _check_ways(self, good: bool, why: str) -> None:
        section = self.recipe.data
        if not good:
            raise RecipeError(f"data.ways: {section.dataset}: {why}, got {section.ways}")

    @property
    def _training_classes(self) -> int:
        """Different classes of the training part that ``class_ids`` speak of."""
        section = self.recipe.data
        if self.store is not None:
            turns = 1 if section.rotations == "none" else TURNS
            if self.partitions is not None:
                return turns * self.partitions.clusters
            return turns * len(self.store.parts["train"].class_names)
        if kind_of(section.dataset) == "functions":
            return 0
        return episode_sources.load(section.dataset).SPEC.classes

    def spec(self, queries: int, shots: int | None = None, ways: int | None = None) -> EpisodeSpec:
        """The shape of episodes; with the recipe's shots and ways of training if not given."""
        section = self.recipe.data
        return EpisodeSpec(
            ways or section.ways,
            shots or section.shots,
            queries,
            section.rotations,
            section.labels,
            section.unlabeled,
            section.distractors,
            section.within,
            section.drawer,
            self._attributes,
        )

    def _of_part(self, part: Part, spec: EpisodeSpec) -> EpisodeSpec:
        """The shape of episodes with the groups and drawers that the recipe has for a part."""
        if part == "train":
            return spec
        within, drawer = self.recipe.eval_within, self.recipe.eval_drawer
        return replace(spec, within=within, drawer=drawer)

    @cached_property
    def _attributes(self) -> int:
        """Numbers that are told of each class."""
        if not self.recipe.data.attributes:
            return 0
        if self.store is None:
            raise RecipeError(
                f"data.attributes: classes of images have attributes, {self.recipe.data.dataset} "
                "is not made of such; leave it out"
            )
        return open_attributes(self.store).size

    @cached_property
    def _training(self) -> EpisodeSource | StagedSource:
        section = self.recipe.data
        return self._open("train", self.spec(section.queries), section.seed)

    def _open(self, part: Part, spec: EpisodeSpec, seed: int) -> EpisodeSource | StagedSource:
        name, spec = self.recipe.data.dataset, self._of_part(part, spec)
        if self.store is None:
            functional = kind_of(name) == "functions"
            return (FunctionEpisodes if functional else open_source)(name, part, spec, seed)
        try:
            clusters = self.partitions if part == "train" else None
            return ImageEpisodes(self.store, part, spec, seed, clusters)
        except TooFew as error:
            raise TooFew(error.what, error.of, cure(self.recipe, error.of, part, spec)) from None

    def live(
        self,
        part: Part,
        queries: int,
        seed: int,
        shots: int | None = None,
        ways: int | None = None,
    ) -> EpisodeSource:
        """Episodes drawn when they are asked for; see :meth:`spec`.

        Raises:
            DataError: they cannot be drawn, or they are staged.
        """
        return require_plain(self._open(part, self.spec(queries, shots, ways), seed))

    def classes(
        self, part: Part, episodes: int, seed: int, ways: int | None = None
    ) -> EpisodeClasses | None:
        """The classes of the first episodes of a part, with any shots and queries.

        None of what is not made of images.
        """
        if self.store is None:
            return None
        section = self.recipe.data
        sizes = ways or section.ways, 1, 1
        spec = EpisodeSpec(*sizes, section.rotations, section.labels, within=section.within)
        # Drawers do not matter: classes are drawn before their images.
        spec = replace(self._of_part(part, spec), drawer="any")
        ids = ImageEpisodes(self.store, part, spec, seed).class_ids(range(episodes))
        count = len(self.store.parts[part].class_names)
        turns = TURNS if section.rotations == "as_classes" else 1
        return EpisodeClasses(ids, count, turns * count)

    @property
    def needed(self) -> int:
        """How many training episodes the run reads, from id 0."""
        section, outer = self.recipe.data, self.recipe.outer
        return outer.steps * outer.batch if section.episodes == "unlimited" else section.episodes

    @property
    def staged(self) -> StagedSource | None:
        """The training episodes, if they depend on the parameters.

        Raises:
            RecipeError: shards of them are asked for.
        """
        if not isinstance(self._training, StagedSource):
            return None
        if self.recipe.data.storage != "live":
            raise RecipeError(
                f"data.storage: episodes of {self.recipe.data.dataset} depend on the parameters "
                f"and cannot be stored; 'live' is needed, got {self.recipe.data.storage!r}"
            )
        return self._training

    def training(self) -> EpisodeSource:
        """Training episodes, live or from shards as the recipe says; the same bytes either way.

        Raises:
            DataError: the shards are of other episodes, or hold too few; or the episodes are
                staged, see :attr:`staged`.
        """
        live = require_plain(self._training)
        if self.recipe.data.storage == "live":
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


def cure(recipe: Recipe, of: str, part: Part, spec: EpisodeSpec) -> str:
    """How to ask for smaller episodes: every key that has made them so large.

    Args:
        of: what there are too few of: ``classes`` or ``images``.
    """
    section, evaluation = recipe.data, recipe.eval

    def said(size: int, keys: Mapping[str, int], option: str) -> str:
        found = next((key for key, value in keys.items() if value == size), option)
        none = "; 0: no such protocol" if found == "eval.extra_queries" else ""
        return f"{found} ({size}{none})"

    training = part == "train"
    ways = {"data.ways": section.ways}
    shots = {"data.shots": section.shots}
    clustered = training and section.partition
    queries = {"data.queries": section.queries}
    if not training:
        ways = {"eval.ways": evaluation.ways} | ways
        shots = {"eval.shots": evaluation.shots} | shots
        queries = {
            "eval.queries": evaluation.queries,
            "eval.extra_queries": evaluation.extra_queries,
        }
    if of == "classes":
        sizes = [said(spec.ways, ways, "--ways")]
        if spec.distractors:
            sizes.append(f"data.distractors ({spec.distractors})")
        if spec.within != "all":
            sizes.append(f"{'data' if training else 'eval'}.within ({spec.within!r}; 'all')")
        return (
            f"lower {' or '.join(sizes)}, or take data with more {part} classes "
            "(data.dataset, data.split, data.store)"
            + (", or partitions with more clusters (data.partition)" if clustered else "")
        )
    sizes = [said(spec.shots, shots, "--shots"), said(spec.queries, queries, "--queries")]
    if spec.unlabeled:
        sizes.append(f"data.unlabeled ({spec.unlabeled})")
    if clustered:
        largest = f"--smallest {spec.shots + spec.queries + spec.unlabeled}"
        return f"lower {' or '.join(sizes)}, or cluster again with {largest} (data.partition)"
    return f"lower {' or '.join(sizes)}, or remove such classes"


def open_data(recipe: Recipe, data_dir: Path) -> EpisodeData:
    """Open what :func:`prepare` made or found.

    Raises:
        DataError: missing or damaged.
        RecipeError: ways, a split, a store or partitions given for functions, or ways missing for
            images.
    """
    section = recipe.data
    kind = kind_of(section.dataset)
    what = KINDS[kind][1]
    if recipe.eval.ways and (section.ways == 0 or recipe.eval.ways < 2):
        raise RecipeError(
            f"eval.ways: at least 2 for classes, 0 for as many as in training or where there are "
            f"no classes, got {recipe.eval.ways}"
        )
    if kind == "images":
        if section.ways < 2:
            raise RecipeError(f"data.ways: at least 2 for images, got {section.ways}")
        store = open_store(store_of(data_dir, section))
        if not section.partition:
            return EpisodeData(recipe, data_dir, store, store.digest)
        partitions = open_partitions(partitions_of(data_dir, section), store)
        digest = sha256_bytes(canonical_json([store.digest, partitions.digest]))
        return EpisodeData(recipe, data_dir, store, digest, partitions)
    if kind == "functions" and section.ways != 0:
        raise RecipeError(
            f"data.ways: {section.dataset} is a family of functions and has no classes; "
            f"set data.ways = 0, got {section.ways}"
        )
    for key in ("split", "store", "partition"):
        if value := getattr(section, key):
            raise RecipeError(
                f"data.{key}: {section.dataset} is {what} and makes itself; "
                f"leave data.{key} out, got {value!r}"
            )
    digest = (
        family_digest(functions.load(section.dataset).SPEC)
        if kind == "functions"
        else source_digest(episode_sources.load(section.dataset).SPEC)
    )
    return EpisodeData(recipe, data_dir, None, digest)
