"""The command line of a job: what is added to it, and what in it could not work on a cluster."""

from __future__ import annotations

import shlex

import pytest
from click.testing import CliRunner
from submitted import as_written

from metadist.cli.main import main
from metadist.errors import JobError
from metadist.jobs.command import Command, data_beside, plan
from metadist.jobs.submit import in_place
from metadist.jobs.submitter import Submission

STAMP = "20260304-050607"


@pytest.mark.parametrize(
    ("line", "expected", "run", "cpus"),
    [
        # A run gets a name and may be continued; where workers compute, its driver does not.
        (
            "train my.toml --workers 2 --runs-dir /all/runs",
            "--name my-20260304-050607 --resume auto --address auto",
            "my-20260304-050607",
            0,
        ),
        (
            "train x --workers 2:8 --name n --runs-dir s3://b/r",
            "--resume auto --address auto",
            "n",
            0,
        ),
        ("train x --name n --runs-dir /r", "--resume auto", "n", 1),
        ("train x --workers 0 --name n --runs-dir /r", "--resume auto", "n", 1),
        ("train x --resume /r/old --runs-dir /r", "", "old", 1),
        ("train x --resume auto --runs-dir /r", "", None, 1),
        (
            "train x --workers 2 --address h:6379 --name n --runs-dir /r",
            "--resume auto",
            "n",
            0,
        ),
        (
            "tune maml-lr --runs-dir /r",
            "--name maml-lr-20260304-050607 --resume auto --address auto",
            "maml-lr-20260304-050607",
            0,
        ),
        ("tune --resume s --runs-dir /r", "--address auto", "s", 0),
        (
            "train '/x/../my recipe.toml' --runs-dir /r",
            "--name my-recipe-20260304-050607 --resume auto",
            "my-recipe-20260304-050607",
            1,
        ),
        ("evaluate first second --runs-dir /r", "", "first", 1),
        ("reproduce my/t.toml --runs-dir /r --out /o", "--address auto", "t", 0),
        ("evaluate /all/runs/first --runs-dir /r", "", "first", 1),
    ],
)
def test_what_is_added(line: str, expected: str, run: str | None, cpus: float) -> None:
    planned = plan(as_written(line), STAMP)
    assert planned.command.argv == [*shlex.split(line), *shlex.split(expected)]
    assert (planned.run, planned.cpus) == (run, cpus)
    # What was completed is complete: a second job of it is the same.
    assert plan(planned.command, "other").command == planned.command


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train x", "--runs-dir is needed"),
        ("train x --runs-dir runs", "--runs-dir 'runs': a job has another current directory"),
        ("train x --runs-dir /r --data-dir ../data", "--data-dir '../data'"),
        ("train x --runs-dir /r --resume runs/old", "'runs/old': a job has another"),
        ("train x --runs-dir /r --tracking-uri sqlite:///mlflow.db", "the job's own directory"),
        ("train x --runs-dir /r --tracking-uri mlruns", "the job's own directory"),
        ("train x --runs-dir /r --address h:6379", "--address needs --workers"),
        ("evaluate runs/first --runs-dir /r", "'runs/first': a job has another"),
        ("evaluate a b --runs-dir /r --out here", "--out 'here'"),
        ("reproduce omniglot --runs-dir /r", "--out is needed"),
        ("reproduce --list --runs-dir /r --out /o", "asks nothing of a cluster"),
        ("tune --list --runs-dir /r", "without submit"),
        ("tune maml-lr --resume auto --runs-dir /r", "--name says which search"),
    ],
)
def test_what_cannot_work_on_a_cluster_is_refused(line: str, words: str) -> None:
    with pytest.raises(JobError, match=words):
        plan(as_written(line), STAMP)


def test_absolute_stores_and_servers_are_taken() -> None:
    for uri in ("sqlite:////all/mlflow.db", "http://mlflow:5000", "/all/mlruns"):
        plan(as_written(f"train x --runs-dir /r --tracking-uri {uri}"), STAMP)


@pytest.mark.parametrize(
    "line",
    [
        "train x --set=inner.lr=0.1 --offline --set outer.steps=3 --json",
        "train --workers=2 x",
        "tune maml-lr --no-default --trials 3 --seed 0",
        "tune --resume s --default",
        "evaluate a b c --steps 5 --part val",
        "train -- --odd",
        "train 'a recipe.toml' --name 'it; rm -rf /'",
    ],
)
def test_a_line_is_kept_as_it_was_written(line: str) -> None:
    """Read, written and read again it is the same, with nothing that it did not say."""
    command = as_written(line)
    assert as_written(shlex.join(command.argv)) == command
    words = sorted(w for word in shlex.split(line) for w in word.split("=") if w != "--")
    assert sorted(w for word in command.argv for w in word.split("=") if w != "--") == words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train x --devise cpu", "--device"),
        ("train", "RECIPE"),
        ("tune x --trials none", "none"),
        ("report x", "No such command"),
        ("--retries 2 --no-wait train sinusoid-5shot-maml", "--retries needs"),
    ],
)
def test_the_grammar_is_that_of_the_command(line: str, words: str) -> None:
    result = CliRunner().invoke(main, ["submit", *line.split()])
    assert result.exit_code == 2
    assert words in result.output


def test_a_job_runs_the_command_itself() -> None:
    """In a driver that Ray has started, as by a RayJob, the same line is the command."""
    line = "train x --workers 2 --runs-dir /r"
    with pytest.raises(JobError, match="another attempt at the job continues it"):
        in_place(Submission(as_written(line)))
    words, variables = in_place(Submission(as_written(f"{line} --name n")))
    assert variables == {"METADIST_DATA_DIR": "/data"}
    assert words == [*line.split(), "--name", "n", "--resume", "auto", "--address", "auto"]


@pytest.mark.parametrize(
    ("runs", "data"),
    [
        ("/all/runs", "/all/data"),
        ("s3://bucket/runs", "s3://bucket/data"),
        ("s3://bucket/a/runs/", "s3://bucket/a/data"),
        ("s3://bucket", "s3://bucket/data"),
    ],
)
def test_data_are_beside_the_runs(runs: str, data: str) -> None:
    assert data_beside(runs) == data


def test_runs_in_an_object_store_need_a_tracking_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own file would be in the job's directory, and gone with it."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    line = "train x --workers 2 --runs-dir s3://b/runs --name n"
    with pytest.raises(JobError, match="set MLFLOW_TRACKING_URI on the cluster, or submit with"):
        in_place(Submission(as_written(line)))
    for more in ("--offline", "--tracking-uri https://m.example"):
        in_place(Submission(as_written(f"{line} {more}")))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://m.example")
    in_place(Submission(as_written(line)))


def test_values_of_options() -> None:
    command = Command("train", ("x",), (("--set", "a.b=1"), ("--json", None), ("--set", "c.d=2")))
    assert command.values("--set") == ("a.b=1", "c.d=2")
    assert command.value("--set") == "c.d=2"
    assert command.value("--json") is None
    assert command.has("--json")
    assert not command.has("--name")
