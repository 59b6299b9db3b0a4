"""``metadist doctor``: what this machine can do, and what is missing.

It has to work where others cannot, so nothing but click and the standard library is needed to
load it; ``python -m metadist.cli.doctor`` is another way to start it.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import click

from metadist.cli import doctor_imports, doctor_packages, doctor_places, doctor_user, options
from metadist.cli.doctor_check import INSTALL, LITTLE, Check, brief, listed
from metadist.cli.options import available_cores, human_bytes

_PYTHON = (3, 11)
#: Parts whose look imports ``data_pipeline``; somebody else's is not run.
_NEED_OURS = ("numerics", "tracking")


@click.command()
@options.data_dir
@options.runs_dir
@options.tracking_uri
@options.as_json
def doctor(data_dir: str | None, runs_dir: str, tracking_uri: str | None, as_json: bool) -> None:
    """Say what this machine can do, what is missing and how to mend it.

    Ends with exit code 1 if something is missing without which runs cannot work.
    """
    checks = []
    for check in examine(data_dir, runs_dir, tracking_uri):
        click.echo(str(check), err=as_json)
        checks.append(check)
    failed = [check.name for check in checks if check.status == "FAIL"]
    if as_json:
        click.echo(json.dumps({"ok": not failed, "checks": [asdict(c) for c in checks]}))
    if failed:
        raise click.ClickException(
            f"{len(failed)} of {len(checks)} checks failed: {listed(failed)}"
        )


def examine(data_dir: str | None, runs_dir: str, tracking_uri: str | None) -> Iterator[Check]:
    """Look at everything, one thing after another."""
    parts: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("python", _python),
        ("packages", doctor_packages.packages),
        ("data_pipeline", doctor_packages.data_pipeline),
        ("imports", doctor_imports.imports),
        ("torch", _torch),
        ("numerics", _numerics),
        ("machine", _machine),
        ("user", doctor_user.user),
        ("data", lambda: doctor_places.data(data_dir)),
        ("runs", lambda: doctor_places.runs(runs_dir)),
        ("tracking", lambda: doctor_places.tracking(tracking_uri, runs_dir)),
        ("ray", doctor_places.ray),
    ]
    foreign = False
    for name, look in parts:
        if foreign and name in _NEED_OURS:
            yield Check(name, "warn", "not examined: it needs our own data_pipeline")
            continue
        try:
            for check in look():
                foreign = foreign or (check.name, check.status) == ("data_pipeline", "FAIL")
                yield check
        except Exception as error:
            # A broken installation fails in any way it likes; the rest is still worth a look.
            yield Check(name, "FAIL", f"could not be examined: {brief(error)}")


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < _PYTHON:
        need = ".".join(str(n) for n in _PYTHON)
        yield Check("python", "FAIL", found, f"{need} or newer is needed")
    elif os.name != "posix":
        yield Check("python", "FAIL", found, "Linux or macOS is needed (on Windows: WSL)")
    else:
        yield Check("python", "OK", f"{found}, {sys.executable}")


def _torch() -> Iterator[Check]:
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


def _numerics() -> Iterator[Check]:
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


def _machine() -> Iterator[Check]:
    cores = available_cores()
    plural = "s" if cores > 1 else ""
    yield Check("cores", "OK", f"{cores}: up to {cores} worker{plural} at full speed, a core each")
    total, free = _memory()
    if total is None or free is None:
        yield Check("memory", "OK", "unknown here")
    else:
        found = f"{human_bytes(total)}, {human_bytes(free)} free"
        little = free < LITTLE
        mend = "Ray, MLflow and two workers take about 2 GB" if little else ""
        yield Check("memory", "warn" if little else "OK", found, mend)


def _memory() -> tuple[int | None, int | None]:
    """(total, free) bytes of memory, a container's limit counted; None where unknown."""
    total = free = None
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == "MemTotal":
                total = 1024 * int(value.split()[0])
            elif key == "MemAvailable":
                free = 1024 * int(value.split()[0])
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # "max": no limit
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        if total is not None and free is not None:
            total, free = min(total, limit), min(free, max(0, limit - used))
    return total, free


if __name__ == "__main__":
    doctor()
