"""A run to be trained, as its driver hands it to an executor and that to each worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from metadist.compute.collectives import Group
from metadist.compute.device import Device
from metadist.compute.setup import Setup
from metadist.executors.world_size import IN_PROCESS, WorldSize
from metadist.plugins import Plugin, use
from metadist.runs.run_dir import RunDir
from metadist.training.loop import TrainingLoop
from metadist.training.run_control import RunControl


@dataclass(frozen=True)
class Job:
    """A run directory to be worked at.

    Attributes:
        run: the run directory; all workers must see it at this path.
        data_dir: where prepared data lie, likewise.
        workers: Ray workers; of none, this process trains alone.
        address: of their Ray cluster; None: a private Ray.
        device: ``auto`` takes GPUs where there are any.
        plugins: the recipe's parts from outside; each worker imports them itself.
        controls: asked between steps what becomes of the run, the first first; an executor adds its
            own, which says what the driver is signalled and when nodes come and go.
        tested: evaluate on test classes at the end.
        setup: what this process has opened already; None: each worker opens its own.
        profiled: record some outer steps.
    """

    run: Path
    data_dir: Path
    workers: WorldSize = IN_PROCESS
    address: str | None = None
    device: Device = "auto"
    plugins: tuple[Plugin, ...] = ()
    controls: tuple[RunControl, ...] = ()
    tested: bool = True
    setup: Setup | None = None
    profiled: bool = False

    def train(self, group: Group, device: torch.device) -> dict[str, Any]:
        """Take part in the run as one worker of ``group``; see :meth:`TrainingLoop.train`.

        Raises:
            PluginError: this worker cannot import a plugin, or has another source of it.
        """
        with use(self.plugins):
            run = RunDir(self.run)
            setup = self.setup or Setup.open(run.recipe(), self.data_dir)
            loop = TrainingLoop(
                run,
                setup,
                group,
                device,
                self.controls,
                tested=self.tested,
                profiled=self.profiled,
            )
            return loop.train()
