"""Why a group of Ray workers has ended: what Ray raises, and what that came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data_pipeline.errors import DataError
from metadist.errors import MetadistError
from metadist.executors.cluster.resources import room

#: What Ray's trainer calls a group that has found no place in time; it does not export the class.
NO_PLACE = "WorkerGroupStartupTimeoutError"


def lasting_error(error: BaseException) -> MetadistError | DataError | None:
    """The error that another group would meet again, if that is what ended the workers."""
    return next((e for e in causes(error) if isinstance(e, MetadistError | DataError)), None)


def found_no_place(error: BaseException, workers: int, resources: dict[str, float]) -> bool:
    """Whether a group has found no place because others are there."""
    # The workers of a group that has not come to be cannot have said what the matter is.
    queued = any(type(cause).__name__ == NO_PLACE for cause in causes(error))
    return queued and room(resources) < workers


def causes(error: BaseException) -> Iterator[BaseException]:
    """What has ended the workers: the error itself, and all that it says it came from."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        failures = getattr(current, "worker_failures", None)
        if isinstance(failures, dict):
            todo.extend(failures.values())
        todo += [getattr(current, name, None) for name in ("cause", "controller_failure")]
        todo += [current.__cause__, current.__context__]
