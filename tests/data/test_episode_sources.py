"""Sources of episodes from outside: held to the contract, sharded, opened stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from plugin_files import EPISODES
from shard_sets import SINUSOID, assert_same

from data_pipeline import registry
from data_pipeline.episode_sources import SourceSpec, source_digest
from data_pipeline.episodes.loader import Loader
from data_pipeline.episodes.sequence import EpisodeSequence
from data_pipeline.episodes.sources import (
    SourceRecipe,
    identity_of,
    live_source,
    open_source,
    require_identity,
    require_plain,
)
from data_pipeline.episodes.staged import (
    Parameters,
    Stage,
    StagedSource,
    open_stage,
    stage_loader,
    staged_identity,
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


class Altered:
    """A source that is not what it ought to be."""

    def __init__(self, inner: Any, **changes: Any) -> None:
        self.identity, self.schema = inner.identity, inner.schema
        self.episodes = inner.episodes
        vars(self).update(changes)


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


# --- stages ---------------------------------------------------------------------------------------


class Moved:
    """Sinusoids that are moved by the mean of the parameters before the stage."""

    stages = 4
    identity = SINUSOID.identity
    schema = SINUSOID.schema

    def stage(self, number: int, params_digest: str, params: Parameters) -> EpisodeSource:
        by = np.float32(number + sum(float(p.mean()) for p in params.values()))

        def episodes(ids: Sequence[int]) -> EpisodeBatch:
            batch = SINUSOID.episodes(ids)
            return EpisodeBatch(batch.ids, {**batch.columns, "query_y": batch.query_y + by})

        identity = staged_identity(self.identity, number, params_digest)
        return cast(EpisodeSource, Altered(SINUSOID, identity=identity, episodes=episodes))


PARAMS = {"w": np.full((2, 2), 0.5)}


def read(start: int, stop: int, params: Parameters = PARAMS) -> list[tuple[int, EpisodeBatch]]:
    sizes = {"per_step": 3, "share": (0, 3)}
    loader: Loader = stage_loader(
        Moved(),
        EpisodeSequence(None, 0),
        params_digest="d",
        params=params,
        start=start,
        stop=stop,
        **cast(Any, sizes),
    )
    with loader:
        return list(loader)


def test_a_loader_ends_with_its_stage() -> None:
    assert isinstance(Moved(), StagedSource)
    assert not isinstance(SINUSOID, StagedSource)
    assert [step for step, _ in read(0, 100)] == [0, 1, 2, 3]
    assert [step for step, _ in read(6, 100)] == [6, 7]
    assert [step for step, _ in read(8, 10)] == [8, 9]
    assert Stage.at(Moved(), 11) == Stage(2, 8, 12)


def test_a_stage_that_is_resumed_draws_the_same() -> None:
    whole, rest = dict(read(4, 100)), dict(read(6, 100))
    for step, batch in rest.items():
        assert_same(batch, whole[step])
    plain = SINUSOID.episodes(range(12, 15)).query_y
    assert np.array_equal(whole[4].query_y, plain + np.float32(1.5))
    other = dict(read(4, 100, {"w": np.zeros(1)}))
    assert not np.array_equal(other[4].query_y, whole[4].query_y)


def test_the_identity_of_a_stage_names_its_parameters() -> None:
    stages = [(0, "a"), (0, "b"), (1, "a")]
    opened = [open_stage(Moved(), Stage(n, 0, 4), d, PARAMS).identity for n, d in stages]
    assert len({identity.digest for identity in opened}) == 3
    assert opened[1].as_dict()["payload"] == {"stage": 0, "params_sha256": "b"}


def test_a_stage_that_is_another_is_refused() -> None:
    class Forgetful(Moved):
        def stage(self, number: int, params_digest: str, params: Parameters) -> EpisodeSource:
            return SINUSOID

    with pytest.raises(DataError, match=r"stage 1 has the identity.*staged_identity\(\) makes it"):
        open_stage(Forgetful(), Stage(1, 4, 8), "d", PARAMS)

    class Still(Moved):
        stages = 0

    with pytest.raises(DataError, match="at least 1 outer step, its source says stages = 0"):
        Stage.at(Still(), 0)


def test_staged_episodes_are_for_training_alone() -> None:
    with pytest.raises(DataError, match=r"depend on the parameters \(they are staged\)"):
        require_plain(Moved())
    assert require_plain(SINUSOID) is SINUSOID
