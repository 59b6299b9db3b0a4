"""What people watch on standard error while something works, painted by rich.

It is painted on a terminal and in a notebook only. What else is written or logged meanwhile appears
above it. rich is imported when there is something to paint.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, TextIO, cast

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

#: Seconds between two paintings.
EVERY = 0.5
#: Characters of a bar.
_BAR = 16
_HIDE_CURSOR = "\x1b[?25l"


def visible(text: str) -> str:
    """A text with escapes in place of what is not printed: names may hold a terminal's commands."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


class Painter:
    """Keeps a picture at the foot of a terminal, or in the cell of a notebook, while a block runs.

    Args:
        picture: what is to be seen; asked after :meth:`paint`, on a terminal by another thread.
        stream: where to paint; standard error if not given.
        keep: leave the last picture standing when the block ends.

    Attributes:
        live: whether anything is painted; if not, this does nothing.
    """

    def __init__(
        self,
        picture: Callable[[], RenderableType],
        stream: TextIO | None = None,
        *,
        keep: bool = True,
    ) -> None:
        self._picture, self._keep = picture, keep
        self._stream = sys.stderr if stream is None else stream
        self._notebook = self._stream is sys.stderr and _in_notebook()
        self.live = self._notebook or _is_terminal(self._stream)
        self._shown: Live | None = None
        self._cell: Any = None
        self._painted = 0.0
        self._latest: RenderableType = ""
        self._changed = False
        self._lines = _Lasting(self._stream)
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if self._notebook:
            # In the thread of the cell, to which it then belongs.
            display = importlib.import_module("IPython.display").display
            self._cell = display(_words(""), display_id=True)
        return self

    def say(self, line: str) -> None:
        """A line that stays, above the picture."""
        if self._shown is not None:
            self._shown.console.print(visible(line))
        else:
            self._lines.write(f"{visible(line)}\n")

    def paint(self) -> None:
        """There is something to be seen, or something else than before."""
        self._changed = True
        if self._cell is not None and time.monotonic() - self._painted >= EVERY / 2:
            self._cell.update(self._picture())
            self._painted = time.monotonic()
        elif self.live and not self._notebook and self._shown is None:
            self._begin()

    def __exit__(self, *_: object) -> None:
        if self._cell is not None and self._painted:
            self._cell.update(self._picture() if self._keep else _words(""))
        self._open.close()

    def _newest(self) -> RenderableType:
        if self._changed:
            self._changed = False  # before it is asked for, lest a change meanwhile be lost
            self._latest = self._picture()
        return self._latest

    def _begin(self) -> None:
        from rich.console import Console
        from rich.live import Live

        ours = self._stream is sys.stderr
        self._shown = Live(
            get_renderable=self._newest,
            console=Console(
                file=cast(TextIO, self._lines),
                # Whether it is painted is decided: rich would also paint into a file that is to
                # have colours.
                force_terminal=True,
                force_interactive=True,
                force_jupyter=False,
                soft_wrap=True,
                markup=False,
                highlight=False,
                emoji=False,
            ),
            refresh_per_second=1 / EVERY,
            transient=not self._keep,
            redirect_stderr=ours,
            redirect_stdout=ours and _is_terminal(sys.stdout),
        )
        self._open.enter_context(self._shown)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._stream:
                self._open.callback(handler.setStream, self._stream)
                handler.setStream(sys.stderr)  # that of now, which writes above the picture


def meters(rows: Iterable[tuple[float, float, str]], *, below: Iterable[str] = ()) -> Table:
    """A bar in each row and words beside it; what is longer than the terminal is cut.

    Args:
        rows: how much is done, of how much, and the words.
        below: lines of words alone under which the bars stand.
    """
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    bars = Table.grid(padding=(0, 1))
    for done, total, words in rows:
        bars.add_row(ProgressBar(total, done, width=_BAR, complete_style="cyan"), _words(words))
    picture = Table.grid()
    for line in below:
        picture.add_row(_words(line))
    picture.add_row(bars)
    return picture


@contextlib.contextmanager
def at_work() -> Iterator[Callable[[str], None]]:
    """Takes what is being done while the block runs, for a line that is gone at its end."""
    line = ""

    def tell(what: str) -> None:
        nonlocal line
        line = what
        painter.paint()

    with Painter(lambda: _words(line), keep=False) as painter:
        yield tell


def _words(text: str) -> Text:
    """One line, which ends at the edge."""
    from rich.text import Text

    return Text(visible(text), no_wrap=True, overflow="ellipsis")


def _is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can be painted on."""
    with contextlib.suppress(ValueError):  # it is closed
        return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return False


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class _Lasting(io.TextIOBase):
    """A stream that takes everything: that its terminal is gone is no reason to end a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream: rich paints in its letters."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write what the stream has letters for."""
        # A hidden cursor would stay so after a process that is killed.
        there = text.replace(_HIDE_CURSOR, "").encode(self.encoding, "replace")
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(there.decode(self.encoding))
            self._stream.flush()
        return len(text)
