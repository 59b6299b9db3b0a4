"""Reaching a Ray cluster, or starting a private one."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator

import ray
import torch

from metadist.compute.device import Device, local_device
from metadist.errors import ResourceError
from metadist.executors.cluster.host_process import process_restored, uninterrupted
from metadist.executors.cluster.private_ray import private_ray
from metadist.executors.cluster.resources import group_size, too_few
from metadist.executors.cluster.worker_environment import ImportPath
from metadist.executors.world_size import WorldSize
from metadist.process.announce import Announce


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
            group_size(size, device, announce)
        return
    local_device(device)
    if (there := torch.cuda.device_count()) < size.low:
        raise too_few(size.low, "GPUs", there, ", or --device cpu")


@contextlib.contextmanager
def connected(address: str | None, workers: int, announce: Announce) -> Iterator[None]:
    """A connection to the cluster at ``address``, or to a private Ray that ends with the block.

    Without an address a private Ray is started, never whatever happens to be running here. It has
    at least as many logical CPUs as workers, so that more workers than cores work. What Ray changes
    in this process is put back.

    Raises:
        ResourceError: the address is malformed or nobody answers there.
    """
    with process_restored(), contextlib.ExitStack() as ends:
        if ray.is_initialized():
            announce("Using the Ray that this process is connected to already")
        elif address:
            _check_reachable(address)
            announce(f"Connecting to Ray at {address}")
            _join(address)
            ends.callback(ray.shutdown)
        else:
            ends.enter_context(private_ray(workers, announce))
        yield


def _join(address: str) -> None:
    try:
        with uninterrupted():
            ray.init(
                address=address,
                job_config=ImportPath([]),  # what is installed or submitted there
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ResourceError(f"--address {address}: {error}") from None
