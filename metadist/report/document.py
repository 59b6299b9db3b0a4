"""Pages from templates: they need nothing else, and all text in them is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from data_pipeline.storage.local import write_atomic
from metadist.report.phrases import plural
from metadist.report.svg import pictures, plain


class Stat(NamedTuple):
    """A figure at the head of a page, and what it is."""

    value: str
    unit: str
    name: str


class Note(NamedTuple):
    """What one has to know beside the figures."""

    title: str
    text: str
    warning: bool = False


class Card(NamedTuple):
    """A picture and the sentences that say how to read it; a wide one has a row for itself."""

    svg: str
    caption: str
    wide: bool = False


@cache
def _environment() -> Environment:
    environment = Environment(
        # A template lies beside the module that knows what is in it.
        loader=PackageLoader("metadist", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    environment.filters["plural"] = plural
    return environment


def page(template: str, **values: Any) -> str:
    """A page as text.

    Only what :func:`metadist.report.svg.drawing` has drawn is put in as it is.

    Args:
        template: its path below ``metadist``.
        values: what it shows.
    """
    return _environment().get_template(template).render(values)


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
