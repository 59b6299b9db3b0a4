"""Image datasets: one module each, found by their module name.

A dataset module exports ``SPEC`` and ``iter_images(source, split)``; the class store, the
sampler, shards, verification and preview do the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from data_pipeline import registry
from data_pipeline.errors import DataError
from data_pipeline.formats.images import Preparation

Part = Literal["train", "val", "test"]
Option = bool | int | str
#: Order in which a dataset yields its parts.
PARTS: tuple[Part, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class DatasetSpec:
    """What a dataset is.

    Attributes:
        name: the module's name, which is the dataset's name in a recipe.
        summary: one line for ``metadist data list``.
        licence: what its images may be used for.
        shape: (height, width, channels) of every stored image, uint8.
        splits: named divisions of the classes into train, val and test; the first is the default.
        version: version of the generator or the preprocessing; part of the digest.
        embedded: True if it makes itself and needs no source.
        options: options of ``iter_images`` with their defaults (part of the digest).
        source_options: further ones that say how the source is read. They are no part of the
            digest, which knows classes and pixels; one that is not the default is described.
        may_skip: whether ``iter_images`` takes ``damaged``, which notes images that cannot be
            decoded (:class:`data_pipeline.formats.damaged.Damaged`), and can go on without them.
    """

    name: str
    summary: str
    licence: str
    shape: tuple[int, int, int]
    splits: tuple[str, ...]
    version: int
    embedded: bool = False
    citation: str = ""
    homepage: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)
    source_options: Mapping[str, Option] = field(default_factory=dict)
    may_skip: bool = False


@dataclass(frozen=True, slots=True)
class RawImage:
    """One image of one class. ``pixels`` is uint8 [H, W, C]."""

    part: Part
    class_name: str
    name: str
    pixels: NDArray[np.uint8]


class Dataset(Protocol):
    """What a module in this package exports."""

    SPEC: DatasetSpec

    def iter_images(
        self, source: Path | None = None, split: str = ..., **options: Option
    ) -> Iterator[RawImage]:
        """Yield images by part (train, val, test), the images of a class one after another.

        Raises:
            DataError: the source is missing, damaged or unsafe, or the split is unknown.
        """


def names() -> list[str]:
    """Names of all datasets, sorted: those of this package, and those from outside."""
    return registry.names(sys.modules[__name__])


def load(name: str) -> Dataset:
    """The dataset called ``name``.

    Raises:
        DataError: no such dataset (the message names the nearest), or one from outside that
            cannot be used.
    """
    return cast(Dataset, registry.load(sys.modules[__name__], name, "dataset"))


def preparation(
    name: str, shape: tuple[int, int, int], options: Mapping[str, Option]
) -> Preparation:
    """How a dataset makes pixels of encoded images.

    A dataset whose module says nothing of it (one that draws its images itself) takes images of
    its shape as they are, and the largest centred piece of others, upright.

    Args:
        shape: (height, width, channels) of its store.
        options: of its store, all of them.

    Raises:
        DataError: see :func:`load`; or an option has a value it cannot have.
    """
    own = getattr(load(name), "preparation", None)
    return Preparation(shape, upright=True) if own is None else cast(Preparation, own(**options))


def check_split(spec: DatasetSpec, split: str) -> str:
    """Return ``split``, or the default for ``""``.

    Raises:
        DataError: the dataset has no such split.
    """
    chosen = split or spec.splits[0]
    if chosen not in spec.splits:
        raise DataError(
            f"dataset {spec.name!r} has no split {split!r}; it has {', '.join(spec.splits)} "
            "(data.split, --split)"
        )
    return chosen
