"""The tables of docs/recipes.md, made from the schema of a recipe.

``.venv/bin/python tests/support/recipe_page.py --write`` puts them between the page's markers,
``<!-- keys of [inner] -->`` and ``<!-- end -->``; the prose around them is the page's own.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metadist.compute.recipe_schema import recipe_schema

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
_BLOCK = re.compile(r"(<!-- keys of \[(\w+)\] -->\n).*?(<!-- end -->\n)", re.DOTALL)
_HEAD = "| key | type | default | meaning |\n|---|---|---|---|\n"
_HEAD_OF = "| key | of | type | default | meaning |\n|---|---|---|---|---|\n"


def page(text: str) -> str:
    """The page with its tables made anew; everything else stays.

    Raises:
        ValueError: a section of a recipe has no place on the page, or a place has no section.
    """
    sections = recipe_schema()["properties"]
    places = [section for _, section, _ in _BLOCK.findall(text)]
    if places != list(sections):
        raise ValueError(f"the page has tables of {places}, a recipe has {list(sections)}")
    return _BLOCK.sub(lambda m: f"{m[1]}\n{tables(m[2], sections[m[2]])}\n{m[3]}", text)


def tables(section: str, schema: dict[str, Any]) -> str:
    """The tables of a section: its keys, and the options of the parts that it may name."""
    if "oneOf" not in schema:
        return _HEAD + "".join(_rows(section, schema))
    parts = {p["title"]: p for p in schema["oneOf"]}
    first = next(iter(parts.values()))["properties"]
    own = {k: v for k, v in first.items() if all(k in p["properties"] for p in parts.values())}
    named = [f"`{name}`" for name in parts if name != "none"]
    own["name"] = {"type": "string", **own["name"], "said": ", ".join(named)}
    if "none" not in parts:
        own["name"].pop("default", None)
    required = [] if "none" in parts else ["name"]
    text = _HEAD + "".join(_rows(section, {"properties": own, "required": required}))
    options = {
        name: {k: v for k, v in part["properties"].items() if k not in own}
        for name, part in parts.items()
    }
    if section == "model":
        for name, keys in options.items():
            about = parts[name]["description"].rstrip(".")
            text += f"\nOptions of `{name}` ({about}):\n\n{_HEAD}"
            text += "".join(_rows(section, {"properties": keys}))
    elif any(options.values()):
        text += f"\nOptions, each of those alone that the second column names:\n\n{_HEAD_OF}"
        text += "".join(_shared(section, options))
    return text


def _shared(section: str, options: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A row for each option, with all parts that have it."""
    rows: dict[str, list[str]] = {}
    for name, keys in options.items():
        for row in _rows(section, {"properties": keys}):
            rows.setdefault(row, []).append(f"`{name}`")
    for row, names in rows.items():
        _, key, rest = row.split("|", 2)
        yield f"|{key}| {', '.join(names)} |{rest}"


def _rows(section: str, schema: dict[str, Any]) -> Iterator[str]:
    for key, value in schema["properties"].items():
        default = "required" if key in schema.get("required", ()) else _code(value["default"])
        meaning = re.sub(r"docs/([\w-]+\.md(#[\w-]+)?)", _link, value["description"])
        yield f"| `{section}.{key}` | {kind(value)} | {default} | {meaning} |\n"


def _link(found: re.Match[str]) -> str:
    return f"[{found[1].partition('#')[0]}]({found[1]})"


def _code(value: Any) -> str:
    return f"`{value if isinstance(value, str) and value else json.dumps(value)}`"


def kind(value: dict[str, Any]) -> str:
    """What values a key takes, in words."""
    if "said" in value:
        return str(value["said"])
    if "anyOf" in value:
        return ", or ".join(kind(one) for one in value["anyOf"])
    if "const" in value or "enum" in value:
        return ", ".join(f"`{one}`" for one in value.get("enum", [value.get("const")]))
    if value["type"] == "array":
        return "list of pairs" if "prefixItems" in value["items"] else "list"
    low, high = value.get("minimum"), value.get("maximum")
    above, below = value.get("exclusiveMinimum"), value.get("exclusiveMaximum")
    if (low is None and above is None) or value["type"] == "string":
        return str(value["type"])
    if high is None and (below is None or below >= 2**53):
        return f"{value['type']} {f'> {above}' if low is None else f'≥ {low}'}"
    left = f"({above}" if low is None else f"[{low}"
    return f"{value['type']} in {left}, {f'{below})' if high is None else f'{high}]'}"


def main() -> int:
    """Write the page, or say whether it is as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="write the page anew")
    there = PAGE.read_text(encoding="utf-8")
    made = page(there)
    if parser.parse_args().write:
        PAGE.write_text(made, encoding="utf-8")
    elif made != there:
        print(f"{PAGE} is not what the schema says: run with --write")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
