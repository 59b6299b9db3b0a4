"""What a worker needs to take part in a run, and what an operator is told about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metadist.compute.collectives import Group
from metadist.compute.device import Device, check_device, local_device
from metadist.executors.world_size import IN_PROCESS, WorldSize
from metadist.plugins import Plugin, use
from metadist.process.announce import Announce
from metadist.runs.run_dir import RunDir
from metadist.training.loop import Run
from metadist.training.run_control import RunControl


@dataclass(frozen=True)
class Job:
    """A run to be trained.

    Attributes:
        run: the run directory; all workers must see it at this path.
        data_dir: where prepared data lie, likewise.
        workers: Ray workers; of none, this process trains alone.
        address: of their Ray cluster; None: a private Ray.
        device: ``auto`` takes GPUs where there are any.
        plugins: the recipe's parts from outside; each worker imports them itself.
        control, tested: see :class:`metadist.training.loop.Run`.
    """

    run: Path
    data_dir: Path
    workers: WorldSize = IN_PROCESS
    address: str | None = None
    device: Device = "auto"
    plugins: tuple[Plugin, ...] = ()
    control: RunControl | None = None
    tested: bool = True

    def train(self, group: Group, device: torch.device) -> dict[str, Any]:
        """Take part in the run as one worker of ``group``; the run's result.

        Raises:
            PluginError: this worker cannot import a plugin, or has another source of it.
        """
        with use(self.plugins):
            run = Run(
                RunDir(self.run),
                self.data_dir,
                group,
                device,
                control=self.control,
                tested=self.tested,
            )
            return run.train()


def check_place(size: WorldSize, device: Device, address: str | None, announce: Announce) -> None:
    """See that there is a place to compute, before anything is begun that would be computed there.

    Args:
        address: of the Ray cluster of workers.

    Raises:
        ResourceError: there is none; see also :func:`check_device`.
    """
    check_device(device)
    if size.high:
        from metadist.executors.cluster.connection import check_workers

        check_workers(size, device, address, announce)
    else:
        local_device(device)
