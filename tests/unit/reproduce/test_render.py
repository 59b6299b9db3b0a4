"""What ``metadist reproduce`` prints, writes and draws, and its command line."""

from __future__ import annotations

import json
import os
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from published import FACTS, REGRESSION, finish, planned_of, request_of, row, table
from terminal import Terminal

from metadist.cli.main import main
from metadist.errors import MetadistError
from metadist.executors.pool import Active, Command, CommandResult, Job
from metadist.process.provenance import commit, machine
from metadist.reproduce import table_names, write
from metadist.reproduce.display import Display
from metadist.reproduce.render import cells, markdown, text
from metadist.reproduce.result import Result, assemble
from metadist.runs.log import LogWriter


@pytest.fixture
def result(tmp_path: Path) -> Result:
    one = table(
        '[[pictures]]\ny = "mse"\nlog_y = true\n'
        '[[pictures]]\nkind = "rows"\nx = "shots"\ny = "mse"\nlog_x = true\nlog_y = true\n'
        '[runs.a]\ndifferences = ["Ours has a | in it."]\n[runs.b]\n[runs.c]\n'
        + row("one", "a", "value = 0.5, ci95 = 0.05", 'step = 1\nseries = "A"\nat = 5')
        + row("two", "a", "value = 1.5, ensemble = 3", 'series = "A"\nat = 10')
        + row("three", "b", "value = 1.5, checked = false", 'step = 1\nseries = "B"\nat = 5')
        + row("four", "c", "value = 1.5"),
        REGRESSION,
    )
    request = request_of(one, tmp_path)
    planned = {key: planned_of(request, key) for key in one.runs}
    for key in "ab":
        finish(planned[key], [3.0, 0.5])
        writer = LogWriter(planned[key].run.claim({"numerics": {}}))
        for step in (5, 10):
            writer.add(step, {"val/mse": 3.0 / step})
        writer.flush()
    why = "a reason that is too long for a column of the table"
    outcomes = {planned["c"].name: CommandResult("failed", why)}
    return assemble(request, list(planned.values()), outcomes, FACTS)


def test_text_is_aligned_and_says_everything(result):
    lines = text(result)
    start = next(i for i, line in enumerate(lines) if line.startswith("row"))
    head, one, two, three, four = (lines[i] for i in (start, *range(start + 2, start + 6)))
    column = head.index("verdict")
    assert one[column:].startswith("within")
    assert two[column:].startswith("not comparable: ensemble of 3")
    assert four[column:].split() == ["missing", "3"]
    assert "0.500 ± 0.008" in one
    assert "1.5 †" in two
    assert "1.5 ?" in three
    assert " 10 %" in one
    assert any(line.startswith("3. Missing: a reason that is too long") for line in lines)
    assert any(line.startswith("†") for line in lines)


@pytest.mark.drawn
def test_pages_documents_and_pictures(result, tmp_path):
    files = write(result, tmp_path / "out")
    assert [f.name for f in files] == [
        "some-table.md",
        "some-table.json",
        "some-table-curves.svg",
        "some-table-rows.svg",
    ]
    page = files[0].read_text()
    assert "Ours has a \\| in it." in page
    assert "A paper, 2020" in page
    assert "![A table](some-table-rows.svg)" in page
    assert all(line.count("|") == 7 for line in page.splitlines() if line.startswith("|"))
    document = json.loads(files[1].read_text())
    assert [one["verdict"]["kind"] for one in document["rows"]] == [
        "within",
        "not comparable",
        "not comparable",
        "missing",
    ]
    assert document["commit"] == "abc"
    assert document["rows"][0]["budget"] == {"used": 100, "published": 1000, "share": 0.1}
    assert document["rows"][0]["by_step"][1]["mean"] == pytest.approx(0.5)
    assert [one["status"] for one in document["runs"]] == ["finished", "finished", "failed"]
    for path in files[2:]:
        root = ElementTree.fromstring(path.read_text())
        assert root.tag.endswith("svg")
        # No page stands around it to say what its colours are.
        assert "var(--" not in path.read_text()
    assert "published" in files[3].read_text()
    assert markdown(result, []).count("![") == 0


def test_results_that_cannot_be_written_are_no_traceback(result, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(MetadistError, match="cannot be written"):
        write(result, tmp_path / "out")


def test_notes_are_numbered_once(result):
    rows, said = cells(result)
    assert len(said) == len(set(said))
    assert rows[0][-1].split(",")[0] == rows[1][-1].split(",")[0] == "1"


def test_provenance(tmp_path):
    assert machine()
    assert commit(tmp_path).startswith("version ")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=b"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run([*git, *words], check=True, env=environment)
    package = tmp_path / "lib" / "metadist"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    # Somebody else's checkout, in which the package is merely installed.
    assert commit(package).startswith("version ")
    subprocess.run([*git, "add", "."], check=True, env=environment)
    subprocess.run([*git, "commit", "-q", "-m", "y"], check=True, env=environment)
    assert len(commit(package)) == 40
    (package / "more.py").touch()
    assert commit(package).endswith("+changes")


def test_the_display_says_what_is_at_work(result, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("metadist.reproduce.display.LIVE_SECONDS", 0.0)
    runs = {p.name: p.run for p in result.planned}
    stream = Terminal()
    display = Display(runs, dict.fromkeys(runs, 20), stream)
    name = result.planned[0].name
    active = Active(Job(name, (Command((), "training"),)))
    display.started(active.job)
    display.looked([active], 3)
    started = time.monotonic()
    while not stream.screen[-1] and time.monotonic() - started < 10:
        time.sleep(0.05)
    one, whole = stream.screen
    assert f"{name}: step 10/20  50% · val mse 0.3 @10 · 0:0" in one
    assert "0 of 4 runs done, 1 at work" in whole
    display.ended(active.job, CommandResult("failed", "it broke", 61.0))
    assert stream.screen[0] == f"{name}: failed after 1:01: it broke"
    assert stream.screen[-1] == whole
    display.__exit__()
    assert [row for row in stream.screen if row] == stream.screen[:1]


# --- the command ------------------------------------------------------------------------------


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["reproduce", *arguments], prog_name="metadist")


def test_the_command_lists_the_tables():
    listed = run("--list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == table_names()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["TABLE is needed", "omniglot"]),
        (["omniglott", "--offline"], ["Did you mean 'omniglot'?"]),
        (["omniglot", "--rows", "mamml", "--offline"], ["no row 'mamml'", "Did you mean"]),
        (["omniglot", "--tasks", "0"], ["--tasks"]),
        (["omniglot", "--minutes", "0"], ["--minutes"]),
    ],
)
def test_mistakes_on_the_command_line(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit)
    for word in words:
        assert word in done.stderr


def test_the_command_without_data_prints_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("omniglot", "--rows", "maml,mc2-ensemble", "--offline", "--json")
    assert done.exit_code == 1
    assert "2 of 2 runs failed" in done.stderr
    assert "metadist data prepare omniglot" in done.stderr
    document = json.loads(done.stdout)
    assert [one["verdict"]["kind"] for one in document["rows"]] == ["missing", "missing"]
    assert Path("results/omniglot.md").is_file()
