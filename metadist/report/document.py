"""A page that needs nothing else: no script, no font, no picture from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from data_pipeline.storage.local import write_atomic
from metadist.report.style import CSS
from metadist.report.svg import pictures

#: Nothing may be fetched or run, whatever a run directory contains.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, body: str) -> str:
    """A whole page.

    Args:
        title: text.
        body: HTML, all text in it escaped.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def note(title: str, text: str, *, warning: bool = False) -> str:
    """A box with a word in bold and sentences, both of which are text."""
    kind = "note warning" if warning else "note"
    return f'<div class="{kind}"><p><b>{escape(title)}</b> {escape(text)}</p></div>\n'


def figure(svg: str, caption: str) -> str:
    """A picture on a card, with what is to be said of it."""
    return f'<figure class="card">{svg}<figcaption>{escape(caption)}</figcaption></figure>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, chosen: int | None = None) -> str:
    """A table of text that scrolls where it is too wide.

    Args:
        chosen: index of a row that stands out.
    """
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = []
    for i, row in enumerate(rows):
        mark = ' class="chosen"' if i == chosen else ""
        lines.append(f"<tr{mark}>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}'
        "</tbody></table></div>"
    )


def write_page(page: str, path: Path, figures: Path) -> None:
    """Write a page, and each of its figures into a folder that holds no older ones."""
    write_atomic(path, page.encode())
    drawn = pictures(page)
    figures.mkdir(exist_ok=True)
    for old in figures.glob("*.svg"):
        if old.stem not in drawn:
            old.unlink()
    for name, svg in drawn.items():
        write_atomic(figures / f"{name}.svg", svg.encode())


def stat(value: str, unit: str, name: str, *, first: bool = False) -> str:
    """A card with one figure."""
    small = f" <small>{escape(unit)}</small>" if unit else ""
    return (
        f'<div class="card stat{" first" if first else ""}"><div class="value">{escape(value)}'
        f'{small}</div><div class="name">{escape(name)}</div></div>'
    )
