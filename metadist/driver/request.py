"""What is asked of a run: everything between a call and the first step in one typed value."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from metadist.compute.device import Device
from metadist.errors import RecipeError
from metadist.executors.world_size import IN_PROCESS, WorldSize
from metadist.plugins import Plugin
from metadist.recipe.schema import Recipe, checked, load_recipe, parse_recipe
from metadist.runs.run_dir import RunDir
from metadist.training.run_control import RunControl


@dataclass(frozen=True)
class RunRequest:
    """A run to be trained. What is not explained here is as in :func:`metadist.train`.

    Attributes:
        recipe: a name, a file or a recipe; None: that of the run which goes on.
        address: of a Ray cluster; RAY_ADDRESS if None.
        tracking_uri: None: a SQLite file beside ``runs_dir``.
        control: decides between steps whether the run goes on; a search's trial has one.
        tested: evaluate on test classes at the end. A trial of a search is not: what it shows
            there must not decide anything.
        reported: write a report at the end.
        profile: record some outer steps, into the run's folder ``profile``.
        tags: for MLflow, beside the run's own.
    """

    recipe: str | Path | Recipe | None = None
    overrides: tuple[str, ...] = ()
    name: str | None = None
    resume: str | None = None
    workers: WorldSize = IN_PROCESS
    address: str | None = None
    data_dir: Path = Path("data")
    runs_dir: Path = Path("runs")
    tracking_uri: str | None = None
    experiment: str = "metadist"
    offline: bool = False
    tensorboard: bool = False
    profile: bool = False
    device: Device = "auto"
    plugins: str | Path | Sequence[str | Path | Plugin] = ()
    progress: bool = False
    control: RunControl | None = None
    tested: bool = True
    reported: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def cluster(self) -> str | None:
        """The address of the Ray cluster of the workers; None: a private Ray, or no workers."""
        known = os.environ.get("RAY_ADDRESS") if self.workers.high else None
        return self.address or known or None

    @property
    def default_name(self) -> str:
        """The name of a new run if none is given."""
        given = self.recipe
        stem = given.algorithm.name if isinstance(given, Recipe) else Path(str(given)).stem
        # A file may be called as no run can be.
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem)[:100].lstrip("._-") or "run"
        return f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"

    def load_recipe(self, run: RunDir | None) -> Recipe:
        """The recipe as it was stated, before its parts are asked for their options.

        Args:
            run: the one to go on with, if it is known; its recipe is taken if none is given.

        Raises:
            RecipeError: there is none, or it is wrong.
        """
        if isinstance(self.recipe, Recipe):
            stated = checked(self.recipe)
            if not self.overrides:
                return stated
            return parse_recipe(stated.to_toml(), "recipe", self.overrides)
        if self.recipe is not None:
            return load_recipe(str(self.recipe), self.overrides)
        if run is not None:
            return load_recipe(str(run.path / "recipe.toml"), self.overrides)
        raise RecipeError(
            "a recipe is needed to start a run (see 'metadist recipes'); without one, --resume RUN "
            "goes on with a run by its own"
        )
