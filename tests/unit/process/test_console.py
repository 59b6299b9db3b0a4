"""What is painted while something works, where, and that nothing that is said is lost in it."""

from __future__ import annotations

import io
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from terminal import Terminal

from metadist.process.console import Painter, at_work, meters, visible
from metadist.report.text_table import aligned

HOSTILE = "[red]x[/] :smile: \x1b]0;title\x07\x1b[2J\u202egpj\x00 \udc80"
SHOWN = r"[red]x[/] :smile: \x1b]0;title\x07\x1b[2J\u202egpj\x00 \udc80"


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal of 60 columns, in colours."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    return Terminal()


def until(there: Callable[[], object]) -> None:
    started = time.monotonic()
    while not there():
        assert time.monotonic() - started < 20
        time.sleep(0.01)


def painted(stream: Terminal, words: str = "words") -> Painter:
    """A painter that has painted."""
    painter = Painter(lambda: meters([(1, 2, words)]), stream)
    with painter:
        painter.paint()
    return painter


def test_what_is_said_meanwhile_stands_above(terminal: Terminal, monkeypatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", terminal)
    logger = logging.getLogger()
    handler = logging.StreamHandler(terminal)
    logger.addHandler(handler)
    long = "a path that is longer than a line of the terminal: /" + "x" * 60
    try:
        with Painter(lambda: meters([(1, 2, "half")])) as painter:
            painter.paint()
            until(terminal.getvalue)
            print("by anybody", file=sys.stderr)
            logging.getLogger("mine").error("logged")
            painter.say(long)
            print("a result")
        assert (handler.stream, sys.stderr) == (terminal, terminal)
    finally:
        logger.removeHandler(handler)
    *above, bar, below = terminal.screen
    assert above == ["by anybody", "logged", long]  # not broken: it may be copied
    assert bar.endswith(" half")
    assert below == ""
    assert out.getvalue() == "a result\n"
    assert "\x1b[?25l" not in terminal.getvalue()  # who is killed leaves the cursor as it was


def test_a_picture_may_go_with_its_block(terminal: Terminal, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    with at_work() as tell:
        tell("first")
        tell("x" * 80)
        until(lambda: "x" in terminal.getvalue())
        assert terminal.screen == ["x" * 59 + "…"]
    assert terminal.screen == ["", ""]


def test_names_give_a_terminal_no_commands(terminal: Terminal, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    painted(terminal, HOSTILE).say(HOSTILE)
    picture, line = terminal.screen[:2]
    assert picture.endswith(SHOWN)
    assert line == SHOWN
    assert not re.search(r"\x1b\]|\x1b\[2J|\u202e|\x00", terminal.getvalue())


def test_names_give_a_table_no_commands() -> None:
    assert aligned([["a"], [HOSTILE]]) == ["a", "-" * len(SHOWN), SHOWN]
    assert visible("two\nlines, ± 1 %\té") == "two\nlines, ± 1 %\té"


def test_columns_are_as_wide_as_what_is_seen() -> None:
    rows = [["name", "n"], ["日本語", "10"], ["a", "7"]]
    assert aligned(rows, {1}) == ["name     n", "------  --", "日本語  10", "a        7"]
    wrapped = aligned([["maml", "one two three"]], rule=False, width=13)
    assert wrapped == ["maml  one two", "      three"]


def test_no_colour_is_none(terminal: Terminal, monkeypatch) -> None:
    painted(terminal)
    colour = re.compile(r"\x1b\[[1-9][\d;]*m")
    assert colour.search(terminal.getvalue())
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    painted(plain)
    assert not colour.search(plain.getvalue())
    assert "words" in plain.screen[0]


class Ascii(Terminal):
    encoding = "ascii"

    def write(self, text: str) -> int:
        text.encode("ascii")
        return super().write(text)


class Gone(Terminal):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_streams_without_letters_or_readers_stop_nothing() -> None:
    stream = Ascii()
    painted(stream, "50 % ± 1 · é").say("· said")
    assert re.fullmatch(r"[- ]+ 50 % \? 1 \? \?", stream.screen[0])
    painted(Gone()).say("said")


def test_elsewhere_rich_is_not_even_imported() -> None:
    code = (
        "import sys\n"
        "from metadist.process.console import at_work\n"
        "with at_work() as tell: tell('x')\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] == 'rich'))"
    )
    environment = {"TERM": "xterm", "FORCE_COLOR": "1", "CI": "true"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_notebook_has_one_output_that_is_kept_up_to_date(terminal: Terminal, monkeypatch) -> None:
    cell: list[str] = []

    def show(picture: Any) -> None:
        cell.append(picture._repr_mimebundle_([], [])["text/plain"].strip())

    def display(picture: Any, display_id: bool) -> Any:
        assert display_id
        show(picture)
        return SimpleNamespace(update=show)

    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    monkeypatch.setattr(Terminal, "isatty", lambda _: False)
    monkeypatch.setattr(sys, "stderr", terminal)
    words = ["one"]
    with Painter(lambda: meters([(1, 2, words[-1])])) as painter:
        assert painter.live
        for word in ("one", "two", "three"):
            words.append(word)
            painter.paint()
    shown = [re.sub(r"\x1b\[[\d;]*m|[━╸╺ ]", "", text) for text in cell]
    assert shown == ["", "one", "three"]  # not more often than it can be looked at; the last is it
    assert terminal.getvalue() == ""
