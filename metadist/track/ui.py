"""MLflow's own pages: served over a local store, and their addresses."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit, urlunsplit

from metadist.errors import TrackingError
from metadist.process.imports import environment, standard_library
from metadist.process.signals import STOP_SIGNALS
from metadist.track.client import connect, impatient, store_client
from metadist.track.experiments import KEY_TAG, VIEW_KEY, offer_view
from metadist.track.sqlite_schema import check_schema
from metadist.track.uris import default_tracking_uri, is_server, public_uri, sqlite_path

HOST = "127.0.0.1"
PORT = 5000
#: Where MLflow's server reads its store from if no option names it.
STORE = "MLFLOW_BACKEND_STORE_URI"
#: Seconds in which the server may end by itself before it is killed.
_GRACE_SECONDS = 10.0
#: Seconds between looks whether the server answers.
_LOOK_SECONDS = 0.5
#: MLflow 3 begins with its pages for language models unless an address says otherwise.
_TRAINING = "workflowType=machine_learning"
_RUNS_LOOKED_AT = 1000


def ui_command(uri: str, *, port: int = PORT) -> list[str]:
    """The command that serves MLflow's pages for the store at ``uri``.

    A database's URI may hold a password and is not part of it, for every user of the machine sees
    commands: the caller sets :data:`STORE` to it in the command's environment.

    Raises:
        TrackingError: it is a server already, there is no such store, or another MLflow made it.
    """
    if is_server(uri):
        raise TrackingError(f"{public_uri(uri)} is an MLflow server already: open it in a browser")
    command = [sys.executable, "-m", "mlflow", "server"]
    path = sqlite_path(uri)
    if path is not None:
        if not path.is_file():
            raise TrackingError(
                f"there is no tracking store {path}: train a run first, go to the directory where "
                "you did, or name the store with --tracking-uri"
            )
        check_schema(path, uri)  # the server would upgrade it
        command += ["--backend-store-uri", uri]  # a file's name is no secret
        # For experiments made in the browser; those of runs say where their artifacts lie.
        command += ["--artifacts-destination", (path.parent / "mlruns").as_uri()]
    return [*command, "--host", HOST, "--port", str(port), "--workers", "1"]


def ui_environment() -> dict[str, str]:
    """The environment for :func:`ui_command`: no job runner (1.5 GB of memory), no telemetry."""
    return {
        **os.environ,
        # The folder it is started in may hold files called like modules. Uvicorn puts it first.
        **environment(),
        "UVICORN_APP_DIR": standard_library()[0],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_DISABLE_AGENT_HINT": "true",
    }


def run_ui(uri: str, *, port: int = PORT, ready: Callable[[], object] | None = None) -> int:
    """Serve MLflow's pages until interrupted; SIGINT, SIGTERM or SIGHUP ends all of it.

    Call it from the main thread, which receives signals.

    Args:
        ready: called once, when the server answers.

    Returns:
        The server's exit status; 0 after an interrupt.

    Raises:
        TrackingError: see :func:`ui_command`; or the port is taken.
    """
    command = ui_command(uri, port=port)
    _check_free(port)
    # A session of its own: a terminal's Ctrl-C then reaches the server once, through this process.
    environment = {**ui_environment(), STORE: uri}
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    interrupted = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        interrupted.set()
        process.terminate()

    numbers = [n for n in STOP_SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {n: signal.signal(n, end) for n in numbers}
    try:
        while ready is not None and process.poll() is None and not interrupted.wait(_LOOK_SECONDS):
            if _answers(port):
                ready()
                ready = None
        while process.returncode is None:
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                if interrupted.is_set():
                    break
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        # What is left of the server and its children.
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return 0 if interrupted.is_set() else process.wait()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def _check_free(port: int) -> None:
    with socket.socket() as probe:
        # As the server does: a port that was closed a moment ago counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise TrackingError(
                f"port {port} on {HOST} cannot be used ({error.strerror}): choose another with "
                "--port"
            ) from None


def runs_page(server: str, experiment_id: str) -> str:
    """The table of an experiment's runs, with our columns.

    Args:
        server: its address, as browsers reach it; a user, a password and a query are left out.
    """
    shown = f"viewStateShareKey={VIEW_KEY}&{_TRAINING}"
    return f"{_base(server)}/#/experiments/{experiment_id}/runs?{shown}"


def experiments_page(server: str) -> str:
    """The list of all experiments."""
    return f"{_base(server)}/#/experiments?{_TRAINING}"


def _base(server: str) -> str:
    parts = urlsplit(server)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def pages(uri: str, server: str) -> list[tuple[str, str]]:
    """Names and addresses of the experiments with runs of ours, that of the newest run first.

    Of a store without any, the list of all experiments.

    Raises:
        TrackingError: the store cannot be used.
    """
    with store_client(uri) as client:
        there = {e.experiment_id: e for e in client.search_experiments()}
        newest = client.search_runs(
            list(there),
            f"tags.`{KEY_TAG}` LIKE '%'",
            max_results=_RUNS_LOOKED_AT,
            order_by=["attributes.start_time DESC"],
        )
        found = [there[i] for i in dict.fromkeys(run.info.experiment_id for run in newest)]
        for experiment in found:
            offer_view(client, experiment)
    shown = [(e.name, runs_page(server, e.experiment_id)) for e in found]
    return shown or [("no run of metadist yet", experiments_page(server))]


def where_to_look(uri: str, run_id: str) -> str:
    """How to see a run beside the others: an address, or the command that serves the pages."""
    if is_server(uri):
        with impatient(), contextlib.suppress(Exception):
            return runs_page(uri, connect(uri).get_run(run_id).info.experiment_id)
        return experiments_page(uri)
    with contextlib.suppress(TrackingError):
        if uri == default_tracking_uri(Path.cwd()):
            return "metadist ui"
    return f"metadist ui --tracking-uri {shlex.quote(public_uri(uri))}"
