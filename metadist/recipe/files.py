"""The text of recipes: of those that come with the package, and of files."""

from __future__ import annotations

from importlib import resources

from metadist.discovery import nearest
from metadist.errors import RecipeError


def builtin_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("metadist") / "recipes"
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml"))


def recipe_text(name_or_path: str) -> str:
    """The TOML of a built-in recipe or a file.

    Raises:
        RecipeError: neither; the message names the nearest built-in recipe.
    """
    known = builtin_names()
    if name_or_path in known:
        return (resources.files("metadist") / "recipes" / f"{name_or_path}.toml").read_text("utf-8")
    from data_pipeline.storage.typed_paths import typed_path

    path = typed_path(name_or_path)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{path}: cannot be read as text ({error})") from None
    raise RecipeError(
        f"no recipe {name_or_path!r}.{nearest(name_or_path, known)} It is neither a file nor one "
        f"of the built-in recipes; 'metadist recipes' lists all {len(known)}"
    )
