"""``metadist doctor`` finds what is missing, says how to mend it and harms nothing."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from metadist.cli.main import main
from metadist.doctor import machine

CLAIMS = functools.cache(importlib.metadata.packages_distributions)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # It reads every file list of the environment: of all that the command does, nine tenths.
    monkeypatch.setattr(importlib.metadata, "packages_distributions", CLAIMS)


@pytest.fixture
def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def server() -> Iterator[str]:
    """An address that answers /health, and 404 elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    held = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=held.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{held.server_port}"
    held.shutdown()
    thread.join()
    held.server_close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments], prog_name="metadist")


def checks(*arguments: str) -> dict[str, dict[str, str]]:
    """Checks by name."""
    result = run("--json", *arguments)
    document = json.loads(result.stdout.splitlines()[-1])
    assert result.exit_code == (0 if document["ok"] else 1)
    return {check["name"]: check for check in document["checks"]}


def test_a_working_machine_passes_and_nothing_is_made():
    result = run()
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert {line[:4].strip() for line in lines} <= {"OK", "warn"}
    there = [line[4:].split()[0] for line in lines]
    wanted = (
        "python metadist packages data_pipeline torch numerics cores memory data runs tracking ray"
    )
    assert [name for name in there if name in wanted.split()] == wanted.split()
    assert not list(Path.cwd().iterdir())


def test_json_is_the_last_line_and_says_the_same():
    result = run("--json")
    document = json.loads(result.stdout)
    assert document["ok"] is True
    assert {tuple(check) for check in document["checks"]} == {("name", "status", "found", "mend")}
    assert len(result.stderr.splitlines()) == len(document["checks"])


def test_failures_are_listed_and_end_in_one_line(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    result = run()
    assert result.exit_code == 1
    assert "FAIL  ray" in result.stdout
    assert result.stderr.splitlines()[-1].startswith("Error: 1 of ")
    assert result.stderr.rstrip().endswith("checks failed: ray")


def test_a_broken_part_does_not_hide_the_others(monkeypatch):
    def broken() -> None:
        raise RuntimeError("no such luck\nand more")

    monkeypatch.setattr(machine, "machine", broken)
    found = checks()
    assert found["machine"]["status"] == "FAIL"
    assert found["machine"]["found"] == "could not be examined: no such luck"
    assert found["ray"]["status"] == "OK"


def test_folders_that_hide_what_is_imported_are_named(tmp_path, monkeypatch):
    def told() -> list[str]:
        lines = run().stdout.splitlines()
        return [line for line in lines if line.startswith(f"warn  imports        {tmp_path} ")]

    assert not told()
    (tmp_path / "metadist").mkdir()
    (tmp_path / "metadist/__init__.py").touch()
    (tmp_path / "data_pipeline.py").touch()
    (tmp_path / "statistics.py").touch()
    (tmp_path / "random").mkdir()  # without a file in it, Python's own is found
    copies, hidden = told()
    assert f"{tmp_path} holds another metadist, data_pipeline than" in copies
    assert f"{tmp_path} hides statistics of the standard library: python -m," in hidden
    assert all("rename" in line for line in (copies, hidden))

    # A folder on the path counts wherever one stands; behind the standard library it hides nothing.
    monkeypatch.chdir("/")
    monkeypatch.syspath_prepend(tmp_path)
    assert "hides statistics of the standard library: Python would" in told()[1]
    monkeypatch.setattr(sys, "path", [*sys.path[1:], str(tmp_path)])
    (line,) = told()
    assert "holds another metadist" in line


# --- packages ---------------------------------------------------------------------------------


def test_packages_that_are_missing_or_old_are_named(monkeypatch):
    wanted = [
        "click>=8",
        "numpy>=999",
        "no-such-package>=1.5",
        'no-such-extra; extra == "tune"',
        'no-such-tool; extra == "dev"',
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    found = checks()
    assert found["no-such-package"]["status"] == "FAIL"
    assert found["no-such-package"]["mend"] == "pip install 'no-such-package>=1.5'"
    assert found["numpy"]["status"] == "warn"
    assert "numpy>=999" in found["numpy"]["found"]
    assert found["no-such-extra"]["status"] == "warn"
    assert "metadist[tune]" in found["no-such-extra"]["mend"]
    assert "no-such-tool" not in found
    assert found["packages"]["found"].startswith("click ")


def test_not_installed_is_said(monkeypatch):
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = checks()
    assert found["metadist"]["status"] == "FAIL"
    assert "make setup" in found["metadist"]["mend"]


def test_a_gpu_that_a_cpu_build_cannot_use_is_said(monkeypatch):
    import torch

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "CPU build" in checks()["gpu"]["found"]
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    found = checks()
    assert "CUDA 12.9 build" in found["torch"]["found"]
    assert "finds no GPU" in found["gpu"]["found"]


def test_gpus_are_listed(monkeypatch):
    import torch

    properties = SimpleNamespace(name="Big GPU", total_memory=140 * 10**9)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Big GPU")
    found = checks()
    assert found["gpu 1"]["found"] == "Big GPU, 140.0 GB"
    assert "on cuda (Big GPU)" in found["numerics"]["found"]


# --- the import name that others use too ------------------------------------------------------


@pytest.mark.slow
def test_another_data_pipeline_is_told_apart(tmp_path):
    (tmp_path / "other" / "data_pipeline").mkdir(parents=True)
    (tmp_path / "other" / "data_pipeline" / "__init__.py").write_text("raise SystemExit(99)\n")
    path = os.pathsep.join(filter(None, [str(tmp_path / "other"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "metadist.cli.commands.doctor"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.split()[1] == "data_pipeline"]
    assert line.startswith("FAIL")
    assert str(tmp_path / "other" / "data_pipeline") in line
    assert "Traceback" not in done.stderr


def test_others_that_claim_the_name_are_listed(monkeypatch):
    claims = {"data_pipeline": ["metadist", "data-pipeline"]}
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: claims)
    found = checks()["data_pipeline"]
    assert found["status"] == "warn"
    assert "data-pipeline installs" in found["found"]


def test_overwritten_files_are_noticed(monkeypatch, tmp_path):
    name = "data_pipeline/errors.py"
    (tmp_path / "data_pipeline").mkdir()
    (tmp_path / name).write_text("ours\n")
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"ours\n").digest()).rstrip(b"=").decode()
    file = importlib.metadata.PackagePath(name)
    file.hash = importlib.metadata.FileHash(f"sha256={digest}")
    file.dist = SimpleNamespace(locate_file=lambda path: tmp_path / path)  # type: ignore[assignment]
    monkeypatch.setattr(importlib.metadata, "files", lambda _: [file])
    assert checks()["data_pipeline"]["status"] == "OK"
    (tmp_path / name).write_text("theirs\n")
    found = checks()["data_pipeline"]
    assert found["status"] == "FAIL"
    assert name in found["found"]


# --- places -----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["data", "runs"])
def test_a_folder_that_cannot_be_written_to_fails(which):
    Path("file").touch()
    found = checks(f"--{which}-dir", "file/below")[which]
    assert found["status"] == "FAIL"
    assert str(Path.cwd() / "file") in found["found"]
    assert f"--{which}-dir" in found["mend"]


def test_data_dir_from_the_environment(monkeypatch):
    store = Path("shelf/strokes-default/store/store.json")
    store.parent.mkdir(parents=True)
    store.touch()
    monkeypatch.setenv("METADIST_DATA_DIR", str(Path.cwd() / "shelf"))
    found = checks()["data"]["found"]
    assert f"{Path.cwd() / 'shelf'} (METADIST_DATA_DIR): 1 prepared" in found


def test_little_room_is_a_warning(monkeypatch):
    usage = SimpleNamespace(total=10**9, used=10**9 - 5000, free=5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    found = checks()["data"]
    assert found["status"] == "warn"
    assert "5.0 kB free" in found["found"]


# --- servers ----------------------------------------------------------------------------------


def test_tracking_server_that_answers(server):
    assert checks("--tracking-uri", server)["tracking"]["status"] == "OK"
    found = checks("--tracking-uri", f"{server}/elsewhere")["tracking"]
    assert found["status"] == "warn"
    assert "404" in found["found"]


def test_tracking_server_that_does_not_answer(monkeypatch, closed_port):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{closed_port}")
    result = run("--json")
    found = {c["name"]: c for c in json.loads(result.stdout)["checks"]}["tracking"]
    assert found["status"] == "FAIL"
    assert "--offline" in found["mend"]
    assert "secret" not in result.output


def test_a_store_that_is_no_database_fails():
    Path("mlflow.db").write_bytes(b"no database at all" * 100)
    found = checks()["tracking"]
    assert found["status"] == "FAIL"
    assert "mlflow.db" in found["found"]


def test_a_store_in_a_file_is_only_looked_at():
    Path("mlflow.db").touch()
    assert checks()["tracking"]["status"] == "OK"
    assert [path.name for path in Path.cwd().iterdir()] == ["mlflow.db"]
    assert Path("mlflow.db").stat().st_size == 0


@pytest.mark.parametrize(
    ("revision", "cure"),
    [("451aebb31d03", "make a copy of it, then run: mlflow db upgrade sqlite:"), ("x", "newer")],
)
def test_a_store_of_another_mlflow_fails_and_is_only_looked_at(revision, cure):
    with sqlite3.connect("mlflow.db") as database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values (?)", (revision,))
    database.close()
    before = Path("mlflow.db").read_bytes()
    found = checks()["tracking"]
    assert found["status"] == "FAIL"
    assert revision in found["found"]
    assert cure in found["mend"]
    assert Path("mlflow.db").read_bytes() == before


@pytest.mark.parametrize(
    ("uri", "status"),
    [("postgresql://db/mlflow", "warn"), ("file:///nowhere/at/all", "OK"), ("mlruns", "OK")],
)
def test_other_stores(uri, status):
    assert checks("--tracking-uri", uri)["tracking"]["status"] == status


@pytest.mark.parametrize("address", ["ray://127.0.0.1:10001", "127.0.0.1", "127.0.0.1:99999"])
def test_ray_addresses_that_cannot_work(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    found = checks()["ray"]
    assert found["status"] == "FAIL"
    assert address in found["found"]


def test_ray_address_that_answers_or_does_not(monkeypatch, closed_port):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port}")
    assert checks()["ray"]["status"] == "FAIL"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{listening.getsockname()[1]}")
        assert checks()["ray"]["status"] == "OK"
