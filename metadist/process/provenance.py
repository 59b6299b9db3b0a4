"""Where figures come from: which source, machine and day.

Every driver of a run notes it under ``made_by`` in run.json.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

#: What is noted.
KEYS = ("commit", "metadist", "machine", "python", "torch", "date")


def provenance() -> dict[str, str]:
    """:data:`KEYS` of this moment."""
    return {
        "commit": _own_commit(),
        "metadist": version("metadist"),
        "machine": machine(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }


def versions() -> dict[str, str]:
    """Versions of what decides a run's behaviour."""
    names = ("metadist", "torch", "numpy", "pyarrow", "ray", "mlflow", "webdataset")
    return {"python": platform.python_version(), "platform": sys.platform} | {
        name: version(name) for name in names
    }


@functools.cache
def _own_commit() -> str:
    # What is imported does not change while it runs.
    return commit(Path(__file__).resolve().parents[1])


def commit(package: Path) -> str:
    """The commit that the package is of, with ``+changes`` if files differ; else its version.

    A package that was installed into somebody's checkout is not of that checkout's commit. One
    that was sent from a checkout names its commit in a file.
    """
    sent = package / "COMMIT"
    if sent.is_file():
        return sent.read_text().strip()

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(package), *words],
                capture_output=True,
                text=True,
                timeout=30,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "HEAD")
    if not head or git("ls-files", "--error-unmatch", "__init__.py") is None:
        return f"version {version('metadist')}"
    return f"{head}+changes" if git("status", "--porcelain", "--", ".") else head


def machine() -> str:
    """The processor's name, how many cores this process may use, and the system."""
    name = platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
        name = next(models, name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {platform.system()}"
