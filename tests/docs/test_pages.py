"""Every block of every page is run as it is printed, or says in its fence why not."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from pages import CODE, DATA, OPTIONS, PAGES, PROSE, ROOT, Block, Command, blocks, parse, says

from metadist.cli.main import main
from metadist.recipe.schema import parse_recipe
from tests.docs.setups import PRELUDE, RUNS, SETUP, WORDS

RUNNABLE = [page for page in PAGES if any("not-run" not in b.options and b.language in CODE for b in blocks(page))]


def everywhere() -> list[Block]:
    return [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize("block", everywhere(), ids=str)
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.language in CODE | DATA | PROSE
    assert set(block.options) <= OPTIONS
    if "not-run" in block.options:
        assert block.language in CODE
        assert len(block.options["not-run"].split()) > 1, "the reason, in words"
    if block.language == "toml":
        document = tomllib.loads(block.text)
        if {"data", "model", "algorithm"} <= set(document):
            parse_recipe(block.text, str(block))
    elif block.language == "yaml":
        list(yaml.safe_load_all(block.text))
    elif block.language == "json":
        json.loads(block.text)
    elif block.language == "python":
        compile(block.text, str(block), "exec")


@pytest.mark.parametrize("page", PAGES)
def test_the_command_line_takes_what_is_printed(page: str) -> None:
    """Also where it cannot be run here."""
    for block in blocks(page):
        for command in block.commands:
            for words in command.ours:
                if "…" in words:
                    continue
                try:
                    parse(words)
                except click.ClickException as error:
                    pytest.fail(f"{block}: metadist {' '.join(words)}: {error.format_message()}")


# A program on a page leaves files to be closed by the end of its process.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("page", RUNNABLE)
def test_a_page_is_run(page: str, place: Callable[..., Path]) -> None:
    Reader(page, place(*RUNS.get(page, ()))).run()


class Reader:
    """Somebody who types what a page says, from the top, in one directory."""

    def __init__(self, page: str, here: Path, *, slow: bool = False) -> None:
        self.page, self.here, self.slow = page, here, slow
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.output = ""

    def run(self) -> None:
        """Run what is to be run; compare what is printed."""
        for name in ("docs", "k8s", "cluster", "tests"):
            (self.here / name).symlink_to(ROOT / name)
        SETUP.get(self.page, lambda: None)()
        exec(PRELUDE.get(self.page, ""), self.names)
        modules = set(sys.modules)
        try:
            for block in blocks(self.page):
                self._block(block)
        finally:
            for name in set(sys.modules) - modules:
                if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(self.here):
                    del sys.modules[name]

    def _block(self, block: Block) -> None:
        if title := block.options.get("title"):
            Path(title).write_text(block.text, encoding="utf-8")
            importlib.invalidate_caches()
        if "output" in block.options:
            assert self._same(block), (
                f"{block}: this was printed instead:\n{self.output}"
            )
        if "not-run" in block.options or ("slow" in block.options) > self.slow:
            return
        if block.language == "python" and not title:
            self.output = self._python(block)
        for command in block.commands:
            self.output = self._command(block, command)

    def _same(self, block: Block) -> bool:
        """Whether the last output is what a block says, or in its shape."""
        if block.options["output"] == "exact":
            return says(self.output, block.text, exact=True)
        mine, its = self.output.splitlines(), block.text.splitlines()
        rows = r"^(\d+)  .*"  # of a table: what is in its cells is another run's
        return len(mine) == len(its) and all(
            says(re.sub(rows, r"\1", a), re.sub(rows, r"\1", b), exact=False)
            for a, b in zip(mine, its, strict=True)
        )

    def _python(self, block: Block) -> str:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(block.text, str(block), "exec"), self.names)
        if "prints" in block.options:
            comments = re.findall(r"(?:^|  )# (.*)$", block.text, re.M)
            for line in said.getvalue().splitlines():
                assert any(says(line, comment, exact=self.slow) for comment in comments), (
                    f"{block}: prints {line}"
                )
        return said.getvalue()

    def _command(self, block: Block, command: Command) -> str:
        runs = iter(("first", "second"))
        words = [next(runs) if w == "RUN" else WORDS.get(w, w) for w in command.words]
        small = False
        if not command.plain or Path(words[0]).name not in ("metadist", "python", "export"):
            status, output = _shell(command.line)
        elif words[0] == "export":
            os.environ.update([words[1].split("=", 1)])
            status, output = 0, ""
        elif words[0] == "python":
            runpy.run_path(words[1], run_name="__main__")
            status, output = 0, ""
        else:
            if "--episodes" in words:
                words.append("--episodes=12")
            small = words[1] in ("train", "evaluate", "adapt") or "gratings" not in command.line
            done = CliRunner().invoke(main, words[1:], prog_name="metadist")
            status, output = done.exit_code, done.output
        error = re.search(r"^[Ee]rror\b", command.printed, re.M)
        assert status == (1 if error else 0), f"{block}: {command.line} ended with {status}:\n{output}"
        output = output.replace(f"{self.here}/", "")
        if command.printed:
            exact = not small or error is not None
            assert says(output, command.printed, exact=exact), f"{block}: {command.line} says\n{output}"
        return output


def _shell(line: str) -> tuple[int, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr
