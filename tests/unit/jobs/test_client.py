"""Reaching a cluster: what is wrong with an address, a token or a version is said in words."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import ray
from dashboard import Dashboard
from submitted import DONE, LINE, run, submitted

from metadist.errors import JobError
from metadist.jobs.address import dashboard_url
from metadist.jobs.client import JobClient, local_token
from metadist.jobs.client_errors import token_error

# --- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "environ", "url"),
    [
        ("head", {}, "http://head:8265"),
        ("head:80", {}, "http://head:80"),
        ("http://head:8265/", {}, "http://head:8265"),
        ("https://ray.example.org/team/", {}, "https://ray.example.org:443/team"),
        ("http://[::1]:8265", {}, "http://[::1]:8265"),
        (None, {"RAY_API_SERVER_ADDRESS": "http://a:1", "RAY_ADDRESS": "b:2"}, "http://a:1"),
        (None, {"RAY_ADDRESS": "http://b:2"}, "http://b:2"),
        ("http://c:3", {"RAY_API_SERVER_ADDRESS": "http://a:1"}, "http://c:3"),
    ],
)
def test_which_dashboard_is_meant(given: str | None, environ: dict[str, str], url: str) -> None:
    assert dashboard_url(given, environ) == url


@pytest.mark.parametrize(
    ("given", "environ", "words"),
    [
        (None, {}, "no cluster is named"),
        ("head:6379", {}, "6379 is the port that drivers and nodes.*http://head:8265"),
        ("ray://head:10001", {}, "http://head:8265"),
        (None, {"RAY_ADDRESS": "10.0.0.1:6379"}, r"RAY_ADDRESS 10.0.0.1:6379.*10.0.0.1:8265"),
        (None, {"RAY_ADDRESS": "auto"}, "RAY_ADDRESS 'auto'.*http://HEAD:8265"),
        ("http://me:pa55@head:8265", {}, r"http://\*\*\*@head:8265.*RAY_AUTH_TOKEN_PATH"),
        ("http://head:x", {}, "http://HEAD:8265 is meant"),
        ("", {}, "http://HEAD:8265"),
    ],
)
def test_what_is_no_dashboard(given: str | None, environ: dict[str, str], words: str) -> None:
    with pytest.raises(JobError, match=words):
        JobClient(dashboard_url(given, environ))


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 401}, "wants a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"),
        ({"status": 403}, "refuses the token"),
        ({"status": 503}, "it answers with an error: 503"),
        ({"agent": False}, "another Ray .*--dashboard-agent-listen-port"),
        ({"status": 404}, "not Ray's dashboard"),
        ({"version": None}, "not Ray's dashboard"),
        ({"version": "2.41.0"}, "runs Ray 2.41.0, this is Ray .*--any-version"),
        ({"version": "1.2.0"}, "1.2.0"),
    ],
)
def test_answers_that_end_it(
    there: Dashboard, monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], words: str
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)  # ray.init sets it where there is a token
    vars(there).update(answer)
    with pytest.raises(JobError, match=words):
        submitted(there)
    assert there.submitted == []


@pytest.mark.slow
def test_a_head_on_this_machine_is_shown_the_token_that_lies_here(
    there: Dashboard, tmp_path: Path
) -> None:
    """Ray switches tokens on by itself where its user has one; elsewhere it is shown to nobody.

    In processes of their own: one that has met Ray keeps the token that it read first.
    """
    there.token, there.after = "0" * 64, [DONE]
    (tmp_path / ".ray").mkdir()
    file = tmp_path / ".ray" / "auth_token"

    def said() -> tuple[int, str]:
        line = ["-m", "metadist", "submit", "--no-ship-code", "--address", there.url, "--"]
        kept = {name: os.environ[name] for name in os.environ if not name.startswith("RAY_AUTH_")}
        done = subprocess.run(
            [sys.executable, *line, *LINE.split()],
            env=kept | {"HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout + done.stderr

    for token, words in (("", "wants a token"), ("1" * 64, "refuses the token of ~/.ray")):
        file.write_text(token)
        status, text = said()
        assert status != 0
        assert words in text
    file.write_text(there.token + "\n")
    assert said()[0] == 0
    assert local_token("http://head:8265", os.environ) is None
    assert local_token(there.url, {"RAY_AUTH_MODE": "disabled"}) is None


def test_another_version_is_taken_if_asked_for(there: Dashboard) -> None:
    said: list[str] = []
    there.version, there.after = "2.41.0", [DONE]
    assert submitted(there, said, any_version=True).exit_status == 0
    assert any("runs Ray 2.41.0" in line for line in said)


def test_another_patch_is_no_other_version(there: Dashboard) -> None:
    there.version, there.after = ray.__version__ + ".9", [DONE]
    assert submitted(there).exit_status == 0


def test_a_port_that_speaks_no_http() -> None:
    """As that of the head's control store, which people take for it under another number."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak() -> None:
            connection, _ = listener.accept()
            connection.recv(100)
            connection.sendall(b"\x00\x00\x06\x04\x00\x00")
            connection.close()

        threads = [threading.Thread(target=speak) for _ in range(1)]
        for thread in threads:
            thread.start()
        with pytest.raises(JobError, match="somebody answers, but not Ray's dashboard"):
            JobClient(f"http://127.0.0.1:{listener.getsockname()[1]}")
        for thread in threads:
            thread.join()


def test_nobody_there_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = run("--address", f"http://127.0.0.1:{port}", "--", *LINE.split())
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
    assert "nobody answers there" in result.stderr


def test_what_is_wrong_with_a_token() -> None:
    required, refused = "Authentication required: x", "Authentication failed: x"
    assert "set RAY_AUTH_MODE=token" in token_error(required, {"RAY_AUTH_TOKEN": "t"})
    assert "there is none here" in token_error(required, {"RAY_AUTH_MODE": "token"})
    assert "token of RAY_AUTH_TOKEN:" in token_error(refused, {"RAY_AUTH_TOKEN": "t"})
    file = {"RAY_AUTH_TOKEN_PATH": __file__}
    assert "token of RAY_AUTH_TOKEN_PATH:" in token_error(refused, file)
    assert "names /none, which cannot be read" in token_error(
        refused, {"RAY_AUTH_TOKEN_PATH": "/none"}
    )


def test_variables_of_ray_do_not_win_over_the_address(
    there: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    assert JobClient(there.url).ray_version == ray.__version__
    assert os.environ["RAY_ADDRESS"] == "http://127.0.0.1:1"
