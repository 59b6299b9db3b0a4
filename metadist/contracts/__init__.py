"""What each kind of part is held to, on tiny synthetic tasks: the contract, run and told in words.

One module for each kind of part, called as the kind is. Each is a list of checks: generators of
:class:`Finding` about a small thing made of the part.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from data_pipeline import registry
from metadist import plugins
from metadist.contracts.finding import Finding, Inspection, Report
from metadist.errors import PluginError, RecipeError
from metadist.overrides import Scalar

__all__ = ["KINDS", "Finding", "Report", "UnknownPart", "check_part", "kind_of"]

#: Kind of part -> the module here that holds what it is held to.
KINDS = {
    "algorithm": "learner",
    "backbone": "backbone",
    "objective": "objective",
    "dataset": "dataset",
    "episode_source": "episode_source",
    "function": "function",
    "tune_space": "tune_space",
}


class UnknownPart(PluginError):
    """There is no part of this name."""


def kind_of(name: str) -> tuple[str, str]:
    """Kind and name of a part that comes with this package or an installed distribution.

    Args:
        name: ``maml``, or with its kind ``tune_space.anil`` where there are two of a name.

    Raises:
        UnknownPart: there is none.
    """
    kind, dot, rest = name.partition(".")
    if dot and kind in KINDS:
        kinds, name = [kind], rest
    else:
        kinds = list(KINDS)
    for one in kinds:
        if name.replace("-", "_") in registry.names(plugins.package(one)):
            return one, name.replace("-", "_")
    raise UnknownPart(
        f"{name!r}: neither a file (./toy.py), a module (my_package.toy) nor a part of this "
        "package; `metadist check NAME` looks at one of those"
    )


def check_part(
    kind: str,
    name: str,
    *,
    file: Path | None = None,
    options: Mapping[str, Scalar] | None = None,
    source: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Report:
    """Hold one part to its contract.

    Args:
        kind, name: of a part that recipes can name here.
        file: its source, whose lines errors are told by.
        options: of the part; its defaults where not given.
        source: folder or file of a dataset's raw images.
        say: is told what is being looked at.

    Raises:
        RecipeError: an option is none of the part's.
    """
    if options and kind in ("algorithm", "backbone", "objective"):
        plugins.package(kind).options(name, dict(options))
    elif options and kind != "dataset":  # those of a dataset are seen when it is made
        raise RecipeError(f"{kind} {name!r} has no options, got {', '.join(options)}")
    inspection = Inspection(file, say)
    module = importlib.import_module(f"{__name__}.{KINDS[kind]}")
    more = {"source": source} if kind == "dataset" else {}
    threads, generator = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    try:
        module.inspect(name, dict(options or {}), inspection, **more)
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(generator)
    return inspection.report(kind, name)
