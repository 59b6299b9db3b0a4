"""Where the runs of a table are at work: on this machine, or on the nodes of a Ray cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from metadist.executors.local_process import on_this_machine
from metadist.executors.pool import Start
from metadist.process.announce import Announce
from metadist.process.resources import available_cores
from metadist.reproduce.plan import Request


@contextlib.contextmanager
def place(
    request: Request, address: str | None, jobs: int | None, announce: Announce
) -> Iterator[tuple[Start, int]]:
    """What starts a request's commands while the block runs, and how many at once.

    Runs with workers of their own only wait for them: they stay here. Nothing of Ray is imported
    unless runs go to a cluster.

    Args:
        jobs: at once, if somebody has said.

    Raises:
        ResourceError: nobody answers at the address, or the cluster has no place for a run.
    """
    # Not among the arguments: a password in it would be written down, and seen by all.
    given = {"MLFLOW_TRACKING_URI": request.tracking_uri, "RAY_ADDRESS": address}
    variables = {name: value for name, value in given.items() if value}
    if address is None or request.workers:
        yield (
            on_this_machine(variables),
            jobs or max(1, available_cores() // (request.workers or 1)),
        )
        return
    from metadist.executors.cluster.connection import connected
    from metadist.executors.cluster.remote_process import on_cluster
    from metadist.executors.cluster.resources import capacity

    with connected(address, 1, announce):
        resources = capacity(0, 1.0, None, jobs, request.device)
        yield on_cluster(resources, variables), resources.concurrent
