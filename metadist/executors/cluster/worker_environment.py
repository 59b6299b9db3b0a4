"""What Ray's workers import, whether it is what this process has, and where they stand.

Ray puts the working directory of whoever starts a job before all that its workers import from,
even where the job's own process imports nothing from there.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

from ray import cloudpickle
from ray.job_config import JobConfig

from metadist.errors import RunError
from metadist.process import code
from metadist.process.code import differences
from metadist.process.environment import restored
from metadist.process.imports import import_path, shadowed

# Where other code is, this must not depend on it.
cloudpickle.register_pickle_by_value(code)  # type: ignore[no-untyped-call]


class ImportPath(JobConfig):
    """A job whose workers import from these folders first, and else as any Python does there."""

    def __init__(self, folders: list[str]) -> None:
        # Each worker puts one after another before those that it has.
        super().__init__(_py_driver_sys_path=[*reversed(folders)])

    def _runtime_env_has_working_dir(self) -> bool:
        # What Ray asks before it adds the working directory.
        return True


@contextlib.contextmanager
def same_import_path() -> Iterator[dict[str, Any]]:
    """Arguments with which ``ray.init`` starts a Ray inside the block that imports what we do."""
    with restored("PYTHONPATH"):
        if given := os.environ.get("PYTHONPATH"):
            # Not those that hide a module of the standard library from Ray's processes.
            folders = [os.path.abspath(folder) for folder in given.split(os.pathsep)]
            os.environ["PYTHONPATH"] = os.pathsep.join(f for f in folders if not shadowed(f))
        # A hook, as uv has one, would send the working directory.
        yield {"job_config": ImportPath(import_path()), "_skip_env_hook": True}


def with_same_code(work: Callable[..., Any], *packages: str) -> Callable[..., Any]:
    """``work`` for other processes, which first see that these packages are the same there.

    Ray has its own idea of the working directory, and a plugin may open a file by the path that its
    user typed: a process stands where this one does, if its node has that folder.

    Raises:
        RunError: by what is returned, naming machine, folder and files, where they are not.
    """
    expected = code.own(packages)
    folder = ""
    with contextlib.suppress(FileNotFoundError):  # it was removed
        folder = os.getcwd()
    sent = cloudpickle.dumps(functools.partial(_in_folder, folder, work))  # type: ignore[no-untyped-call]

    def checked(*given: Any) -> Any:
        if differing := differences(expected, packages):
            raise RunError(
                f"a worker on {socket.gethostname()} has other code than the process that started "
                f"it: {differing}; the same bits need the same code: install it there, or submit "
                "it with the job (metadist submit --ship-code); start Python anew if files were "
                "edited since, and Ray in another folder if this one holds a copy"
            )
        return cloudpickle.loads(sent)(*given)

    return checked


def _in_folder(folder: str, work: Callable[..., Any], *given: Any) -> Any:
    with contextlib.suppress(OSError):
        os.chdir(folder)
    return work(*given)
