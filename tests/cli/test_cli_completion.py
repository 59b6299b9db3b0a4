"""What the shell offers: through click's own protocol, as a shell asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete, CompletionItem
from click.testing import CliRunner

from metadist.cli.main import main
from metadist.recipe.files import builtin_names
from metadist.reproduce import table_names
from metadist.search.spaces import space_names


def offered(*words: str) -> list[CompletionItem]:
    *before, incomplete = words
    return BashComplete(main, {}, "metadist", "_X").get_completions(list(before), incomplete)


def names(*words: str) -> list[str]:
    return [item.value for item in offered(*words) if item.type == "plain"]


def add(root: Path, name: str, record: str = "run.json") -> None:
    (root / name).mkdir(parents=True)
    (root / name / record).write_text("{}")


@pytest.fixture(autouse=True)
def _runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("first", "first-2", "other"):
        add(tmp_path / "runs", name)
    (tmp_path / "runs" / "no-run").mkdir()
    add(tmp_path / "runs" / "searches", "lr0", "search.json")
    add(tmp_path / "elsewhere", "far")


def test_names_are_offered() -> None:
    assert names("tr") == ["train"]
    assert "--resume" in names("train", "--re")
    assert names("train", "") == builtin_names()
    assert names("recipes", "sinusoid-fixed") == ["sinusoid-fixed-10shot-maml"]
    assert names("tune", "") == sorted(space_names())
    assert "omniglot" in names("data", "prepare", "")
    assert names("reproduce", "") == sorted(table_names())
    assert names("tune", "maml-lr", "--base", "sinusoid-fi") == ["sinusoid-fixed-10shot-maml"]
    assert set(names("completion", "")) == {"bash", "zsh", "fish"}


def test_runs_are_those_of_the_directory_that_the_line_names() -> None:
    assert names("evaluate", "") == ["first", "first-2", "other"]
    assert names("compare", "first", "o") == ["other"]
    assert names("train", "--resume", "") == ["auto", "first", "first-2", "other"]
    assert names("report", "l") == ["lr0"]
    assert names("tune", "--resume", "") == ["auto", "lr0"]
    assert names("evaluate", "--runs-dir", "elsewhere", "") == ["far"]
    assert names("evaluate", "--runs-dir", "nowhere", "") == []
    assert names("evaluate", "--runs-dir", "s3://bucket/runs", "") == []


def test_a_path_may_stand_for_a_name() -> None:
    for words in (("train", "./mine"), ("evaluate", "/r"), ("tune", "my.t")):
        (item,) = offered(*words)
        assert item.type == "file"
    assert offered("data", "prepare", "./mine") == []


@pytest.mark.parametrize(
    "odd", ["a\nplain,b", "$(touch x)", "`touch x`", "-rf", "a b", "ä", "\x1b[2J"]
)
def test_names_that_no_run_may_have_are_not_offered(tmp_path: Path, odd: str) -> None:
    add(tmp_path / "runs", odd)
    assert names("evaluate", "") == ["first", "first-2", "other"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_command_prints_what_a_shell_reads(shell: str) -> None:
    printed = CliRunner().invoke(main, ["completion", shell])
    assert printed.exit_code == 0, printed.output
    assert f"_METADIST_COMPLETE={shell}_complete" in printed.stdout


def test_a_shell_is_answered_without_the_slow_libraries(tmp_path: Path) -> None:
    """As bash asks, in a bare environment; what is imported decides how long it takes."""
    code = (
        "import sys\nfrom metadist.cli.main import main\n"
        "try:\n    main(prog_name='metadist')\nfinally:\n"
        "    print([m for m in ('torch', 'numpy', 'pydantic', 'ray') if m in sys.modules])\n"
    )
    for line, wanted in (
        ("metadist train sinusoid-fixed", "sinusoid-fixed-10shot-maml"),
        ("metadist evaluate oth", "other"),
        ("metadist tune maml-l", "maml-lr"),
        ("metadist data prepare omni", "omniglot"),
    ):
        asked = {"_METADIST_COMPLETE": "bash_complete", "COMP_WORDS": line}
        asked |= {"COMP_CWORD": str(len(line.split()) - 1), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            [sys.executable, "-c", code], env=asked, capture_output=True, text=True, check=False
        )
        assert done.stdout.splitlines() == [f"plain,{wanted}", "[]"], done.stderr
