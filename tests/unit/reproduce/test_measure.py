"""Verdicts of planted runs, and which runs a table takes."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from compared_runs import drawn_classes
from damage import flip
from published import FACTS, REGRESSION, by_id, finish, planned_of, request_of, row, table

from metadist.episode_data import open_data
from metadist.errors import TableError
from metadist.evaluation.diagnostics import write_diagnostics
from metadist.evaluation.protocols import EvalRequest
from metadist.executors.pool import CommandResult
from metadist.objectives import MSE, Metric
from metadist.reproduce import reproduce
from metadist.reproduce.plan import Planned, Request, jobs, plan
from metadist.reproduce.result import assemble

# --- runs that are there and runs that are not ------------------------------------------------


def test_verdicts_of_planted_accuracies(tmp_path):
    one = table(
        "[runs.good]\n[runs.bad]\n[runs.failed]\n[runs.stopped]\n"
        + row("good", "good", "value = 90, ci95 = 1", "step = 3")
        + row("bad", "bad", "value = 90, ci95 = 1", "step = 3")
        + row("better", "good", "value = 80", "step = 3")
        + row("early", "good", "value = 90, ci95 = 1", "step = 1")
        + row("dagger", "good", "value = 90, ensemble = 3")
        + row("failed", "failed", "value = 90, ci95 = 1")
        + row("stopped", "stopped", "value = 90, ci95 = 1")
        + row("subset", "good", "value = 90, ci95 = 1", "step = 3\ncomplete_data = true")
    )
    request = request_of(one, tmp_path)
    planned = {key: planned_of(request, key) for key in one.runs}
    finish(planned["good"], [0.2, 0.7, 0.8, 0.9])
    finish(planned["bad"], [0.2, 0.5, 0.6, 0.6])
    outcomes = {
        planned["failed"].name: CommandResult("failed", "it broke (training; see log)"),
        planned["stopped"].name: CommandResult("stopped", "the time was up while training"),
    }
    result = assemble(request, list(planned.values()), outcomes, FACTS)
    small = "at 10 % of the published budget"
    assert by_id(result) == {
        "good": "within",
        "bad": f"below (worse) {small}",
        "better": f"above (better) {small}",
        "early": f"below (worse) {small}",
        "dagger": "not comparable: ensemble of 3",
        "failed": "missing: it broke (training; see log)",
        "stopped": "missing: the time was up while training",
        "subset": "within",
    }
    ours = result.rows[0].measured.ours
    assert ours is not None
    assert ours.value == pytest.approx(90.0)  # in percent, as it was published
    assert ours.ci95 == pytest.approx(1.96 * 10 / math.sqrt(600))
    assert result.failed == [planned["failed"].name]
    # On a subset of the dataset nothing is compared with the complete one.
    subset = Planned(**{**vars(planned["good"]), "incomplete": "60 images per class (of 600)"})
    again = assemble(request, [subset, *list(planned.values())[1:]], outcomes, FACTS)
    assert by_id(again)["subset"] == "not comparable: 60 images per class (of 600)"
    assert by_id(again)["good"] == "within"


def test_the_classes_of_a_figure_stand_in_its_notes(tmp_path):
    keys = ("old", "few", "many", "damaged")
    one = table(
        "".join(f"[runs.{k}]\n" for k in keys) + "".join(row(k, k, "value = 90") for k in keys)
    )
    request = request_of(one, tmp_path)
    planned = {key: planned_of(request, key) for key in one.runs}
    for key, count in zip(keys, (0, 20, 423, 20), strict=True):
        classes = drawn_classes(600, count) if count else None
        finish(planned[key], [0.2, 0.7, 0.8, 0.9], classes=classes)
    record = next(planned["damaged"].run.evaluation.glob("*.classes.parquet"))
    flip(record, 60)
    result = assemble(request, list(planned.values()), {}, FACTS)
    said = {one.row.id: one.notes for one in result.rows}
    assert "600 test episodes, number of classes not recorded." in said["old"]
    assert "600 test episodes of 423 classes." in said["many"]
    (few,) = (note for note in said["few"] if "classes" in note)
    assert few.startswith("600 test episodes of 20 classes. 20 test classes are fewer than 5 x 5")
    assert by_id(result)["damaged"].startswith("missing: ")
    assert "test-1q.classes.parquet" in by_id(result)["damaged"]
    assert result.document()["rows"][2]["ours"]["classes"] == {"ways": 5, "classes": 423}


def test_verdicts_of_planted_errors(tmp_path):
    speed = 'versus = "good"\ncombine = "ratio"\nbetter = "higher"\nmetric = "speed"'
    finding = 'metric = "finding"\nfinding = "p_update"\npart = "linear1"'
    one = table(
        "[runs.good]\n[runs.bad]\n[runs.diverged]\n"
        + row("good", "good", "value = 0.5, ci95 = 0.05", "step = 1")
        + row("better", "good", "value = 0.9, ci95 = 0.05", "step = 1")
        + row("bad", "bad", "value = 0.5, ci95 = 0.05", "step = 1")
        + row("diverged", "diverged", "value = 0.5, ci95 = 0.05", "step = 1")
        + row("shots", "good", "value = 0.8, ci95 = 0.05", "step = 1\nshots = 5")
        + row("unseen", "bad", "value = 0.8, ci95 = 0.05", "step = 1\nshots = 5")
        + row("contrast", "bad", 'value = 2, relation = "at_least"',
              'step = 1\nversus = "good"\ncombine = "ratio"\nbetter = "higher"')
        + row("speed", "bad", "value = 1.5", speed)
        + row("finding", "good", "value = 0.3, ci95 = 0.1", finding)
        + row("unfound", "bad", "value = 0.3, ci95 = 0.1", finding),
        REGRESSION,
    )  # fmt: skip
    request = request_of(one, tmp_path)
    planned = {key: planned_of(request, key) for key in one.runs}
    finish(planned["good"], [3.0, 0.52, 0.4], speed=100)
    finish(planned["good"], [3.0, 0.81], asked=EvalRequest(shots=5, steps=1))
    finish(planned["bad"], [3.0, 2.0, 1.5], speed=150)
    finish(planned["diverged"], [3.0, 0.5, 0.4], failed=6)
    found = {"findings": {"p_update": {"linear1": [0.25, 0.45]}}}
    write_diagnostics(planned["good"].run.evaluation, found)
    result = assemble(request, list(planned.values()), {}, FACTS)
    verdicts = by_id(result)
    small = "at 10 % of the published budget"
    assert verdicts["good"] == "within"
    assert verdicts["better"] == f"below (better) {small}"
    assert verdicts["bad"] == f"above (worse) {small}"
    assert verdicts["diverged"] == (
        f"above (worse) {small}, 6 of 600 episodes have no finite result"
    )
    assert verdicts["shots"] == "within"
    assert "missing: " in verdicts["unseen"]
    assert "test-5shot-1step-10q.json" in verdicts["unseen"]
    assert verdicts["contrast"] == verdicts["speed"] == verdicts["finding"] == "within"
    assert "diagnostics.json" in verdicts["unfound"]
    contrast = next(o.measured.ours for o in result.rows if o.row.id == "contrast")
    assert contrast is not None
    assert contrast.value == pytest.approx(2.0 / 0.52)


def test_damaged_results_are_named(tmp_path):
    one = table("[runs.a]\n" + row("a", "a", "value = 90"))
    request = request_of(one, tmp_path)
    planned = planned_of(request, "a")
    finish(planned, [0.2, 0.9])
    path = planned.run.evaluation / "test-1q.json"
    for content in ("{", "{}", '{"score": "mse"}'):
        path.write_text(content)
        verdict = assemble(request, [planned], {}, FACTS).rows[0].verdict
        assert verdict.kind == "missing"
        assert "cannot be read" in verdict.why


def test_seeds_are_a_mean_and_a_missing_one_is_said(tmp_path):
    one = table("[runs.a]\n" + row("a", "a", "value = 90, ci95 = 1", "step = 1"))
    request = request_of(one, tmp_path, seeds=3)
    planned = [planned_of(request, "a", seed) for seed in range(3)]
    finish(planned[0], [0.2, 0.90])
    finish(planned[2], [0.2, 0.92])
    outcomes = {planned[1].name: CommandResult("failed", "it broke")}
    (result,) = assemble(request, planned, outcomes, FACTS).rows
    assert result.measured.ours is not None
    assert result.measured.ours.value == pytest.approx(91.0)
    assert result.measured.ours.seeds == 2
    assert any("it broke" in note for note in result.notes)


# --- planning ---------------------------------------------------------------------------------


def test_the_budget_decides_steps_and_names(tmp_path):
    one = table(
        "[runs.a]\n[runs.b]\nset = ['outer.batch=7', 'algorithm.name=mamlpp']\n"
        "fractions = {'algorithm.epoch_steps' = 5}\n"
        + row("a", "a", "value = 1", "step = 1\nshots = 5")
        + row("b", "b", "value = 1", "step = 1"),
        REGRESSION,
    )
    request = request_of(one, tmp_path, seeds=2)
    planned = plan(request)
    assert [p.problem for p in planned] == [""] * 4
    assert [p.name for p in planned][:2] == ["some-table-a-t100-s0", "some-table-a-t100-s1"]
    steps = [p.recipe.outer.steps for p in planned if p.recipe]
    assert steps == [10, 10, 14, 14]
    assert [p.recipe.run.seed for p in planned if p.recipe] == [0, 1, 0, 1]
    assert planned[2].recipe is not None
    assert planned[2].recipe.algorithm.options["epoch_steps"] == 14 // 5
    # The first seed of every run before the second of any.
    todo = jobs(planned, request)
    assert [job.name[-4:] for job in todo] == ["0-s0", "0-s0", "0-s1", "0-s1"]
    train, evaluate = todo[0].commands
    assert train.arguments[1:4] == ("-m", "metadist", "train")
    assert "--shots" in evaluate.arguments
    assert evaluate.arguments[evaluate.arguments.index("--steps") + 1] == "1"
    assert len(todo[1].commands) == 1


def test_a_finished_run_is_not_run_again(tmp_path):
    one = table("[runs.a]\n" + row("a", "a", "value = 1", "step = 1\nshots = 5"), REGRESSION)
    request = Request(one, tuple(one.rows), 100, 1, tmp_path / "runs", tmp_path, offline=True)
    (planned,) = plan(request)
    assert planned.recipe is not None
    digest = open_data(planned.recipe, tmp_path).digest
    finish(planned, [3.0, 1.0], digest=digest)
    (only,) = jobs(plan(request), request)
    assert [command.what for command in only.commands] == ["evaluating test-5shot-1step-10q"]
    finish(planned, [3.0, 1.0], asked=EvalRequest(shots=5, steps=1))
    assert jobs(plan(request), request) == []
    result = reproduce(one, offline=True, runs_dir=tmp_path / "runs", data_dir=tmp_path)
    assert by_id(result) == {"a": "within"}
    # A run of that name from a table that has been changed since is no run of this table.
    other = table(
        "[runs.a]\nset = ['inner.lr=0.5']\n" + row("a", "a", "value = 1", "step = 1"), REGRESSION
    )
    (changed,) = plan(Request(other, tuple(other.rows), 100, 1, tmp_path / "runs", tmp_path))
    assert "inner.lr: 0.5" in changed.problem.replace("0.01 -> ", "")
    assert jobs([changed], request) == []


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ("algorithm.name=mamel", "Did you mean 'maml'?"),
        ("inner.lrr=1", "inner.lrr"),
        ("data.dataset=omniglot", "metadist data prepare omniglot"),
    ],
)
def test_what_cannot_be_run_is_a_missing_row(tmp_path, settings, word):
    one = table(
        f"[runs.a]\nset = ['{settings}']\n[runs.b]\nset = ['data.dataset=omniglot']\n"
        + row("a", "a", "value = 1")
        + row("b", "b", "value = 1")
    )
    result = reproduce(one, offline=True, runs_dir=tmp_path / "runs", data_dir=tmp_path / "data")
    assert word in result.rows[0].verdict.why
    assert result.rows[1].verdict.kind == "missing"
    assert len(result.failed) == 2


def test_two_at_once_are_refused(tmp_path):
    one = table("[runs.a]\nset = ['inner.lrr=1']\n" + row("a", "a", "value = 1"))
    (tmp_path / "runs" / ".reproduce").mkdir(parents=True)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); "
            "print(flush=True); time.sleep(60)",
            str(tmp_path / "runs" / ".reproduce" / "some-table.lock"),
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with holder:
        try:
            with pytest.raises(TableError, match="another process"):
                reproduce(one, offline=True, runs_dir=tmp_path / "runs")
        finally:
            holder.kill()


def test_figures_of_a_strangers_objective(tmp_path):
    """Any metric that an evaluation records: the one that decides, or a further one."""
    hits = Metric("hits", "hits among five", higher_is_better=True, percent=True, failed=0.0)
    one = table(
        "[runs.a]\n"
        + row("hits", "a", "value = 60", 'metric = "hits"\nbetter = "higher"\npercent = true')
        + row("mse", "a", "value = 0.005", 'metric = "mse"')
        + row("lost", "a", "value = 1", 'metric = "gone"\nbetter = "lower"'),
        REGRESSION,
    )
    request = request_of(one, tmp_path)
    planned = planned_of(request, "a")
    finish(planned, [0.2, 0.6], metric=hits, others=(MSE,), failed=2)
    result = assemble(request, [planned], {}, FACTS)
    share, error, lost = (found.measured for found in result.rows)
    assert share.ours is not None
    assert share.ours.value == pytest.approx(60.0)
    assert not share.ours.left_out  # failed ones count as none
    assert error.ours is not None
    assert error.ours.value == pytest.approx(0.006)
    assert by_id(result)["mse"].startswith("above (worse)")
    assert [round(mean or 0, 3) for _, mean, _ in share.curve[:2]] == [0.2, 0.6]
    assert "gone was asked for, test-10q.json holds hits, mse" in lost.missing
    told = result.document()["rows"][0]
    assert (told["metric"], told["unit"], told["better"]) == ("hits", "%", "higher")
    assert set(told["ours"]) == {"value", "ci95", "seeds", "episodes", "failed", "classes"}
