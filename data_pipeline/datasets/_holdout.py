"""Validation classes for splits that have none: a frozen tenth of the training classes."""

from __future__ import annotations

from collections.abc import Iterable

from data_pipeline.errors import DataError
from data_pipeline.rng import Stream, fold


def hold_out_tenth(class_names: Iterable[str], key: str) -> tuple[list[str], list[str]]:
    """Part training classes into (train, val), both sorted; val is a tenth, at least two classes.

    The choice is frozen: it depends on the set of names and on ``key`` and on no seed of a run.

    Args:
        class_names: the training classes, in any order.
        key: names the draw, such as ``"omniglot/lake"``.

    Raises:
        DataError: fewer than four classes, too few to part.
    """
    ordered = sorted(set(class_names))
    if len(ordered) < 4:
        raise DataError(
            f"{len(ordered)} training classes are too few to hold out some for validation: at "
            "least 4 are needed"
        )
    count = max(2, len(ordered) // 10)
    held = set(Stream(fold("hold-out", key)).sample(len(ordered), count))
    train = [name for i, name in enumerate(ordered) if i not in held]
    return train, [ordered[i] for i in sorted(held)]
