"""A recipe with everything written out that its parts decide: options, split, normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from data_pipeline import datasets
from metadist import algorithms, backbones, objectives
from metadist.discovery import Options
from metadist.episode_data.places import kind_of
from metadist.errors import RecipeError
from metadist.kernels import library
from metadist.process.announce import Announce, quiet
from metadist.recipe.schema import Recipe

#: An override that says what :func:`where_it_runs` does.
WITHOUT_KERNELS = "engine.kernels=torch"


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with every option of its parts written out, so that its hash says all.

    What was said of another part than the one that a recipe names now stays where the new part
    takes it, and is dropped elsewhere; see :func:`dropped`.

    Raises:
        RecipeError: unknown algorithm, backbone or option.
    """
    model = _options(recipe, "model", backbones.options)
    algorithm = _options(recipe, "algorithm", algorithms.options)
    if "norm" in recipe.left("model") and not backbones.normalises(recipe.model.name):
        recipe = _with(recipe, "model", norm="none")
    recipe = of_its_dataset(recipe)
    parts = {"model": model, "algorithm": algorithm}
    if recipe.objective.name:
        parts["objective"] = _options(recipe, "objective", objectives.options)
    elif stray := recipe.objective.options:
        raise RecipeError(
            f"objective.{next(iter(stray))}: an option needs objective.name, got none"
        )
    return recipe.with_options({k: part.model_dump(mode="json") for k, part in parts.items()})


def where_it_runs(
    recipe: Recipe, there: Recipe | None = None, announce: Announce = quiet
) -> Recipe:
    """The recipe with kernels that can be had: torch computes where none were built.

    Args:
        there: of a run that goes on, which does so with what it has begun with.
    """
    if recipe.engine.kernels == "torch":
        return recipe
    if there is not None:
        return recipe if there.engine.kernels == "fused" else by_torch(recipe)
    if library.available() is not None:
        return recipe
    announce(
        "engine.kernels: no compiled kernels here, so torch computes, at a half to a third of the "
        "speed; `python -m metadist.kernels.build` compiles them (it needs a C++ compiler)"
    )
    return by_torch(recipe)


def by_torch(recipe: Recipe) -> Recipe:
    """The recipe without compiled kernels, and with the same chunks."""
    return _with(recipe, "engine", kernels="torch")


def of_its_dataset(recipe: Recipe) -> Recipe:
    """The recipe without a split that was said of another dataset than the one it names now.

    Raises:
        RecipeError: unknown dataset.
    """
    if "split" not in recipe.left("data"):
        return recipe
    name = recipe.data.dataset
    splits = datasets.load(name).SPEC.splits if kind_of(name) == "images" else ()
    return recipe if recipe.data.split in splits else _with(recipe, "data", split="")


def _with(recipe: Recipe, section: str, **values: Any) -> Recipe:
    changed = getattr(recipe, section).model_copy(update=values)
    return recipe.model_copy(update={section: changed})


def _options(
    recipe: Recipe, name: str, options: Callable[[str, dict[str, Any]], Options]
) -> Options:
    section, left = getattr(recipe, name), recipe.left(name)
    said = {key: value for key, value in section.options.items() if key not in left}
    fresh = options(section.name, said)
    taken = left & section.options.keys() & type(fresh).model_fields.keys()
    try:
        return options(section.name, said | {key: section.options[key] for key in taken})
    except RecipeError:  # a key of the same name that means something else
        return fresh


def dropped(recipe: Recipe) -> dict[str, list[str]]:
    """Keys, by section, that the part which is named there now does not take, or not with the
    value that was said of another part.

    Raises:
        RecipeError: see :func:`resolve`.
    """
    whole, found = resolve(recipe), {}
    for name in ("data", "model", "algorithm", "objective"):
        now = getattr(whole, name).model_dump()
        was = getattr(recipe, name).model_dump().items()
        left = recipe.left(name)
        if keys := [key for key, value in was if key in left and now.get(key) != value]:
            found[name] = [f"{name}.{key}" for key in keys]
    return found


def _named(recipe: Recipe, section: str) -> str:
    return recipe.data.dataset if section == "data" else str(getattr(recipe, section).name)


def dropped_lines(recipe: Recipe) -> list[str]:
    """:func:`dropped` for people, a line for each section."""
    return [
        f"{', '.join(keys)}: not of {_named(recipe, name)!r}, dropped from the recipe"
        for name, keys in dropped(recipe).items()
    ]
