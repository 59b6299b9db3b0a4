"""Submitting to a cluster: once, again, and what is said of jobs that were submitted."""

from __future__ import annotations

import json
import threading
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import ray
from dashboard import Dashboard
from submitted import DONE, LINE, as_written, failed, run, submitted

from metadist.errors import JobUnknown, UnreachableError
from metadist.jobs import follow
from metadist.jobs.client import JobClient
from metadist.jobs.submit import submit
from metadist.jobs.submitter import Submission

# --- submitting -----------------------------------------------------------------------------------


def test_what_is_submitted(there: Dashboard, tmp_path: Path) -> None:
    there.after = [DONE]
    result = submitted(there)
    [asked] = there.submitted
    assert asked["entrypoint"] == f"python metadist_job.py {LINE} --resume auto --address auto"
    assert asked["submission_id"] == result.jobs[0]
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
    result = submitted(there, said, retries=2)
    count = 3 if death else 2
    assert result.exit_status == 0
    base = result.jobs[0]
    assert result.jobs == [base, f"{base}-2", f"{base}-3"][:count]
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
    result = submitted(there, said, retries=2)
    assert result.exit_status == 130
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
    result = submitted(there, wait=False)
    assert result.job is not None
    assert (result.job.status, result.exit_status) == ("PENDING", 0)


def test_ctrl_c_leaves_the_job_alone(there: Dashboard, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    there.after = [{"status": "RUNNING"}]

    def interrupted(self: follow.Follower) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(follow.Follower, "follow", interrupted)
    result = submitted(there, said, retries=3)
    assert result.exit_status == follow.DETACHED
    [job] = result.jobs
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
