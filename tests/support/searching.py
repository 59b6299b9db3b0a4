"""Running ``metadist tune`` as a process that can be killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from metadist.search.search_dir import SearchDir

#: Trials of a second or two on sinusoids, and as little as possible to confirm the winner.
SMALL = (
    "--steps=600",
    "--every=100",
    "--set=outer.batch=4",
    "--set=eval.val_episodes=8",
    "--set=eval.episodes=8",
    "--seeds=1",
    "--no-default",
    "--episodes=8",
    "--concurrent=2",
)


@dataclass
class SearchCommand:
    """``metadist tune`` in a directory of its own; the search is called ``s``."""

    directory: Path
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def search(self) -> SearchDir:
        """The search."""
        return SearchDir(self.directory / "runs" / "searches" / "s")

    def _file(self, stream: str, number: int) -> Path:
        return self.directory / f"{stream}-{number}.txt"

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``metadist tune`` with these arguments."""
        number = len(self.started)
        with (
            self._file("stdout", number).open("w") as out,
            self._file("stderr", number).open("w") as err,
        ):
            process = subprocess.Popen(
                [sys.executable, "-m", "metadist", "tune", "--json", *arguments],
                cwd=self.directory,
                stdout=out,
                stderr=err,
            )
        self.started.append(process)
        return process

    def said(self, process: subprocess.Popen[bytes]) -> str:
        """What a command has said to people."""
        return self._file("stderr", self.started.index(process)).read_text()

    def result(self, process: subprocess.Popen[bytes], timeout: float = 400) -> dict[str, Any]:
        """The JSON line of a command that ends well."""
        process.wait(timeout)
        assert process.returncode == 0, self.said(process)[-3000:]
        out = self._file("stdout", self.started.index(process)).read_text()
        result: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return result

    def wait_for(self, seen: Callable[[SearchDir], bool], timeout: float = 240) -> None:
        """Until something is to be seen in the search's directory."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if (self.search.path / "search.json").is_file() and seen(self.search):
                return
            time.sleep(0.1)
        raise AssertionError(f"not seen within {timeout} s")


def over(search: SearchDir) -> int:
    """How many trials are over."""
    return sum(trial.over for trial in search.trials())


def trial_processes(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes below a driver in which trials run."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "ray::ImplicitFunc" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found
