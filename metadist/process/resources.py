"""What this machine has for a process: cores and memory, a container's limits counted."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Cores that this process may use: affinity and a container's quota counted."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        quota, period = (_CONTROL_GROUP / "cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def memory() -> tuple[int | None, int | None]:
    """(total, free) bytes of memory; None where unknown."""
    total = free = None
    with contextlib.suppress(OSError, ValueError):
        lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
        found = {key: 1024 * int(kilobytes) for key, kilobytes, *_ in lines}
        total, free = found.get("MemTotal:"), found.get("MemAvailable:")
    with contextlib.suppress(OSError, ValueError):  # "max": no limit
        limit = int((_CONTROL_GROUP / "memory.max").read_text())
        used = int((_CONTROL_GROUP / "memory.current").read_text())
        if total is not None and free is not None:
            total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


def human_bytes(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
