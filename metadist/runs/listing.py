"""The runs of a directory: made, found by name or path, listed."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_pipeline.errors import DamagedData
from data_pipeline.storage.local import new_directory, write_atomic
from data_pipeline.storage.object_uri import address_of, is_uri, local_path
from data_pipeline.storage.typed_paths import typed_path
from metadist.errors import RunError, SupersededError
from metadist.recipe.schema import Recipe
from metadist.runs.object_store import remote_names
from metadist.runs.run_dir import FORMAT, RunDir, write_info

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_name(name: str) -> str:
    """A name that can be a directory.

    Raises:
        RunError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise RunError(
            f"--name {name!r}: letters, digits, '.', '_' and '-' are allowed, the first a letter "
            "or digit, at most 128 in all"
        )
    return name


def create_run(root: Path, name: str, recipe: Recipe, facts: dict[str, Any]) -> RunDir:
    """Make a run directory with recipe.toml and run.json.

    Raises:
        RunError: the name is taken or cannot be a directory's.
    """
    path = root / check_name(name)
    info = {
        "format": FORMAT,
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "status": "created",
        "recipe_hash": recipe.hash,
        **facts,
    }
    run = RunDir(path)
    taken = RunError(
        f"{address_of(path)} exists already: choose another --name, or continue it with "
        f"--resume {name}"
    )
    if run.remote is not None and run.remote.exists():
        raise taken
    try:
        # A working copy of a run that the object store does not have is of no use any more.
        with new_directory(path, replace=run.remote is not None) as temporary:
            write_atomic(temporary / "recipe.toml", recipe.to_toml().encode())
            write_info(temporary, info)
    except OSError as error:
        if not path.exists():
            raise
        raise taken from error
    if run.remote is not None:
        try:
            run.remote.own_info(anew=True)
        except SupersededError:
            raise taken from None
        if run.remote.exists():  # meanwhile
            raise taken
        run.remote.push_info()
    return run


def open_run(root: Path, name_or_path: str) -> RunDir:
    """A run by its name under ``root`` or by its path.

    Raises:
        RunError: there is none; the message lists what there is.
    """
    if is_uri(name_or_path):
        paths = [local_path(name_or_path)]
    else:
        paths = [root / name_or_path, typed_path(name_or_path)]
    for path in paths:
        if not path.name.startswith(".") and RunDir(path).pull():
            return RunDir(path.resolve())
    there = ", ".join(r.name for r in list_runs(root)[:10]) or "none"
    raise RunError(
        f"no run {name_or_path!r} under {address_of(root)} or at that path; there are: {there}"
    )


def list_runs(root: Path) -> list[RunDir]:
    """All runs under ``root``, the newest first."""
    runs = []
    for name in filter(_NAME.fullmatch, remote_names(root)):
        with contextlib.suppress(DamagedData):
            RunDir(root / name).bring_info()
    for path in root.glob("*/run.json"):
        if path.parent.name.startswith("."):
            continue  # a run that is still being made, or whose making was killed
        run = RunDir(path.parent.resolve())
        try:
            runs.append((run.info()["created"], run))
        except (RunError, KeyError):
            continue
    return [run for _, run in sorted(runs, key=lambda pair: pair[0], reverse=True)]
