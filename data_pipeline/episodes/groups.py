"""Groups of classes, and images that belong together across classes.

A class's group is what stands before the last ``/`` of its name: the alphabet of a character of
Omniglot or of ``strokes``. Images of one name in several classes belong together: there they are
by the same drawer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from data_pipeline.errors import DataError, TooFew
from data_pipeline.store.class_store import ClassStore, StorePart, read_manifest


def groups(store: ClassStore, part: StorePart, ways: int) -> list[list[int]]:
    """Indices of the classes of each group that has as many as ``ways``; groups by name.

    Raises:
        DataError: names of classes say no group.
        TooFew: no group has so many.
    """
    members: dict[str, list[int]] = {}
    for index, name in enumerate(part.class_names):
        group, slash, _ = name.rpartition("/")
        if not slash:
            raise DataError(
                f"tasks within a group of classes are asked for (data.within, eval.within), and "
                f"{part.part} class {name!r} of {store.dataset} says none: names of the form "
                "'group/class' are needed, or within = 'all'"
            )
        members.setdefault(group, []).append(index)
    large = [members[name] for name in sorted(members) if len(members[name]) >= ways]
    if not large:
        name, most = max(members.items(), key=lambda item: len(item[1]))
        raise TooFew(
            f"{ways}-way episodes within a group need a group of that many {part.part} classes, "
            f"the largest of {store.dataset} ({store.split}), {name!r}, has {len(most)}",
            "classes",
            "ask for fewer ways, or for within = 'all'",
        )
    return large


def check_drawers(store: ClassStore, part: StorePart) -> None:
    """See that all classes have images of the same names, in the same order.

    Raises:
        DataError: a class has others.
    """
    manifest = read_manifest(store)
    rows = manifest.filter(pc.equal(manifest["part"].cast("string"), part.part))
    names = rows["image"].to_pylist()
    bounds = [*zip(part.offsets[:-1].tolist(), part.offsets[1:].tolist(), strict=True)]
    first, *others = (names[start:stop] for start, stop in bounds)
    for name, found in zip(part.class_names[1:], others, strict=True):
        if found != first:
            raise DataError(
                f"images of all classes by the same drawer are asked for (data.drawer, "
                f"eval.drawer), and {part.part} class {name!r} of {store.dataset} has others than "
                f"{part.class_names[0]!r}: images of the same names in all classes are needed, or "
                "drawer = 'any'"
            )


def together(first: Sequence[int], positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows [classes, rounds] of the same positions [1, rounds] in all classes.

    Args:
        first: of each class, its first row.
    """
    rows: NDArray[np.int64] = np.asarray(first, dtype=np.int64)[:, None] + positions
    return rows
