"""The runs of a directory: made, found by name or path, listed."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from data_pipeline.errors import DamagedData
from data_pipeline.storage.local import write_atomic
from data_pipeline.storage.object_uri import address_of, is_uri, local_path
from data_pipeline.storage.typed_paths import typed_path
from metadist.errors import RunError, SupersededError
from metadist.recipe.schema import Recipe
from metadist.runs.object_store.run import names_in_store
from metadist.runs.record import check_name, is_name, record_facts
from metadist.runs.run_dir import RunDir


def create_run(root: Path, name: str, recipe: Recipe, facts: dict[str, Any]) -> RunDir:
    """Make a run directory with recipe.toml and run.json.

    Raises:
        RunError: the name is taken or cannot be a directory's.
    """
    run = RunDir(root / check_name(name))
    if run.store.exists():
        raise run.taken()
    # A working copy of a run that the object store does not have is of no use any more.
    with run.making(replace=run.store.shared) as temporary:
        write_atomic(temporary / "recipe.toml", recipe.to_toml().encode())
        own = {**record_facts(name, "created"), "recipe_hash": recipe.hash, **facts}
        run.write_info(own, temporary)
    try:
        run.store.create()
    except SupersededError:
        raise run.taken() from None
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
    for name in filter(is_name, names_in_store(root)):
        with contextlib.suppress(DamagedData):
            RunDir(root / name).store.pull_info()
    for path in root.glob("*/run.json"):
        if path.parent.name.startswith("."):
            continue  # a run that is still being made, or whose making was killed
        run = RunDir(path.parent.resolve())
        try:
            runs.append((run.info()["created"], run))
        except (RunError, KeyError):
            continue
    return [run for _, run in sorted(runs, key=lambda pair: pair[0], reverse=True)]
