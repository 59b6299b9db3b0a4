"""What an image dataset is held to: it is made twice, as ``metadist data prepare`` makes it."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline import datasets
from data_pipeline.datasets import PARTS, DatasetSpec
from data_pipeline.errors import DataError
from data_pipeline.store.build import build_store
from data_pipeline.store.class_store import ClassStore
from metadist.contracts import documentation
from metadist.contracts.finding import Finding, Inspection, found
from metadist.overrides import Scalar

#: Classes of a part, and images of a class, without which hardly any task can be made.
CLASSES, IMAGES = 5, 2
#: What an error of making the store says -> how to mend it.
_MENDS = {
    r"is uint8 \[\d+, \d+\]": "give them an axis of channels: pixels[:, :, None]",
    "was declared": "yield pixels.astype(np.uint8) of SPEC.shape, or declare another shape",
    "must be sorted": "number classes so that their names sort, f'{number:02d}', and yield all "
    "images of one before the next",
    "part .* comes after": "go through data_pipeline.datasets.PARTS in their order",
    " twice": "give each image of a class another name",
}
_PAGE = "see 'What is demanded' of the page add-a-dataset"


@dataclass(frozen=True)
class Prepared:
    """A dataset to be made.

    Attributes:
        source: folder or file with its raw images; None: it makes itself.
        keep: where stores are made, and thrown away.
    """

    name: str
    split: str
    source: Path | None
    options: Mapping[str, Scalar]
    keep: Path

    def made(self, name: str) -> ClassStore:
        """The store, under another name each time."""
        whole = {k: v for k, v in self.options.items() if not isinstance(v, float)}
        return build_store(
            self.name, self.keep, source=self.source, split=self.split, name=name, options=whole
        )


def spec(module: datasets.Dataset) -> Iterator[Finding]:
    """``SPEC`` says all that is shown and recorded."""
    own: Any = module.SPEC
    if not isinstance(module.SPEC, DatasetSpec):
        yield found("SPEC, a DatasetSpec", repr(own), "see data_pipeline.datasets.DatasetSpec")
        return
    types = {"summary": str, "licence": str, "version": int}
    for name, kind in types.items():
        value = getattr(own, name)
        if not isinstance(value, kind) or not value:
            yield found(f"SPEC.{name}, {kind.__name__}, not empty", repr(value), "fill it in")
    shape = own.shape
    if (
        len(shape) != 3
        or not all(isinstance(s, int) and s > 0 for s in shape)
        or shape[2] not in (1, 3)
    ):
        yield found("SPEC.shape (height, width, 1 or 3)", shape, "it is that of every image")
    if isinstance(own.splits, str) or not own.splits or not all(own.splits):
        yield found("SPEC.splits, names, the default first", repr(own.splits), "as ('default',)")
    for option, value in {**own.options, **own.source_options}.items():
        if not isinstance(value, bool | int | str):
            yield found(
                f"a truth value, whole number or text of option {option!r}",
                repr(value),
                "they stand in the digest, where floats have no place",
            )


def images(prepared: Prepared) -> Iterator[Finding]:
    """Made twice: the same bytes; classes and images enough for a task, parts disjoint."""
    with _warned() as told:
        try:
            once = prepared.made("once")
        except DataError as error:
            said = str(error).removeprefix(f"dataset {prepared.name!r} breaks its contract: ")
            yield found(
                "images as a dataset yields them: uint8 of SPEC.shape, parts and classes in order",
                said,
                next((mend for what, mend in _MENDS.items() if re.search(what, said)), _PAGE),
            )
            return
        again = prepared.made("again")
    if once.digest != again.digest:
        yield found(
            "the same images whenever it is made",
            "others the second time",
            "draw from data_pipeline.rng.Stream, sort what a folder lists, keep nothing",
        )
    # They tell of every making alike.
    for line in dict.fromkeys(record.getMessage() for record in told.buffer):
        yield found(
            "parts without classes or images in common",
            line.removeprefix(f"{prepared.name}: "),
            "give a class to one part only, or name others otherwise: f'{part}-{number:02d}'",
            "warning",
        )
    for part in PARTS:
        held = once.parts[part]
        if len(held.class_names) < CLASSES:
            yield found(
                f"{CLASSES} classes or more in each part, for 5-way tasks",
                f"{len(held.class_names)} in {part}",
                "recipes then need a smaller data.ways",
                "warning",
            )
        if (least := int(np.diff(held.offsets).min(initial=1 << 30))) < IMAGES:
            yield found(
                f"{IMAGES} images or more of each class, one to learn from and one to ask for",
                f"{least} of a class of {part}",
                "leave such classes out",
                "warning",
            )


@contextlib.contextmanager
def _warned() -> Iterator[BufferingHandler]:
    """What making a store warns of, told here instead, and nothing of how long it took."""
    logger, handler = logging.getLogger("data_pipeline.store"), BufferingHandler(sys.maxsize)
    handler.setLevel(logging.WARNING)
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def inspect(
    name: str,
    options: Mapping[str, Scalar],
    inspection: Inspection,
    source: Path | None = None,
) -> None:
    """Make the dataset of each split, twice."""
    module = datasets.load(name)
    inspection.run((documentation.docstring, spec), module)  # type: ignore[arg-type]
    if inspection.broken:
        return
    if source is None and not module.SPEC.embedded:
        unseen = found(
            "a source, to look at the images",
            "none",
            "give --source PATH; without it only SPEC was looked at",
            "warning",
        )
        inspection.tell("needs a source", [unseen])
        return
    for split in module.SPEC.splits:
        with tempfile.TemporaryDirectory(prefix="metadist-check-") as folder:
            prepared = Prepared(name, split, source, options, Path(folder))
            inspection.run([images], prepared, f"split {split!r}")
