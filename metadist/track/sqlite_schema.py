"""The tables of a SQLite store: made whole or not at all, and never upgraded."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
import sqlite3
import tempfile
from importlib.metadata import version
from pathlib import Path

from metadist.errors import SchemaError

_REVISION = re.compile(r"^(down_)?revision\s*=\s*[\"'](\w+)[\"']", re.MULTILINE)


def revision(path: Path) -> str | None:
    """Which tables a store has, by the id of their last migration; None if that cannot be read."""
    found = _rows(path, "select version_num from alembic_version")
    return found[0] if found else None


def is_store(path: Path) -> bool:
    """Whether a file is a store of MLflow's, of any version."""
    tables = _rows(path, "select name from sqlite_master where type = 'table'")
    return {"alembic_version", "experiments", "runs"} <= set(tables)


def _rows(path: Path, query: str) -> list[str]:
    """The first column of what a query finds in a SQLite file; nothing if it cannot be read."""
    with contextlib.suppress(sqlite3.Error, ValueError):
        database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        with contextlib.closing(database):
            return [str(row[0]) for row in database.execute(query)]
    return []


def check_schema(path: Path, uri: str) -> None:
    """Raise if a store has other tables than the MLflow that is installed here.

    MLflow itself adds tables that are missing, which no older MLflow could read any more.

    Args:
        uri: of the store, for the message.

    Raises:
        SchemaError: it has.
    """
    found, (newest, known) = revision(path), _revisions()
    if found is None or found == newest or not newest:
        return
    raise schema_error(uri, f"schema {found}, {newest} is needed", older=found in known)


def schema_error(uri: str, reason: str, *, older: bool) -> SchemaError:
    """The error for a store whose tables are of an ``older`` MLflow, else of one unknown here."""
    upgrade = f"make a copy of it, then run: mlflow db upgrade {uri}"
    cure = upgrade if older else "a newer MLflow has made it: install that one"
    return SchemaError(
        f"the tracking store {uri} cannot be used by MLflow {version('mlflow')} ({reason}) and is "
        "left as it is",
        f"{cure} (or name another store with --tracking-uri)",
    )


@functools.cache
def _revisions() -> tuple[str, frozenset[str]]:
    """The newest migration that the installed MLflow knows, and all of them.

    They are read as text: to import them takes seconds. Empty if there are none to read.
    """
    spec = importlib.util.find_spec("mlflow")
    places = (spec.submodule_search_locations or []) if spec else []
    files = [f for p in places for f in Path(p).glob("store/db_migrations/versions/*.py")]
    found = [match for file in files for match in _REVISION.findall(file.read_text("utf-8"))]
    made, built_on = ({i for down, i in found if bool(down) == below} for below in (False, True))
    heads = made - built_on
    return (heads.pop() if len(heads) == 1 else ""), frozenset(made)


def make_store(path: Path) -> None:
    """Make a store beside ``path`` and move it there whole; one that is there already stays."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
        made = Path(folder) / path.name
        artifacts = (path.parent / "mlruns").as_uri()
        store = SqlAlchemyStore(f"sqlite:///{made}", artifacts)  # type: ignore[no-untyped-call]
        store.engine.dispose()
        try:
            os.link(made, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            if not path.exists():
                made.rename(path)
