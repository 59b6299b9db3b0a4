"""metadist as a process of a stranger: nothing in its environment comes from whoever tests it."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COMMAND = str(Path(sys.executable).with_name("metadist"))
#: No home, no name, no terminal, no setting of a library; a POSIX locale whose text is ASCII.
BARE = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
UID = 54321


@functools.cache
def nameless() -> tuple[str, ...]:
    """Words in front of a command that make its user a number that no one knows; none where the
    kernel does not allow that."""
    words = ("unshare", "--user", f"--map-user={UID}", f"--map-group={UID}")
    if shutil.which(words[0]) is None:
        return ()
    tried = subprocess.run([*words, "true"], capture_output=True, check=False)
    return words if tried.returncode == 0 else ()


@dataclass(frozen=True)
class Stranger:
    """Somebody in a directory."""

    directory: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A command that has begun."""
        return subprocess.Popen(
            [*nameless(), COMMAND, *arguments],
            cwd=self.directory,
            env=BARE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
        )

    def run(self, *arguments: str, status: int = 0) -> str:
        """What a command says on standard output."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=600)
        finally:
            process.kill()
        assert process.returncode == status, f"{arguments}\n{out[-2000:]}\n{err[-4000:]}"
        assert "Traceback" not in out + err, err[-4000:]
        return out if status == 0 else err

    def result(self, *arguments: str) -> dict[str, Any]:
        """The line of JSON at the end of what a command says."""
        found: dict[str, Any] = json.loads(self.run(*arguments, "--json").splitlines()[-1])
        return found
