"""What a run computes with: a recipe, its data and its learner, opened and built once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from data_pipeline.episodes.types import EpisodeSource
from metadist.compute.learners import Learners, initial_params
from metadist.episode_data import EpisodeData, open_data
from metadist.errors import RecipeError
from metadist.learner import Learner
from metadist.recipe.schema import Recipe
from metadist.tasks import Params, TaskKind


@dataclass(frozen=True)
class Setup:
    """Data and learner of a resolved recipe.

    The driver makes one before anything starts, and a run in its process is trained with it. A Ray
    worker makes its own with :meth:`open`.
    """

    data: EpisodeData
    learners: Learners

    @classmethod
    def open(cls, recipe: Recipe, data_dir: Path) -> Setup:
        """Open the data of a resolved recipe and build its learner.

        Raises:
            DataError: the data are missing or damaged.
            RecipeError: a part is unknown, or does not fit the tasks.
        """
        return cls.of(open_data(recipe, data_dir))

    @classmethod
    def of(cls, data: EpisodeData) -> Setup:
        """Build the learner for data; raises RecipeError as :meth:`open` does."""
        return cls(data, Learners(data.recipe, data.shape))

    def for_ways(self, ways: int) -> Setup:
        """The same with the learner built for tasks of so many ways.

        Raises:
            RecipeError: its parameters depend on their number; they are named.
        """
        learners = Learners(self.recipe, replace(self.data.shape, outputs=ways))
        other, mine = initial_params(self.recipe, learners.after(0)), self.fresh_params
        names = [n for n in {**mine, **other} if n not in mine or n not in other]
        names += [n for n in mine if n in other and mine[n].shape != other[n].shape]
        if names:
            raise RecipeError(
                f"{self.recipe.algorithm.name} was trained for {self.data.shape.outputs} ways and "
                f"has parameters that depend on their number ({', '.join(sorted(names))}): {ways} "
                "ways are not possible; leave the number of ways out, or train with "
                f"data.ways = {ways}"
            )
        return Setup(self.data, learners)

    @property
    def recipe(self) -> Recipe:
        """Resolved."""
        return self.data.recipe

    @property
    def kind(self) -> TaskKind:
        """Of the tasks."""
        return self.data.shape.kind

    @property
    def algorithm(self) -> Learner:
        """The learner of the first outer step."""
        return self.learners.after(0)

    @cached_property
    def fresh_params(self) -> Params:
        """Its parameters before the first step, on the CPU."""
        return initial_params(self.recipe, self.algorithm)

    @cached_property
    def training(self) -> EpisodeSource:
        """Training episodes, live or from shards.

        Raises:
            DataError: the shards are of other episodes, or hold too few.
        """
        return self.data.training()

    def rebuilt(self) -> Setup:
        """The same with all parts built anew, to see that they do the same."""
        return Setup.of(self.data)
