"""One member of a shard: an Arrow IPC stream with one record batch of consecutive episodes.

Reading trusts nothing: schema and sizes are compared with what the shard set's description
promises before Arrow allocates or decompresses anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data_pipeline.episodes.columns import check_labels, check_range
from data_pipeline.episodes.images import ImageEpisodes, rows_schema
from data_pipeline.episodes.types import TURNS, EpisodeSource, ordered
from data_pipeline.errors import DamagedData, DataError
from data_pipeline.formats.arrow_sizes import buffer_sizes
from data_pipeline.shards.layout import MEMBER_CAP, Layout, Payload, check_column, largest_group

Arrays = dict[str, NDArray[Any]]


def draw(source: EpisodeSource, payload: Payload, ids: Sequence[int]) -> Arrays:
    """``ids`` [T] and the columns of the payload [T, ...] of these episodes, by name.

    Raises:
        DataError: payload ``index`` of a source that is not over a class store.
    """
    if payload == "inline":
        return source.episodes(ids).arrays()
    return _with_rows(source).rows(ids).arrays()


def _with_rows(source: EpisodeSource) -> ImageEpisodes:
    if isinstance(source, ImageEpisodes):
        return source
    raise DataError(
        f"payload 'index' needs episodes over a class store, got a {type(source).__name__}; "
        "use 'inline'"
    )


def layout_of(source: EpisodeSource, payload: Payload) -> Layout:
    """How episodes of a source are laid out.

    Raises:
        DataError: the payload does not fit the source, a column cannot be stored, or one episode
            is too large for a member.
    """
    identity = source.identity
    inline = payload == "inline"
    columns = source.schema if inline else rows_schema(_with_rows(source).identity.spec)
    columns = {name: columns[name] for name in ordered(columns)}
    for name, column in columns.items():
        try:
            check_column(name, column)
        except ValueError as error:
            raise DataError(f"episodes of {identity.dataset} cannot be stored: {error}") from None
    episode = Layout(identity, payload, columns, 1).episode_bytes
    if episode > MEMBER_CAP:
        raise DataError(
            f"one episode is {episode} bytes, a member holds at most {MEMBER_CAP}; "
            "use payload 'index', fewer queries or smaller images"
        )
    return Layout(identity, payload, columns, largest_group(episode))


def encode(layout: Layout, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a member. The same arrays give the same bytes."""
    columns = [pa.array(arrays["ids"])]
    for name, dtype in layout.stored.items():
        array = np.ascontiguousarray(arrays[name], dtype=dtype)
        columns.append(pa.FixedShapeTensorArray.from_numpy_ndarray(array))
    batch = pa.RecordBatch.from_arrays(columns, schema=layout.schema)
    sink = pa.BufferOutputStream()
    # One thread: several would compress the same, but writers run side by side already.
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    with pa.ipc.new_stream(sink, layout.schema, options=options) as writer:
        writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def decode(layout: Layout, data: bytes, first: int, count: int) -> Arrays:
    """The columns of a member, as read-only views of the decompressed buffers.

    Args:
        layout: what the member must look like.
        data: its bytes.
        first, count: the episodes it must hold.

    Raises:
        DamagedData: it is anything else; the caller adds which member it was.
    """
    try:
        batch = _read_batch(layout, data, count)
        arrays: Arrays = {"ids": batch.column(0).to_numpy(zero_copy_only=True)}
        for place, name in enumerate(layout.columns, start=1):
            column = batch.column(place)
            if column.null_count or column.storage.flatten().null_count:
                raise DamagedData(f"column {name!r} has gaps")
            arrays[name] = column.to_numpy_ndarray()
    except (pa.ArrowException, OSError, ValueError, StopIteration) as error:
        # OSError: what Arrow calls a stream that is none; nothing here touches a file.
        raise DamagedData(f"not an Arrow stream of episodes ({error})") from None
    for name, dtype in layout.stored.items():
        expected = (count, *layout.columns[name].shape)
        if (arrays[name].shape, arrays[name].dtype) != (expected, dtype):
            raise DamagedData(f"column {name!r} has shape {arrays[name].shape}, not {expected}")
        if layout.columns[name].dtype == "bool":
            if arrays[name].max() > 1:
                raise DamagedData(f"column {name!r} holds more than 0 and 1")
            arrays[name] = arrays[name].view(np.bool_)
    if not np.array_equal(arrays["ids"], np.arange(first, first + count)):
        raise DamagedData(f"its episodes are not {first} to {first + count - 1}")
    _check_labels(layout, arrays)
    return arrays


def _read_batch(layout: Layout, data: bytes, count: int) -> Any:
    if len(data) > MEMBER_CAP:
        raise DamagedData(f"{len(data)} bytes, at most {MEMBER_CAP} expected")
    stream = pa.BufferReader(data)
    messages = pa.ipc.MessageReader.open_stream(stream)
    head = messages.read_next_message()
    if head.type != "schema":
        raise DamagedData(f"it begins with a {head.type}, not with a schema")
    schema = pa.ipc.read_schema(head)
    if not schema.equals(layout.schema, check_metadata=True):
        raise DamagedData(f"its schema ({schema.names}) or identity is not that of the shard set")
    message = messages.read_next_message()
    if message.type != "record batch":
        raise DamagedData(f"it holds a {message.type}, not a record batch")
    sizes = buffer_sizes(message.metadata.to_pybytes(), memoryview(message.body))
    expected = _expected_sizes(layout, count)
    if sizes != expected:
        raise DamagedData(f"its buffers unpack to {sizes} bytes, expected {expected}")
    batch = pa.ipc.read_record_batch(message, schema)
    batch.validate(full=True)
    if batch.num_rows != count or batch.column(0).null_count:
        raise DamagedData(f"it holds {batch.num_rows} episodes, {count} expected")
    try:
        messages.read_next_message()
    except StopIteration:
        if stream.tell() == len(data):
            return batch
    raise DamagedData("something follows its record batch")


def _expected_sizes(layout: Layout, count: int) -> list[int]:
    """Sizes of the buffers of a batch without gaps: no validity bits, one buffer per column."""
    sizes = [0, 8 * count]
    for name, dtype in layout.stored.items():
        values = math.prod(layout.columns[name].shape)
        sizes += [0, 0, dtype.itemsize * values * count]
    return sizes


def _check_labels(layout: Layout, arrays: Arrays) -> None:
    try:
        check_labels(arrays, layout.identity.spec.ways)
        if layout.payload == "index" and "unlabeled_turns" in arrays:
            check_range("'unlabeled_turns'", arrays["unlabeled_turns"], 0, TURNS)
    except ValueError as error:
        raise DamagedData(str(error)) from None
