"""``metadist evaluate`` as it is typed: protocols, ensembles, curves in words, mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ended_runs import FUNCTIONS, IMAGES, ended_run, image_data
from report_page import seen

from metadist.api.text import curve, headline
from metadist.cli.main import main
from metadist.objectives import ACCURACY, MSE
from metadist.report import write_report


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: ``tame``, ``wild``, which diverges, and ``one`` and ``two`` on images."""
    root = tmp_path_factory.mktemp("place")
    image_data(root)
    ended_run(root, "tame", FUNCTIONS)
    wild = ("inner.lr=100.0", "eval.steps=10", "engine.on_nonfinite=skip")
    ended_run(root, "wild", FUNCTIONS, *wild)
    for seed, name in enumerate(("one", "two")):
        ended_run(root, name, IMAGES, f"run.seed={seed}")
    return root


@pytest.fixture(autouse=True)
def _here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def evaluate(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["evaluate", *arguments], prog_name="metadist")


@pytest.mark.slow
def test_the_recipes_own_protocols():
    result = evaluate("one")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert re.fullmatch(
        r"one: accuracy (\d+\.\d\d) % ± \d+\.\d\d % on 9 test episodes of 4 classes \(95 % "
        r"confidence; checkpoint of step 2 of 2\)",
        lines[0],
    )
    assert lines[1] == "for new classes: no interval, for there are too few classes"
    assert lines[2] == (
        "Warning: 4 test classes are fewer than 5 x 3 ways: the interval over episodes says little "
        "of other classes"
    )
    assert re.fullmatch(r"with 4 queries per class: \d+\.\d\d %", lines[3])
    assert re.fullmatch(r"negative log-likelihood \d+\.\d{4} ± \d+\.\d{4}", lines[4])
    assert re.fullmatch(r"calibration error \d\.\d{4}", lines[5])
    assert lines[6] == "test-2q, after each number of adaptation steps:"
    assert re.fullmatch(
        r"  step 1: \d+\.\d\d % ± \d+\.\d\d %, negative log-likelihood \d+\.\d{4} ± \d+\.\d{4}, "
        r"calibration error \d\.\d{4} \(trained\)",
        lines[8],
    )
    assert lines[11] == "test-4q, after each number of adaptation steps:"
    assert lines[16].startswith("Files: ")
    assert lines[17] == (
        "Next: metadist report one, metadist compare one OTHER, metadist adapt one --support DIR "
        "--query DIR"
    )
    assert len(lines) == 18


@pytest.mark.slow
def test_episodes_that_are_all_of_the_same_classes():
    """No interval can be told: the one over episodes would look as if it were."""
    lines = evaluate("one", "--part", "val", "--episodes", "40").stdout.splitlines()
    assert " on 40 validation episodes of 3 classes (95 %" in lines[0]
    assert lines[1] == "for new classes: no interval, for all episodes are of the same classes"
    assert lines[2].startswith("Warning: 3 validation classes are fewer than 5 x 3 ways")


def test_a_result_from_before_classes_were_recorded_says_so():
    result = {
        "run": "a", "steps": 4, "accuracy": 0.5, "ci95": 0.1, "episodes": 3, "failed": 0,
        "best_step": 2,
    }  # fmt: skip
    assert headline(result, ACCURACY, ways=5) == [
        "a: accuracy 50.00 % ± 10.00 % on 3 test episodes, number of classes not recorded (95 % "
        "confidence; checkpoint of step 2 of 4)"
    ]
    turned = {"ways": 5, "classes": 423, "turned_classes": 1692, "ci95_classes": 0.2}
    lines = headline({**result, **turned}, ACCURACY, ways=5)
    assert " on 3 test episodes of 423 classes, 1,692 with turns (95 % " in lines[0]
    assert lines[1] == "for new classes: 50.00 % ± 20.00 % (95 % over classes and episodes)"
    assert len(lines) == 2


def test_another_protocol_and_json():
    arguments = ("tame", "--shots", "5", "--queries", "3", "--steps", "4", "--episodes", "6")
    result = evaluate(*arguments, "--json")
    assert result.exit_code == 0, result.output
    name = "test-5shot-4step-6episodes-3q"
    assert " on 6 test episodes after 4 adaptation steps (95 %" in result.stderr
    assert f"{name}, after each number of adaptation steps:" in result.stderr
    assert "  step 4: " in result.stderr
    document = json.loads(result.stdout)
    written = json.loads(Path(f"runs/tame/evaluation/{name}.json").read_text())
    for key, value in document["protocols"][name].items():
        assert written[key] == value
    assert document["mse"] == written["by_step"][4]["mean"]
    assert "on 4 validation episodes (95 %" in evaluate("tame", "--part", "val").stdout


def test_divergence_stands_in_words_beside_every_step():
    result = evaluate("wild", "--episodes", "40")
    assert result.exit_code == 0, result.output
    lines = [line.strip() for line in result.stdout.splitlines()]
    steps = [line for line in lines if line.startswith("step ")]
    assert len(steps) == 11
    assert "diverged" not in steps[1]
    assert re.fullmatch(
        r"step 10: \d\.\d+e\+\d\d ± \d\.\d+e\+\d\d, median inf \(\d\d of 40 episodes diverged\)",
        steps[10],
    )
    # What is finite and has exploded is not counted as failed, and cannot be overlooked.
    assert re.search(r"step 2: .*median \d", steps[2])
    later = evaluate("wild", "--steps", "10", "--episodes", "40").stdout.splitlines()[0]
    assert re.search(r"on 40 test episodes, \d\d failed after 10 adaptation steps", later)


def test_an_ensemble_of_classifiers():
    result = evaluate("one", "two", "--shots", "2", "--average", "logits", "--json")
    assert result.exit_code == 0, result.output
    lines = result.stderr.splitlines()
    assert re.match(
        r"Ensemble of 2, mean of logits: accuracy \d+\.\d\d % ± .* on 9 test ", lines[0]
    )
    assert lines[1].startswith("for new classes: ")
    assert lines[2].startswith("Warning: 4 test classes are fewer than 5 x 3 ways: ")
    assert lines[3].startswith("  one (maml, checkpoint of step 2): accuracy ")
    assert lines[4].startswith("  two (maml, checkpoint of step 2): accuracy ")
    assert "test-2shot-2q-logits, after each number of adaptation steps:" in lines
    document = json.loads(result.stdout)
    assert lines[-1] == f"Files: {document['directory']}"
    assert Path(document["directory"], "evaluation", "test-2shot-2q-logits.json").is_file()
    assert [m["run"] for m in document["members"]] == ["one", "two"]


def test_an_ensemble_of_functions_goes_where_it_is_sent(tmp_path):
    result = evaluate("tame", "wild", "--out", str(tmp_path / "pair"))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Ensemble of 2, mean of values: mean squared error ")
    assert (tmp_path / "pair" / "evaluation" / "test-10q.parquet").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tame", "--shots", "0"], "Invalid value for '--shots'"),
        (["tame", "--queries", "0"], "Invalid value for '--queries'"),
        (["tame", "--steps", "-1"], "Invalid value for '--steps'"),
        (["tame", "--episodes", "many"], "Invalid value for '--episodes'"),
        (["tame", "--part", "train"], "'train' is not one of 'test', 'val'"),
        (["one", "--ways", "5"], "lower --ways (5), or take data with more test classes"),
        (["one", "--shots", "8"], "8 shots + 2 queries need 10 images per class"),
        (["one", "--average", "logits"], "--average and --out are about ensembles"),
        (["one", "--out", "there"], "--average and --out are about ensembles"),
        (["one", "tame"], "one and tame differ in kind"),
        (["one", "gone"], "no run 'gone'"),
        (["tame", "wild", "--average", "probabilities"], "in regression values are averaged"),
    ],
    ids=" ".join,
)
def test_mistakes_end_in_one_line(arguments, said):
    before = sorted(Path.cwd().rglob("*"))
    result = evaluate(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert said in result.stderr.splitlines()[-1]
    assert sorted(Path.cwd().rglob("*")) == before


def summary(**changes: object) -> dict[str, object]:
    figures = {"mean": None, "ci95": None, "median": None, "worst_decile": None, "loss": None}
    return {
        "score": "mse",
        "episodes": 1,
        "trained_steps": 3,
        "by_step": [{"step": 0, **figures}],
        "failed_by_step": [1],
        **changes,
    }


def test_nothing_finite_and_one_episode_have_words():
    nothing = ["step 0: no episode had a finite result (1 of 1 episode diverged)"]
    assert curve(summary()) == nothing
    assert curve(summary(score="accuracy")) == nothing
    row = {"step": 0, "mean": 0.912, "ci95": None, "median": 0.9}
    assert curve(summary(by_step=[row], failed_by_step=[0])) == ["step 0: 0.9120, median 0.9000"]
    result = {
        "run": "a", "steps": 4, "mse": None, "ci95": None, "mse_20q": None, "episodes": 3,
        "failed": 3, "best_step": 2,
    }  # fmt: skip
    assert headline(result, MSE, ways=0) == [
        "a: no episode had a finite result on 3 test episodes, 3 failed (95 % confidence; "
        "checkpoint of step 2 of 4)"
    ]


def test_a_learner_without_steps_has_one_figure(place: Path):
    nearest = ("algorithm.name=nearest_pixels", "eval.extra_queries=0")
    run = ended_run(place, "nearest", IMAGES, *nearest)
    lines = evaluate("nearest").stdout.splitlines()
    assert len(lines) == 7, lines
    assert "adaptation step" not in "".join(lines)
    assert "Accuracy after each adaptation step" not in write_report(run).read_text()
    assert "before adaptation" not in seen(run.report.read_text())
