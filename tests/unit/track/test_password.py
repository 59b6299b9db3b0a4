"""A password in a store's URI is not seen by the other users of the machine."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from metadist import track
from metadist.errors import TrackingError
from metadist.track import ui

DATABASES = (
    "postgresql://me:secret@host/db",
    "mysql+pymysql://host/db?password=secret",
    "sqlite+pysqlcipher://:secret@/runs.db",
)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Commands and environments of processes, none of which starts."""
    found: list[Any] = []

    def popen(command: list[str], *, env: dict[str, str], **more: Any) -> Any:
        found.append((command, env))
        raise TrackingError("started")

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(ui, "_check_free", lambda port: None)
    return found


@pytest.mark.parametrize("database", DATABASES)
def test_the_pages_get_it_by_their_environment(database: str, started: list[Any]) -> None:
    with pytest.raises(TrackingError, match="started"):
        track.run_ui(database)
    [(command, environment)] = started
    assert not any("secret" in word for word in command)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == database


@pytest.mark.slow
def test_mlflow_reads_it_there() -> None:
    # In another process: MLflow's command line warns of its own parts when it is imported.
    code = (
        "import sys; from mlflow.cli import server;"
        "print(server.make_context('server', sys.argv[1:]).params['backend_store_uri'])"
    )
    command = track.ui_command(DATABASES[0])
    options = command[command.index("server") + 1 :]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *options],
        env={**track.ui_environment(), ui.STORE: DATABASES[0]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == DATABASES[0]
