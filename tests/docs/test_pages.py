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
from imported_files import forget
from pages import CODE, DATA, OPTIONS, PAGES, PROSE, ROOT, Block, Command, blocks, parse, says

from metadist.cli.main import main
from metadist.recipe.schema import parse_recipe
from tests.docs.setups import PRELUDE, RUNS, SETUP, WORDS


def pages_with(wanted: Callable[[Block], bool]) -> list[str]:
    return [page for page in PAGES if any(wanted(block) for block in blocks(page))]


RUNNABLE = pages_with(lambda b: b.language in CODE and not {"not-run", "slow"} & set(b.options))
#: Blocks that take minutes, data that take a minute to make, or what MLflow has to know.
SLOW = pages_with(lambda b: "slow" in b.options)


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


#: Pages whose programs train several times over.
LONGER = (
    "norm-and-protocols",
    "recipes",
    "add-a-backbone",
    "your-own-network",
    "your-own-images",
    "add-a-dataset",
)


# A program on a page leaves files to be closed by the end of its process.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if Path(page).stem in LONGER else [])
        for page in RUNNABLE
    ],
)
def test_a_page_is_run(page: str, place: Callable[..., Path]) -> None:
    Reader(page, place(*RUNS.get(page, ()))).run()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("page", SLOW)
def test_a_page_is_run_whole(page: str, place: Callable[..., Path]) -> None:
    """On the whole dataset, with what takes minutes: what it prints is what it says."""
    Reader(page, place(*RUNS.get(page, ()), slow=True), slow=True).run()


class Reader:
    """Somebody who types what a page says, from the top, in one directory."""

    def __init__(self, page: str, here: Path, *, slow: bool = False) -> None:
        self.page, self.here, self.slow = page, here, slow
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.defined, self.digests = "", dict[str, str]()
        self.output: str | None = None

    def run(self) -> None:
        """Run what is to be run; compare what is printed."""
        for name in ("docs", "k8s", "cluster", "tests"):
            (self.here / name).symlink_to(ROOT / name)
        SETUP.get(self.page, lambda: None)()
        exec(PRELUDE.get(self.page, ""), self.names)
        forget(self.here.parent)  # which holds the files of every test of this process
        try:
            for block in blocks(self.page):
                self._block(block)
        finally:
            forget(self.here)

    def _block(self, block: Block) -> None:
        if title := block.options.get("title"):
            Path(title).write_text(block.text, encoding="utf-8")
            importlib.invalidate_caches()
        if "output" in block.options and self.output is not None:
            assert self._same(block), f"{block}: this was printed instead:\n{self.output}"
        if block.language in CODE:
            self.output = None
        if "not-run" in block.options or ("slow" in block.options) > self.slow:
            return
        if block.language == "python" and not title:
            self.output = self._python(block)
        if block.language == "bash" and not all(command.plain for command in block.commands):
            self.output = self._script(block, block.text)
        else:
            for command in block.commands:
                self.output = self._command(block, command)

    def _same(self, block: Block) -> bool:
        """Whether the last output is what a block says, or in its shape."""
        assert self.output is not None
        if block.options["output"] == "exact":
            return says(self.output, block.text, exact=True)
        mine, its = self.output.splitlines(), block.text.splitlines()
        # Bits are those of a kind of processor; what is equal on the page is equal here.
        digests = [re.findall(r"\b[0-9a-f]{12,}\b", text) for text in (block.text, self.output)]
        for its_own, here in zip(*digests, strict=False):
            if self.digests.setdefault(its_own, here) != here:
                return False
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
            exact = self.slow or block.options["prints"] != "shape"
            comments = re.findall(r"(?:^|  )# (.*)$", block.text, re.M)
            for line in said.getvalue().splitlines():
                assert any(says(line, comment, exact=exact) for comment in comments), (
                    f"{block}: prints {line}"
                )
        return said.getvalue()

    def _command(self, block: Block, command: Command) -> str:
        error = re.search(r"^[Ee]rror\b", command.printed, re.M)
        exact = error is not None
        if not command.plain or not _here(command.words[0]):
            output = self._script(block, command.line, status=int(exact))
        else:
            status, output = self._typed(command)
            assert status == int(exact), f"{block}: {command.line} ends with {status}:\n{output}"
            exact |= "gratings" in command.line and "train" not in command.words
        if command.printed:
            near = output.replace(f"{self.here}/", "")
            assert any(says(text, command.printed, exact=exact) for text in (near, output)), (
                f"{block}: {command.line} says\n{output}"
            )
        return output

    def _typed(self, command: Command) -> tuple[int, str]:
        """Exit status and output of a command that needs no process of its own."""
        runs = iter([run.partition("=")[0] for run in RUNS.get(self.page, ())])
        first, *words = [next(runs) if w == "RUN" else WORDS.get(w, w) for w in command.words]
        if first == "python":
            runpy.run_path(words[0], run_name="__main__")
            return 0, ""
        if "--episodes" in words:
            words.append("--episodes=6")
        done = CliRunner().invoke(main, words, prog_name="metadist")
        return done.exit_code, done.output

    def _script(self, block: Block, text: str, *, status: int = 0) -> str:
        """The output of lines for a shell, which know what earlier ones have defined."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", self.defined + text],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == status, f"{block}: ends with {done.returncode}:\n{output}"
        for command in block.commands:
            if re.match(r"\w+(=|\(\))", command.line) and command.line not in self.defined:
                self.defined += f"{command.line}\n"
        return output


def _here(program: str) -> bool:
    return Path(program).name in ("metadist", "python")
