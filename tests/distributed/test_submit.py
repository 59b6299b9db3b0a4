"""Jobs on a real head that wants a token: the same bits, the right exit status, no orphan."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import ray_head
from killing import evaluation_files
from ray_head import Head
from searching import SMALL, over

import metadist
from metadist.process.provenance import commit
from metadist.recipe.schema import load_recipe
from metadist.runs import checkpoints
from metadist.runs.attempts import history
from metadist.runs.run_dir import RunDir
from metadist.search.search_dir import SearchDir

pytestmark = [
    pytest.mark.slow,
    pytest.mark.distributed,
    pytest.mark.jobs,
    pytest.mark.timeout(600),
]

TINY = (
    "data.dataset=paced",
    "outer.batch=2",
    "eval.episodes=10",
    "eval.val_episodes=10",
    "run.checkpoint_every=20",
)
#: A plugin of sinusoids that take their time, so that a run lasts long enough to be disturbed on
#: any machine; it tells which code it is used by.
PACED = """\
import sys
import time
from dataclasses import replace

import metadist
from data_pipeline.functions import sinusoid

PART = "function"
SPEC = replace(sinusoid.SPEC, name="paced")
print("code of", metadist.__file__, file=sys.stderr)


def draw(stream, points, part):
    time.sleep(0.02)
    return sinusoid.draw(stream, points, part)
"""
LONG = 400
#: What Ray itself leaves on a cluster that has trained once: one for all jobs.
OF_RAY = {"_AutoscalingCoordinatorActor"}
#: And what it leaves of a driver that was killed outright: it frees the placement group, wants to
#: end, and does not (``exit_actor`` in a thread of its own waits for a next call).
OF_THE_KILLED = {"PlacementGroupCleaner"}


def write(here: Path, steps: int) -> dict[str, Any]:
    """A recipe and a plugin of a user's own, and how this process trains them."""
    more = (f"outer.steps={steps}", f"eval.every={steps}")
    recipe = load_recipe("sinusoid-5shot-maml", (*TINY, *more))
    (here / "mine.toml").write_text(recipe.to_toml())
    (here / "paced.py").write_text(PACED)
    runs = {"name": "x", "runs_dir": here / "runs", "offline": True}
    return {"recipe": here / "mine.toml", "plugins": [here / "paced.py"], **runs}


@dataclass
class Submit:
    """``metadist submit`` from a directory of a user's own."""

    head: Head
    here: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def runs(self) -> Path:
        """Where runs go: every node sees it."""
        return self.here / "all" / "runs"

    def run(self, name: str) -> RunDir:
        """A run."""
        return RunDir(self.runs / name)

    def start(self, *words: str, **environ: str) -> subprocess.Popen[str]:
        """Start it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "metadist", "submit", "--address", self.head.url, *words],
            cwd=self.here,
            env={**self.head.environment, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def __call__(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        process = self.start(*words, **environ)
        out, err = process.communicate(timeout=400)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def train(self, name: str, steps: int = LONG) -> list[str]:
        """The command line of a run on two workers."""
        write(self.here, steps)
        line = ["--", "train", "mine.toml", "--plugin", "./paced.py", "--name", name]
        return [*line, "--workers", "2", "--runs-dir", str(self.runs), "--offline"]

    def wait_for_checkpoint(self, name: str, process: subprocess.Popen[str] | None = None) -> None:
        """Until a run has one."""
        deadline = time.monotonic() + 200
        while not (self.run(name).path.is_dir() and checkpoints.steps(self.run(name))):
            assert time.monotonic() < deadline, f"no checkpoint of {name}"
            assert process is None or process.poll() is None, process.communicate()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head of this module's own."""
    with ray_head.head(cpus=3) as one:
        yield one


@pytest.fixture
def submit(head: Head, tmp_path: Path) -> Iterator[Submit]:
    """A user; what is still following at the end of a test is ended."""
    one = Submit(head, tmp_path)
    yield one
    for process in one.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, bytes]]:
    """Digest and evaluation of the long run, trained in this process."""
    here = tmp_path_factory.mktemp("undisturbed")
    result = metadist.train(**write(here, LONG))
    return result["params_sha256"], evaluation_files(RunDir(here / "runs" / "x"))


def nothing_is_left(head: Head, but: Set[str] = frozenset()) -> None:
    """See that no process, actor or placement group of a job is left, in seconds at most."""
    deadline = time.monotonic() + 30
    while True:
        actors = [a for a in head.alive("actors") if a["class_name"] not in OF_RAY | but]
        groups = head.alive("placement_groups")
        processes = head.processes("metadist_job.py") + head.processes("RayTrainWorker")
        left = [*actors, *groups, *processes]
        if not left:
            return
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def test_the_same_bits_as_in_this_process(submit: Submit, tmp_path: Path) -> None:
    line = submit.train("short", steps=60)
    done = submit("--json", *line)
    assert done.returncode == 0, done.stderr
    [printed] = done.stdout.splitlines()
    document = json.loads(printed)
    assert document["status"] == "SUCCEEDED"
    # Its own log came along, and what it says was said by the code that was sent.
    assert re.search(r"code of .*/_ray_pkg_\w+/metadist/__init__.py", done.stderr)
    assert submit.run("short").info()["made_by"][0]["commit"] == commit(Path(metadist.__path__[0]))
    assert "2 Ray workers" in done.stderr
    assert f"Sending {tmp_path / 'mine.toml'} as files/mine.toml" in done.stderr
    here = metadist.train(**write(tmp_path, 60))
    assert document["result"]["params_sha256"] == here["params_sha256"]
    files = evaluation_files(submit.run("short"))
    assert files == evaluation_files(RunDir(tmp_path / "runs" / "x"))
    assert submit.run("short").info()["status"] == "finished"
    # The token is in nothing that users of the cluster can read.
    listed = json.dumps(submit.head.ask("/api/jobs/"))
    assert document["job"] in listed
    for secret in (submit.head.token, str(submit.head.token_file)):
        assert secret not in listed
        assert secret not in done.stderr
    # Once more: it is finished, and whoever asks gets its result.
    again = submit("--json", *line)
    assert json.loads(again.stdout)["result"] == document["result"]
    assert "finished already" in again.stderr

    said = submit("logs", "-f", document["job"])
    assert said.returncode == 0
    assert "short: maml" in said.stdout
    assert submit("status", "short").stdout.startswith(json.loads(again.stdout)["job"])
    assert document["job"] in submit("list").stdout
    where = ["--runs-dir", str(submit.runs), "--plugin", "paced.py"]
    evaluated = submit("--json", "--", "evaluate", "short", *where)
    assert json.loads(evaluated.stdout)["result"]["mse"] == document["result"]["mse"]
    nothing_is_left(submit.head)


def test_tokens(submit: Submit) -> None:
    for environ, words in (
        ({"RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_TOKEN": "0" * 32}, "refuses the token"),
        ({"RAY_AUTH_MODE": "disabled"}, "wants a token; set RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_TOKEN_PATH": "/none"}, "names /none, which cannot be read"),
    ):
        done = submit(*submit.train("never", steps=60), **environ)
        assert done.returncode == 1
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert submit.head.token not in done.stderr
    assert not submit.run("never").path.exists()


@pytest.mark.long
def test_the_line_of_the_page_finds_the_token_that_lies_here(head: Head, tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs/submitting.md"
    line = re.search(r"^(metadist submit --address \S+) (-- train .*)$", page.read_text(), re.M)
    assert line is not None
    command = line[1].replace("http://127.0.0.1:8265", head.url)
    small = " ".join(f"--set {o}" for o in (*TINY[1:], "outer.steps=2", "eval.every=2"))
    token = tmp_path / "home/.ray/auth_token"
    token.parent.mkdir(parents=True)
    token.write_text(head.token)
    environ = {k: v for k, v in head.environment.items() if not k.startswith("RAY_AUTH")}
    done = subprocess.run(
        ["bash", "-c", f"{command} {line[2]} {small}"],
        cwd=tmp_path,
        env={**environ, "HOME": str(tmp_path / "home"), "METADIST_CACHE_DIR": str(tmp_path / "c")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / "runs").glob("*/report.html"))) == 1


@pytest.mark.long
def test_crashes(submit: Submit) -> None:
    """A mistake that the cluster finds, and an interpreter that is none of ours."""
    where = ["--runs-dir", str(submit.runs), "--offline"]
    done = submit("--retries", "3", "--", "train", "omniglot-5w1s-maml", *where)
    assert done.returncode == 1
    assert "metadist data prepare omniglot" in done.stdout
    assert "submitting it again" not in done.stderr
    done = submit("--python", "/no/python", "--", "train", "sinusoid-5shot-maml", *where)
    assert done.returncode == 127
    nothing_is_left(submit.head)


def test_a_job_is_stopped_and_goes_on(
    submit: Submit, undisturbed: tuple[str, dict[str, bytes]]
) -> None:
    line = submit.train("stopped")
    follower = submit.start("--retries", "3", *line)
    submit.wait_for_checkpoint("stopped", follower)
    asked = time.monotonic()
    done = submit("stop", "stopped", "--json")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - asked < 45  # after 60 s Ray kills
    assert json.loads(done.stdout)["status"] == "STOPPED"
    # Whoever follows it ends too, and does not start it again.
    out, err = follower.communicate(timeout=60)
    assert follower.returncode == 143, out + err
    assert "submitting it again" not in err
    nothing_is_left(submit.head)
    assert submit.run("stopped").info()["result"] is None
    _ends_undisturbed(submit, submit.start("--json", *line), "stopped", undisturbed)
    # Its workers left with a checkpoint of the last step.
    assert [span.redone for span in history(submit.run("stopped"))] == [0, 0]


@pytest.mark.long
def test_a_search_is_stopped_and_goes_on(submit: Submit) -> None:
    """Trials are actors of the cluster; what they have found is where every node sees it."""
    line = ["--", "tune", "sinusoid-lr", "--name", "s", *SMALL, "--offline"]
    # On an idle machine a trial takes a second, and so does a word to the head.
    trials = 20
    line += ["--runs-dir", str(submit.runs), "--searcher=random", f"--trials={trials}"]
    follower = submit.start(*line)
    search = SearchDir(submit.runs / "searches" / "s")
    deadline = time.monotonic() + 200
    while over(search) < 2:
        assert follower.poll() is None, follower.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert submit("stop", "s").returncode == 0
    follower.communicate(timeout=60)
    assert follower.returncode == 143
    nothing_is_left(submit.head)
    done = {trial.number: trial for trial in search.trials() if trial.over}
    assert 2 <= len(done) < trials
    again = submit("--json", *line)
    assert again.returncode == 0, again.stderr
    assert sum(json.loads(again.stdout)["result"]["trials"].values()) == trials
    for number, trial in done.items():
        assert search.trials()[number - 1] == trial
    nothing_is_left(submit.head)


@pytest.mark.long
def test_ctrl_c_leaves_the_job_alone(submit: Submit) -> None:
    follower = submit.start(*submit.train("left"))
    submit.wait_for_checkpoint("left", follower)
    follower.send_signal(signal.SIGINT)
    _, err = follower.communicate(timeout=60)
    assert follower.returncode == 130
    assert "goes on" in err
    assert json.loads(submit("status", "left", "--json").stdout)["status"] == "RUNNING"
    assert submit("stop", "left").returncode == 0
    nothing_is_left(submit.head)


def test_in_a_job_the_command_runs_in_place(submit: Submit) -> None:
    """As the entrypoint of a RayJob: the driver is there already."""
    line = submit.train("place", steps=20)
    alone = [word for word in line if word not in ("--workers", "2")]
    done = submit(*alone, RAY_JOB_CONFIG_JSON_ENV_VAR="{}")
    assert done.returncode == 0, done.stderr
    assert "This is a job already" in done.stderr
    assert submit.run("place").info()["status"] == "finished"
    assert "place" not in submit("list").stdout


@pytest.mark.long
def test_a_driver_that_is_killed_is_submitted_again(
    submit: Submit, undisturbed: tuple[str, dict[str, bytes]]
) -> None:
    follower = submit.start("--json", "--retries", "1", *submit.train("killed"))
    submit.wait_for_checkpoint("killed", follower)
    for process in submit.head.processes("metadist_job.py"):
        if "JobSupervisor" not in " ".join(process.cmdline()):
            process.send_signal(signal.SIGKILL)
    document = _ends_undisturbed(submit, follower, "killed", undisturbed)
    assert len(document["jobs"]) == 2
    assert submit.run("killed").latest_attempt() >= 2
    nothing_is_left(submit.head, OF_THE_KILLED)


@pytest.mark.long
def test_a_head_that_is_lost(tmp_path: Path, undisturbed: tuple[str, dict[str, bytes]]) -> None:
    """All processes of a cluster die; a new one at the same address gets the job again."""
    with ray_head.head(cpus=3) as head:
        submit = Submit(head, tmp_path)
        follower = submit.start("--json", "--retries", "1", *submit.train("lost"))
        submit.wait_for_checkpoint("lost", follower)
        head.end(signal.SIGKILL)
        head.start()
        document = _ends_undisturbed(submit, follower, "lost", undisturbed)
        assert len(document["jobs"]) == 2
        nothing_is_left(head)


def _ends_undisturbed(
    submit: Submit,
    follower: subprocess.Popen[str],
    name: str,
    undisturbed: tuple[str, dict[str, bytes]],
) -> dict[str, Any]:
    """See that a run ends as if nothing had happened; what its follower printed."""
    out, err = follower.communicate(timeout=300)
    assert follower.returncode == 0, err[-3000:]
    document: dict[str, Any] = json.loads(out)
    digest, files = undisturbed
    assert document["result"]["params_sha256"] == digest
    assert evaluation_files(submit.run(name)) == files
    return document
