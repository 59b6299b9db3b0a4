"""What every page of a report is made of: the document, its cards and notes, and its files."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from data_pipeline.storage import write_atomic
from metadist.report.style import CSS
from metadist.report.svg import pictures

#: Nothing may be fetched or run, whatever a directory contains.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(name: str, sections: Iterable[str]) -> str:
    """A page of sections, which are HTML."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(name)} · metadist report</title>
<style>{CSS}</style>
</head>
<body>
<main>
{"".join(sections)}
</main>
</body>
</html>
"""


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


def note(title: str, text: str, *, warning: bool = False) -> str:
    """A remark that a reader must not miss."""
    kind = "note warning" if warning else "note"
    return f'<div class="{kind}"><p><b>{escape(title)}</b> {escape(text)}</p></div>\n'
