"""Which classes the episodes of an evaluation are of, and what that says of its figures.

``evaluation/<protocol>.classes.parquet`` has a row for each way of each episode. Families of
functions have no classes and no such file; nor have evaluations from before it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.episodes.types import TURNS
from data_pipeline.errors import DamagedData
from data_pipeline.formats.parquet import read_capped, write_table
from metadist.statistics.new_classes import Floats, ci95_new_classes

#: Fewer classes than so many times the ways are few.
ENOUGH = 5
#: What stands where there is no interval over new classes.
SAME_CLASSES = "no interval, for all episodes are of the same classes"
_SCHEMA = pa.schema(
    [
        ("episode", pa.int64()),
        ("class", pa.int64()),
        ("quarter_turns", pa.int64()),
        ("classes", pa.int64()),
        ("turned_classes", pa.int64()),
    ]
)
#: Nobody evaluates more episodes x ways; five numbers each, and a table's fixed part.
_MOST_ROWS, _MOST_BYTES = 1 << 24, (1 << 20) + (80 << 24)


@dataclass(frozen=True)
class EpisodeClasses:
    """The classes of E episodes of N ways.

    Attributes:
        ids: int64 [E, N], see :data:`data_pipeline.episodes.types.TURNS`.
        count: classes of the part, whether or not they are in one of the episodes.
        turned: as many, or four times as many where turned images are classes of their own.
    """

    ids: NDArray[np.int64]
    count: int
    turned: int

    @property
    def ways(self) -> int:
        """Classes of an episode."""
        return int(self.ids.shape[1])

    def ci95(self, scores: Floats) -> Floats:
        """Half-widths [K] of intervals over new classes of scores [E', K] of the first episodes.

        A class and its turns are one: whoever finds a new character can turn it as well.
        """
        return ci95_new_classes(scores, self.ids[: len(scores)] // TURNS)

    def told(self) -> dict[str, int]:
        """The numbers that stand beside a figure."""
        turned = {"turned_classes": self.turned} if self.turned != self.count else {}
        return {"ways": self.ways, "classes": self.count, **turned}


def few_classes(classes: int, ways: int, part: str) -> str:
    """A warning if there are few classes; empty if there are enough."""
    if classes >= ENOUGH * ways:
        return ""
    return (
        f"{classes} {'validation' if part == 'val' else part} classes are fewer than "
        f"{ENOUGH} x {ways} ways: the interval over episodes says little of other classes"
    )


def of_classes(told: Mapping[str, Any], measure: str) -> str:
    """`` of 20 classes``, as it stands behind a number of episodes; nothing in regression.

    Args:
        told: what :meth:`EpisodeClasses.told` has written beside a figure.
        measure: ``accuracy`` or ``mse``.
    """
    if "classes" not in told:
        return ", number of classes not recorded" if measure == "accuracy" else ""
    turned = told.get("turned_classes")
    return f" of {told['classes']:,} classes" + (f", {turned:,} with turns" if turned else "")


def classes_file(directory: Path, protocol: str) -> Path:
    """Where the classes of a protocol's episodes stand."""
    return directory / f"{protocol}.classes.parquet"


def write_classes(path: Path, found: EpisodeClasses) -> None:
    """Write them; equal ones are equal bytes."""
    episodes, ways = found.ids.shape
    ids, size = found.ids.reshape(-1), found.ids.size
    columns = (
        np.repeat(np.arange(episodes), ways),
        *np.divmod(ids, TURNS),
        np.full(size, found.count),
        np.full(size, found.turned),
    )
    write_table(path, pa.table([pa.array(c, pa.int64()) for c in columns], schema=_SCHEMA))


def read_classes(path: Path, episodes: int) -> EpisodeClasses | None:
    """The classes of so many episodes; None if they were not recorded.

    Raises:
        DataError: damaged, or of other episodes.
    """
    if not path.is_file():
        return None
    table = read_capped(path, schema=_SCHEMA, max_rows=_MOST_ROWS, max_bytes=_MOST_BYTES)
    episode, index, turns, count, turned = (c.to_numpy() for c in table.columns)
    ways = len(episode) // episodes
    if not ways or not np.array_equal(episode, np.repeat(np.arange(episodes), ways)):
        raise DamagedData(f"{path}: its rows are not episodes 0 to {episodes - 1}, each as long")
    most, all_turned = int(count[0]), int(turned[0])
    sound = (index >= 0) & (index < most) & (turns >= 0) & (turns < TURNS)
    sound &= (count == most) & (turned == all_turned)
    if not sound.all() or all_turned not in (most, TURNS * most):
        raise DamagedData(f"{path}: its classes are not among those that there are")
    return EpisodeClasses((TURNS * index + turns).reshape(episodes, ways), most, all_turned)
