"""The grammar of the command line, what it loads, and how it speaks of mistakes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from grammar import EVERYWHERE, GRAMMAR

from metadist.cli.main import main

HEAVY = ("ray", "mlflow", "torch", "pyarrow", "webdataset", "matplotlib", "rich")


def commands(command: click.Command, path: str = "metadist") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, f"{path} {name}")


def parameters(path: str, command: click.Command) -> list[click.Parameter]:
    return command.get_params(click.Context(command, info_name=path))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="metadist")


def refused(result: Result, *words: str) -> str:
    """Check that a command ended with one line of error that says all of ``words``."""
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.output
    *before, error = result.stderr.splitlines()
    assert error.startswith("Error:"), result.stderr
    assert not [line for line in before if line.startswith("Error")]
    for word in words:
        assert word in error
    return error


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_grammar_is_frozen():
    there = {
        path: {
            max(p.opts, key=len) if isinstance(p, click.Option) else (p.name or "").upper()
            for p in parameters(path, command)
        }
        for path, command in commands(main)
    }
    assert there == {path: names | EVERYWHERE for path, names in GRAMMAR.items()}


def test_everything_has_a_word_of_help():
    for path, command in commands(main):
        assert command.help, path
        for option in parameters(path, command):
            if isinstance(option, click.Option):
                assert option.help, f"{path} {option.opts}"


def test_help_is_as_it_was_meant():
    """No mark that was to be hidden; what is set apart stays in lines of its own."""
    for path in GRAMMAR:
        shown = run(*path.split()[1:], "--help").output
        assert "\\b" not in shown, path
        assert "\b" not in shown, path
    served = run("register", "--help").output
    assert "\n      mlflow models serve -m models:/NAME/VERSION --env-manager local\n" in served


def test_an_unknown_recipe_is_told_in_a_line_that_can_be_read():
    error = refused(run("train", "strokes-5w1s-mam"))
    assert error.startswith(
        "Error: no recipe 'strokes-5w1s-mam'. Did you mean 'strokes-5w1s-maml'?"
    )
    assert len(error) < 200


@pytest.mark.parametrize(("typed", "meant"), [("1e3", 1000), ("1_000", 1000), ("007", 7), ("5", 5)])
def test_counts_are_read_as_people_type_them(typed: str, meant: int):
    from metadist.cli.options import Whole

    assert Whole(min=1).convert(typed, None, None) == meant
    for wrong in ("1.5", "0", "-1e3", "ten", "1e-3", "inf"):
        result = run("reproduce", "sinusoid-shots", "--tasks", wrong)
        assert result.exit_code == 2
        assert f"'{wrong}'" in result.stderr or "range" in result.stderr


def test_workers_default_to_this_process():
    defaults = {
        p.name: p.default
        for p in parameters("metadist train", dict(commands(main))["metadist train"])
    }
    assert defaults["workers"] == 0
    assert defaults["runs_dir"] == "runs"


def test_help_loads_nothing_heavy():
    lines = [path.split()[1:] for path in GRAMMAR]
    script = f"""
import sys
from metadist.cli.main import main
for line in {lines!r}:
    main([*line, "--help"], prog_name="metadist", standalone_mode=False)
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr.strip() == "[]"
    assert done.stdout.count("Usage: metadist") == len(GRAMMAR)


def test_version():
    import metadist

    assert metadist.__version__ in run("--version").output


def test_recipes_lists_and_prints():
    listed = run("recipes")
    assert listed.exit_code == 0
    names = [line.split()[0] for line in listed.output.splitlines()]
    assert {"strokes-5w1s-maml", "omniglot-5w1s-maml", "sinusoid-10shot-maml"} <= set(names)
    assert "[data]" in run("recipes", "strokes-5w1s-maml").output


# --- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], ["trian", "Did you mean 'train'?"]),
        (["eval", "x"], ["Did you mean 'evaluate'?"]),
        (["xyzzy"], ["There are adapt, check, compare, "]),
        (["data", "prepar"], ["Did you mean 'prepare'?"]),
        (["submit", "trian", "x"], ["Did you mean 'train'?"]),
        (["submit", "lst"], ["Did you mean 'list'?"]),
        (["tune", "maml-lt"], ["'maml-lt'. Did you mean 'maml-lr'? There are "]),
        (["reproduce", "omniglt"], ["'omniglt'. Did you mean 'omniglot'? It is neither"]),
        (
            ["train", "strokes-5w1s-maml", "--set", "model.name=conf4"],
            ["'conf4'. Did you mean 'conv4'?"],
        ),
        (["train"], ["RECIPE"]),
        (["train", "strokes-5w1s-mam"], ["strokes-5w1s-mam", "Did you mean 'strokes-5w1s-maml'?"]),
        (["recipes", "strokes-5w1s-mam"], ["Did you mean 'strokes-5w1s-maml'?"]),
        (["data", "shard", "strokes-5w1s-mam"], ["Did you mean 'strokes-5w1s-maml'?"]),
        (["train", "strokes-5w1s-maml", "--set", "inner.lrr=1"], ["'inner.lrr'", "mean 'lr'?"]),
        (["train", "strokes-5w1s-maml", "--set", "iner.lr=1"], ["[iner]", "mean 'inner'?"]),
        (["train", "strokes-5w1s-maml", "--set", "inner.lr"], ["section.key=value", "'inner.lr'"]),
        (["train", "strokes-5w1s-maml", "--set", "lr=1"], ["section.key=value", "'lr=1'"]),
        (["train", "strokes-5w1s-maml", "--set", "inner.lr=fast"], ["inner.lr", "'fast'"]),
        (["train", "strokes-5w1s-maml", "--set", "inner.lr=-1"], ["inner.lr", "-1"]),
        (["train", "strokes-5w1s-maml", "--set", "data.dataset=stroke"], ["mean 'strokes'?"]),
        (["train", "strokes-5w1s-maml", "--set", "algorithm.name=mamel"], ["mean 'maml'?"]),
        (["train", "strokes-5w1s-maml", "--set", "data.split=lake"], ["'lake'", "default"]),
        (["train", "strokes-5w1s-maml", "--workers", "-1"], ["--workers", "-1"]),
        (["train", "strokes-5w1s-maml", "--workers", "two"], ["--workers", "two"]),
        (["train", "strokes-5w1s-maml", "--address", "10.0.0.1:6379"], ["--workers"]),
        (["train", "strokes-5w1s-maml", "--devise", "cpu"], ["--devise", "--device"]),
        (
            ["train", "omniglot-5w1s-maml"],
            ["metadist data prepare omniglot --source PATH", "METADIST_DATA_DIR"],
        ),
        (["train", "sinusoid-5shot-maml", "--offline", "--resume", "gone"], ["'gone'"]),
        (["train", "sinusoid-5shot-maml", "--offline", "--name", "../up"], ["--name '../up'"]),
        (["evaluate", "gone"], ["no run 'gone'"]),
        (["report", "gone"], ["no run 'gone'"]),
        (["sync", "gone"], ["no run 'gone'"]),
        (["register", "gone"], ["no run 'gone'"]),
        (["adapt", "gone"], ["--support"]),
        (["adapt", "gone", "--support", "s", "--query", "q"], ["no run 'gone'"]),
        (["ui"], ["mlflow.db", "--tracking-uri"]),
        (["ui", "--port", "0"], ["--port"]),
    ],
    ids=" ".join,
)
def test_mistakes_end_in_one_line(arguments, words):
    refused(run(*arguments), *words)
    assert not [path for path in Path.cwd().iterdir() if path.name not in ("data", "runs")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[data", ["not valid TOML"]),
        (b"\xff\xfe\x00", ["cannot be read as text"]),
        (b"", ["data", "Field required"]),
        (b"[data]\ndataset = 'strokes'\nway = 5\n", ["'data.way'", "Did you mean 'ways'?"]),
        (b"data = 5\n", ["[data] must be a table"]),
    ],
)
def test_unreadable_recipes_are_named(content, words):
    Path("mine.toml").write_bytes(content)
    refused(run("train", "mine.toml"), "mine.toml", *words)


def test_a_directory_is_no_recipe():
    Path("folder").mkdir()
    refused(run("train", "folder"), "neither a file nor one of the built-in recipes")


def test_run_name_in_use_is_refused():
    Path("runs/first").mkdir(parents=True)
    message = refused(run("train", "sinusoid-5shot-maml", "--offline", "--name", "first"))
    assert "exists already" in message
    assert "--resume first" in message


def test_unknown_run_says_what_there_is():
    from metadist.recipe.schema import load_recipe
    from metadist.runs.listing import create_run

    create_run(Path("runs"), "first", load_recipe("sinusoid-5shot-maml"), {})
    refused(run("report", "second"), "there are: first")


def test_a_damaged_run_is_named():
    Path("runs/first").mkdir(parents=True)
    Path("runs/first/run.json").write_text("{")
    refused(run("report", "first"), "run.json", "not valid JSON")


@pytest.fixture
def levels() -> Iterator[Callable[[], tuple[int, ...]]]:
    loggers = [logging.getLogger(name) for name in ("", "metadist", "data_pipeline")]
    before = [logger.level for logger in loggers]
    yield lambda: tuple(logger.level for logger in loggers)
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.mark.parametrize("flag", ["--debug", "-vv"])
@pytest.mark.parametrize("after", [False, True])
def test_debug_shows_where_it_happened(flag, after, levels):
    result = run("report", "gone", flag) if after else run(flag, "report", "gone")
    assert "no run 'gone'" in str(result.exception)
    assert not isinstance(result.exception, SystemExit)
    assert levels() == (logging.DEBUG,) * 3


def test_how_much_is_said_is_asked_for_before_a_command_or_after_it(levels):
    errors, warnings, news, all_ = logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG
    for flags, expected in {
        (): (warnings, news, news),
        ("-q",): (errors, errors, errors),
        ("-v",): (warnings, all_, all_),
        ("-q", "-v"): (warnings, all_, all_),
        ("-qvv",): (warnings, all_, all_),
    }.items():
        for line in ((*flags, "submit", "list"), ("submit", *flags, "list"),
                     ("submit", "list", *flags)):  # fmt: skip
            refused(run(*line), "no cluster is named")  # an error is told in any case
            assert levels() == expected, line


@pytest.mark.slow
def test_quiet_says_results_alone(levels):
    said = run("ui", "--tracking-uri", "http://example.invalid:5000", "-q")
    assert "example.invalid" in said.stdout
    assert said.stderr == ""
    assert run("ui", "--tracking-uri", "http://example.invalid:5000").stderr
    doctor = run("doctor", "--json", "--quiet")
    assert json.loads(doctor.stdout)["checks"]


@pytest.mark.slow
def test_as_a_process_an_error_is_one_line_on_standard_error():
    command = [sys.executable, "-m", "metadist", "evaluate", "gone", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("Error: no run 'gone'")


# --- the ways to MLflow -----------------------------------------------------------------------


@pytest.mark.slow
def test_ui_of_a_server_is_its_address():
    result = run("ui", "--tracking-uri", "http://me:secret@example.invalid:5000")
    assert result.exit_code == 0
    assert "example.invalid:5000" in result.stdout
    assert "secret" not in result.output


@pytest.mark.slow
def test_ui_serves_the_store_of_the_runs(monkeypatch):
    import metadist.track

    served = []

    def run_ui(uri: str, *, port: int, ready: Callable[[], object] | None) -> int:
        served.append((uri, port))
        if ready is not None:
            ready()
        return 3

    monkeypatch.setattr(metadist.track, "run_ui", run_ui)
    Path("mlflow.db").touch()
    result = run("ui", "--port", "5055")
    assert served == [(f"sqlite:///{Path.cwd()}/mlflow.db", 5055)]
    page = "http://127.0.0.1:5055/#/experiments?workflowType=machine_learning"
    assert result.stdout.strip() == page  # no run yet
    refused(result, "status 3")
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setenv("DISPLAY", ":0")
    for option in ((), ("--no-open",), ("--open",)):  # standard output is no terminal here
        run("ui", "--port", "5055", *option)
    assert opened == [page]


def test_sync_tells_the_store_and_the_run(monkeypatch):
    import metadist.track
    from metadist.recipe.schema import load_recipe
    from metadist.runs.listing import create_run

    sent = []

    def sync_run(run, *, uri, experiment, checkpoints):
        sent.append((run.name, uri, experiment, list(checkpoints)))
        return "0123"

    monkeypatch.setattr(metadist.track, "sync_run", sync_run)
    create_run(Path("runs"), "first", load_recipe("sinusoid-5shot-maml"), {})
    result = run("sync", "first", "--tracking-uri", "sqlite:///elsewhere.db")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == "0123"
    assert sent == [("first", "sqlite:///elsewhere.db", "metadist", [])]


def test_sync_of_an_offline_run_asks_for_a_store():
    from metadist.recipe.schema import load_recipe
    from metadist.runs.listing import create_run

    create_run(Path("runs"), "first", load_recipe("sinusoid-5shot-maml"), {"mlflow": None})
    refused(run("sync", "first"), "--tracking-uri")


def test_json_is_asked_for_by_name():
    # Standard output stays machine-readable: what doctor says to people goes to standard error.
    result = run("doctor", "--json")
    assert json.loads(result.stdout)["checks"]
    assert os.linesep in result.stderr


def test_nobody_who_reads_is_no_error() -> None:
    command = [sys.executable, "-m", "metadist", "recipes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as done:
        assert done.stdout is not None
        assert done.stderr is not None
        done.stdout.close()
        assert done.stderr.read() == b""
