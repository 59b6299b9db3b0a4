"""Hooks of the site of docs/ (.mkdocs.yml): pages that lie outside of docs/, and links to them."""

from __future__ import annotations

import posixpath
import re
import tomllib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
#: Pages of the repository that are pages of the site too, by their name there.
OUTSIDE = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "k8s.md": "k8s/README.md",
}
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(?=[)#])")
#: A role of Sphinx', as it stands in our docstrings, once rendered.
_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):<code>([\w.]+)</code>")


def repository() -> str:
    """The address of the repository, which stands in pyproject.toml alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"]["Repository"])


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Link the repository; ``repo_url`` would have the reader's browser ask it for its stars."""
    config.extra["social"] = [{"icon": "fontawesome/brands/github", "link": repository()}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside of docs/."""
    for name, path in OUTSIDE.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=relinked(text, path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of docs/ to where their target stands on the site."""
    generated = page.file.src_uri in OUTSIDE
    return markdown if generated else relinked(markdown, f"docs/{page.file.src_uri}")


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of the roles in docstrings."""
    return _ROLE.sub(r'<autoref optional identifier="\1"><code>\1</code></autoref>', html)


def relinked(text: str, path: str) -> str:
    """A page of the repository with the links that it has on the site.

    Args:
        path: of the page in the repository. Links are relative to it.
    """
    at = posixpath.dirname(path)
    here = {there: name for name, there in OUTSIDE.items()}
    page = here.get(path, path.removeprefix("docs/"))

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(at, match[1]))
        on_site = here.get(target, target.removeprefix("docs/"))
        if on_site == target:  # a file of the repository that is no page
            return f"{repository()}/blob/main/{target}"
        return posixpath.relpath(on_site, posixpath.dirname(page) or ".")

    return _LINK.sub(moved, text)
