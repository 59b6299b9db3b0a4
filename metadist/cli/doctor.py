"""``metadist doctor``: what this machine can do, and what is missing.

It has to work where others cannot, so nothing but click and the standard library is needed to
load it; ``python -m metadist.cli.doctor`` is another way to start it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import sqlite3
import sys
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import click

import metadist
from metadist.cli import options
from metadist.cli.options import available_cores, human_bytes

Status = Literal["OK", "warn", "FAIL"]

#: Seconds to wait for a server.
PATIENCE = 3.0
_GIB = 1024**3
#: Below this much free disk or memory a run is likely to fail.
_LITTLE = 2 * _GIB
_PYTHON = (3, 11)
#: Files without which an imported ``data_pipeline`` is not the one of this project.
_MARKERS = ("class_store.py", "episodes.py", "shard_writer.py")
#: Parts whose look imports ``data_pipeline``; somebody else's is not run.
_NEED_OURS = ("numerics", "tracking")
_INSTALL = "pip install metadist (in a checkout: make setup)"


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at.
        status: ``FAIL`` if training or evaluating cannot work like this.
        found: what there is.
        mend: what to do about it; empty if nothing is to be done.
    """

    name: str
    status: Status
    found: str
    mend: str = ""

    def __str__(self) -> str:
        mend = f"; {self.mend}" if self.mend else ""
        return f"{self.status:4}  {self.name:13}  {self.found}{mend}"


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
        raise click.ClickException(f"{len(failed)} of {len(checks)} checks failed: {_list(failed)}")


def examine(data_dir: str | None, runs_dir: str, tracking_uri: str | None) -> Iterator[Check]:
    """Look at everything, one thing after another."""
    parts: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("python", _python),
        ("packages", _packages),
        ("data_pipeline", _data_pipeline),
        ("torch", _torch),
        ("numerics", _numerics),
        ("machine", _machine),
        ("data", lambda: _data(data_dir)),
        ("runs", lambda: _folder("runs", Path(runs_dir).absolute(), "")),
        ("tracking", lambda: _tracking(tracking_uri, runs_dir)),
        ("ray", _ray),
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
            yield Check(name, "FAIL", f"could not be examined: {_brief(error)}")


def _python() -> Iterator[Check]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < _PYTHON:
        need = ".".join(str(n) for n in _PYTHON)
        yield Check("python", "FAIL", found, f"{need} or newer is needed")
    elif os.name != "posix":
        yield Check("python", "FAIL", found, "Linux or macOS is needed (on Windows: WSL)")
    else:
        yield Check("python", "OK", f"{found}, {sys.executable}")


def _packages() -> Iterator[Check]:
    """The installed distribution and everything it asks for; nothing is imported."""
    here = Path(metadist.__file__).resolve().parent
    try:
        installed = importlib.metadata.version("metadist")
    except importlib.metadata.PackageNotFoundError:
        yield Check("metadist", "FAIL", f"found at {here} but not installed", _INSTALL)
        return
    found = f"{metadist.__version__} at {here}"
    if installed == metadist.__version__:
        yield Check("metadist", "OK", found)
    else:
        yield Check("metadist", "warn", f"{found}, installed as {installed}", _INSTALL)
    good: list[str] = []
    for requirement in importlib.metadata.requires("metadist") or []:
        wanted, _, marker = requirement.partition(";")
        extra = re.search(r"""extra\s*==\s*['"]([\w-]+)['"]""", marker)
        if extra and extra[1] == "dev":
            continue
        (name,) = re.findall(r"^[\w.-]+", wanted)
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if extra:
                mend = f"for it: pip install 'metadist[{extra[1]}]'"
                yield Check(name, "warn", f"not installed; only {extra[1]!r} needs it", mend)
            else:
                yield Check(name, "FAIL", "not installed", f"pip install '{wanted.strip()}'")
            continue
        if _satisfies(wanted, version):
            good.append(f"{name} {version}")
        else:
            yield Check(
                name, "warn", f"{version}, {wanted.strip()} is asked for", "pip install that"
            )
    yield Check("packages", "OK", ", ".join(good))


def _satisfies(wanted: str, version: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return True
    return bool(Requirement(wanted).specifier.contains(version, prereleases=True))


def _data_pipeline() -> Iterator[Check]:
    """Whether the ``data_pipeline`` that Python imports is ours: others use that name too."""
    name = "data_pipeline"
    home = Path(metadist.__file__).resolve().parent.parent / name
    missing = [marker for marker in _MARKERS if not (home / marker).is_file()]
    claims = set(importlib.metadata.packages_distributions().get(name, ())) - {"metadist"}
    others = _list(sorted(claims))
    spec = importlib.util.find_spec(name)
    origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve().parent
    if missing:
        found = f"{home} lacks {_list(missing)}"
        yield Check(name, "FAIL", found, f"install metadist anew: {_INSTALL}")
    elif origin != home:
        whose = f"of {others}" if others else "a folder of that name earlier on Python's path"
        yield Check(
            name,
            "FAIL",
            f"not ours: Python imports {origin or 'nothing'} ({whose}), ours is {home}",
            "use a virtual environment of its own, or rename or uninstall the other",
        )
    elif changed := _overwritten(name):
        whose = others or "something else"
        yield Check(
            name,
            "FAIL",
            f"{home} was overwritten by {whose}: {_list(changed[:3])}",
            "uninstall the other and install metadist anew, or use a virtual environment",
        )
    elif others:
        yield Check(
            name,
            "warn",
            f"ours, {home}; but {others} installs a package of that name too",
            "uninstall it, or use a virtual environment of its own",
        )
    else:
        yield Check(name, "OK", f"ours, {home}")


def _overwritten(package: str) -> list[str]:
    """Files of a package that are not what was installed; none can be told in a checkout."""
    changed = []
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("metadist") or []:
            if file.parts[0] != package or file.hash is None or file.hash.mode != "sha256":
                continue
            path = Path(str(file.locate()))
            digest = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b""
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                changed.append(str(file))
    return changed


def _torch() -> Iterator[Check]:
    try:
        import torch
    except Exception as error:
        yield Check("torch", "FAIL", f"cannot be imported: {_brief(error)}", _INSTALL)
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
        why = f" ({_brief(caught[0].message)})" if caught else ""
        yield Check("gpu", "warn", f"an NVIDIA driver is there, but torch finds no GPU{why}")
    else:
        yield Check("gpu", "OK", "none; everything runs on the CPU")


def _numerics() -> Iterator[Check]:
    """What decides the bits of arithmetic here."""
    try:
        import torch
    except Exception:
        return  # told above
    from metadist.engine.numerics import numerics, numerics_digest

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
        little = free < _LITTLE
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


def _data(given: str | None) -> Iterator[Check]:
    variable = os.environ.get("METADIST_DATA_DIR")
    path = Path(given or variable or "data").absolute()
    origin = "--data-dir" if given else "METADIST_DATA_DIR" if variable else ""
    stores = len(list(path.glob("*/store/store.json"))) if path.is_dir() else 0
    yield from _folder("data", path, origin, f"{stores} prepared, " if path.is_dir() else "")


def _folder(name: str, path: Path, origin: str, holds: str = "") -> Iterator[Check]:
    """Whether a directory can be written to, or be made, and how much room it has."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    found = f"{path}{f' ({origin})' if origin else ''}"
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        at = "" if place == path else f" at {place}"
        reason = error.strerror or _brief(error)
        mend = f"mend its permissions, or name another with --{name}-dir"
        yield Check(name, "FAIL", f"{found}: cannot be written to{at} ({reason})", mend)
        return
    new = "" if place == path else "not there yet, "
    found = f"{found}: {new}{holds}{human_bytes(free)} free"
    little = free < _LITTLE
    yield Check(name, "warn" if little else "OK", found, "make room" if little else "")


def _tracking(given: str | None, runs_dir: str) -> Iterator[Check]:
    from metadist.track import default_tracking_uri, public_uri
    from metadist.track.client import is_server, sqlite_path

    uri = given or default_tracking_uri(Path(runs_dir).resolve().parent)
    shown = public_uri(uri)
    path = sqlite_path(uri)
    if path is not None:
        yield _sqlite(shown, path)
    elif is_server(uri):
        yield _server(uri, shown)
    elif uri.startswith("file:") or "://" not in uri:
        folder = Path(urlsplit(uri).path if uri.startswith("file:") else uri).absolute()
        yield from _folder("tracking", folder, shown)
    else:
        yield Check("tracking", "warn", f"{shown}: this kind of store is not examined here")


def _sqlite(shown: str, path: Path) -> Check:
    mend = "mend it, or name another store with --tracking-uri"
    if path.exists():
        try:
            with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as held:
                held.execute("select count(*) from sqlite_master").fetchone()
        except sqlite3.Error as error:
            return Check("tracking", "FAIL", f"{shown}: cannot be opened ({error})", mend)
        if not os.access(path, os.W_OK):
            return Check("tracking", "FAIL", f"{shown}: cannot be written to", mend)
    # SQLite writes its journal beside the file, so the folder must take files in any case.
    for check in _folder("tracking", path.parent, ""):
        if check.status == "FAIL":
            return Check("tracking", "FAIL", check.found, mend)
    return Check("tracking", "OK", f"{shown}{'' if path.exists() else ': not there yet'}")


def _server(uri: str, shown: str) -> Check:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    address = f"{parts.scheme}://{host}{parts.path.rstrip('/')}/health"
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as reply:
            reply.read(64)
    except urllib.error.HTTPError as error:
        with error:
            found = f"{shown}: answers its health check with status {error.code}"
        return Check("tracking", "warn", found, "see whether it is an MLflow server")
    except (OSError, HTTPException, ValueError) as error:
        why = _brief(getattr(error, "reason", error))
        return Check(
            "tracking",
            "FAIL",
            f"{shown}: no answer within {PATIENCE:.0f} s ({why})",
            "start it, mend --tracking-uri or MLFLOW_TRACKING_URI, or train with --offline",
        )
    return Check("tracking", "OK", f"{shown}: answers")


def _ray() -> Iterator[Check]:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        yield Check(
            "ray", "OK", "RAY_ADDRESS is not set: workers get a private Ray of this machine"
        )
        return
    found, mend = f"RAY_ADDRESS={address}", "mend or unset it, or give --address"
    if address in ("auto", "local"):
        yield Check("ray", "warn", f"{found}: names no cluster, not examined")
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdigit():
        yield Check("ray", "FAIL", f"{found}: host:port of a Ray head is needed", mend)
        return
    try:
        with socket.create_connection((host, int(port)), timeout=PATIENCE):
            yield Check("ray", "OK", f"{found}: answers")
    except (OSError, OverflowError) as error:
        yield Check("ray", "FAIL", f"{found}: no Ray head answers ({_brief(error)})", mend)


def _brief(error: object) -> str:
    """The first line of an error."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _list(names: list[str]) -> str:
    return ", ".join(names)


if __name__ == "__main__":
    doctor()
