"""Shards that were made to harm, seals and all: what they say of their sizes is not believed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_sets import FIRST_SHARD, SINUSOID, assert_same, reseal

from data_pipeline.episodes.types import Column
from data_pipeline.errors import DamagedData, UnsafeData
from data_pipeline.shards.index import read_description
from data_pipeline.shards.layout import DATASET_FILE, MANIFEST_FILE, Layout
from data_pipeline.shards.members import layout_of
from data_pipeline.shards.reader import ShardSource, stream
from data_pipeline.shards.verify import verify_shards
from data_pipeline.storage import local


def test_a_manifest_of_long_texts_is_refused_before_it_is_unpacked(shards: Path) -> None:
    table = pq.read_table(shards / MANIFEST_FILE)
    place = table.schema.get_field_index("member")
    texts = pa.array(["x" * 1_000_000] * len(table))
    bomb = table.set_column(place, table.schema.field("member"), texts)
    pq.write_table(bomb, shards / MANIFEST_FILE, compression="zstd")
    assert (shards / MANIFEST_FILE).stat().st_size < 10_000
    reseal(shards)
    with pytest.raises(UnsafeData, match=rf"{MANIFEST_FILE}: unpacks to 50\d+ bytes, at most"):
        ShardSource(shards)
    findings = [str(finding) for finding in verify_shards(shards)]
    assert len(findings) == 1
    assert f"{MANIFEST_FILE}: unpacks to" in findings[0]


def test_a_manifest_of_more_rows_than_members_is_refused(shards: Path) -> None:
    table = pq.read_table(shards / MANIFEST_FILE)
    for rows, error in (
        (table.slice(0, 4), DamagedData),
        (pa.concat_tables([table] * 2), UnsafeData),
    ):
        pq.write_table(rows, shards / MANIFEST_FILE)
        reseal(shards)
        with pytest.raises(error, match=MANIFEST_FILE):
            ShardSource(shards)


def test_more_episodes_than_the_shards_can_hold_are_refused(shards: Path) -> None:
    """The manifest's limits follow from how many there are."""
    body = local.read_sealed_json(shards / DATASET_FILE)
    body["shards"][-1]["count"] += 1 << 28
    body["episodes"] += 1 << 28
    local.write_sealed_json(shards / DATASET_FILE, body)
    with pytest.raises(DamagedData, match=r"bytes of episodes-train-000002\.tar cannot hold"):
        read_description(shards)


def test_a_tar_that_is_also_a_compressed_file_is_refused(shards: Path) -> None:
    """A longer header may begin like gzip: who unpacks the tar as a stream inflates it."""
    path = shards / FIRST_SHARD
    with tarfile.open(path) as tar:
        members = [(entry.name, cast(IO[bytes], tar.extractfile(entry)).read()) for entry in tar]
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            if name == members[0][0]:
                entry.pax_headers = {"comment": "harmless"}
            tar.addfile(entry, io.BytesIO(content))
    data = bytearray(path.read_bytes())
    assert data[156:157] == tarfile.XHDTYPE
    data[:10] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"  # in the name, which nobody looks at
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    with tarfile.open(path, "r:") as tar:
        moved = {entry.name: (entry.offset_data, entry.size) for entry in tar}
    assert list(moved) == [name for name, _ in members]  # it is a tar, and a good one

    table = pq.read_table(shards / MANIFEST_FILE)
    rows = table.to_pylist()
    for row in rows:
        if row["shard"] == FIRST_SHARD:
            row["offset"], row["length"] = moved[row["member"]]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shards / MANIFEST_FILE)
    reseal(shards)
    with pytest.raises(UnsafeData, match=f"{FIRST_SHARD}.*more than a plain header"):
        list(stream(shards))
    findings = " ".join(str(finding) for finding in verify_shards(shards, deep=True))
    assert "more than a plain header" in findings
    # By offsets it is read as what it is.
    assert_same(ShardSource(shards).episodes(range(128)), SINUSOID.episodes(range(128)))


def test_nothing_unpacks_a_tar(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Callable[..., Any] = tarfile.open

    def plain(*arguments: Any, mode: str = "r", **more: Any) -> Any:
        assert mode == "r:"
        return opened(*arguments, mode=mode, **more)

    monkeypatch.setattr(tarfile, "open", plain)
    for batch in stream(shards):
        assert_same(batch, SINUSOID.episodes(batch.ids.tolist()))


@pytest.mark.parametrize(
    "shape", [[10, 1 << 31, 1 << 31, 4], [10, 1 << 32, 1 << 32], [10, 10**30], [10] + [1] * 40]
)
def test_sizes_beyond_64_bits_do_not_wrap(shape: list[int], shards: Path) -> None:
    body = local.read_sealed_json(shards / DATASET_FILE)
    body["columns"]["support_x"]["shape"] = shape
    local.write_sealed_json(shards / DATASET_FILE, body)
    with pytest.raises(DamagedData, match=DATASET_FILE):
        read_description(shards)


def test_the_size_of_an_episode_is_exact() -> None:
    layout = layout_of(SINUSOID, "inline")
    huge = Column("float32", (10, 1 << 31, 1 << 31, 4))
    columns = {**layout.columns, "support_x": huge}
    grown = Layout(layout.identity, "inline", columns, 1).episode_bytes - layout.episode_bytes
    assert grown == 4 * (10 * (1 << 64) - 10)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(columns=[1]),
        lambda body: body.update(columns="x"),
        lambda body: body.update(identity=[]),
        lambda body: body.update(shards={"a": 1}),
        lambda body: body.update(shards=1),
        lambda body: body.update(episodes=10**400),
        lambda body: body.update(manifest=None),
        lambda body: body["shards"][0].update(size=10**30),
        lambda body: body["shards"][0].update(size=-1),
        lambda body: body["shards"][2].update(count=10**30),
        lambda body: body["identity"]["spec"].update(shots=10**30),
        lambda body: body["identity"].update(kind=[]),
    ],
)
def test_a_description_of_other_kinds_of_values_is_refused(
    change: Callable[[dict], None], shards: Path
) -> None:
    body = local.read_sealed_json(shards / DATASET_FILE)
    change(body)
    local.write_sealed_json(shards / DATASET_FILE, body)
    with pytest.raises(DamagedData, match=DATASET_FILE):
        read_description(shards)
    assert verify_shards(shards)


@pytest.mark.parametrize("text", ['"\\ud800"', "1e999", "[" * 5000 + "]" * 5000])
def test_json_that_cannot_be_written_again_is_damaged(text: str, shards: Path) -> None:
    (shards / DATASET_FILE).write_text(f'{{"body": {{"x": {text}}}, "sha256": ""}}')
    with pytest.raises(DamagedData, match=DATASET_FILE):
        read_description(shards)
