"""Episodes as they are written to shards, and a look at whether they came back."""

from __future__ import annotations

from data_pipeline.episodes import EpisodeBatch, EpisodeSpec
from data_pipeline.functions import FunctionEpisodes

SINUSOID = FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 10, 10), 0)
FIRST_SHARD = "episodes-train-000000.tar"


def assert_same(got: EpisodeBatch, expected: EpisodeBatch) -> None:
    """Bit for bit."""
    ours, theirs = got.arrays(), expected.arrays()
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        assert (array.dtype, array.shape) == (theirs[name].dtype, theirs[name].shape)
        assert array.tobytes() == theirs[name].tobytes()
