"""What the columns of episodes from outside are held to, drawn live or read from shards."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_pipeline.episodes.types import ALWAYS, SETS, Column, Schema, ordered

#: Names of columns that have another meaning: of a batch, of a stored episode, of a task.
TAKEN = ("ids", "id", "slot")


def check_columns(columns: Schema, ways: int) -> None:
    """See that columns are those of tasks that can be learned.

    Args:
        ways: of the episodes; 0 where there are no classes.

    Raises:
        ValueError: one is missing, has a name that is taken, or a type or shape that does not fit.
    """
    if missing := [name for name in ALWAYS if name not in columns]:
        raise ValueError(f"episodes have the columns {', '.join(ALWAYS)}; missing {missing}")
    if taken := [name for name in TAKEN if name in columns]:
        raise ValueError(
            f"a column must not be called {' or '.join(TAKEN)}, got {taken}; rename it"
        )
    if not re.fullmatch("int64|float(32|64)", columns["support_y"].dtype):
        raise ValueError(
            f"labels are int64 and values float32 or float64, support_y is "
            f"{columns['support_y'].dtype}"
        )
    ids = columns.get("class_ids")
    if ids is not None and ids != Column("int64", (ways,)):
        raise ValueError(f"class_ids are int64 [{ways}], one of each way, got {_said(ids)}")
    for problem in _misfits(columns):
        raise ValueError(problem)


def _misfits(columns: Schema) -> Iterator[str]:
    inputs, targets = columns["support_x"], columns["support_y"]
    labels = targets.dtype == "int64"
    form = "labels are [n]" if labels else "values are [n, E]"
    images = inputs.dtype == "uint8"
    inputs_are = "images uint8 are [n, H, W, C]" if images else "inputs are [n, ...]"
    for name in ordered(columns):
        column = columns[name]
        of_set, _, what = name.partition("_")
        if of_set not in SETS or not what:
            continue
        first = columns.get(f"{of_set}_x")
        if first is None:
            yield f"{name} is of examples without inputs; {of_set}_x is needed"
        elif column.shape[:1] != first.shape[:1] or not column.shape:
            yield f"{name} is {_said(column)}, {of_set}_x {_said(first)}: both have n rows"
        axes = len(column.shape)
        if what == "x" and (axes != 4 if images else axes < 2):
            yield f"{name} is {_said(column)}; {inputs_are}"
        if what == "y" and axes != (1 if labels else 2):
            yield f"{name} is {_said(column)}; {form}"
        if what == "mask" and (column.dtype, axes) != ("bool", 1):
            yield f"{name} is {_said(column)}; a mask is bool [n]"
        like = {"x": inputs, "y": targets}.get(what, column)
        if (column.dtype, column.shape[1:]) != (like.dtype, like.shape[1:]):
            yield (
                f"{name} is {_said(column)}, support_{what} {_said(like)}; they may differ in the "
                "number of examples alone"
            )


def _said(column: Column) -> str:
    return f"{column.dtype} {list(column.shape)}"


def check_labels(columns: Mapping[str, NDArray[Any]], ways: int) -> None:
    """See that labels are those of so many ways; raises ValueError."""
    for name, least in (("support_y", 0), ("query_y", 0), ("unlabeled_y", -1)):
        labels = columns.get(name)
        if ways and labels is not None and labels.dtype == np.int64:
            check_range(f"labels of {name!r}", labels, least, ways)


def check_range(what: str, numbers: NDArray[Any], least: int, stop: int) -> None:
    """See that whole numbers lie in [least, stop); raises ValueError."""
    low, high = (int(numbers.min()), int(numbers.max())) if numbers.size else (least, least)
    if low < least or high >= stop:
        raise ValueError(f"{what} lie in [{low}, {high}], not in [{least}, {stop - 1}]")
