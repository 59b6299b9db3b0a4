"""The loader gives each worker its share of every step, in order, and ends when it is told to."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.loader import Loader
from data_pipeline.episodes.sequence import EpisodeSequence
from data_pipeline.episodes.types import EpisodeBatch, EpisodeSpec, Identity, Schema
from data_pipeline.errors import DamagedData

LIVE = FunctionEpisodes("sinusoid", "train", EpisodeSpec(0, 5, 5), 0)


class Probe:
    """A source that tells who asked for what, and does as it is told first."""

    def __init__(self, before: Callable[[Sequence[int]], None] = lambda ids: None) -> None:
        self.asked: list[list[int]] = []
        self.threads: set[int] = set()
        self._before = before

    @property
    def identity(self) -> Identity:
        return LIVE.identity

    @property
    def schema(self) -> Schema:
        return LIVE.schema

    def episodes(self, ids: Sequence[int]) -> EpisodeBatch:
        self.asked.append(list(ids))
        self.threads.add(threading.get_ident())
        self._before(ids)
        return LIVE.episodes(ids)


def loader_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "episode-loader"]


@pytest.fixture(autouse=True)
def _no_thread_stays():
    yield
    deadline = time.monotonic() + 5
    while loader_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not loader_threads()


@pytest.mark.parametrize("length", [None, 100])
def test_steps_come_in_order_with_the_episodes_of_the_share(length: int | None) -> None:
    sequence = EpisodeSequence(length, 0)
    with Loader(LIVE, sequence, per_step=7, share=(2, 5), start=13, stop=40) as loader:
        steps = []
        for step, batch in loader:
            steps.append(step)
            expected = LIVE.episodes(sequence.ids(step * 7 + 2, step * 7 + 5))
            assert np.array_equal(batch.ids, expected.ids)
            assert np.array_equal(batch.support_x, expected.support_x)
    assert steps == list(range(13, 40))


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_shares_of_any_number_of_workers_make_up_the_step(workers: int) -> None:
    sequence = EpisodeSequence(50, 0)
    cuts = [5 * worker // workers for worker in range(workers + 1)]
    loaders = [
        Loader(LIVE, sequence, per_step=5, share=(a, b), start=0, stop=25)
        for a, b in itertools.pairwise(cuts)
    ]
    for step, batches in enumerate(zip(*loaders, strict=True)):
        assert [s for s, _ in batches] == [step] * workers
        ids = np.concatenate([batch.ids for _, batch in batches])
        assert ids.tolist() == sequence.ids(5 * step, 5 * step + 5)
    for loader in loaders:
        loader.close()


def test_empty_share_keeps_in_step() -> None:
    source = Probe()
    with Loader(source, EpisodeSequence(9, 0), per_step=4, share=(4, 4), start=2, stop=6) as loader:
        got = list(loader)
    assert [step for step, _ in got] == [2, 3, 4, 5]
    for _, batch in got:
        assert len(batch) == 0
        assert batch.support_x.shape == (0, 5, 1)
        assert batch.query_y.dtype == np.float32
        assert batch.columns["latent"].shape == (0, 2)
    assert source.asked == []


def test_nothing_to_do_ends_at_once() -> None:
    with Loader(LIVE, EpisodeSequence(9, 0), per_step=4, share=(0, 4), start=3, stop=3) as loader:
        assert list(loader) == []


def test_iteration_goes_on_where_it_stopped() -> None:
    with Loader(LIVE, EpisodeSequence(9, 0), per_step=2, share=(0, 2), start=0, stop=5) as loader:
        for step, _ in loader:
            if step == 1:
                break
        assert [step for step, _ in loader] == [2, 3, 4]
        assert list(loader) == []


def test_prefetch_is_bounded_and_in_the_background() -> None:
    source = Probe()
    with Loader(
        source, EpisodeSequence(None, 0), per_step=1, share=(0, 1), start=0, stop=100, prefetch=3
    ) as loader:
        steps = iter(loader)
        deadline = time.monotonic() + 5
        while len(source.asked) < 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        assert source.asked == [[0], [1], [2]]
        assert next(steps)[0] == 0
    assert threading.get_ident() not in source.threads
    assert len(source.threads) == 1


def test_errors_arrive_after_the_batches_before_them() -> None:
    error = DamagedData("shard so-and-so")

    def before(ids: Sequence[int]) -> None:
        if 3 in ids:
            raise error

    sequence = EpisodeSequence(None, 0)
    with Loader(Probe(before), sequence, per_step=1, share=(0, 1), start=0, stop=9) as loader:
        with pytest.raises(DamagedData) as caught:
            list(loader)
        assert caught.value is error
        # It does not turn into a silent end.
        with pytest.raises(DamagedData):
            next(iter(loader))
    steps = iter(Loader(Probe(before), sequence, per_step=1, share=(0, 1), start=0, stop=9))
    assert [next(steps)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(DamagedData):
        next(steps)


def test_close_ends_a_waiting_thread_promptly() -> None:
    loader = Loader(LIVE, EpisodeSequence(None, 0), per_step=1, share=(0, 1), start=0, stop=10**9)
    next(iter(loader))
    began = time.monotonic()
    loader.close()
    loader.close()
    assert time.monotonic() - began < 2
    assert not loader_threads()
    with pytest.raises(RuntimeError, match="closed"):
        next(iter(loader))


def test_waiting_is_counted() -> None:
    slow = Probe(lambda ids: time.sleep(0.05))
    sequence = EpisodeSequence(None, 0)
    with Loader(slow, sequence, per_step=1, share=(0, 1), start=0, stop=4) as loader:
        assert loader.waited == 0
        assert len(list(loader)) == 4
        assert 0.1 < loader.waited < 5
    with Loader(LIVE, sequence, per_step=1, share=(0, 1), start=0, stop=2) as loader:
        while loader_threads():
            time.sleep(0.01)
        assert len(list(loader)) == 2
        assert loader.waited < 0.2


def test_the_callers_sequence_is_left_alone() -> None:
    sequence = EpisodeSequence(100, 0)
    expected = EpisodeSequence(100, 0).ids(0, 2000)
    with Loader(LIVE, sequence, per_step=10, share=(0, 10), start=0, stop=200) as loader:
        for step, batch in loader:
            # The consumer looks at other epochs meanwhile.
            assert sequence.ids(1990 - step, 2000 - step) == expected[1990 - step : 2000 - step]
            assert batch.ids.tolist() == expected[step * 10 : step * 10 + 10]


@pytest.mark.parametrize(
    "change",
    [
        {"share": (3, 2)},
        {"share": (0, 5)},
        {"share": (-1, 2)},
        {"start": 5, "stop": 4},
        {"start": -1},
        {"prefetch": 0},
        {"per_step": 0, "share": (0, 0)},
    ],
)
def test_impossible_requests_are_refused(change) -> None:
    request = {"per_step": 4, "share": (0, 4), "start": 0, "stop": 4, "prefetch": 2, **change}
    with pytest.raises(ValueError, match="must"):
        Loader(LIVE, EpisodeSequence(None, 0), **request)
