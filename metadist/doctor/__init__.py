"""What this machine can do: the checks behind ``metadist doctor``.

They have to work where others cannot, so nothing but the standard library is needed to load them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from metadist.doctor import directories, machine, packages, services, user
from metadist.doctor.check import Check, brief

#: Checks that import ``data_pipeline``; somebody else's is not run.
_NEED_OURS = ("numerics", "tracking")


def examine(data_dir: str | None, runs_dir: str, tracking_uri: str | None) -> Iterator[Check]:
    """Look at everything, one thing after another."""
    parts: dict[str, Callable[[], Iterator[Check]]] = {
        "python": machine.python,
        "packages": packages.packages,
        "data_pipeline": packages.data_pipeline,
        "imports": packages.imports,
        "torch": machine.torch,
        "numerics": machine.numerics,
        "machine": machine.machine,
        "user": user.user,
        "data": lambda: directories.data(data_dir),
        "runs": lambda: directories.runs(runs_dir),
        "tracking": lambda: services.tracking(tracking_uri, runs_dir),
        "ray": services.ray,
    }
    foreign = False
    for name, look in parts.items():
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
