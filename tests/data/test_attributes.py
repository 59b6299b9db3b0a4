"""Attributes of classes: read, kept beside the store, carried by episodes that stay the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from shard_sets import assert_same

from data_pipeline import datasets
from data_pipeline.datasets import strokes
from data_pipeline.episodes.images import ImageEpisodes
from data_pipeline.episodes.types import TURNS, EpisodeSpec
from data_pipeline.errors import DamagedData, DataError, MissingData
from data_pipeline.formats.parquet import write_table
from data_pipeline.shards.reader import ShardSource, open_shards
from data_pipeline.shards.verify import verify_shards
from data_pipeline.shards.writer import write_shards
from data_pipeline.store.attributes import (
    attributes_file,
    open_attributes,
    save_attributes,
)
from data_pipeline.store.class_store import ClassStore

SPEC = EpisodeSpec(3, 1, 2, attributes=2)
Rows = dict[tuple[str, str], float]


def rows() -> Rows:
    """Two numbers of each of eight classes; those of the other parts have the same names."""
    return {
        (f"class-{c}", name): value + c for c in range(8) for name, value in (("b", 0.5), ("a", 9))
    }


def table(of: Mapping[tuple[str, str], float]) -> pa.Table:
    names = ("class_name", "attribute", "value")
    flat = [(*key, value) for key, value in of.items()]
    return pa.table(dict(zip(names, map(list, zip(*flat, strict=True)), strict=True)))


def brought(root: Path, store: ClassStore, of: Rows | None = None) -> ClassStore:
    """The store elsewhere, with attributes beside it."""
    here = replace(store, root=root / "toy" / "store")
    here.root.mkdir(parents=True)
    write_table(root / "mine.parquet", table(of or rows()))
    save_attributes(here, root / "mine.parquet")
    return here


def test_they_are_in_the_order_of_the_classes(tmp_path: Path, toy_store: ClassStore):
    here = brought(tmp_path, toy_store)
    found = open_attributes(here)
    assert found.names == ("a", "b")
    wanted = np.array([[9 + c, 0.5 + c] for c in range(8)], dtype=np.float32)
    assert np.array_equal(found.parts["train"], wanted)
    assert np.array_equal(found.parts["test"], wanted[:4])
    assert found.parts["val"].dtype == np.float32
    # In any order they are the same, and another number is another digest.
    other = brought(tmp_path / "other", toy_store, dict(reversed(rows().items())))
    assert open_attributes(other).digest == found.digest
    assert attributes_file(other).read_bytes() == attributes_file(here).read_bytes()
    changed = brought(tmp_path / "changed", toy_store, rows() | {("class-7", "a"): 1.0})
    assert open_attributes(changed).digest != found.digest


def test_episodes_are_else_the_same(tmp_path: Path, toy_store: ClassStore):
    here = brought(tmp_path, toy_store)
    told = ImageEpisodes(here, "train", SPEC, 5).episodes(range(20))
    plain = ImageEpisodes(toy_store, "train", replace(SPEC, attributes=0), 5).episodes(range(20))
    for name, array in plain.columns.items():
        assert told.columns[name].tobytes() == array.tobytes()
    assert set(told.columns) - set(plain.columns) == {"class_attributes"}
    classes = told.columns["class_ids"] // TURNS
    wanted = open_attributes(here).parts["train"][classes]
    assert np.array_equal(told.columns["class_attributes"], wanted)
    assert told.columns["class_attributes"].shape == (20, 3, 2)


def test_episodes_without_them_are_who_they_were(toy_store: ClassStore):
    source = ImageEpisodes(toy_store, "train", replace(SPEC, attributes=0), 5)
    identity = source.identity.as_dict()
    assert "payload" not in identity
    assert "attributes" not in identity["spec"]


@pytest.mark.parametrize("payload", ["inline", "index"])
def test_shards_hold_them(payload: Any, tmp_path: Path, toy_store: ClassStore):
    here = brought(tmp_path, toy_store)
    live = ImageEpisodes(here, "train", SPEC, 4)
    write_shards(live, 70, tmp_path / "set", payload=payload, episodes_per_shard=64)
    store = here if payload == "index" else None
    source = ShardSource(tmp_path / "set", store=store)
    assert source.identity == live.identity
    assert dict(source.schema) == dict(live.schema)
    ids = [*range(70), 3]
    assert_same(source.episodes(ids), live.episodes(ids))
    assert verify_shards(tmp_path / "set", deep=True, store=here) == []
    changed = brought(tmp_path / "changed", toy_store, rows() | {("class-7", "a"): 1.0})
    other = ImageEpisodes(changed, "train", SPEC, 4)
    with pytest.raises(DataError, match="payload"):
        open_shards(tmp_path / "set", other.identity, 10, store)


def without(key: tuple[str, str]) -> Rows:
    return {k: v for k, v in rows().items() if k != key}


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (
            {k: v for k, v in rows().items() if k[0] != "class-5"},
            "no attributes of the train class 'class-5'",
        ),
        (without(("class-5", "b")), "'b' of class 'class-5' is missing"),
        (rows() | {("class-3", "a"): float("nan")}, "'a' of class 'class-3' is missing or no"),
    ],
)
def test_what_is_not_whole_is_refused(of: Rows, words: str, tmp_path: Path, toy_store: ClassStore):
    with pytest.raises(DamagedData, match=words):
        brought(tmp_path, toy_store, of)
    assert not (tmp_path / "toy" / "attributes.parquet").exists()


def twice(good: pa.Table) -> pa.Table:
    return pa.concat_tables([good, good.slice(0, 1)])


def texts(good: pa.Table) -> pa.Table:
    return good.set_column(2, "value", pa.array(["much"] * len(good)))


def renamed(good: pa.Table) -> pa.Table:
    return good.rename_columns(["class", "attribute", "value"])


@pytest.mark.parametrize(
    ("change", "words"),
    [(twice, "there twice"), (texts, "value a number"), (renamed, "no column class_name")],
)
def test_another_table_is_refused(
    change: Callable[[pa.Table], pa.Table], words: str, tmp_path: Path, toy_store: ClassStore
):
    write_table(tmp_path / "mine.parquet", change(table(rows())))
    with pytest.raises(DamagedData, match=words):
        save_attributes(
            replace(toy_store, root=tmp_path / "toy" / "store"), tmp_path / "mine.parquet"
        )


def test_there_may_be_none(tmp_path: Path, toy_store: ClassStore, monkeypatch: pytest.MonkeyPatch):
    here = replace(toy_store, root=tmp_path / "toy" / "store")
    monkeypatch.setattr(datasets, "load", lambda name: SimpleNamespace())
    with pytest.raises(MissingData, match="data prepare toy --attributes FILE"):
        ImageEpisodes(here, "train", SPEC, 0)
    here = brought(tmp_path, toy_store)
    with pytest.raises(DataError, match=r"of 3 attributes .* there are 2"):
        ImageEpisodes(here, "train", replace(SPEC, attributes=3), 0)
    with pytest.raises(DataError, match=r"set data\.rotations to 'none'"):
        ImageEpisodes(here, "train", replace(SPEC, rotations="as_classes"), 0)


def test_those_of_a_dataset_are_made_once(
    tmp_path: Path, toy_store: ClassStore, monkeypatch: pytest.MonkeyPatch
):
    made: list[str] = []

    def class_attributes(split: str) -> Any:
        made.append(split)
        return [(f"class-{c}", {"a": 9.0 + c, "b": 0.5 + c}) for c in range(8)]

    module = SimpleNamespace(class_attributes=class_attributes)
    monkeypatch.setattr(datasets, "load", lambda name: module)
    here = replace(toy_store, root=tmp_path / "toy" / "store")
    here.root.mkdir(parents=True)
    first, again = open_attributes(here), open_attributes(here)
    assert made == ["only"]
    assert (
        first.digest == again.digest == open_attributes(brought(tmp_path / "b", toy_store)).digest
    )


def test_strokes_have_their_programmes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(strokes, "ALPHABETS", (("train", 1),))
    monkeypatch.setattr(strokes, "CHARACTERS", 4)
    strokes._characters.cache_clear()
    try:
        found = dict(strokes.class_attributes())
        characters = strokes._characters()
    finally:
        strokes._characters.cache_clear()
    assert [c.class_name for c in characters] == list(found)
    for character in characters:
        own = found[character.class_name]
        assert len(own) == 36
        count = len(character.strokes)
        assert [own[f"stroke{n}"] for n in (1, 2, 3, 4)] == [
            float(n <= count) for n in (1, 2, 3, 4)
        ]
        assert own["stroke1_x1"] == character.strokes[0, 0, 0] / 10
        assert own[f"stroke{count}_y4"] == character.strokes[-1, 3, 1] / 10
        assert max(abs(v) for v in own.values()) < 3
        assert not any(v for n, v in own.items() if int(n[6]) > count)
