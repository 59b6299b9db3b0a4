"""Texts in columns, cut to a width such that those that differ still do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile

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
    return rest if len(rest) <= room else f"{rest[: room - 1]}…"


def aligned(
    rows: Sequence[Sequence[str]], right: Collection[int], *, rule: bool = True
) -> list[str]:
    """A table in columns two spaces apart, its head first.

    Args:
        right: columns that are set to the right.
        rule: underline the head.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head, *body = rows
    table = [head, *([["-" * width for width in widths]] if rule else []), *body]
    return [
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
