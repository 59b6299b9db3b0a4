"""Texts in columns, cut to a width such that those that differ still do."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from itertools import takewhile

from metadist.process.console import visible
from metadist.statistics.format import cut

#: Letters before a difference that are shown as its word; of more, as in a digest, none are.
_WORD = 12


def short(texts: Sequence[str], room: int) -> list[str]:
    """Each text in ``room`` characters, in more where so few do not tell two of them apart.

    Long ones are shown from the first word that differs; else by their ends, a digest is told apart
    by either; else from the first letter that differs.
    """
    distinct = list(dict.fromkeys(texts))
    letter, word = _difference([text for text in distinct if len(text) > room])
    while True:
        for first in (word, 0, letter):
            cuts = [_cut(text, first, room) for text in distinct]
            if len(set(cuts)) == len(distinct):
                told = dict(zip(distinct, cuts, strict=True))
                return [told[text] for text in texts]
        room += max(room // 4, 1)


def _difference(texts: Sequence[str]) -> tuple[int, int]:
    """The first letter in which texts differ, and where its word begins; 0 where there is none."""
    if len(texts) < 2:
        return 0, 0
    columns = zip(*texts, strict=False)
    letter = sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, columns))
    word = letter
    while word and texts[0][word - 1].isalnum():
        word -= 1
    # A text that the others go on from has no word of its own to show.
    whole = letter - word <= _WORD and letter < min(map(len, texts))
    return letter, word if whole else 0


def _cut(text: str, first: int, room: int) -> str:
    """A text from a letter on, or both its ends."""
    if len(text) <= room:
        return text
    if first < 2:
        return f"{text[: room // 2 - 1]}…{text[room // 2 - room :]}"
    rest = f"…{text[first:]}"
    return cut(rest, room)


def aligned(
    rows: Sequence[Sequence[str]],
    right: Collection[int] = (),
    *,
    rule: bool = True,
    width: int | None = None,
) -> list[str]:
    """A table in columns two spaces apart, its head first.

    Args:
        right: columns that are set to the right.
        rule: underline the head.
        width: of a line; what is longer goes on below, in its own column. None: as long as needed.
    """
    from rich.console import Console
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    for column in range(len(rows[0])):
        table.add_column(justify="right" if column in right else "left")
    for number, row in enumerate(rows):
        table.add_row(*(Text(visible(cell)) for cell in row))
        if rule and not number:
            table.add_row(*(Rule(characters="-") for _ in row))
    console = Console(file=io.StringIO(), width=width or 10_000, color_system=None)
    segments = console.render_lines(table, pad=False)
    return ["".join(segment.text for segment in line).rstrip() for line in segments]
