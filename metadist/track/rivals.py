"""Several processes that use a fresh store at the same moment, and what a store makes of it."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

#: Attempts, and the seconds that the first waits at most; each later one twice as long.
_ATTEMPTS = 6
_SECONDS = 0.2
#: What SQLite, PostgreSQL, MySQL and SQL Server say where two have looked for a row, found none and
#: made it.
_RIVAL = re.compile(
    r"IntegrityError|UNIQUE constraint|duplicate key|Duplicate entry|RESOURCE_ALREADY_EXISTS"
    r"|deadlock",
    re.IGNORECASE,
)
# Not the process's generator, whose state is its user's.
_random = random.Random()


def with_rivals(action: Callable[[], Result]) -> Result:
    """The result of what may be done again, and is if another process has got in between."""
    for number in range(_ATTEMPTS - 1):
        try:
            return action()
        except Exception as error:
            if not _RIVAL.search(str(error)):
                raise
            time.sleep(_random.uniform(0, _SECONDS * 2**number))
    return action()
