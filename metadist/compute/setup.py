"""What a run computes with: a recipe, its data and its learner, opened and built once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from data_pipeline.episodes.staged import Stage, open_stage
from data_pipeline.episodes.types import EpisodeSource
from metadist.compute.digest import params_sha256
from metadist.compute.learners import build, check_rate_changes, initial_params, with_ways
from metadist.episode_data import EpisodeData, open_data
from metadist.learner import Learner
from metadist.objectives import Objective
from metadist.recipe.schema import Recipe
from metadist.tasks import Params


@dataclass(frozen=True)
class Setup:
    """Data and learner of a resolved recipe.

    The driver makes one before anything starts, and a run in its process is trained with it. A Ray
    worker makes its own with :meth:`open`.
    """

    data: EpisodeData
    learner: Learner

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
        check_rate_changes(data.recipe, data.shape)
        return cls(data, build(data.recipe, data.shape))

    def for_ways(self, ways: int, params: Params) -> Setup:
        """The same with the learner of tasks of so many classes; raises as :func:`with_ways`."""
        if ways not in self._by_ways:
            learner = with_ways(self.recipe, self.data.shape, params, ways)
            self._by_ways[ways] = replace(self, learner=learner)
        return self._by_ways[ways]

    @cached_property
    def _by_ways(self) -> dict[int, Setup]:
        # A network is built once, not at each validation.
        return {}

    @property
    def recipe(self) -> Recipe:
        """Resolved."""
        return self.data.recipe

    @property
    def objective(self) -> Objective:
        """What the learner is judged by."""
        return self.learner.objective

    @cached_property
    def fresh_params(self) -> Params:
        """Its parameters before the first step, on the CPU."""
        return initial_params(self.recipe, self.learner)

    @cached_property
    def training(self) -> EpisodeSource:
        """Training episodes, live or from shards; of a staged source those of its first stage.

        Raises:
            DataError: the shards are of other episodes, or hold too few; or there are shards of
                episodes that depend on parameters.
        """
        return (
            self.data.training() if self.data.staged is None else self.stage(0, self.fresh_params)
        )

    def stage(self, step: int, params: Params) -> EpisodeSource:
        """Episodes of the stage of a staged source that an outer step belongs to.

        Args:
            params: before the stage's first step.

        Raises:
            DataError: what the source gives is not that stage.
        """
        staged = self.data.staged
        assert staged is not None
        return open_stage(staged, Stage.at(staged, step), params_sha256(params), as_arrays(params))

    def rebuilt(self) -> Setup:
        """The same with all parts built anew, to see that they do the same."""
        return Setup.of(self.data)


def as_arrays(params: Params) -> dict[str, NDArray[Any]]:
    """Parameters for a staged source, which must not write into them."""
    arrays = {name: p.detach().cpu().numpy() for name, p in params.items()}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays
