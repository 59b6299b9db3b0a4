"""Meta-train few-shot learners on a cluster, with the same bits for any number of workers.

    import metadist

    result = metadist.train("strokes-5w1s-maml", name="first", overrides=["outer.steps=500"])
    print(result)  # or result.score, result["accuracy"], result.to_dict()
    metadist.report("first")

Importing this package imports neither Ray nor MLflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The package of that name is loaded first, so that loading it later does not replace the function.
import metadist.report  # noqa: F401
from metadist.api import (
    adapt,
    check,
    compare,
    evaluate,
    from_module,
    load,
    prepare,
    register,
    report,
    train,
    tune,
)
from metadist.errors import MetadistError
from metadist.recipe.files import builtin_names

if TYPE_CHECKING:
    from metadist.recipe.schema import Recipe, load_recipe

__version__ = "0.1.0"
__all__ = [
    "MetadistError",
    "Recipe",
    "adapt",
    "builtin_names",
    "check",
    "compare",
    "evaluate",
    "from_module",
    "load",
    "load_recipe",
    "prepare",
    "register",
    "report",
    "train",
    "tune",
]


def __getattr__(name: str) -> Any:
    """What takes pydantic, which completion of a command line has no time for."""
    if name in ("Recipe", "load_recipe"):
        from metadist.recipe import schema

        return getattr(schema, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
