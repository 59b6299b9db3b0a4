"""What a search space is held to: every end of its domains is a recipe that can be trained."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from metadist.compute.resolve import resolve
from metadist.contracts.finding import Finding, Inspection, found
from metadist.errors import MetadistError
from metadist.overrides import Scalar
from metadist.recipe.schema import load_recipe
from metadist.search.spaces import load_space
from metadist.space import Space, When, check_space

ELSEWHERE = "a part that stands in another file needs --plugin FILE (plugins=)"


def declared(space: Space) -> Iterator[Finding]:
    """Types and ranges of what it declares."""
    try:
        check_space(space, "")
    except MetadistError as error:
        for problem in str(error).partition(": ")[2].split("; "):
            yield found("a space that makes sense", problem, "see metadist.space")


def base(space: Space) -> Iterator[Finding]:
    """The base is a recipe, and takes the fixed values."""
    try:
        resolve(load_recipe(space.base, _settings(space.fixed)))
    except MetadistError as error:
        yield found(
            "a base recipe that takes the fixed values", error, f"mend base or fixed; {ELSEWHERE}"
        )


def ends(space: Space) -> Iterator[Finding]:
    """Each end of each domain is a recipe."""
    for key, domain in space.search.items():
        waits = {domain.key: domain.values[0]} if isinstance(domain, When) else {}
        points = domain.points()
        for value in points if isinstance(points[0], bool | str) else (points[0], points[-1]):
            point = {**space.fixed, **waits, key: value}
            try:
                resolve(load_recipe(space.base, _settings(point)))
            except MetadistError as error:
                yield found(
                    f"recipes at both ends of {key}",
                    error,
                    f"mend the domain of {key}; {ELSEWHERE}",
                )


def _settings(values: Mapping[str, Scalar]) -> tuple[str, ...]:
    return tuple(f"{key}={json.dumps(value)}" for key, value in values.items())


def inspect(name: str, options: Mapping[str, Scalar], inspection: Inspection) -> None:
    """Run all checks of a search space."""
    space = load_space(name)
    # What is wrong with the base is wrong at all ends.
    all(inspection.run([check], space) for check in (declared, base, ends))
