"""Sources of episodes from outside: held to the contract, and sharded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from plugin_files import EPISODES
from shard_sets import Altered, assert_same

from data_pipeline import registry
from data_pipeline.episode_sources import SourceSpec, source_digest
from data_pipeline.episodes.sources import (
    SourceRecipe,
    identity_of,
    live_source,
    open_source,
    require_drawn,
    require_identity,
    require_plain,
)
from data_pipeline.episodes.types import Column, EpisodeBatch, EpisodeSource, EpisodeSpec, ordered
from data_pipeline.errors import DamagedData, DataError
from data_pipeline.shards.layout import DATASET_FILE
from data_pipeline.shards.reader import ShardSource, open_shards
from data_pipeline.shards.verify import verify_shards
from data_pipeline.shards.writer import write_shards
from data_pipeline.storage import local

SPEC = EpisodeSpec(3, 2, 4)


@pytest.fixture
def clusters() -> Iterator[SimpleNamespace]:
    """The plugin of ``plugin_files``, as ``clusters``."""
    module = SimpleNamespace(__name__="clusters")
    exec(EPISODES.format(name="clusters"), vars(module))
    with registry.registered("episode_source", "clusters", cast(ModuleType, module)):
        yield module


def plain(spec: EpisodeSpec = SPEC, seed: int = 0) -> EpisodeSource:
    return require_plain(open_source("clusters", "train", spec, seed))


# --- from outside ---------------------------------------------------------------------------------


def test_a_source_from_outside_is_opened(clusters) -> None:
    live = plain()
    assert live.identity.kind == "source"
    assert live.identity.dataset_digest == source_digest(clusters.SPEC)
    assert dict(live.schema) == {
        "support_x": Column("float32", (6, 2)),
        "support_y": Column("int64", (6,)),
        "support_mask": Column("bool", (6,)),
        "query_x": Column("float32", (12, 2)),
        "query_y": Column("int64", (12,)),
        "query_mask": Column("bool", (12,)),
        "centres": Column("float64", (3, 2)),
    }
    assert_same(live_source(live.identity).episodes([3]), live.episodes([3]))
    with pytest.raises(DataError, match="cannot be made again in another process; use writers=1"):
        SourceRecipe.of(live)
    with pytest.raises(DataError, match=r"unknown source of episodes 'cluster'.*'clusters'"):
        open_source("cluster", "train", SPEC, 0)


def test_any_columns_go_through_shards(clusters, tmp_path: Path) -> None:
    live = plain()
    write_shards(live, 100, tmp_path / "set", episodes_per_shard=64)
    held = open_shards(tmp_path / "set", live.identity, 100)
    assert list(held.schema.items()) == list(live.schema.items())
    ids = [99, *range(100)]
    assert_same(held.episodes(ids), live.episodes(ids))
    assert verify_shards(tmp_path / "set", deep=True) == []
    with pytest.raises(DataError, match="payload 'index' needs episodes over a class store"):
        write_shards(live, 64, tmp_path / "other", payload="index")


def test_shards_are_checked_where_the_plugin_is_not(clusters, tmp_path: Path) -> None:
    write_shards(plain(), 64, tmp_path / "set")
    registry._plugins.pop(("episode_source", "clusters"))
    try:
        assert verify_shards(tmp_path / "set", deep=True) == []
    finally:
        registry._plugins["episode_source", "clusters"] = clusters


@pytest.mark.parametrize(
    "change",
    [
        lambda columns: columns.pop("support_y"),
        lambda columns: columns["centres"].update(dtype="object"),
        lambda columns: columns["centres"].update(dtype="<U9"),
        lambda columns: columns["centres"].update(shape=[]),
        lambda columns: columns["centres"].update(shape=[0, 2]),
        lambda columns: columns["centres"].update(shape=[10**9, 10**9]),
        lambda columns: columns.update(id={"dtype": "int64", "shape": [1]}),
        lambda columns: columns.update({"../x": {"dtype": "int64", "shape": [1]}}),
        lambda columns: columns.update(more={"dtype": "int64", "shape": [1]}),
    ],
)
def test_columns_that_cannot_be_are_refused(change, clusters, tmp_path: Path) -> None:
    write_shards(plain(), 64, tmp_path / "set")
    body = local.read_sealed_json(tmp_path / "set" / DATASET_FILE)
    change(body["columns"])
    local.write_sealed_json(tmp_path / "set" / DATASET_FILE, body)
    with pytest.raises(DamagedData):
        ShardSource(tmp_path / "set").episodes([0])


def test_a_column_that_cannot_be_stored_is_named(clusters, tmp_path: Path) -> None:
    live = plain()
    texts = Altered(live, schema={**live.schema, "names": Column("str32", (2,))})
    with pytest.raises(DataError, match=r"episodes of clusters cannot be stored: .*'names'"):
        write_shards(cast(EpisodeSource, texts), 64, tmp_path / "set")


def restless(inner: Any) -> Altered:
    calls: list[int] = []

    def episodes(ids: Sequence[int]) -> EpisodeBatch:
        calls.append(1)
        batch = inner.episodes(ids)
        batch.columns["query_x"][...] += len(calls)
        return cast(EpisodeBatch, batch)

    return Altered(inner, episodes=episodes)


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (restless, "episode 0 is another when it is drawn again (column 'query_x')"),
        (
            lambda inner: Altered(inner, identity=replace(inner.identity, seed=1)),
            "seed: demanded 0, got 1",
        ),
        (
            lambda inner: Altered(inner, identity=replace(inner.identity, dataset_digest="0")),
            "dataset_digest: demanded",
        ),
        (
            lambda inner: Altered(inner, identity=replace(inner.identity, kind="images")),
            "the kind 'images' is taken",
        ),
        (
            lambda inner: Altered(inner, schema={"support_x": inner.schema["support_x"]}),
            "missing ['support_y', 'query_x', 'query_y']",
        ),
        (
            lambda inner: Altered(
                inner, schema={**inner.schema, "support_y": Column("int32", (6,))}
            ),
            "labels are int64 and values float32 or float64, support_y is int32",
        ),
        (
            lambda inner: Altered(inner, schema={**inner.schema, "more": Column("int64", (1,))}),
            "its schema promises",
        ),
        (
            lambda inner: Altered(inner, episodes=lambda ids: inner.episodes(sorted(ids))),
            "episodes [1, 0] were asked for, got [0, 1]",
        ),
    ],
)
def test_what_breaks_the_contract_is_refused(alter, said: str, clusters, monkeypatch) -> None:
    opened = clusters.Clusters("train", SPEC, 0)
    monkeypatch.setattr(clusters, "open", lambda part, spec, seed: alter(opened))
    with pytest.raises(DataError) as error:
        open_source("clusters", "train", SPEC, 0)
    assert said in str(error.value)


def altered(**columns: Column) -> Any:
    """With other columns in the schema."""
    return lambda inner: Altered(inner, schema={**inner.schema, **columns})


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"support_y": Column("float32", (6,))}, "support_y is float32 [6]; values are [n, E]"),
        ({"support_y": Column("int64", (6, 1))}, "support_y is int64 [6, 1]; labels are [n]"),
        ({"support_y": Column("float16", (6, 1))}, "values float32 or float64, support_y is float"),
        ({"query_y": Column("float32", (12, 1))}, "query_y is float32 [12, 1]; labels are [n]"),
        ({"support_y": Column("int64", (5,))}, "support_y is int64 [5], support_x float32 [6, 2]"),
        ({"query_x": Column("float64", (12, 2))}, "support_x float32 [6, 2]; they may differ in"),
        ({"query_x": Column("float32", (12, 3))}, "support_x float32 [6, 2]; they may differ in"),
        ({"unlabeled_x": Column("float32", (4, 3))}, "unlabeled_x is float32 [4, 3], support_x"),
        ({"unlabeled_y": Column("int64", (4,))}, "unlabeled_x is needed"),
        ({"support_x": Column("float32", (6,))}, "support_x is float32 [6]; inputs are [n, ...]"),
        ({"support_x": Column("uint8", (6, 2))}, "images uint8 are [n, H, W, C]"),
        ({"query_mask": Column("float32", (12,))}, "a mask is bool [n]"),
        ({"query_weight": Column("float32", (6,))}, "both have n rows"),
        ({"slot": Column("int64", (1,))}, "must not be called ids or id or slot, got ['slot']"),
        ({"ids": Column("int64", (1,))}, "must not be called ids or id or slot, got ['ids']"),
        ({"class_ids": Column("int64", (2,))}, "class_ids are int64 [3]"),
    ],
)
def test_columns_that_are_no_tasks_are_refused(columns, said, clusters, monkeypatch, tmp_path):
    opened = clusters.Clusters("train", SPEC, 0)
    monkeypatch.setattr(clusters, "open", lambda part, spec, seed: altered(**columns)(opened))
    with pytest.raises(DataError) as error:
        open_source("clusters", "train", SPEC, 0)
    assert said in str(error.value)
    write_shards(opened, 64, tmp_path / "set")
    body = local.read_sealed_json(tmp_path / "set" / DATASET_FILE)
    new = {n: {"dtype": c.dtype, "shape": list(c.shape)} for n, c in columns.items()}
    body["columns"].update(new)
    local.write_sealed_json(tmp_path / "set" / DATASET_FILE, body)
    with pytest.raises(DamagedData) as damaged:
        ShardSource(tmp_path / "set")
    assert said in str(damaged.value)


@pytest.mark.parametrize(
    ("column", "value", "classes", "said"),
    [
        ("support_y", 3, 0, "labels of 'support_y' lie in [0, 3], not in [0, 2]"),
        ("query_y", -1, 0, "labels of 'query_y' lie in [-1, 2], not in [0, 2]"),
        ("class_ids", 20, 5, "SPEC.classes = 5 lie in [0, 20], not in [0, 19]"),
        ("class_ids", -4, 5, "SPEC.classes = 5 lie in [-4, 0], not in [0, 19]"),
        ("class_ids", 0, 0, "SPEC.classes = 0 lie in [0, 0]"),
        ("class_ids", 19, 5, ""),
    ],
)
def test_labels_and_classes_that_are_none_are_refused(
    column, value, classes, said, clusters, monkeypatch
):
    opened = clusters.Clusters("train", SPEC, 0)
    more = {"class_ids": Column("int64", (3,))} if classes or column == "class_ids" else {}

    def episodes(ids: Sequence[int]) -> EpisodeBatch:
        batch = opened.episodes(ids)
        zeros = {name: np.zeros((len(ids), 3), np.int64) for name in more}
        columns = {**batch.columns, **zeros}
        columns[column][:, 0] = value
        return EpisodeBatch(batch.ids, columns)

    source = Altered(opened, episodes=episodes, schema={**opened.schema, **more})
    monkeypatch.setattr(clusters, "open", lambda part, spec, seed: source)
    monkeypatch.setattr(clusters, "SPEC", replace(clusters.SPEC, classes=classes))
    if not said:
        assert open_source("clusters", "train", SPEC, 0) is source
        return
    with pytest.raises(DataError) as error:
        open_source("clusters", "train", SPEC, 0)
    assert said in str(error.value)


def test_shards_of_other_columns_than_are_drawn_now_are_refused(clusters, tmp_path: Path) -> None:
    live = plain()
    write_shards(live, 64, tmp_path / "set")
    held = open_shards(tmp_path / "set", live.identity, 64)
    require_drawn(held, 64, live, "these")
    schema = dict(live.schema)
    less = {name: column for name, column in schema.items() if name != "centres"}
    for other in (less, schema | {"hint": Column("float32", (1,))}):
        with pytest.raises(DataError, match="its code has changed"):
            require_drawn(held, 64, cast(EpisodeSource, Altered(live, schema=other)), "these")


@pytest.mark.parametrize("field", ["dataset", "dataset_digest"])
def test_a_dataset_that_is_no_text_is_refused(field: str, clusters, tmp_path: Path) -> None:
    write_shards(plain(), 64, tmp_path / "set")
    body = local.read_sealed_json(tmp_path / "set" / DATASET_FILE)
    body["identity"][field] = 5
    local.write_sealed_json(tmp_path / "set" / DATASET_FILE, body)
    with pytest.raises(DamagedData, match="impossible identity"):
        ShardSource(tmp_path / "set")


def test_what_its_code_raises_is_one_line(clusters) -> None:
    with pytest.raises(DataError, match=r"train episodes of .*ways=0.*: IndexError: "):
        open_source("clusters", "train", EpisodeSpec(0, 1, 1), 0)


def test_the_payload_is_part_of_an_identity() -> None:
    known = SourceSpec("x", "x", 1)
    bare, more = (identity_of(known, "train", SPEC, 0, p) for p in (None, {"level": 3}))
    assert bare.digest != more.digest
    assert more.as_dict()["payload"] == {"level": 3}
    assert len({bare, more}) == 2
    with pytest.raises(DataError, match=r"payload: demanded \{'level': 3\}, got None"):
        require_identity(bare, more, "these")


def test_columns_have_one_order() -> None:
    names = ["latent", "query_y", "unlabeled_x", "support_z", "support_y", "class_ids", "support_x"]
    assert (
        ordered(names)
        == ordered(reversed(names))
        == [
            *(
                "support_x",
                "support_y",
                "support_z",
                "query_y",
                "unlabeled_x",
                "class_ids",
                "latent",
            )
        ]
    )
