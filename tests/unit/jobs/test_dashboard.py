"""Reaching a cluster: what is wrong with an address, a token or a version is said in words."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import ray
from click.testing import CliRunner, Result
from dashboard import Dashboard, serving
from submitted import as_written

from metadist.cli.main import main
from metadist.errors import JobError, JobUnknown, UnreachableError
from metadist.jobs import follow
from metadist.jobs import submit as submitting
from metadist.jobs.address import dashboard_url
from metadist.jobs.client import JobClient, local_token
from metadist.jobs.client_errors import token_error
from metadist.jobs.submit import submit
from metadist.jobs.submitter import Outcome, Submission

LINE = "train sinusoid-5shot-maml --workers 2 --name n --runs-dir /all/runs"
DONE = {"status": "SUCCEEDED", "start_time": 1000, "end_time": 3000, "driver_exit_code": 0}


def failed(**more: Any) -> dict[str, Any]:
    return {"status": "FAILED", "start_time": 1000, "end_time": 3000, "message": "gone", **more}


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dashboard]:
    """A dashboard of this very version; no other cluster is named anywhere."""
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", submitting.IN_A_JOB):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("METADIST_HEAD_WAIT_S", "0.1")
    monkeypatch.setattr(follow, "_FIRST", 0.01)
    with serving(Dashboard(version=ray.__version__)) as one:
        yield one


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["submit", *arguments], prog_name="metadist")


def submitted(there: Dashboard, said: list[str] | None = None, **more: Any) -> Outcome:
    shown: list[str] = []
    request = Submission(as_written(LINE), there.url, ship_code=False, **more)
    return submit(request, (said if said is not None else []).append, shown.append)


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


# --- submitting -----------------------------------------------------------------------------------


def test_what_is_submitted(there: Dashboard, tmp_path: Path) -> None:
    there.after = [DONE]
    outcome = submitted(there)
    [asked] = there.submitted
    assert asked["entrypoint"] == f"python metadist_job.py {LINE} --resume auto --address auto"
    assert asked["submission_id"] == outcome.jobs[0]
    assert asked["submission_id"].startswith("n-")
    assert asked["metadata"] == {"metadist_run": "n", "metadist_command": "train"}
    assert set(asked["runtime_env"]) == {"working_dir", "env_vars"}
    [package] = there.uploaded
    with zipfile.ZipFile(BytesIO(package)) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        assert names == {"metadist_job.py", "job.json"}
        facts = json.loads(archive.read("job.json"))
    assert facts["data_dir"] == "/all/data"
    assert facts["versions"]["ray"] == ray.__version__


def test_an_odd_name_is_no_path(there: Dashboard) -> None:
    """The id of a job is a part of URLs and of the names of files."""
    there.after = [DONE]
    line, said = LINE.replace("--name n", "--resume '/all/runs/x y'"), list[str]()
    submit(Submission(as_written(line), there.url, ship_code=False), said.append, said.append)
    assert there.submitted[0]["submission_id"].startswith("x-y-")


def test_a_secret_is_sent_nowhere(there: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pa55word-of-mine")
    for more in ("--tracking-uri http://u:p@h", "--experiment pa55word-of-mine"):
        result = run("--address", there.url, "--", *LINE.split(), *more.split())
        assert result.exit_code == 1
        assert "pa55word-of-mine" not in result.output
    assert there.submitted == []
    assert there.uploaded == []


@pytest.mark.parametrize(
    ("end", "code", "words"),
    [
        (DONE, 0, "succeeded"),
        (failed(driver_exit_code=3), 3, "failed (exit status 3)"),
        (failed(driver_exit_code=-9), 137, "failed (exit status -9)"),
        (failed(error_type="RUNTIME_ENV_SETUP_FAILURE"), 1, "gone"),
        ({"status": "STOPPED"}, 143, "stopped"),
    ],
)
def test_the_exit_status_is_the_jobs(
    there: Dashboard, end: dict[str, Any], code: int, words: str
) -> None:
    there.after = [end]
    result = run("--address", there.url, "--no-ship-code", "--json", "--", *LINE.split())
    assert result.exit_code == code, result.output
    assert words in result.stderr
    document = json.loads(result.stdout)
    assert document["exit_status"] == code
    assert document["status"] == end["status"]
    assert document["run"] == "n"
    assert "log of n-" in result.stderr


@pytest.mark.parametrize(
    "death",
    [
        failed(driver_exit_code=-9),
        failed(driver_exit_code=137),
        failed(driver_exit_code=143),  # told to end, and not by whoever submits
        failed(error_type="JOB_SUPERVISOR_ACTOR_DIED"),
        failed(error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT"),
        failed(error_type="JOB_SUPERVISOR_ACTOR_START_FAILURE"),
        {},  # a head that was started anew knows nothing of it
    ],
)
def test_what_has_died_is_submitted_again(
    there: Dashboard, death: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    there.after = [death, death, DONE] if death else []
    if not death:
        answer = there.answer

        def forgetful(method: str, path: str, body: bytes) -> tuple[int, Any]:
            there.after = [DONE] if len(there.submitted) == 1 else there.after
            return answer(method, path, body)

        monkeypatch.setattr(there, "answer", forgetful)
    outcome = submitted(there, said, retries=2)
    count = 3 if death else 2
    assert outcome.exit_status == 0
    base = outcome.jobs[0]
    assert outcome.jobs == [base, f"{base}-2", f"{base}-3"][:count]
    # Each time it is the same run, which is continued.
    assert len({asked["entrypoint"] for asked in there.submitted}) == 1
    assert "--name n --runs-dir /all/runs --resume auto" in there.submitted[0]["entrypoint"]
    assert sum("submitting it again" in line for line in said) == count - 1


def test_an_interrupt_between_two_tells_that_nothing_goes_on(
    there: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    said: list[str] = []
    there.after = [failed(driver_exit_code=-9), DONE]
    monkeypatch.setattr("metadist.jobs.submitter.time.sleep", interrupted)
    outcome = submitted(there, said, retries=2)
    assert outcome.exit_status == 130
    assert "it was not submitted again" in said[-1]
    assert not any("goes on" in line for line in said)


@pytest.mark.parametrize(
    "end", [failed(driver_exit_code=1), failed(error_type="RUNTIME_ENV_SETUP_FAILURE")]
)
def test_what_would_fail_again_is_not(there: Dashboard, end: dict[str, Any]) -> None:
    there.after = [end]
    assert submitted(there, retries=5).exit_status == 1
    assert len(there.submitted) == 1


def test_what_was_stopped_stays_stopped(there: Dashboard) -> None:
    there.after = [{"status": "STOPPED"}]
    assert submitted(there, retries=5).exit_status == follow.STOPPED
    assert len(there.submitted) == 1


def test_deaths_come_to_an_end(there: Dashboard) -> None:
    there.after = [failed(driver_exit_code=-9)] * 9
    assert submitted(there, retries=2).exit_status == 137
    assert len(there.submitted) == 3


def test_an_answer_that_is_lost_is_no_second_job(
    there: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = there.answer

    def lossy(method: str, path: str, body: bytes) -> tuple[int, Any]:
        status, document = answer(method, path, body)
        return (
            (502, "bad gateway") if (method, path) == ("POST", "/api/jobs/") else (status, document)
        )

    monkeypatch.setattr(there, "answer", lossy)
    there.after = [DONE]
    assert submitted(there, retries=3).exit_status == 0
    assert len(there.submitted) == 1


def test_not_waiting(there: Dashboard) -> None:
    there.after = [{"status": "PENDING"}]
    outcome = submitted(there, wait=False)
    assert outcome.job is not None
    assert (outcome.job.status, outcome.exit_status) == ("PENDING", 0)


def test_ctrl_c_leaves_the_job_alone(there: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    there.after = [{"status": "RUNNING"}]

    def interrupted(self: follow.Follower) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.Follower, "follow", interrupted)
    outcome = submitted(there, said, retries=3)
    assert outcome.exit_status == follow.DETACHED
    [job] = outcome.jobs
    assert f"metadist submit logs -f {job} --address {there.url}" in said[-1]
    assert f"metadist submit stop {job} --address {there.url}" in said[-1]
    assert len(there.submitted) == 1


def test_a_head_that_goes_away_is_waited_for(there: Dashboard) -> None:
    there.after = [{"status": "RUNNING"}]
    cluster = JobClient(there.url)
    submitted(there, wait=False)
    [job] = there.jobs
    said: list[str] = []
    shown: list[str] = []
    there.status = 503
    with pytest.raises(UnreachableError):
        follow.Follower(cluster, job, shown.append, said.append, 0.05).follow()
    assert len([line for line in said if "Lost sight" in line]) == 1
    # It comes back: whoever waits longer sees the end.
    threading.Timer(0.1, lambda: vars(there).update(status=200, jobs={job: [DONE]})).start()
    end = follow.Follower(cluster, job, shown.append, said.append, 30).follow()
    assert end.status == "SUCCEEDED"
    assert "".join(shown) == f"log of {job}\n"


# --- what was submitted ---------------------------------------------------------------------------


def test_jobs_are_found_by_id_and_by_run(there: Dashboard) -> None:
    there.after = [failed(driver_exit_code=2, start_time=1000), {**DONE, "start_time": 2000}]
    first, second = submitted(there).jobs[0], submitted(there).jobs[0]
    cluster = JobClient(there.url)
    assert [job.id for job in cluster.jobs()] == [first, second]
    assert cluster.find(first).exit_code == 2
    assert cluster.find("n").id == second
    with pytest.raises(JobUnknown, match=rf"there are: {second}, {first}"):
        cluster.find("other")


def test_commands_about_jobs(there: Dashboard) -> None:
    there.after = [{**DONE, "message": "see http://u:pa55@h"}]
    [job] = submitted(there).jobs
    where = ["--address", there.url]
    # The address may stand before or behind the verb.
    for line in (
        [*where, "status", "n"],
        ["logs", job, *where],
        ["logs", "-f", job, *where],
        [*where, "list"],
        ["stop", "n", *where],
    ):
        result = run(*line)
        assert result.exit_code == 0, result.output
        assert job in result.output
    document = json.loads(run("status", job, "--json", "--address", there.url).stdout)
    assert document["job"] == job
    assert document["message"] == "see http://***@h"
    listed = json.loads(run("list", "--json", "--address", there.url).stdout)
    assert listed["jobs"] == [document]
    assert run("status", "none", "--address", there.url).exit_code == 1
