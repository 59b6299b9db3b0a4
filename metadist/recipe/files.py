"""The text of recipes and tables: of those that come with the package, and of files."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from metadist.errors import MetadistError, RecipeError

_RECIPES = Path(__file__).parents[1] / "recipes"


def toml_names(folder: Path) -> list[str]:
    """Names of the TOML files in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def builtin_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return toml_names(_RECIPES)


def read_text(path: Path, error: type[MetadistError]) -> str:
    """The text of a file that a user wrote; ``error`` says that it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as wrong:
        raise error(f"{path}: cannot be read as text ({wrong})") from None


def parse_toml(text: str, where: object, error: type[MetadistError]) -> dict[str, Any]:
    """The tables of a TOML text; ``error`` says that it is none."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as wrong:
        raise error(f"{where}: not valid TOML: {wrong}") from None


def recipe_text(name_or_path: str) -> str:
    """The TOML of a built-in recipe or a file.

    Raises:
        RecipeError: neither; the message names the nearest built-in recipe.
    """
    known = builtin_names()
    if name_or_path in known:
        return (_RECIPES / f"{name_or_path}.toml").read_text("utf-8")
    from data_pipeline.storage.typed_paths import typed_path
    from metadist.discovery import nearest

    path = typed_path(name_or_path)
    if path.is_file():
        return read_text(path, RecipeError)
    raise RecipeError(
        f"no recipe {name_or_path!r}.{nearest(name_or_path, known)} It is neither a file nor one "
        f"of the built-in recipes; 'metadist recipes' lists all {len(known)}"
    )
