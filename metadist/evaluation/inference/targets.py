"""What the support shows: labels of any kind, which are given back as they came, or values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metadist.errors import AdaptError
from metadist.evaluation.inference.inputs import numbers


@dataclass(frozen=True)
class Targets:
    """Targets of a support set.

    Attributes:
        y: int64 [S], the place of each label among ``classes``; or float64 [S, E].
        order: rows of the support in the order in which they are shown: by label, those of a label
            as they were given.
        classes: the labels, sorted; none where values are learned.
    """

    y: NDArray[Any]
    order: tuple[int, ...]
    classes: tuple[Any, ...] = ()

    @property
    def shots(self) -> tuple[int, ...]:
        """Support examples of each class."""
        return tuple(int((self.y == way).sum()) for way in range(len(self.classes)))


def labels(given: Any, count: int) -> Targets:
    """Labels of ``count`` support examples.

    They may be anything that can be hashed and sorted, all of one type; NumPy's numbers and those
    of tensors become Python's.

    Raises:
        AdaptError: labels of several types, that cannot be told apart or put in order, too many or
            too few of them.
    """
    found = [_plain(label) for label in _listed(given)]
    _check_count(len(found), count, "label")
    try:
        classes = tuple(sorted(set(found)))
    except TypeError as error:
        raise AdaptError(
            f"support labels: {_kinds(found)} cannot be told apart and put in order ({error}); "
            "give numbers or strings, all of one type"
        ) from None
    if len({type(label) for label in found}) > 1:
        raise AdaptError(
            f"support labels: of one type, as strings or whole numbers, are needed, got "
            f"{_kinds(found)}"
        )
    if any(label != label for label in classes):
        raise AdaptError("support labels: one of them is NaN; leave its example out")
    ways = {label: way for way, label in enumerate(classes)}
    order = tuple(sorted(range(count), key=lambda row: ways[found[row]]))
    y = np.array([ways[label] for label in found], dtype=np.int64)
    return Targets(y, order, classes)


def values(given: Any, count: int, outputs: int) -> Targets:
    """Values [S, E] of ``count`` support examples; [S] where E is 1.

    Raises:
        AdaptError: they are no finite numbers, or of another shape.
    """
    y = numbers(given, "support values")
    y = y[:, None] if y.ndim == 1 and outputs == 1 else y
    alone = " (or [S])" if outputs == 1 else ""
    if y.ndim != 2 or y.shape[1] != outputs:
        raise AdaptError(
            f"support values: numbers [S, {outputs}]{alone} are needed, got "
            f"[{', '.join(map(str, y.shape))}]"
        )
    _check_count(len(y), count, "value")
    return Targets(y, tuple(range(count)))


def _listed(given: Any) -> Sequence[Any]:
    if isinstance(given, torch.Tensor | np.ndarray):
        if given.ndim == 1:
            listed: list[Any] = given.tolist()
            return listed
        hot = "; of one-hot rows give .argmax(1)" if given.ndim == 2 else ""
        raise AdaptError(
            f"support labels: a label for each example, [S], is needed, got "
            f"[{', '.join(map(str, given.shape))}]{hot}"
        )
    # Not a text, nor what has no order; a column of a table is an Iterable too.
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping | Set):
        return [*given]
    raise AdaptError(
        f"support labels: a list, an array or a tensor of labels is needed, got "
        f"{type(given).__name__}"
    )


def _plain(label: Any) -> Any:
    """A number of NumPy's or of a tensor as one of Python's."""
    whole = isinstance(label, torch.Tensor | np.ndarray) and label.ndim == 0
    return label.item() if whole or isinstance(label, np.generic) else label


def _check_count(got: int, count: int, noun: str) -> None:
    if got != count:
        raise AdaptError(
            f"support {noun}s: one for each of {count} support examples is needed, got {got}"
        )


def _kinds(found: Sequence[Any]) -> str:
    return ", ".join(sorted({type(label).__name__ for label in found}))
