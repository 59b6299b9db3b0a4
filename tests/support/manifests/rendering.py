"""What kustomize makes of a folder of ``k8s/``."""

from __future__ import annotations

import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from manifests.documents import Manifest, at, manifests, read

#: Older ones know neither components nor replacements as they are used here.
NEEDED = 5


class RenderError(Exception):
    """kustomize refuses a folder; the message is its own."""


@cache
def kubectl() -> str | None:
    """A kubectl that has kustomize 5 or newer, or nothing."""
    program = shutil.which("kubectl")
    if program is None:
        return None
    command = [program, "version", "--client"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    version = re.search(r"Kustomize Version: v(\d+)", told)
    return program if version and int(version[1]) >= NEEDED else None


def render(folder: Path) -> list[Manifest]:
    """The objects of a kustomization.

    Raises:
        RenderError: it cannot be rendered.
    """
    program = kubectl()
    assert program is not None
    made = subprocess.run(
        [program, "kustomize", str(folder)], capture_output=True, text=True, timeout=120
    )
    if made.returncode != 0:
        raise RenderError(f"{folder}: {made.stderr.strip()}")
    return manifests(made.stdout, str(folder))


def render_all(folders: list[Path]) -> dict[Path, list[Manifest]]:
    """The same for many, four at a time."""
    with ThreadPoolExecutor(4) as pool:
        return dict(zip(folders, pool.map(render, folders), strict=True))


def kustomizations(root: Path, kind: str = "Kustomization") -> list[Path]:
    """The folders below ``root`` that hold one, or a ``Component``."""
    files = sorted(root.rglob("kustomization.yaml"))
    return [file.parent for file in files if at(read(file)[0], "kind") == kind]
