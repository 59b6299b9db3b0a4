"""What a second request takes of the first one, and what it does not."""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from plugin_files import SIGN_MAML, write
from published import FACTS, REGRESSION, by_id, finish, planned_of, request_of, row, table

from metadist import plugins
from metadist.episode_data import open_data
from metadist.evaluation.protocols import EvalRequest
from metadist.executors.pool import Command, Job, Pool
from metadist.reproduce import load_table
from metadist.reproduce.places import place
from metadist.reproduce.plan import Planned, Request, jobs, plan
from metadist.reproduce.result import assemble

FIVE = "test-5shot-1step-10q.json"


def planned_run(root: Path) -> tuple[Request, Planned]:
    """A table of one row with a figure of its own protocol and one of five shots."""
    rows = row("own", "a", "value = 1", "step = 1") + row(
        "five", "a", "value = 1", "step = 1\nshots = 5"
    )
    one = table("[runs.a]\n" + rows, REGRESSION)
    request = replace(request_of(one, root), offline=True)
    (planned,) = plan(request)
    assert not planned.problem
    assert planned.recipe is not None
    digest = open_data(planned.recipe, request.data_dir).digest
    finish(planned, [3.0, 1.0], digest=digest)
    finish(planned, [3.0, 1.0], asked=EvalRequest(shots=5, steps=1))
    return request, planned


def work(request: Request) -> list[str]:
    return [command.what for job in jobs(plan(request), request) for command in job.commands]


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_evaluation_of_an_earlier_checkpoint_is_made_again(tmp_path: Path):
    request, planned = planned_run(tmp_path)
    assert work(request) == []
    early = {"step": 1, "params_sha256": "of an earlier step"}
    change(planned.run.evaluation / FIVE, checkpoint=early)
    assert work(request) == ["evaluating test-5shot-1step-10q"]
    result = by_id(assemble(request, [planned], {}, FACTS))
    assert "of another checkpoint than test-10q.json" in result["five"]
    assert result["own"] == "within"


DAMAGE = {
    "cut": lambda path: path.write_text(path.read_text()[:40]),
    "short curve": lambda path: change(path, by_step=json.loads(path.read_text())["by_step"][:1]),
    "no number": lambda path: change(path, by_step=[{"step": 0, "mean": math.nan, "ci95": 0.0}]),
    "no object": lambda path: path.write_text("[]"),
    "words": lambda path: change(path, failed_by_step=["a"] * 11),
}


@pytest.mark.parametrize("file", ["test-10q.json", FIVE])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_evaluation_is_a_missing_row_and_made_again(tmp_path: Path, file: str, damage):
    request, planned = planned_run(tmp_path)
    damage(planned.run.evaluation / file)
    rows = by_id(assemble(request, [planned], {}, FACTS))
    hit = "own" if file == "test-10q.json" else "five"
    assert rows[hit].startswith("missing: ")
    assert ("evaluating again" if hit == "own" else "evaluating test-5shot-1step-10q") in work(
        request
    )


@pytest.mark.parametrize("text", ["{}", '{"dataset": 3}', '{"dataset": {}}'])
def test_a_run_json_that_says_nothing_is_a_missing_row(tmp_path: Path, text: str):
    request, planned = planned_run(tmp_path)
    info = json.loads((planned.run.path / "run.json").read_text())
    info.pop("dataset")
    (planned.run.path / "run.json").write_text(json.dumps(info | json.loads(text)))
    (again,) = plan(request)
    assert "run.json cannot be used" in again.problem
    assert by_id(assemble(request, [again], {}, FACTS))["own"].startswith("missing: ")


def test_a_run_of_another_source_of_a_plugin_is_not_used(tmp_path: Path):
    path = write(tmp_path / "sign.py", SIGN_MAML)
    one = table(
        "[runs.a]\nset = ['algorithm.name=sign']\n" + row("a", "a", "value = 1"), REGRESSION
    )
    request = replace(request_of(one, tmp_path), offline=True, plugins=(str(path),))
    with plugins.use(request.plugins):
        (planned,) = plan(request)
        assert not planned.problem
        assert planned.recipe is not None
        finish(planned, [3.0, 1.0], digest=open_data(planned.recipe, request.data_dir).digest)
        planned.run.update(plugins=plugins.facts(plugins.of(planned.recipe)))
        assert plan(request)[0].problem == ""
    path.write_text(path.read_text() + "\n# changed\n")
    with plugins.use(request.plugins):
        assert "algorithm was 'sign'" in plan(request)[0].problem


def test_speeds_of_other_numbers_of_workers_are_not_compared(tmp_path: Path):
    request, planned = planned_run(tmp_path)
    planned.run.claim({"world_size": 1})
    for exclusive, workers, fine in (
        (False, 4, True),
        (True, 0, True),
        (True, 1, True),
        (True, 4, False),
    ):
        asked = replace(request, table=request.table.model_copy(update={"exclusive": exclusive}))
        (again,) = plan(replace(asked, workers=workers))
        assert (again.problem == "") is fine, (exclusive, workers)
        assert fine or "trained by 1 workers, 4 are asked for" in again.problem


def test_a_run_that_had_nothing_to_train_has_no_speed(tmp_path: Path):
    fast = row("speed", "a", "value = 1", 'metric = "speed"\nbetter = "higher"')
    request = request_of(table("[runs.a]\n" + fast), tmp_path)
    planned = planned_of(request, "a")
    finish(planned, [0.2, 0.7], speed=0.0)
    assert "remove it to measure again" in by_id(assemble(request, [planned], {}, FACTS))["speed"]


def test_a_run_without_mlflow_is_sent_when_it_is_wanted(tmp_path: Path):
    request, planned = planned_run(tmp_path)
    planned.run.update(closed=True)
    assert work(request) == []
    wanted = replace(request, offline=False)
    assert work(wanted) == ["training"]
    planned.run.update(mlflow={"run_id": "x"})
    assert work(wanted) == []


def test_a_password_is_in_no_command_and_no_log(tmp_path: Path):
    request, _ = planned_run(tmp_path)
    uri = "http://me:hunter2@127.0.0.1:1"
    asked = replace(request, offline=False, tracking_uri=uri)
    words = [word for job in jobs(plan(asked), asked) for c in job.commands for word in c.arguments]
    assert words
    assert not any("hunter2" in word for word in words)
    seen = ("sh", "-c", 'test "$MLFLOW_TRACKING_URI" = "$0"', "x")
    with place(replace(asked, tracking_uri="x"), None, 1, print) as (start, _):
        looking = Job("a", (Command(seen, "looking"),), tmp_path / "a.txt")
        assert Pool(start).run([looking])["a"].state == "done"


def test_figures_are_of_what_made_the_runs(tmp_path: Path):
    request, planned = planned_run(tmp_path)
    now = {**FACTS, "commit": "of today"}
    assert assemble(request, [planned], {}, now).facts["commit"] == "abc"
    planned.run.update(made_by=[FACTS, {**FACTS, "commit": "abd"}])
    assert assemble(request, [planned], {}, now).facts["commit"] == "abc and abd"
    planned.run.update(made_by=[])
    assert assemble(request, [planned], {}, now).facts["commit"] == "not recorded"
    (waiting,) = [Planned("a", 0, "b", type(planned.run)(tmp_path / "b"), (), planned.recipe)]
    assert assemble(request, [waiting], {}, now).facts["commit"] == "of today"


def test_the_command_of_a_table_of_ones_own_can_be_given_again(tmp_path: Path):
    path = tmp_path / "my tables" / "mine.toml"
    path.parent.mkdir()
    path.write_text(
        'title = "T"\nsummary = "S"\ntasks = 8\n[base]\nrecipe = "strokes-5w1s-maml"\n'
        "published_steps = 1\npublished_batch = 1\n[runs.a]\n[[rows]]\n"
        'id = "a"\nlabel = "A"\nrun = "a"\nmetric = "accuracy"\nnot_comparable = "new"\n'
    )
    one = load_table(str(path))
    request = replace(request_of(one, tmp_path), source=str(path), plugins=("./a b.py",))
    words = shlex.split(request.command)
    assert words[:3] == ["metadist", "reproduce", str(path)]
    assert words[-2:] == ["--plugin", "./a b.py"]
