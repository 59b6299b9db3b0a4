"""What ``metadist doctor`` says of Python, torch and the machine."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from metadist.doctor.check import INSTALL, LITTLE, Check, brief
from metadist.process.resources import available_cores, human_bytes, memory

_PYTHON = (3, 11)


def python() -> Iterator[Check]:
    """The interpreter and the system."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < _PYTHON:
        need = ".".join(str(n) for n in _PYTHON)
        yield Check("python", "FAIL", found, f"{need} or newer is needed")
    elif os.name != "posix":
        yield Check("python", "FAIL", found, "Linux or macOS is needed (on Windows: WSL)")
    else:
        yield Check("python", "OK", f"{found}, {sys.executable}")


def torch() -> Iterator[Check]:
    """torch, and the GPUs it finds."""
    try:
        import torch
    except Exception as error:
        yield Check("torch", "FAIL", f"cannot be imported: {brief(error)}", INSTALL)
        return
    cuda = torch.version.cuda
    yield Check("torch", "OK", f"{torch.__version__}, {f'CUDA {cuda}' if cuda else 'CPU'} build")
    driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        for number in range(count):
            properties = torch.cuda.get_device_properties(number)
            memory = human_bytes(properties.total_memory)
            yield Check(f"gpu {number}", "OK", f"{properties.name}, {memory}")
    elif driver and not cuda:
        found = "an NVIDIA driver is there, but torch is a CPU build"
        yield Check("gpu", "warn", found, "install a CUDA build of torch to use it")
    elif driver:
        why = f" ({brief(caught[0].message)})" if caught else ""
        yield Check("gpu", "warn", f"an NVIDIA driver is there, but torch finds no GPU{why}")
    else:
        yield Check("gpu", "OK", "none; everything runs on the CPU")


def numerics() -> Iterator[Check]:
    """What decides the bits of arithmetic here."""
    try:
        import torch
    except Exception:
        return  # told above
    from metadist.compute.determinism import numerics, numerics_digest

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cuda = torch.cuda.is_available()
    for kind in ("cpu", "cuda") if cuda else ("cpu",):
        facts = numerics(torch.device(kind))
        what = facts.get("gpu", facts["cpu_capability"])
        digest = numerics_digest(facts)[:12]
        found = f"{digest} on {kind} ({what}): machines that differ here give other bits"
        yield Check("numerics", "OK", found)


def machine() -> Iterator[Check]:
    """Cores and memory."""
    cores = available_cores()
    plural = "s" if cores > 1 else ""
    yield Check("cores", "OK", f"{cores}: up to {cores} worker{plural} at full speed, a core each")
    total, free = memory()
    if total is None or free is None:
        yield Check("memory", "OK", "unknown here")
    else:
        found = f"{human_bytes(total)}, {human_bytes(free)} free"
        little = free < LITTLE
        mend = "Ray, MLflow and two workers take about 2 GB" if little else ""
        yield Check("memory", "warn" if little else "OK", found, mend)
