"""What ``metadist doctor`` says of folders that hide what it imports."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from metadist.doctor.check import Check
from metadist.process.imports import copies, home, import_path, shadowed, standard_library

#: Whom a folder concerns that is not on the path of this process.
_THERE = "python -m, notebooks and scripts that are started there"


def imports() -> Iterator[Check]:
    """Other copies of our packages, and files called like modules of the standard library."""
    here = str(Path.cwd())
    path = [os.path.abspath(p) for p in sys.path]
    found = False
    for folder in dict.fromkeys([here, *import_path()]):
        who = "Python" if folder in path else _THERE
        if others := copies(folder):
            found = True
            what = (
                f"{folder} holds another {', '.join(others)} than {home()}, which is imported here"
            )
            mend = "work in another folder, or rename or uninstall the other"
            yield Check("imports", "warn", f"{what}: {_THERE} may compute with it", mend)
        standard = min((path.index(p) for p in standard_library() if p in path), default=0)
        before = path.index(folder) < standard if folder in path else folder == here
        if before and (names := shadowed(folder)):
            found = True
            files = f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
            what = f"{folder} hides {files} of the standard library: {who} would import these"
            yield Check("imports", "warn", what, "rename them, or work in another folder")
    if not found:
        yield Check("imports", "OK", f"from {home()}; no folder hides it or the standard library")
