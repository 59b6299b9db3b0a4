"""A Ray of this process alone, on this machine, that ends with it."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import ray
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from metadist.errors import ResourceError
from metadist.executors.cluster.host_process import uninterrupted
from metadist.executors.cluster.ray_files import did_not_start, private_directory, ray_directory
from metadist.executors.cluster.ray_processes import in_own_sessions, shut_down
from metadist.executors.cluster.worker_environment import same_import_path
from metadist.process.announce import Announce
from metadist.process.environment import restored, variables

#: Ray gives workers a low priority by default: anything else on a laptop would starve them. All
#: workers are on this machine, where nobody else need reach them.
_ENVIRONMENT = {
    "RAY_worker_niceness": "0",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}
#: What Ray writes into the environment of this process when it starts a private one. Its processes
#: listen on all of the machine's addresses; unless the variable says otherwise, Ray makes a token
#: and lets nobody in without it. To set the variable here would be too late: Ray has read it.
_SET_BY_RAY = ("RAY_AUTH_MODE",)
_TOKEN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@contextlib.contextmanager
def private_ray(workers: int, announce: Announce) -> Iterator[None]:
    """A connection to a Ray that ends with the block; see :func:`connection.connected`.

    Raises:
        ResourceError: it does not start; the message says why.
    """
    cores = os.cpu_count() or 1
    if workers > cores:
        announce(f"{workers} workers on {cores} cores: they share cores and take turns")
    announce(f"Starting a private Ray for {workers} worker{'s' if workers > 1 else ''}")
    with (
        private_directory(announce) as place,
        restored(*_SET_BY_RAY),
        variables(_ENVIRONMENT),
        _own_token(place),
    ):
        try:
            _start(place, max(cores, workers) + 1)
            yield
        finally:
            shut_down()


def _start(place: Path, cpus: int) -> None:
    try:
        with uninterrupted(), in_own_sessions(), same_import_path() as arguments:
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,  # a GB of memory
                logging_level=logging.ERROR,
                log_to_driver=False,
                _temp_dir=ray_directory(place),
                **arguments,
            )
    except Exception as error:  # Ray raises bare ones where a process does not come up
        raise ResourceError(did_not_start(place, error)) from error


@contextlib.contextmanager
def _own_token(directory: Path) -> Iterator[None]:
    """A token for this Ray alone, unless the user has named one.

    Ray would make one in the home directory, which need not be there, for all of the machine to
    read; and whatever Ray the user starts later would want it. Others cannot read ``directory``.
    """
    if any(os.environ.get(name) for name in _TOKEN):
        yield
        return
    path = directory / "token"
    path.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    AuthenticationTokenLoader.instance().reset_cache()
    try:
        yield
    finally:
        del os.environ["RAY_AUTH_TOKEN_PATH"]
        AuthenticationTokenLoader.instance().reset_cache()
