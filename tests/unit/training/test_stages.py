"""Episodes that depend on what has been learned: the same after any interruption."""

from __future__ import annotations

import pytest
import torch
from run_place import Boom, Place, die_before, files, losses
from tiers import one_in

from metadist.errors import RecipeError
from metadist.runs import checkpoints
from metadist.training.trainer import Trainer

#: Lines whose slope is drawn around the mean of the parameters before their stage.
FOLLOWERS = '''"""Lines that follow the learner."""

import numpy as np

from data_pipeline.episode_sources import SourceSpec
from data_pipeline.episodes.sources import identity_of
from data_pipeline.episodes.staged import staged_identity
from data_pipeline.episodes.types import EpisodeBatch, stack
from data_pipeline.rng import Stream, fold

PART = "episode_source"
SPEC = SourceSpec("followers", "lines that follow the learner", version=1)


class Lines:
    def __init__(self, identity, around):
        self.identity, self._around = identity, around
        self._key = fold("followers", identity.part, identity.seed)
        self.schema = self.episodes([0]).schema

    def _one(self, index):
        spec = self.identity.spec
        stream = Stream(self._key, index)
        slope = self._around + 10.0 * stream.uniforms(1)[0]
        columns = {}
        for name, count in (("support", spec.shots), ("query", spec.queries)):
            x = stream.uniforms(count)[:, None]
            columns[name + "_x"] = x.astype(np.float32)[None]
            columns[name + "_y"] = (slope * x).astype(np.float32)[None]
        return EpisodeBatch(np.array([index]), columns)

    def episodes(self, ids):
        return stack([self._one(int(i)) for i in ids])


class Followed:
    stages = 5

    def __init__(self, identity):
        self.identity = identity
        self.schema = Lines(identity, 0.0).schema

    def stage(self, number, params_digest, params):
        # In the order that they stand in: that of the network, also after a restart.
        around = number + 10.0 * float(next(iter(params.values())).mean())
        return Lines(staged_identity(self.identity, number, params_digest), around)


def open(part, spec, seed):
    """Lines of a part: those of training follow the parameters."""
    identity = identity_of(SPEC, part, spec, seed)
    return Followed(identity) if part == "train" else Lines(identity, 0.0)
'''


@pytest.fixture
def followers(place: Place) -> dict[str, object]:
    path = place.runs.parent / "followers.py"
    path.write_text(FOLLOWERS)
    return {"plugins": [str(path)]}


SET = ("data.dataset=followers", "inner.lr=0.1")


@pytest.mark.slow
@pytest.mark.parametrize("step", one_in(2, [5, 7]))
def test_resumed_in_a_stage_is_uninterrupted(
    place: Place, followers, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """With checkpoints after every step, and after every fourth: within stages and between."""
    expected = place.train(*SET, name="whole", **followers)
    for every in (1, 4):
        name, more = f"broken{every}", (*SET, f"run.checkpoint_every={every}")
        with monkeypatch.context() as patch:
            die_before(patch, step)
            with pytest.raises(Boom):
                place.train(*more, name=name, **followers)
        result = place.train(*more, name=name, resume="auto", **followers)
        assert result["params_sha256"] == expected["params_sha256"]
        assert losses(place.run(name)) == losses(place.run("whole"))
        assert files(place.run(name)) == files(place.run("whole"))


@pytest.mark.slow
def test_stages_follow_the_parameters(
    place: Place, followers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint holds those of its stage; a stage that kept the first ones is another run."""
    more = (*SET, "run.checkpoint_every=3", "run.keep=9")
    place.train(*more, name="a", **followers)
    kept = [checkpoints.load(checkpoints.directory(place.run("a"), at))[0] for at in (3, 6, 9)]
    assert all(set(state.stage_params) == set(state.params) for state in kept)
    assert differ(kept[0], kept[1])
    assert not differ(kept[1], kept[2])

    def first_only(self: Trainer) -> None:
        self.stage_params = self.stage_params or {n: p.clone() for n, p in self.params.items()}

    monkeypatch.setattr(Trainer, "begin_stage", first_only)
    place.train(*more, name="b", **followers)
    a, b = (losses(place.run(name)) for name in ("a", "b"))
    assert a[:5] == b[:5]
    assert a[5] != b[5]


def differ(one: checkpoints.TrainState, other: checkpoints.TrainState) -> bool:
    """Whether the parameters before their stages differ."""
    return any(not torch.equal(p, other.stage_params[n]) for n, p in one.stage_params.items())


def test_stages_cannot_be_stored(place: Place, followers) -> None:
    with pytest.raises(RecipeError, match=r"data.storage: episodes of followers depend on the"):
        place.train(*SET, "data.storage=shards", name="a", **followers)
