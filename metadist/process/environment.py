"""Variables that libraries read from the environment, there only as long as they are needed.

Several may ask at once, from any thread. What the user has set stays as it is.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping

_lock = threading.Lock()
_asked: list[Mapping[str, str]] = []
_ours: dict[str, str] = {}


@contextlib.contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set those that the user has not, inside this block; of several blocks the latest decides."""
    asked = dict(values)
    with _lock:
        _asked.append(asked)
        _apply(asked)
    try:
        yield
    finally:
        with _lock:
            _asked[:] = [other for other in _asked if other is not asked]
            _apply(asked)


@contextlib.contextmanager
def restored(*names: str) -> Iterator[None]:
    """At the end of the block these variables are what they were before, whoever has set them."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _apply(names: Mapping[str, str]) -> None:
    for name in names:
        if os.environ.get(name) not in (None, _ours.get(name)):
            _ours.pop(name, None)  # the user's own, perhaps set meanwhile
            continue
        wanted = next((asked[name] for asked in reversed(_asked) if name in asked), None)
        if wanted is None:
            os.environ.pop(name, None)
            _ours.pop(name, None)
        else:
            os.environ[name] = _ours[name] = wanted
