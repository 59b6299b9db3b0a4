"""Pages whose commands or messages were once wrong: they are run as they are printed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from metadist.cli.main import main

DOCS = Path(__file__).parents[2] / "docs"
QUICK = ["outer.steps=1", "outer.batch=2", "eval.every=1", "eval.episodes=2", "eval.val_episodes=2"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def commands(text: str) -> list[list[str]]:
    """What is printed after a prompt, or alone, as words behind ``metadist``."""
    whole = text.replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^(?:\$ )?metadist (.*)$", whole, re.M)]


def run(words: list[str]) -> Result:
    return CliRunner().invoke(main, words, prog_name="metadist")


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_errors_on_the_page_of_recipes_are_those_of_today() -> None:
    found = re.findall(r"^\$ metadist (.*)\n((?:[^`].+\n)+)", page("recipes.md"), re.M)
    assert found
    for command, said in found:
        assert said.startswith("Error: ")
        assert flat(run(shlex.split(command)).stderr) == flat(said)


def test_the_commands_on_the_page_of_recipes_are_taken() -> None:
    quick = [f"--set={setting}" for setting in (*QUICK, "data.dataset=gratings")]
    trained = [words for words in commands(page("recipes.md")) if words[0] == "train"]
    assert len(trained) >= 3
    write_examples()
    done = run(["data", "prepare", "gratings", "--plugin=gratings.py"])
    assert done.exit_code == 0, done.output
    for words in trained:
        if "inner.step=3" in words:
            continue  # the mistake
        result = run([*words, *quick, "--plugin=gratings.py", "--offline"])
        assert result.exit_code == 0, result.output


def write_examples() -> None:
    blocks = re.findall(r"^```python$\n(.*?)^```$", page("add-a-dataset.md"), re.S | re.M)
    for name, block in zip(("rings", "gratings", "line", "clusters"), blocks, strict=True):
        Path(f"{name}.py").write_text(block, encoding="utf-8")


def test_the_examples_of_data_work_outside_a_checkout() -> None:
    text = page("add-a-dataset.md")
    write_examples()
    seen = []
    done = subprocess.run([sys.executable, "rings.py"], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr
    for words in commands(text):
        quick = [f"--set={setting}" for setting in QUICK] if words[0] == "train" else []
        offline = ["--offline"] if words[0] == "train" else []
        result = run([*words, *quick, *offline])
        assert result.exit_code == 0, result.output
        seen.append(words[:3])
        if words[:3] == ["data", "prepare", "image_folder"]:
            # Its numbers are those of the libraries' sine: the digest is not the same everywhere.
            assert flat(result.stdout.partition("\n  options")[0]).replace(
                str(Path.cwd()) + "/", ""
            ) in flat(text)
        elif words[:2] == ["data", "prepare"]:
            (digest,) = re.findall(r"digest: (\w{64})", result.stdout)
            assert f"digest: {digest}" in text
    assert seen[2:4] == [["data", "prepare", "gratings"], ["data", "preview", "gratings-default"]]
    assert len(seen) == 7
