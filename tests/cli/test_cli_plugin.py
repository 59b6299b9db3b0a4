"""``--plugin``: a part outside the repository, from its first training to its last mistake."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from plugin_files import DATASET, EPISODES, FUNCTION, SIGN_MAML, install, write
from small_runs import SMALL

from metadist.cli.main import main
from metadist.errors import PluginError

SETTINGS = [word for setting in SMALL for word in ("--set", setting)]
TRAIN = ["train", "sinusoid-10shot-maml", "--offline", *SETTINGS]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder of its own, with the modules and paths it found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="metadist")


def done(*arguments: str) -> dict[str, Any]:
    """The result of a command that succeeds."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return answer


def refused(*arguments: str) -> str:
    """The one line in which a command refuses."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    return error


def train_sign(name: str, *more: str) -> dict[str, Any]:
    chosen = ["--set", "algorithm.name=sign", "--plugin", "./sign.py"]
    return done(*TRAIN, *chosen, "--name", name, *more)


def resume_sign(name: str, *more: str) -> list[str]:
    return ["train", f"runs/{name}/recipe.toml", "--offline", "--resume", name, *more]


def test_an_algorithm_in_a_file_of_its_own_trains():
    path = write(Path("sign.py"), SIGN_MAML)
    result = train_sign("first")
    assert result["steps"] == 6
    assert result["params_sha256"] != done(*TRAIN, "--name", "plain")["params_sha256"]
    info = json.loads(Path("runs/first/run.json").read_text())
    assert info["learner"]["algorithm"] == "sign"
    recorded = info["plugins"]["algorithm"]
    assert recorded["name"] == "sign"
    assert recorded["path"] == str(path.resolve())
    assert recorded["sha256"] in Path("runs/first/report.html").read_text()
    assert json.loads(Path("runs/plain/run.json").read_text())["plugins"] == {}


def test_a_run_goes_on_with_the_plugin_it_was_made_with_and_no_other():
    path = write(Path("sign.py"), SIGN_MAML)
    whole = train_sign("whole")
    train_sign("cut", "--set", "outer.steps=3")
    further = ["--set", "outer.steps=6"]

    # A run directory cannot run code: without the option nothing does.
    missing = refused(*resume_sign("cut", *further))
    assert "made with algorithm 'sign'" in missing
    assert f"give --plugin {path.resolve()} again" in missing

    write(path, SIGN_MAML.replace("g.sign()", "-g.sign()"))
    changed = refused(*resume_sign("cut", *further, "--plugin", "sign.py"))
    assert "algorithm was 'sign'" in changed
    assert "the same bits need the same source" in changed
    # To go on with whatever is the same means to start anew.
    chosen = ["--set", "algorithm.name=sign", "--plugin", "./sign.py"]
    assert done(*TRAIN, *chosen, "--resume", "auto")["run"] not in ("whole", "cut")

    # Elsewhere it is the same, as long as its source is.
    write(Path("moved/sign.py"), SIGN_MAML)
    result = done(*resume_sign("cut", *further, "--plugin", "moved/sign.py"))
    assert result["params_sha256"] == whole["params_sha256"]
    again = done(*TRAIN, *chosen[:2], "--plugin", "moved/sign.py", "--resume", "auto")
    assert again["run"] in ("whole", "cut")


def test_evaluate_needs_the_plugin_and_report_does_not(caplog):
    path = write(Path("sign.py"), SIGN_MAML)
    result = train_sign("first")
    missing = refused("evaluate", "first")
    assert f"give --plugin {path.resolve()} again" in missing
    assert done("evaluate", "first", "--plugin", "sign.py")["mse"] == result["mse"]
    assert run("report", "first").exit_code == 0
    assert not caplog.records
    write(path, SIGN_MAML + "# touched\n")
    with caplog.at_level(logging.WARNING):
        assert done("evaluate", "first", "--plugin", "sign.py")["mse"] == result["mse"]
    (record,) = caplog.records
    assert "algorithm was 'sign'" in record.getMessage()


def test_a_plugin_that_the_recipe_does_not_name_is_told_of(caplog):
    write(Path("sign.py"), SIGN_MAML)
    done(*TRAIN, "--name", "first", "--plugin", "sign.py")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "The recipe does not name algorithm 'sign'" in record.getMessage()
    assert "--set algorithm.name=sign" in record.getMessage()
    assert json.loads(Path("runs/first/run.json").read_text())["plugins"] == {}


def test_mistakes_end_in_one_line_and_leave_nothing():
    write(Path("bad.py"), "import nowhere_to_be_found\n")
    write(Path("maml.py"), SIGN_MAML)
    assert "bad.py cannot be imported: ModuleNotFoundError" in refused(*TRAIN, "--plugin", "bad.py")
    assert "taken by the built-in algorithm" in refused(*TRAIN, "--plugin", "./maml.py")
    named = refused(*TRAIN, "--set", "algorithm.name=lab.sign")
    assert "A recipe cannot name a module" in named
    assert not Path("runs").exists()


def test_debug_shows_where_a_plugin_failed():
    write(Path("bad.py"), "import nowhere_to_be_found\n")
    result = run("--debug", *TRAIN, "--plugin", "bad.py")
    assert isinstance(result.exception, PluginError)
    causes: list[BaseException] = [result.exception]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    assert isinstance(causes[-1], ModuleNotFoundError)
    traceback = causes[-1].__traceback__
    files = []
    while traceback is not None:
        files.append(Path(traceback.tb_frame.f_code.co_filename).name)
        traceback = traceback.tb_next
    assert "bad.py" in files


BROKEN = SIGN_MAML.replace("g.sign()", "g.sing()")


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_mistake_in_a_plugins_code_is_told_in_a_line(workers):
    """File, line, part and cure; a run that cannot go on is not said to."""
    write(Path("sign.py"), BROKEN)
    line = next(n for n, text in enumerate(BROKEN.splitlines(), 1) if "sing()" in text)
    chosen = ["--set", "algorithm.name=sign", "--plugin", "./sign.py", "--name", "first"]
    result = run(*TRAIN, *chosen, "--workers", str(workers))
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"Error: sign.py:{line}: AttributeError: ")
    assert "'sing' (in algorithm 'sign'); run metadist check " in error
    assert error.endswith("run metadist check ./sign.py and mend it")
    assert "first has ended early; mend the plugin, then start a run of another" in result.stderr
    assert "--resume" not in result.stderr
    assert "Workers lost" not in result.stderr
    assert json.loads(Path("runs/first/run.json").read_text())["status"] == "failed"


def test_a_mistake_while_evaluating_is_told_in_a_line():
    write(Path("sign.py"), SIGN_MAML)
    train_sign("first")
    write(Path("sign.py"), BROKEN)
    error = refused("evaluate", "first", "--plugin", "sign.py")
    assert "AttributeError" in error
    assert "(in algorithm 'sign')" in error


def test_a_mistake_of_an_installed_part_is_told_in_a_line(tmp_path, monkeypatch):
    install(tmp_path / "site", "lab", {"lab_sing": BROKEN}, algorithm__sing="lab_sing")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    error = refused(*TRAIN, "--set", "algorithm.name=sing", "--name", "first")
    assert error.startswith("Error: lab_sing.py:")
    assert "(in algorithm 'sing'); run metadist check algorithm.sing and mend it" in error


def test_all_missing_plugins_are_named_at_once():
    write(Path("sign.py"), SIGN_MAML)
    write(Path("lines.py"), FUNCTION)
    both = ["--plugin", "./sign.py", "--plugin", "./lines.py"]
    names = ["--set", "algorithm.name=sign", "--set", "data.dataset=lines"]
    done(*TRAIN, *names, *both, "--name", "first")
    error = refused("evaluate", "first")
    here = Path.cwd()
    assert f"give --plugin {here / 'sign.py'} --plugin {here / 'lines.py'} again" in error
    assert f"in Python plugins={[str(here / 'sign.py'), str(here / 'lines.py')]}" in error


def test_a_file_that_is_no_part_names_what_makes_networks():
    text = "def make(inputs, outputs, *, width=8): ...\ndef _own(inputs, outputs): ...\nN = 1\n"
    write(Path("my_resnet.py"), text)
    path = Path("my_resnet.py").resolve()
    for words in (["check", "./my_resnet.py"], [*TRAIN, "--plugin", "./my_resnet.py"]):
        error = refused(*words)
        assert "must say which kind of part it is" in error
        assert error.endswith(f"by what makes it: --plugin {path}:make")


def test_a_family_of_functions_trains_live_and_from_shards():
    write(Path("lines.py"), FUNCTION)
    chosen = ["--set", "data.dataset=lines", "--plugin", "lines.py"]
    live = done(*TRAIN, *chosen, "--name", "live")
    recipe = ["data", "shard", "sinusoid-10shot-maml", *SETTINGS, *chosen]
    result = run(*recipe, "--shard-episodes", "64", "--count", "128", "--writers", "2")
    assert result.exit_code == 0, result.output
    shards = done(*TRAIN, *chosen, "--name", "shards", "--set", "data.storage=shards")
    assert shards["params_sha256"] == live["params_sha256"]


def test_a_dataset_is_prepared():
    write(Path("squares.py"), DATASET)
    assert "unknown dataset 'squares'" in refused("data", "prepare", "squares")
    result = run("data", "prepare", "squares", "--plugin", "squares.py")
    assert result.exit_code == 0, result.output
    assert "60 images of 8x8 gray" in result.stdout


def test_data_list_survives_a_broken_distribution():
    site = Path("site").resolve()
    install(
        site,
        "parts-of-a-lab",
        {"lab_parts.lines": FUNCTION, "lab_parts.crash": "1 / 0"},
        function__lines="lab_parts.lines",
        function__crash="lab_parts.crash",
        dataset__crash="lab_parts.crash",
    )
    sys.path.append(str(site))
    result = run("data", "list")
    assert result.exit_code == 0, result.output
    assert "y = a x" in result.stdout
    assert result.stdout.count("ZeroDivisionError") == 2
    assert "sinusoid" in result.stdout


@pytest.mark.slow
def test_a_table_of_ones_own_with_an_algorithm_of_ones_own():
    write(Path("sign.py"), SIGN_MAML)
    settings = ", ".join(f'"{setting}"' for setting in ("algorithm.name=sign", *SMALL))
    Path("mine.toml").write_text(
        'title = "Mine"\nsummary = "One row."\ntasks = 8\n'
        '[base]\nrecipe = "sinusoid-10shot-maml"\n'
        "published_steps = 100\npublished_batch = 4\n"
        '[defaults]\nmetric = "mse"\nqueries = 10\nepisodes = 6\nstep = 1\nsource = "Me"\n'
        f"[runs.sign]\nset = [{settings}]\n"
        '[[rows]]\nid = "sign"\nlabel = "Sign"\nrun = "sign"\nnot_comparable = "nobody did it"\n'
    )
    request = ["reproduce", "mine.toml", "--offline", "--jobs", "1"]
    assert "unknown algorithm 'sign'" in run(*request).output
    document = done(*request, "--plugin", "./sign.py")
    assert document["rows"][0]["ours"]["value"] > 0
    assert document["command"].endswith("--plugin ./sign.py")


@pytest.mark.slow
def test_a_source_of_episodes_trains_live_and_from_shards():
    path = write(Path("clusters.py"), EPISODES.format(name="clusters"))
    plugin = ["--plugin", "clusters.py"]
    chosen = ["--set", "data.dataset=clusters", "--set", "data.ways=3", "--set", "data.episodes=9"]
    sizes = ["--set", "eval.extra_queries=5", *plugin]
    live = done(*TRAIN, *chosen, *sizes, "--name", "live")
    assert {"accuracy", "accuracy_5q"} <= live.keys()
    info = json.loads(Path("runs/live/run.json").read_text())
    assert info["plugins"]["episode_source"]["path"] == str(path.resolve())
    assert info["dataset"]["name"] == "clusters"

    recipe = ["sinusoid-10shot-maml", *SETTINGS, *chosen]
    made = run("data", "shard", *recipe, *plugin)
    assert made.exit_code == 0, made.output
    assert "9 episodes (inline) are in" in made.stdout
    assert "data/clusters/shards/3w10s10q-seed0" in made.stdout
    shards = ["--set", "data.storage=shards"]
    held = done(*TRAIN, *chosen, *sizes, *shards, "--name", "held")
    assert held["params_sha256"] == live["params_sha256"]
    # Without its digest changing the plugin draws others now.
    write(path, EPISODES.format(name="clusters").replace("4.0 *", "5.0 *"))
    changed = refused(*TRAIN, *chosen, *sizes, *shards, "--name", "other")
    assert "its code has changed. Raise SPEC.version" in changed
    assert "made with episode_source 'clusters'" in refused("evaluate", "live")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "data.ways=1",
            "data.ways: clusters: its targets are labels; at least 2 are needed, got 1",
        ),
        (
            "data.ways=0",
            "clusters: train episodes of",
        ),
        ("data.split=mine", "data.split: clusters is a source of episodes and makes itself"),
        ("data.dataset=cluster", "unknown dataset 'cluster'. Did you mean 'clusters'?"),
    ],
)
def test_mistakes_about_a_source_of_episodes_end_in_one_line(setting, said):
    write(Path("clusters.py"), EPISODES.format(name="clusters"))
    chosen = ["--set", "data.dataset=clusters", "--set", "data.ways=3", "--set", setting]
    assert said in refused(*TRAIN, *chosen, "--plugin", "clusters.py")
