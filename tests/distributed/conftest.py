"""One private Ray for all tests of a module: starting it takes longer than a test.

Not for the whole session: Ray may hang when it is shut down after minutes without work.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def private_ray() -> Iterator[None]:
    """Ray with four logical CPUs, whatever the machine has."""
    import ray

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    # Ray sets it; a process that a test starts shall begin as it does in a user's shell.
    os.environ.pop("RAY_AUTH_MODE", None)
    yield
    ray.shutdown()
