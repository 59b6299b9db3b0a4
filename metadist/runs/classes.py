"""Which classes the episodes of an evaluation are of: ``evaluation/<protocol>.classes.parquet``.

It has a row for each way of each episode. Families of functions have no classes and no such file;
nor have evaluations from before it was written.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from data_pipeline.episodes.types import TURNS
from data_pipeline.errors import DamagedData
from data_pipeline.formats.parquet import read_capped, write_table
from metadist.statistics.classes import EpisodeClasses

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
