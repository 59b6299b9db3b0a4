"""Sources of episodes that are neither images in a class store nor functions, one module each.

A module exports ``SPEC`` and ``open(part, spec, seed)``, which returns an episode source
(:class:`data_pipeline.episodes.types.EpisodeSource`) or, for the training part, a staged one
(:mod:`data_pipeline.episodes.staged`). None comes with this package: they are plugins
(``PART = "episode_source"``), and a recipe names them in ``data.dataset``.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Protocol, cast

from data_pipeline import registry
from data_pipeline.datasets import Part
from data_pipeline.storage.local import canonical_json, sha256_bytes


@dataclass(frozen=True)
class SourceSpec:
    """What a source of episodes is.

    What the examples are like, and whether the targets are labels or values, its episodes say
    themselves, by the columns that they have.

    Attributes:
        name: the module's name, which is the source's name in a recipe.
        version: part of the digest; to be raised when other episodes are drawn.
        classes: different classes of the training part that ``class_ids`` speak of; 0: none.
    """

    name: str
    summary: str
    version: int
    classes: int = 0
    citation: str = ""


class SourceModule(Protocol):
    """What a module in this package exports."""

    SPEC: SourceSpec

    def open(self, part: Part, spec: Any, seed: int) -> Any:
        """The source of a part's episodes, of a shape ``EpisodeSpec`` and a seed.

        Raises:
            DataError: episodes of that shape cannot be drawn; the message says how to mend it.
        """


def names() -> list[str]:
    """Names of all sources, sorted."""
    return registry.names(sys.modules[__name__])


def load(name: str) -> SourceModule:
    """The source called ``name``.

    Raises:
        DataError: no such source (the message names the nearest), or one that cannot be used.
    """
    return cast(SourceModule, registry.load(sys.modules[__name__], name, "source of episodes"))


def source_digest(spec: SourceSpec) -> str:
    """What stands for the dataset digest of a source: its name and version."""
    return sha256_bytes(canonical_json(["episode_source", spec.name, spec.version]))
