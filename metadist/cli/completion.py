"""What a shell offers for arguments, when Tab is pressed: names of recipes, runs, spaces, data.

It has to be there at once: nothing here imports torch, numpy or pydantic, or opens a file. A folder
that another can write to may hold names that are commands to a shell; what no run may be called is
not offered.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

import metadist
from metadist.recipe.files import builtin_names, toml_names
from metadist.runs.record import is_name

_TABLES = Path(metadist.__file__).parent / "reproduce" / "tables"
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _offered(
    names: Callable[[click.Context], Iterable[str]], *more: str, files: bool = False
) -> Complete:
    """A parameter's ``shell_complete``; with ``files`` it may be a path too."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        known = sorted({*more, *names(ctx)})
        found = [CompletionItem(name) for name in known if name.startswith(incomplete)]
        return found or ([CompletionItem(incomplete, type="file")] if files else [])

    return complete


def _modules(package: str) -> Iterator[str]:
    """The parts of a package, which is not imported."""
    spec = importlib.util.find_spec(package)
    found = pkgutil.iter_modules(spec.submodule_search_locations if spec else ())
    return (module.name for module in found if not module.name.startswith("_"))


def _records(record: str, below: str, ctx: click.Context) -> Iterator[str]:
    """Directories with such a record, in the runs directory that the line names."""
    root = Path(str(ctx.params.get("runs_dir") or "runs"), below)
    with contextlib.suppress(OSError, ValueError), os.scandir(root) as entries:
        for entry in entries:
            if is_name(entry.name) and Path(entry.path, record).is_file():
                yield entry.name


_runs = functools.partial(_records, "run.json", "")
_searches = functools.partial(_records, "search.json", "searches")
recipes = _offered(lambda ctx: builtin_names(), files=True)
builtin_recipes = _offered(lambda ctx: builtin_names())
runs = _offered(_runs, files=True)
runs_or_auto = _offered(_runs, "auto", files=True)
searches_or_auto = _offered(_searches, "auto", files=True)
runs_and_searches = _offered(lambda ctx: [*_runs(ctx), *_searches(ctx)], files=True)
spaces = _offered(lambda ctx: [n.replace("_", "-") for n in _modules("tune_spaces")], files=True)
tables = _offered(lambda ctx: toml_names(_TABLES), files=True)
datasets = _offered(lambda ctx: _modules("data_pipeline.datasets"))
