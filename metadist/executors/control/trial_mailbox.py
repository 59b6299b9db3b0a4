"""How rank 0 of a worker group asks its trial, in another process, whether it goes on: by files.

Both see the run directory; nothing else need connect them.
"""

from __future__ import annotations

import json
import math
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.storage.local import write_atomic
from metadist.errors import RunError
from metadist.training.run_control import Command, Progress

#: Takes a trial's step and best score so far, and says whether it goes on.
Report = Callable[[int, float], bool]
#: Seconds between looks.
POLL_SECONDS = 0.1
#: Seconds after which a trial that does not answer is taken to be gone.
PATIENCE = 600.0


@dataclass(frozen=True)
class TrialMailbox:
    """A directory in which rank 0 asks after each validation, and the trial answers."""

    directory: Path
    judges = True

    def clear(self) -> None:
        """Forget what an earlier worker group has asked."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)

    def command(self, progress: Progress) -> Command:
        """What the trial says; see :class:`metadist.training.run_control.RunControl`.

        Raises:
            RunError: it says nothing.
        """
        step, best = progress.step, progress.best
        question = {"step": step, "best": best if math.isfinite(best) else None}
        reply = self.directory / f"answer-{step:010d}.json"
        write_atomic(self.directory / f"ask-{step:010d}.json", json.dumps(question).encode())
        deadline = time.monotonic() + PATIENCE
        while not reply.exists():
            if time.monotonic() > deadline:
                raise RunError(
                    f"{self.directory}: the trial has not answered for {PATIENCE:g} s; its process "
                    "has died, or does not see this directory"
                )
            time.sleep(POLL_SECONDS)
        return "go" if json.loads(reply.read_text())["goes_on"] else "stop"

    def answer(self, report: Report, over: threading.Event) -> None:
        """Answer what is asked until ``over`` is set."""
        while True:
            last = over.is_set()
            for path in sorted(self.directory.glob("ask-*.json")):
                question = json.loads(path.read_text())
                step = int(question["step"])
                reply = self.directory / f"answer-{step:010d}.json"
                if reply.exists():
                    continue
                best = math.nan if question["best"] is None else float(question["best"])
                write_atomic(reply, json.dumps({"goes_on": report(step, best)}).encode())
            if last:
                return
            over.wait(POLL_SECONDS)
