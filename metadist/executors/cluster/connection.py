"""Reaching a Ray cluster, or starting a private one, and asking whether it has what a run needs."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterator

import ray
import torch

from metadist.compute.device import Device, local_device
from metadist.errors import ResourceError, Terminated
from metadist.executors.cluster.code_path import Imports, importing_as_here
from metadist.executors.cluster.private_ray import apart, own_token, shut_down
from metadist.executors.cluster.ray_files import did_not_start, private_directory, ray_directory
from metadist.executors.world_size import WorldSize
from metadist.process.announce import Announce
from metadist.process.environment import restored, variables
from metadist.process.signals import HANGING, StopRequest, kept

#: Seconds within which a cluster must answer and show the resources that a run asks for.
PATIENCE = 20.0
#: The environment of a private Ray. Ray gives workers a low priority by default: anything else on a
#: laptop would starve them. All workers are on this machine, where nobody else need reach them.
PRIVATE = {
    "RAY_worker_niceness": "0",
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
}
#: What Ray writes into the environment of this process when it starts a private one. Its processes
#: listen on all of the machine's addresses; unless the variable says otherwise, Ray makes a token
#: and lets nobody in without it. To set the variable here would be too late: Ray has read it.
OF_RAY = ("RAY_AUTH_MODE",)
#: Seconds of waiting after which the operator is told.
SAID_AFTER = 5.0


def _check_reachable(address: str) -> None:
    """Fail fast where ``ray.init`` would wait a minute."""
    if address in ("auto", "local"):
        return
    if "://" in address:
        raise ResourceError(
            f"--address {address!r}: the address of the cluster's head is needed, as host:port; "
            "Ray Client addresses cannot carry a training run"
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ResourceError(f"--address {address!r}: host:port is needed, as in 10.0.0.1:6379")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            pass
    except OSError as error:
        raise ResourceError(
            f"--address {address}: no Ray head answers there ({error}); check that "
            "'ray start --head' runs and that this machine may reach it"
        ) from None


def check_workers(size: WorldSize, device: Device, address: str | None, announce: Announce) -> None:
    """See that workers have a place to compute, before anything is begun that they would work at.

    Raises:
        ResourceError: nobody answers at the address, or there are too few GPUs for ``cuda``.
    """
    if address:
        _check_reachable(address)
    if device != "cuda":
        return
    if address or ray.is_initialized():
        with connected(address, size.high, announce):
            group_for(size, device, announce)
        return
    local_device(device)
    if (there := torch.cuda.device_count()) < size.low:
        raise ResourceError(_too_few(size.low, "GPUs", there, ", or --device cpu"))


@contextlib.contextmanager
def connected(address: str | None, workers: int, announce: Announce) -> Iterator[None]:
    """A connection to the cluster at ``address``, or to a private Ray that ends with the block.

    Without an address a private Ray is started, never whatever happens to be running here. It has
    at least as many logical CPUs as workers, so that more workers than cores work.

    Raises:
        ResourceError: the address is malformed or nobody answers there.
    """
    if ray.is_initialized():
        announce("Using the Ray that this process is connected to already")
        yield
        return
    if address:
        _check_reachable(address)
        announce(f"Connecting to Ray at {address}")
        try:
            with _undisturbed():
                ray.init(
                    address=address,
                    job_config=Imports([]),  # what is installed or submitted there
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ResourceError(f"--address {address}: {error}") from None
    else:
        cores = os.cpu_count() or 1
        if workers > cores:
            announce(f"{workers} workers on {cores} cores: they share cores and take turns")
        announce(f"Starting a private Ray for {workers} worker{'s' if workers > 1 else ''}")
        with (
            private_directory(announce) as place,
            restored(*OF_RAY),
            variables(PRIVATE),
            own_token(place),
        ):
            try:
                try:
                    with _undisturbed(), apart(), importing_as_here() as how:
                        ray.init(
                            address="local",
                            num_cpus=max(cores, workers) + 1,
                            include_dashboard=False,  # a GB of memory
                            logging_level=logging.ERROR,
                            log_to_driver=False,
                            _temp_dir=ray_directory(place),
                            **how,
                        )
                except Exception as error:  # Ray raises bare ones where a process does not come up
                    raise ResourceError(did_not_start(place, error)) from error
                yield
            finally:
                shut_down()
        return
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """A first signal waits until Ray has connected: half a connection ends the process with a
    crash, whatever exit status it would have had. A second one does not wait.

    Raises:
        Terminated: a signal has come.
    """
    with StopRequest() as asked:
        try:
            with kept():
                yield
        except KeyboardInterrupt:
            HANGING.set()
            raise
    asked.check()


def group_for(
    size: WorldSize,
    device: Device,
    announce: Announce,
    patience: float = PATIENCE,
    asked: threading.Event | None = None,
) -> tuple[int, dict[str, float]]:
    """How many workers there shall be now, and what each reserves: a GPU where there are, or a CPU.

    An elastic run takes what is free; one of a fixed size waits in Ray's queue for what others use.

    Args:
        patience: seconds to wait for nodes that may still be joining.
        asked: set when the driver is to end.

    Raises:
        ResourceError: the cluster does not have enough, after that time.
        Terminated: asked to end meanwhile.
    """
    asked = asked or threading.Event()
    began, free = time.monotonic(), -1
    waiting = False
    while True:
        there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus, cpus = int(there.get("GPU", 0)), math.floor(there.get("CPU", 0))
        use_gpu = device == "cuda" or (device == "auto" and gpus > 0)
        have = gpus if use_gpu else cpus
        resources: dict[str, float] = {"CPU": 1, "GPU": 1} if use_gpu else {"CPU": 1}
        over = time.monotonic() - began > patience
        if have >= size.low:
            before, free = free, room(resources)
            if not size.elastic or over:
                return max(size.low, min(free, size.high)), resources
            # What a group that has just ended had is free again only a moment later.
            if free == before >= size.low:
                return min(free, size.high), resources
        elif over:
            break
        elif not waiting and time.monotonic() - began > SAID_AFTER:
            waiting = True
            announce(f"Waiting for nodes: {have} of {size.low} workers have a place")
        if asked.wait(0.5):
            raise Terminated
    kind = "GPUs" if use_gpu else "CPUs"
    other = ", or --device cpu" if use_gpu and cpus >= size.low else ""
    raise ResourceError(_too_few(size.low, kind, have, other))


def _too_few(workers: int, kind: str, have: int, other: str) -> str:
    return (
        f"--workers {workers} needs {workers} {kind}, the cluster has {have}; ask for at most "
        f"{have} workers, add nodes{other}"
    )


def room(resources: dict[str, float]) -> int:
    """How many workers that reserve so much have a place on the cluster now, beside all others."""
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    # It lags behind, the dead included; what is there at all is known at once.
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free = {kind: min(amount, there.get(kind, 0.0)) for kind, amount in free.items()}
    return min(int(free.get(kind, 0.0) // each) for kind, each in resources.items())
