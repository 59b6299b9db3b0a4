"""Damaged and malicious shards are named and refused; nothing in them is ever run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import flip
from shard_sets import FIRST_SHARD, SINUSOID, assert_same, reseal

from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.types import EpisodeSpec
from data_pipeline.errors import DamagedData, DataError, MissingData, UnsafeData
from data_pipeline.shards.index import read_shard_set
from data_pipeline.shards.layout import DATASET_FILE, MANIFEST_FILE
from data_pipeline.shards.members import decode, draw, encode, layout_of
from data_pipeline.shards.reader import ShardSource, stream
from data_pipeline.shards.writer import write_shards
from data_pipeline.storage import local

# --- damage -------------------------------------------------------------------------------------


def test_a_flipped_byte_in_a_member_is_named_and_costs_only_that_member(shards: Path) -> None:
    row = pq.read_table(shards / MANIFEST_FILE).to_pylist()[1]
    flip(shards / FIRST_SHARD, row["offset"] + row["length"] // 2)
    source = ShardSource(shards)
    others = [*range(64), *range(128, 300)]
    assert_same(source.episodes(others), SINUSOID.episodes(others))
    for _ in range(2):
        with pytest.raises(DamagedData, match=rf"{FIRST_SHARD}, member 000000000064\.arrow"):
            source.episodes([64])
    with pytest.raises(DamagedData, match=rf"{FIRST_SHARD}, member 000000000064\.arrow"):
        list(stream(shards))


@pytest.mark.parametrize("name", [FIRST_SHARD, MANIFEST_FILE, DATASET_FILE])
@pytest.mark.parametrize("where", ["cut", "half", "empty", "gone"])
def test_a_file_cut_short_or_gone_is_named(name: str, where: str, shards: Path) -> None:
    path = shards / name
    size = path.stat().st_size
    if where == "gone":
        path.unlink()
    else:
        os.truncate(path, {"cut": size - 1, "half": size // 2, "empty": 0}[where])
    for read in (ShardSource, lambda root: list(stream(root))):
        with pytest.raises(MissingData if where == "gone" else DamagedData, match=name):
            read(shards)


@pytest.mark.parametrize("name", [MANIFEST_FILE, DATASET_FILE])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.5, 0.7, 0.99])
def test_a_flipped_byte_in_the_description_is_named(name: str, place: float, shards: Path) -> None:
    path = shards / name
    flip(path, int(place * path.stat().st_size))
    with pytest.raises(DamagedData, match=name):
        ShardSource(shards)


def test_a_shard_that_goes_while_it_is_read_is_named(shards: Path) -> None:
    source = ShardSource(shards)
    os.truncate(shards / FIRST_SHARD, 5000)
    with pytest.raises(DamagedData, match=FIRST_SHARD):
        source.episodes([0])
    (shards / FIRST_SHARD).unlink()
    with pytest.raises(MissingData, match=FIRST_SHARD):
        source.episodes([0])


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(episodes=301),
        lambda body: body.update(payload="pickle"),
        lambda body: body.update(shards=[]),
        lambda body: body.update(episodes_per_member=63),
        lambda body: body.pop("columns"),
        lambda body: body["columns"]["support_x"].update(dtype="object"),
        lambda body: body["columns"]["support_x"].update(shape=[10**9, 1]),
        lambda body: body["columns"]["support_x"].update(shape=[10, 10**9]),
        lambda body: body["columns"].update(evil={"dtype": "int64", "shape": [1]}),
        lambda body: body["shards"][0].update(name="../../etc/passwd"),
        lambda body: body["shards"][1].update(first=0),
        lambda body: body["identity"].update(part="../x"),
        lambda body: body["identity"].update(surprise=1),
        lambda body: body["identity"]["spec"].update(shots="10"),
        lambda body: body["identity"].update(seed=1),
        lambda body: body["identity"]["spec"].update(shots=9),
    ],
)
def test_a_description_that_lies_is_refused(change: Callable[[dict], None], shards: Path) -> None:
    body = local.read_sealed_json(shards / DATASET_FILE)
    change(body)
    local.write_sealed_json(shards / DATASET_FILE, body)
    with pytest.raises(DamagedData):
        ShardSource(shards).episodes([0])


def test_another_format_version_is_refused(shards: Path) -> None:
    body = local.read_sealed_json(shards / DATASET_FILE)
    local.write_sealed_json(shards / DATASET_FILE, {**body, "format_version": 2})
    with pytest.raises(DataError, match="version 2"):
        ShardSource(shards)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("shard", "../episodes-train-000000.tar"),
        ("member", "evil.pyd"),
        ("offset", -1),
        ("offset", 10**12),
        ("length", 10**12),
        ("length", -1),
        ("first", 7),
        ("count", 65),
    ],
)
def test_a_manifest_that_lies_is_refused(column: str, value, shards: Path) -> None:
    table = pq.read_table(shards / MANIFEST_FILE)
    values = [value, *table[column].to_pylist()[1:]]
    field = table.schema.field(column)
    place = table.schema.get_field_index(column)
    pq.write_table(
        table.set_column(place, field, pa.array(values, field.type)), shards / MANIFEST_FILE
    )
    reseal(shards)
    with pytest.raises(DamagedData, match=MANIFEST_FILE):
        ShardSource(shards)


# --- malice -------------------------------------------------------------------------------------


class Payload:
    """What a pickle may do when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("name", ["evil.pyd", "000000000000.pickle", "000000000064.arrow/x.pth"])
def test_a_pickle_in_a_tar_is_refused_and_never_loaded(
    name: str, shards: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "loaded"
    data = pickle.dumps(Payload(trace))
    pickle.loads(data)
    assert trace.exists()  # it works
    trace.unlink()
    with tarfile.open(shards / FIRST_SHARD, "a") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    # It fits into the padding at the tar's end, so that the size does not give it away.
    for seal in (lambda: None, lambda: reseal(shards)):
        seal()
        with pytest.raises(UnsafeData, match=f"{FIRST_SHARD}.*{name}"):
            list(stream(shards))
    # Random access reads what the manifest names, and nothing else.
    assert_same(ShardSource(shards).episodes(range(128)), SINUSOID.episodes(range(128)))
    assert not trace.exists()


def test_a_pickle_in_the_place_of_a_member_is_never_loaded(shards: Path, tmp_path: Path) -> None:
    trace = tmp_path / "loaded"
    data = pickle.dumps(Payload(trace))
    with pytest.raises(DamagedData, match="not an Arrow stream"):
        decode(read_shard_set(shards).layout, data, 0, 64)
    assert not trace.exists()


def member() -> tuple[bytes, Callable[[bytes], object]]:
    layout = layout_of(SINUSOID, "inline")
    data = encode(layout, draw(SINUSOID, "inline", range(64)))
    return data, lambda changed: decode(layout, changed, 0, 64)


def test_a_buffer_that_claims_to_be_huge_is_refused_before_it_is_unpacked() -> None:
    data, read = member()
    real = struct.pack("<q", 64 * 10 * 4)
    assert data.count(real) >= 4
    for claim in (64 * 10 * 4 + 1, 1 << 40, -2):
        with pytest.raises(DamagedData, match="its buffers unpack to"):
            read(data.replace(real, struct.pack("<q", claim)))


def test_a_member_of_another_layout_is_refused() -> None:
    data, read = member()
    other = FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 10, 10), 1)
    layout = layout_of(other, "inline")
    with pytest.raises(DamagedData, match="schema"):
        read(encode(layout, draw(other, "inline", range(64))))
    with pytest.raises(DamagedData, match="schema"):
        decode(layout, data, 0, 64)


def test_other_arrow_streams_are_refused() -> None:
    data, read = member()
    reader = pa.ipc.open_stream(data)
    batch = reader.read_next_batch()

    def written(*batches, compression="zstd", schema=batch.schema) -> bytes:
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_stream(sink, schema, options=options) as writer:
            for each in batches:
                writer.write_batch(each)
        return sink.getvalue().to_pybytes()

    read(written(batch))
    for bad in (
        b"",
        data[:8],
        data + b"x",
        data[:-1],
        written(),
        written(batch, batch),
        written(batch, compression=None),
        written(batch.slice(1)),
        written(batch.slice(0, 63)),
        written(batch.take(pa.array([1, 0, *range(2, 64)]))),
        written(pa.record_batch({"x": [1]}), schema=pa.schema({"x": pa.int64()})),
    ):
        with pytest.raises(DamagedData):
            read(bad)


def test_any_damage_to_a_member_is_an_error_or_harmless() -> None:
    """Without its digest: whatever Arrow makes of the bytes, nothing but DamagedData comes out."""
    data, read = member()
    places = np.random.Philox(key=5).random_raw(2000) % len(data)
    damaged = 0
    # The beginning, where the structure is, completely; the rest in samples.
    for place in sorted({*range(1500), *places.tolist()}):
        changed = bytearray(data)
        changed[place] ^= 0xFF
        try:
            read(bytes(changed))
        except DamagedData:
            damaged += 1
    assert damaged > 500
    for length in range(0, len(data), 97):
        with pytest.raises(DamagedData):
            read(data[:length])


@pytest.mark.parametrize("name", ["support_y", "query_y", "support_rows", "query_rows"])
@pytest.mark.parametrize("value", [-1, 1000])
def test_labels_and_rows_out_of_range_are_refused(
    name: str, value: int, images: ImageEpisodes, tmp_path: Path
) -> None:
    class Lying(ImageEpisodes):
        def rows(self, ids):
            rows = super().rows(ids)
            rows.columns[name][0, 0] = value
            return rows

    lying = Lying(images.store, "train", images.identity.spec, 0)
    write_shards(lying, 64, tmp_path / "set", payload="index")
    with pytest.raises(DamagedData, match=name):
        ShardSource(tmp_path / "set", store=images.store).episodes([1])
