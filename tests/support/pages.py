"""The pages of this project: their blocks, the commands in them, what is printed beneath."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
from markdown_it import MarkdownIt
from markdown_it.token import Token

from metadist.cli.main import main

ROOT = Path(__file__).parents[2]
PAGES = tuple(
    str(path.relative_to(ROOT))
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "k8s/README.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
)
#: Languages of blocks that are run or read, and of those that are no code.
CODE, DATA, PROSE = {"bash", "console", "python"}, {"toml", "yaml", "json"}, {"text"}
#: What may stand in braces behind the language; CONTRIBUTING.md says what each of them means.
OPTIONS = {"not-run", "slow", "title", "output", "prints"}
#: What a shell makes of a line beyond words.
_SHELL = re.compile(r"[|&;<>$`(*]|^\w+=")
_FENCE = re.compile(r"(\w+)(?: \{(.*)\})?")
_OPTION = re.compile(r"([\w-]+)(?:=\"([^\"]*)\")?(?:\s+|$)")
_METADIST = re.compile(r"(?:\S+/)?metadist")
_NUMBER = r"[0-9a-f]{12,}|[-−+]?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?"
_OPERATORS = "|&;()<>"


@dataclass(frozen=True)
class Block:
    """A fence.

    Attributes:
        line: of its first line in the page, from 1.
        options: by name; the empty string where one has no value.
    """

    page: str
    line: int
    language: str
    options: dict[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[Command]:
        """Of a block of commands: each with what is printed beneath."""
        if self.language not in ("bash", "console"):
            return []
        typed: list[str] = []
        printed: list[str] = []
        for line in self.text.splitlines(keepends=True):
            if typed and not printed[-1] and _open(typed[-1].rstrip("\n")):
                typed[-1] += line
            elif self.language == "bash" or line.startswith("$ "):
                if line.removeprefix("$ ").partition("#")[0].strip():
                    typed.append(line.removeprefix("$ "))
                    printed.append("")
            elif typed:
                printed[-1] += line
        return [Command(*pair) for pair in zip(typed, printed, strict=True)]


@dataclass(frozen=True)
class Command:
    """A line that is typed, which ``\\`` may continue, and what is printed."""

    line: str
    printed: str

    @property
    def words(self) -> list[str]:
        """As a shell would see them, if it had nothing but words to see."""
        return shlex.split(self.line.replace("\\\n", " "), comments=True)

    @property
    def plain(self) -> bool:
        """Whether it needs no shell."""
        bare = re.sub(r"'[^']*'|\"[^\"$`]*\"|\s#.*", "", self.line)
        return not _SHELL.search(bare)

    @property
    def ours(self) -> list[list[str]]:
        """The words behind each ``metadist`` in it, also inside quotes and behind ``--``."""
        return list(_ours(self.line.replace("\\\n", " ")))


def _ours(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace_split = True
    words = [";", *lexer, ";"]
    for number, word in enumerate(words):
        first = words[number - 1] == "--" or set(words[number - 1]) <= set(_OPERATORS)
        if (first and _METADIST.fullmatch(word)) or word.endswith("/metadist.sbatch"):
            end = next(n for n in range(number, len(words)) if set(words[n]) <= set(_OPERATORS))
            # What a variable holds that stands alone is not known here.
            yield [w for w in words[number + 1 : end] if not re.fullmatch(r"\$\w+", w)]
        elif "metadist " in word:
            yield from _ours(word)


def _open(line: str) -> bool:
    """Whether a line goes on in the next."""
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return True
    return line.endswith("\\")


@cache
def tokens(page: str) -> list[Token]:
    """What a page is made of."""
    parser = MarkdownIt("commonmark").enable("table")
    return parser.parse((ROOT / page).read_text(encoding="utf-8"))


@cache
def blocks(page: str) -> tuple[Block, ...]:
    """Its blocks in order.

    Raises:
        ValueError: a block whose first line is not ``language {option="value" …}``.
    """
    found = []
    for token in tokens(page):
        if token.type not in ("fence", "code_block"):
            continue
        line = (token.map or [0])[0] + 1
        fits = _FENCE.fullmatch(token.info.strip())
        if token.type == "code_block" or fits is None:
            raise ValueError(
                f"{page}:{line}: a fence with a language is needed, got {token.info!r}"
            )
        given = fits[2] or ""
        options = dict(_OPTION.findall(given))
        if _OPTION.sub("", given).strip():
            raise ValueError(f'{page}:{line}: options as name="value" are needed, got {given}')
        found.append(Block(page, line, fits[1], options, token.content))
    return tuple(found)


def files(page: str) -> dict[str, str]:
    """What the page has its reader write, by file name; of two of one name the last."""
    return {b.options["title"]: b.text for b in blocks(page) if "title" in b.options}


def spans(page: str) -> Iterator[str]:
    """What stands in backticks in its sentences."""
    for token in tokens(page):
        for child in token.children or ():
            if child.type == "code_inline":
                yield child.content


def parse(words: list[str]) -> None:
    """Have words taken by the command line, without running anything.

    Raises:
        click.ClickException: they are not taken.
    """
    command: click.Command = main
    context = main.make_context("metadist", list(words))
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert found is not None
        command, context = found, found.make_context(name, rest, parent=context)


def named(words: list[str]) -> click.Command:
    """The command that words begin with, as far as they name any.

    Raises:
        click.ClickException: there is none of that name.
    """
    command: click.Command = main
    for word in words:
        if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z-]+", word):
            break
        if word.startswith("-"):
            break
        _, found, _ = command.resolve_command(click.Context(command), [word])
        assert found is not None
        command = found
    return command


def options_of(command: click.Command) -> set[str]:
    """``--name`` and the like, of a command and of those below it."""
    found = {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)}
    found |= {"--help", "-h"}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found |= options_of(below)
    return {name for name in found if name.startswith("-")}


def pattern(printed: str, *, exact: bool) -> re.Pattern[str]:
    """What matches an output that a page prints; line breaks do not count.

    ``…`` stands for anything; where the run was made small, and so the output is not ``exact``,
    so does each number for any other.
    """
    pieces = []
    for piece in re.split(rf"(…|{_NUMBER})", _flat(printed)):
        if piece == "…":
            pieces.append(".*?")
        elif not exact and re.fullmatch(_NUMBER, piece):
            pieces.append(rf"(?:{_NUMBER}|nan|inf)")
        else:
            pieces.append(re.escape(piece))
    return re.compile("".join(pieces))


def says(output: str, printed: str, *, exact: bool) -> bool:
    """Whether an output has what a page prints."""
    return bool(pattern(printed, exact=exact).search(_flat(output)))


def _flat(text: str) -> str:
    return " ".join(text.split())
