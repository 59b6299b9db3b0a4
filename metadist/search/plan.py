"""What a search is to do, complete: space, base recipe, seed; and which recipe a point makes."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from metadist.compute.learners import build, check_rate_changes
from metadist.compute.resolve import WITHOUT_KERNELS, dropped_lines, resolve
from metadist.errors import MetadistError, RecipeError, SpaceError
from metadist.objectives import Metric, known_metric
from metadist.overrides import parse_override
from metadist.recipe.files import recipe_text
from metadist.recipe.schema import Recipe, parse_recipe
from metadist.recipe.sections import EvalSection
from metadist.search.spaces import space_name
from metadist.space import (
    Choice,
    Domain,
    Integers,
    LogUniform,
    Point,
    Population,
    Space,
    Uniform,
    When,
    check_space,
)
from metadist.tasks import TaskShape


@dataclass(frozen=True)
class Plan:
    """A search before it is known where it runs.

    Attributes:
        name: of the space.
        space: as its module declares it, with what the request changes.
        base: text of the base recipe.
        overrides: ``section.key=value``, after the space's fixed values.
        seed: of the searcher. Every trial has the base's ``run.seed``.
        measured: what a record has to say of the metric; None of one that is built in.
    """

    name: str
    space: Space
    base: str
    overrides: tuple[str, ...] = ()
    seed: int = 0
    measured: Mapping[str, Any] | None = field(default=None, compare=False)

    @property
    def metric(self) -> Metric:
        """What a score is."""
        name = self.space.metric.removeprefix("val/")
        try:
            return known_metric(name, self.measured)
        except ValueError:
            return Metric(name, name.replace("_", " "), self.space.mode == "max")

    def recipe(self, point: Mapping[str, Any], *, seed: int | None = None) -> Recipe:
        """The recipe of a trial, or with another ``run.seed`` one to confirm it.

        Raises:
            RecipeError: there is no such recipe.
        """
        return resolve(self.stated(point, seed=seed))

    def stated(self, point: Mapping[str, Any], *, seed: int | None = None) -> Recipe:
        """:meth:`recipe` before its parts are asked for their options."""
        values: dict[str, Any] = {
            **self.space.fixed,
            "outer.steps": self.space.steps,
            "eval.every": self.space.every,
            # A trial that is continued does not train again what it was judged by.
            "run.checkpoint_every": self.space.every,
        }
        texts = [*self.overrides, *(_override(key, value) for key, value in point.items())]
        if seed is not None:
            texts.append(f"run.seed={seed}")
        held = tuple(_override(key, value) for key, value in values.items())
        return parse_recipe(self.base, self.space.base, tuple(texts), held)

    def dropped(self) -> list[str]:
        """What trials say of parts that they do not name: a line for each part that is chosen."""
        named = ("model.name", "algorithm.name", "objective.name")
        parts = [p for key, _, p in ends(self) if key in named]
        return list(dict.fromkeys(x for p in [{}, *parts] for x in dropped_lines(self.stated(p))))

    def tested(self, recipe: Recipe) -> Recipe:
        """A trial's recipe, evaluated on test tasks as the base is.

        A space cuts short what no trial needs; it is no part of what was found. What validation
        needs stays, for it chooses the checkpoint; and so does what was asked for by ``--set``.
        """
        base = EvalSection.model_validate(tomllib.loads(self.base).get("eval", {}))
        asked = {parse_override(text)[:2] for text in self.overrides}
        cut = ("episodes", "extra_queries", "steps")
        values = {key: getattr(base, key) for key in cut if ("eval", key) not in asked}
        if values.get("steps", 0) < recipe.inner.steps:
            values.pop("steps", None)
        return recipe.model_copy(update={"eval": recipe.eval.model_copy(update=values)})

    def point_of(self, recipe: Recipe) -> Point:
        """The values that a recipe has at the searched keys."""
        found: Point = {}
        for key in self.space.search:
            section, _, name = key.partition(".")
            value = getattr(getattr(recipe, section, None), name, None)
            if value is not None:
                found[key] = value
        return self.space.active(found)

    @property
    def points(self) -> list[Point] | None:
        """All points, where none depends on results; None if a searcher proposes them.

        Point i is a function of the seed and i.
        """
        if self.space.searcher == "grid":
            return self.space.grid()
        if self.space.searcher == "random":
            return [self.drawn(i) for i in range(self.space.trials)]
        return None

    @property
    def trials(self) -> int:
        """How many trials there are."""
        points = self.points
        return self.space.trials if points is None else len(points)

    def drawn(self, index: int) -> Point:
        """A point drawn at random, a function of the seed and the index."""
        draws = {k: uniform(self.seed, str(index), k) for k in self.space.search}
        return self.space.active({k: at(d, draws[k]) for k, d in self.space.search.items()})

    def same(self, other: Plan) -> bool:
        """Whether it is the same search; a base may lie elsewhere now, if it reads the same."""
        return self == replace(other, space=replace(other.space, base=self.space.base))

    def without_kernels(self) -> Plan:
        """This plan on machines where no compiled kernels were built."""
        return replace(self, overrides=(*self.overrides, WITHOUT_KERNELS))

    def document(self) -> dict[str, Any]:
        """The plan as JSON-able values; :func:`plan_of` reads it back."""
        return {
            "space": self.name,
            "declared": self.space.document(),
            "base": self.base,
            "overrides": list(self.overrides),
            "seed": self.seed,
            **({"metric": dict(self.measured)} if self.measured else {}),
        }


def uniform(seed: int, what: str, key: str) -> float:
    """A number in [0, 1) that is a function of seed and names."""
    digest = hashlib.sha256(f"{seed} {what} {key}".encode()).digest()
    # Raw words of Philox are the same in every NumPy.
    raw = np.random.Philox(key=int.from_bytes(digest[:16], "big")).random_raw()
    return float((int(raw) >> 11) / 2**53)


def _override(key: str, value: Any) -> str:
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def at(domain: Domain, u: float) -> Any:
    """The value at quantile u in [0, 1) of a domain."""
    match domain:
        case LogUniform(low, high):
            return min(low * math.exp(u * math.log(high / low)), high)
        case Uniform(low, high):
            return min(low + u * (high - low), high)
        case Integers(low, high, True):
            return min(int(low * math.exp(u * math.log((high + 1) / low))), high)
        case Integers(low, high):
            return low + int(u * (high - low + 1))
        case Choice(values):
            return values[int(u * len(values))]
        case When():
            return at(domain.then, u)
    raise AssertionError(domain)


def make_plan(
    name: str,
    space: Space,
    *,
    base: str | None = None,
    overrides: Sequence[str] = (),
    seed: int = 0,
    **changes: Any,
) -> Plan:
    """A plan that has been checked.

    Args:
        base: another recipe to start from.
        overrides: ``section.key=value`` for every trial.
        changes: fields of the space to replace; None leaves one as it is.

    Raises:
        SpaceError: the space does not fit its recipe; each mistake is named, with the nearest key.
        RecipeError: there is no such recipe.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    if base is not None:
        given["base"] = base
    space = check_space(replace(space, **given), name)
    plan = Plan(space_name(name), space, recipe_text(space.base), tuple(overrides), seed)
    _check(plan)
    return plan


def _check(plan: Plan) -> None:
    """Every value at an end of a domain makes a recipe, all others being at an end too."""
    held = {f"{s}.{k}" for s, k, _ in map(parse_override, plan.overrides)}
    own = {"outer.steps": "--steps", "eval.every": "--every", "run.checkpoint_every": "nothing"}
    for key in [*plan.space.search, *plan.space.fixed, *held]:
        if key in own:
            raise SpaceError(
                f"space {plan.name}: {key} follows from the space's own steps and every; "
                f"use {own[key]}"
            )
    if both := sorted(held & set(plan.space.search)):
        raise SpaceError(f"--set {', '.join(both)}: the space {plan.name} searches that itself")
    try:
        plan.recipe({})
    except RecipeError as error:
        raise SpaceError(f"space {plan.name}: {str(error).removeprefix('--set: ')}") from None
    _try_ends(plan, lambda key, recipe: None)


def _try_ends(plan: Plan, attempt: Callable[[str, Recipe], object]) -> None:
    """Make the recipe of each end of a domain, and see that something can be done with it."""
    for key, value, point in ends(plan):
        try:
            attempt(key, plan.recipe(point))
        except MetadistError as error:
            why = str(error).removeprefix("--set: ")
            raise SpaceError(f"space {plan.name}: {key} = {value!r}: {why}") from None


def check_learners(plan: Plan, shape: TaskShape) -> None:
    """See that every value at an end of a domain makes a learner for the base's tasks.

    Raises:
        SpaceError: one does not.
    """
    changed: Point = {}
    if isinstance(plan.space.scheduler, Population):
        # Rates that a population changes must be ones that may change.
        for key, low, _ in ends(plan):
            changed[f"{key.partition('.')[0]}.lr_changes"] = f"1: {low}"
    try:
        recipe = plan.recipe(changed)
        build(recipe, shape)
        check_rate_changes(recipe, shape)
    except RecipeError as error:
        raise SpaceError(f"space {plan.name}: {error}") from None
    # Where the data differ, so does the shape.
    _try_ends(plan, lambda key, recipe: key.startswith("data.") or build(recipe, shape))

    def compared(key: str, recipe: Recipe) -> None:
        """See that trials of another objective are measured by the same metric."""
        if key == "objective.name":
            metric = build(recipe, shape).objective.metric
            if plan.space.metric != f"val/{metric.name}":
                raise SpaceError(f"measured by val/{metric.name}, others by {plan.space.metric}")

    _try_ends(plan, compared)


def ends(plan: Plan) -> Iterator[tuple[str, Any, Point]]:
    """Each key with each value at an end of its domain, and a point in which it counts."""
    for key, domain in plan.space.search.items():
        plain = domain.then if isinstance(domain, When) else domain
        values = plain.values if isinstance(plain, Choice) else (plain.low, plain.high)
        for value in values:
            yield key, value, {**_context(plan.space, key), key: value}


def _context(space: Space, key: str) -> Point:
    """What must be set so that a key counts."""
    domain = space.search[key]
    if not isinstance(domain, When):
        return {}
    return {**_context(space, domain.key), domain.key: domain.values[0]}


def plan_of(document: Any) -> Plan:
    """The plan that a document describes; anybody may have altered it.

    Raises:
        SpaceError: it describes none.
    """
    try:
        name, base, seed = document["space"], document["base"], document["seed"]
        overrides = tuple(document["overrides"])
        texts = all(isinstance(text, str) for text in (name, base, *overrides))
        if not texts or type(seed) is not int:
            raise ValueError(f"space {name!r}, overrides {overrides!r}, seed {seed!r}")
        measured = document.get("metric")
        if measured is not None:
            measured = Metric.read(measured).as_dict()
        return Plan(name, check_space(document["declared"], name), base, overrides, seed, measured)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpaceError(f"the record of the search is damaged: {error!r}") from None
    except SpaceError as error:
        raise SpaceError(f"the record of the search is damaged: {error}") from None
