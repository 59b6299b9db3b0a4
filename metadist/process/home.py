"""A home directory and a user name for libraries that cannot do without.

In a container there may be neither: a number for a user, no ``HOME`` or one that is not there, or
cannot be written to. Ray, torch and MLflow ask for both and end with a traceback.
"""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import tempfile
from pathlib import Path

#: Variables that name a place for a library's own files, which lie in the home directory else.
CACHES = {
    "MPLCONFIGDIR": "matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
    "TRITON_CACHE_DIR": "triton",
    "XDG_CACHE_HOME": "cache",
}


@functools.cache
def settle() -> tuple[str, ...]:
    """Set what this process and those that it starts lack; a line for each, for people.

    What is set lasts as long as the process, files included.
    """
    return (*_name(), *_home())


def _name() -> tuple[str, ...]:
    """As ``getpass.getuser`` looks for it."""
    uid = os.getuid()
    try:
        pwd.getpwuid(uid)
    except KeyError:
        if any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
            return ()
        os.environ["USER"] = f"uid{uid}"
        return (f"user {uid} has no name here: it goes by uid{uid}",)
    return ()


def _home() -> tuple[str, ...]:
    home = os.path.expanduser("~")
    there = os.path.isabs(home) and os.path.isdir(home)
    if there and os.access(home, os.W_OK | os.X_OK):
        return ()
    if there and all(os.environ.get(variable) for variable in CACHES):
        return ()  # by the user, or by the process that has started this one and cleans up
    try:
        place = Path(tempfile.mkdtemp(prefix="metadist-home-"))
    except OSError:
        return ("no home directory and no temporary one: set TMPDIR to one you may write to",)
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    for variable, name in CACHES.items():
        os.environ.setdefault(variable, str(place / name))
    if not there:  # one that can be read may hold settings and credentials
        os.environ["HOME"] = str(place)
    what = f"{home} cannot be written to" if there else f"{home} is not there"
    return (f"home directory {what}: libraries keep their files in {place} meanwhile",)
