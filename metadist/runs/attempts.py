"""What happened to a run: its attempts one after another, and what was lost between them.

Made from what the run directory holds of each attempt: the step it began from, the size of its
group and its own log.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from metadist.process.code import code_digest
from metadist.runs.log import by_attempt
from metadist.runs.run_dir import RunDir

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Span:
    """One attempt.

    Attributes:
        attempt: its number.
        world_size: workers of its group.
        first, last: steps done when it began and when it last wrote of training; equal if it did
            not come to a step.
        began, ended: times of its first and last point, in milliseconds since 1970; None if it
            wrote none.
        redone: steps that the attempts before had done and this one had to do again.
        lost: seconds in which nothing was gained: from the last point of the attempt before to
            the first step of this one that is new. None where it cannot be told.
    """

    attempt: int
    world_size: int
    first: int
    last: int
    began: int | None
    ended: int | None
    redone: int
    lost: float | None


def history(run: RunDir) -> list[Span]:
    """The attempts of a run, in order.

    Raises:
        RunError, DataError: the record of an attempt is damaged.
    """
    spans: list[Span] = []
    reached = 0  # the furthest step so far
    stopped: int | None = None  # when somebody last wrote
    logs = by_attempt(run)
    for number in range(1, run.latest_attempt() + 1):
        facts = run.attempt_facts(number)
        first = facts.get("from_step")
        if not isinstance(first, int):
            continue  # it was killed between claiming the run and choosing a checkpoint
        trained = [p for p in logs.get(number, []) if p.metric == "train/loss"]
        steps = [p.step for p in trained]
        last = max(steps, default=first)
        began = min((p.time for p in trained), default=None)
        ended = max((p.time for p in logs.get(number, [])), default=None)
        new = min((p.time for p in trained if p.step > reached), default=None)
        lost = None if stopped is None or new is None else max(new - stopped, 0) / 1000
        redone = max(min(reached, last) - first, 0) if spans else 0
        size = facts.get("world_size")
        workers = size if isinstance(size, int) else 1
        spans.append(Span(number, workers, first, last, began, ended, redone, lost))
        reached = max(reached, last)
        stopped = ended if ended is not None else stopped
    return spans


def bits_of(run: RunDir, numerics: dict[str, Any]) -> Literal["verified", "unverified"]:
    """Unverified once a run has been continued under other numerics or by other code; a warning
    says so.

    Args:
        numerics: of this process.
    """
    code = code_digest()
    for number in range(1, run.latest_attempt() + 1):
        facts = run.attempt_facts(number)
        if facts["numerics"] != numerics:
            other = "under other numerics (torch build, kernels, CPU or GPU)"
        elif facts.get("code", code) != code:
            other = f"by other code (attempt {number}: {facts['code'][:12]}, now {code[:12]})"
        else:
            continue
        log.warning(
            "%s was computed %s before: its bits can no longer be compared with an "
            "uninterrupted run",
            run.path,
            other,
        )
        return "unverified"
    return "verified"


def losses(spans: Sequence[Span]) -> dict[str, float]:
    """Totals, as points of the log: attempts beyond the first, steps done twice, seconds lost."""
    return {
        "perf/restarts": float(max(len(spans) - 1, 0)),
        "perf/steps_redone": float(sum(s.redone for s in spans)),
        "perf/seconds_lost": sum(s.lost or 0.0 for s in spans),
    }
