"""The episodes of one worker, prefetched by a background thread while the worker computes."""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue

from data_pipeline.episodes.sequence import EpisodeSequence
from data_pipeline.episodes.types import EpisodeBatch, EpisodeSource

#: How long ``close`` waits for the batch that is being read.
_CLOSE_SECONDS = 5.0


class Loader:
    """The episodes of one worker's share of every outer step, prefetched.

    Step t of a run owns positions ``[t * per_step, (t + 1) * per_step)`` of the sequence; this
    worker's share are the positions ``t * per_step + share[0]`` to ``t * per_step + share[1] - 1``.
    Which episodes a step consists of therefore depends neither on the number of workers nor on
    where a run was resumed.

    Iterating gives ``(step, batch)`` for ``start <= step < stop``. A worker whose share is empty
    gets a batch of length 0 with the usual trailing shapes and dtypes, once per step, so that it
    keeps in step with the others. Each step is given once: a second ``for`` goes on where the
    first one stopped. Use it as a context manager, or call :meth:`close`.

    Args:
        source: random access to episodes; read by the background thread only while in use here,
            unless it is safe to share (all sources of this package are).
        sequence: which episode stands at which position; copied.
        per_step: episodes of one outer step over all workers.
        share: this worker's half-open slice of ``[0, per_step)``.
        start, stop: half-open range of steps.
        prefetch: how many batches may wait in memory (at least 1).

    Raises:
        ValueError: the share, the range of steps or ``prefetch`` is impossible.
    """

    def __init__(
        self,
        source: EpisodeSource,
        sequence: EpisodeSequence,
        *,
        per_step: int,
        share: tuple[int, int],
        start: int,
        stop: int,
        prefetch: int = 2,
    ) -> None:
        if not 0 <= share[0] <= share[1] <= per_step or per_step < 1:
            raise ValueError(f"share must be a slice of [0, {per_step}), got {share}")
        if not 0 <= start <= stop:
            raise ValueError(f"steps must satisfy 0 <= start <= stop, got {start} and {stop}")
        if prefetch < 1:
            raise ValueError(f"prefetch must be at least 1, got {prefetch}")
        self._source = source
        # A sequence remembers the epoch it is in, so two threads must not share one.
        self._sequence = copy.deepcopy(sequence)
        self._per_step = per_step
        self._share = share
        self._steps = range(start, stop)
        self._empty: EpisodeBatch | None = None
        self._room = threading.Semaphore(prefetch)
        #: Batches by step; the last is what ended the thread, an error or None.
        self._ready: SimpleQueue[tuple[int, EpisodeBatch] | BaseException | None] = SimpleQueue()
        self._closed = False
        #: Seconds the consumer has spent waiting for episodes so far.
        self.waited = 0.0
        self._thread = threading.Thread(target=self._run, name="episode-loader", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[int, EpisodeBatch]]:
        """Yield ``(step, batch)`` in order.

        Raises:
            RuntimeError: the loader was closed.
            Exception: whatever reading an episode raised, after all batches before it.
        """
        while True:
            began = time.perf_counter()
            item = self._ready.get()
            self.waited += time.perf_counter() - began
            if self._closed or not isinstance(item, tuple):
                self._ready.put(item)  # for whoever asks again
            if self._closed:
                raise RuntimeError("this loader is closed; make a new one to read on")
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            self._room.release()
            yield item

    def close(self) -> None:
        """End the background thread and drop what it has read; may be called twice."""
        self._closed = True
        self._room.release()
        with contextlib.suppress(Empty):
            while True:
                self._ready.get_nowait()
        self._ready.put(None)
        # The thread is a daemon: a read that hangs (a dead network disk) does not hold us here.
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_SECONDS)

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        ended: BaseException | None = None
        try:
            for step in self._steps:
                self._room.acquire()
                if self._closed:
                    return
                self._ready.put((step, self._read(step)))
        except BaseException as error:
            # Whatever it is belongs to the consumer; a thread that dies silently is a hang.
            ended = error
        finally:
            self._ready.put(ended)

    def _read(self, step: int) -> EpisodeBatch:
        first = step * self._per_step
        low, high = self._share
        if low < high:
            return self._source.episodes(self._sequence.ids(first + low, first + high))
        if self._empty is None:
            self._empty = EpisodeBatch.empty(self._source.schema)
        return self._empty
