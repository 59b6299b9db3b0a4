"""Where the time of outer steps goes: a trace of some of them, and a page that sums it up."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from data_pipeline.storage.local import write_atomic

log = logging.getLogger(__name__)

#: Steps that are let pass until memory and caches are warm, and steps that are recorded.
PASSED, RECORDED = 3, 10
#: What :class:`~metadist.training.trainer.Trainer` marks, in the order of a step.
PHASES = ("tasks", "gradients", "sum over workers", "outer update")
MARK = "metadist: "
#: Operators on the page.
ROWS = 15


class StepProfile:
    """Records some outer steps of one worker.

    Args:
        folder: where the trace and the page go.
        what: the page's first words.
    """

    def __init__(self, folder: Path, rank: int, what: str) -> None:
        self._folder, self._rank, self._what = folder, rank, what
        self._seen = 0
        self._open = ExitStack()
        self._profile: profile | None = None

    def before_step(self) -> None:
        """A step begins."""
        if self._seen == PASSED:
            kinds = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                kinds.append(ProfilerActivity.CUDA)
            self._profile = self._open.enter_context(profile(activities=kinds))
        self._seen += 1

    def after_step(self) -> None:
        """A step is over; when enough of them are recorded, they are written."""
        if self._seen - PASSED == RECORDED:
            self.close()

    def close(self) -> None:
        """No more steps come, or none is to be recorded; what was recorded is written, once."""
        recorded = self._seen - PASSED
        if recorded < 1:
            log.warning(
                "No outer step was recorded: the first %d pass, this run took %d",
                PASSED,
                self._seen,
            )
        if self._profile is None:
            return
        self._open.close()
        done, self._profile = self._profile, None
        self._folder.mkdir(exist_ok=True)
        trace = self._folder / f"trace-{self._rank}.json"
        done.export_chrome_trace(str(trace))
        page = breakdown(done, recorded, self._what)
        write_atomic(self._folder / f"breakdown-{self._rank}.txt", page.encode())


def breakdown(done: profile, steps: int, what: str) -> str:
    """The page: milliseconds of a step by phase, and the operators that take most of the time."""
    events = {event.key: event for event in done.key_averages()}
    spans = [(e.time_range.start, e.time_range.end) for e in done.events() or ()]  # type: ignore[no-untyped-call]
    whole = (max(end for _, end in spans) - min(start for start, _ in spans)) / 1000 / steps
    marked = {name: events[MARK + name] for name in PHASES if MARK + name in events}
    phases = [(name, event.cpu_time_total / 1000 / steps) for name, event in marked.items()]
    rest = whole - sum(time for _, time in phases)
    lines = [f"{what}: {steps} outer steps, {whole:.2f} ms each", ""]
    for name, time in (*phases, ("between: waiting for episodes, log, validation", rest)):
        lines.append(f"{time:10.2f} ms {time / whole:6.1%}  {name}")
    lines += ["", "Operators by their own time, in a step:", ""]
    operators = [e for e in events.values() if not e.key.startswith(MARK)]
    for event in sorted(operators, key=lambda e: e.self_cpu_time_total, reverse=True)[:ROWS]:
        time = event.self_cpu_time_total / 1000 / steps
        calls = event.count / steps
        lines.append(f"{time:10.2f} ms {time / whole:6.1%}  {event.key} ({calls:.0f} calls)")
    return "\n".join(lines) + "\n"
