"""What a cluster has: for a group of workers, and for the trials of a search."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import ray

from metadist.compute.device import Device
from metadist.errors import ResourceError, Terminated
from metadist.executors.world_size import WorldSize
from metadist.process.announce import Announce

#: Seconds within which a cluster must show the resources that a run asks for.
PATIENCE = 20.0
#: Seconds of waiting after which the operator is told.
SAID_AFTER = 5.0


@dataclass(frozen=True)
class Resources:
    """What trials may take.

    Attributes:
        concurrent: trials at once.
        cpus, gpus: of each trial's own process, which may be fractions. A trial that has workers
            of its own computes nothing itself.
    """

    concurrent: int
    cpus: float
    gpus: float = 0.0

    @property
    def bundle(self) -> dict[str, float]:
        """As Ray wants it, which takes no reservation of nothing."""
        return {"memory": 2**20} if self.bare else {"CPU": self.cpus, "GPU": self.gpus}

    @property
    def bare(self) -> bool:
        """Whether a trial's own process computes nothing."""
        return not (self.cpus or self.gpus)


def capacity(
    workers: int, cpus: float, gpus: float | None, asked: int | None, device: Device
) -> Resources:
    """How many trials fit at once on the cluster this process is connected to.

    Args:
        workers: Ray workers of each trial; 0 and 1: the trial's own process computes.
        cpus, gpus: of each trial's process or, with workers, of each worker; None: a GPU if there
            are any and the device may be one.
        asked: not more than so many.

    Raises:
        ResourceError: not even one fits, or the device is of another kind than what is asked for.
    """
    there: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if gpus is None:
        gpus = 1.0 if device != "cpu" and there.get("GPU", 0.0) >= 1 else 0.0
    if device == "cuda" and not gpus:
        raise ResourceError("--device cuda: the cluster has no GPUs; use --device cpu")
    if device == "cpu" and gpus:
        raise ResourceError(f"--device cpu with {gpus:g} GPUs per trial: one of them must go")
    fits = asked or 10**6
    for kind, each in (("CPU", cpus), ("GPU", gpus)):
        needed = each * max(workers, 1)
        if needed <= 0:
            continue
        have = there.get(kind, 0.0)
        at_once = int((have + 1e-9) // needed)
        if at_once < 1:
            raise ResourceError(
                f"{max(workers, 1)} x {each:g} {kind}s are needed at once, the cluster has "
                f"{have:g}; add nodes, or ask for fewer workers or a smaller share for each"
            )
        fits = min(fits, at_once)
    # Workers reserve for themselves, all or nothing; the trial only waits for them.
    return Resources(fits, 0.0, 0.0) if workers > 1 else Resources(fits, cpus, gpus)


def group_size(
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
    asked, began = asked or threading.Event(), time.monotonic()
    free, said = -1, False
    while True:
        there: Mapping[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 0))
        use_gpu = device == "cuda" or (device == "auto" and gpus > 0)
        have = gpus if use_gpu else cpus
        waited = time.monotonic() - began
        if have >= size.low:
            resources = {"CPU": 1.0, "GPU": 1.0} if use_gpu else {"CPU": 1.0}
            before, free = free, room(resources)
            # What a group that has just ended had is free again only a moment later.
            settled = free == before >= size.low
            if not size.elastic or settled or waited > patience:
                return max(size.low, min(free, size.high)), resources
        elif waited > patience:
            other = ", or --device cpu" if use_gpu and cpus >= size.low else ""
            raise too_few(size.low, "GPUs" if use_gpu else "CPUs", have, other)
        elif not said and waited > SAID_AFTER:
            said = True
            announce(f"Waiting for nodes: {have} of {size.low} workers have a place")
        if asked.wait(0.5):
            raise Terminated


def too_few(workers: int, kind: str, have: int, other: str) -> ResourceError:
    """The error of a group that has no place; ``other`` says what else could be done."""
    return ResourceError(
        f"--workers {workers} needs {workers} {kind}, the cluster has {have}; ask for at most "
        f"{have} workers, add nodes{other}"
    )


def room(resources: Mapping[str, float]) -> int:
    """How many workers that reserve so much have a place on the cluster now, beside all others."""
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    # It lags behind, the dead included; what is there at all is known at once.
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free = {kind: min(amount, there.get(kind, 0.0)) for kind, amount in free.items()}
    return min(int(free.get(kind, 0.0) // each) for kind, each in resources.items())
