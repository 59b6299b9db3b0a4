"""Sources of episodes from outside that are opened stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest
from shard_sets import SINUSOID, Altered, assert_same

from data_pipeline.episodes.loader import Loader
from data_pipeline.episodes.sequence import EpisodeSequence
from data_pipeline.episodes.sources import (
    require_plain,
)
from data_pipeline.episodes.staged import (
    Parameters,
    Stage,
    StagedSource,
    open_stage,
    staged_identity,
)
from data_pipeline.episodes.types import EpisodeBatch, EpisodeSource
from data_pipeline.errors import DataError


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
    stage = Stage.at(Moved(), start)
    source, sequence = open_stage(Moved(), stage, "d", params), EpisodeSequence(None, 0)
    last = min(stop, stage.stop)
    with Loader(source, sequence, per_step=3, share=(0, 3), start=start, stop=last) as loader:
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
