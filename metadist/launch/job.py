"""What a worker needs to take part in a run, and what an operator is told about it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from metadist.engine.group import Group
from metadist.engine.loop import Run
from metadist.engine.orders import Orders
from metadist.engine.rundir import RunDir
from metadist.engine.watch import Watch
from metadist.errors import ResourceError
from metadist.plugins import Plugin, use

log = logging.getLogger(__name__)
Device = Literal["auto", "cpu", "cuda"]
#: Tells the operator something in one line.
Announce = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A run to be trained.

    Attributes:
        run: the run directory; all workers must see it at this path.
        data_dir: where prepared data lie, likewise.
        device: ``auto`` takes GPUs where there are any.
        plugins: the recipe's parts from outside; each worker imports them itself.
        watch, orders, tested: see :class:`metadist.engine.loop.Run`.
    """

    run: Path
    data_dir: Path
    device: Device = "auto"
    plugins: tuple[Plugin, ...] = ()
    watch: Watch | None = None
    orders: Orders | None = None
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
                watch=self.watch,
                orders=self.orders,
                tested=self.tested,
            )
            return run.train()


def local_device(device: Device) -> torch.device:
    """The device of a single process.

    Raises:
        ResourceError: ``cuda`` was asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ResourceError(
            "--device cuda: this machine has no GPU that torch can use; use --device cpu"
        )
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", 0)
