"""What the project says of itself in several places: one version, one address, links that lead."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from site_pages import OUTSIDE, relinked, repository

import metadist

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
BASE = repository()


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_version_stands_in_the_package_alone() -> None:
    assert "version" in PROJECT["dynamic"]
    assert "version" not in PROJECT
    assert CITATION["version"] == metadist.__version__
    # Images are tagged with it; and whoever pins it in a page pins what there is.
    told = re.compile(r"\bmetadist(?:-mlflow)?(?::|==)v?(\d+\.\d+[\w.]*)|newTag: (\S+)")
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "k8s").rglob("*"), ROOT / "README.md"]
    found = {
        version
        for page in pages
        if page.is_file()
        for pair in told.findall(page.read_text(encoding="utf-8"))
        for version in pair
        if version and not version.startswith("v")
    }
    assert found == {metadist.__version__}


def test_the_changelog_has_the_version() -> None:
    """Its newest release is this one, or there is none yet."""
    headings = re.findall(r"^## \[(.+?)\]", text("CHANGELOG.md"), re.M)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert headings
    assert not released or released[0] == metadist.__version__


def test_the_citation_is_one() -> None:
    """By the schema of the Citation File Format 1.2.0, as far as it is used here."""
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)
    known = {"abstract", "keywords", "license", "repository-code", "type", "version", "url"}
    known |= {"cff-version", "message", "title", "authors", "date-released", "doi", "identifiers"}
    assert set(CITATION) <= known
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] == "software"
    for author in CITATION["authors"]:
        assert set(author) <= {"name"} or set(author) <= {"family-names", "given-names", "orcid"}
    assert [author["name"] for author in PROJECT["authors"]] == [
        author["name"] for author in CITATION["authors"]
    ]
    assert all(isinstance(CITATION[key], str) for key in ("version", "message", "abstract"))
    assert CITATION["title"] == PROJECT["name"]
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["keywords"] == PROJECT["keywords"]
    assert CITATION["repository-code"] == BASE


def links(page: str) -> Iterator[str]:
    for token in MarkdownIt("commonmark").enable("table").parse(text(page)):
        for child in token.children or ():
            target = child.attrs.get("href") or child.attrs.get("src")
            if target:
                yield str(target)


def test_links_of_the_readme_lead_somewhere_on_every_page_that_shows_it() -> None:
    """GitHub's page, a package index's and a clone's: all of them are to the repository's files."""
    found = list(links("README.md"))
    assert len(found) > 10
    for link in found:
        fits = re.fullmatch(rf"{re.escape(BASE)}/(blob|raw)/main/([^#]+)", link)
        assert fits, f"README.md: {link}: {BASE}/blob/main/… is needed, or raw for a picture"
        assert (ROOT / fits[2]).is_file(), link
        assert (fits[1] == "raw") == fits[2].endswith((".png", ".svg")), link


def test_the_address_of_the_repository_is_everywhere_the_same() -> None:
    other = {
        (str(path.relative_to(ROOT)), found)
        for path in (ROOT / name for name in _tracked())
        if path.suffix in (".md", ".toml", ".cff", ".yml")
        for found in re.findall(r"https://github\.com/[\w-]+/metadist\b", path.read_text())
        if found != BASE
    }
    assert not other
    assert all(url.startswith(BASE) for url in PROJECT["urls"].values())


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("page", sorted(OUTSIDE.values()))
def test_links_of_a_page_outside_of_docs_lead_on_the_site(page: str) -> None:
    for link in links_in(relinked(text(page), page)):
        if not link.startswith(("http", "#")):
            at = ROOT / "docs" / link.partition("#")[0]
            assert at.is_file() or link.partition("#")[0] in OUTSIDE, link


def links_in(markdown: str) -> list[str]:
    return re.findall(r"(?<!!)\]\(([^)\s]+)\)", markdown)


def test_links_between_the_site_and_what_lies_outside() -> None:
    page = "[a](../k8s/README.md#x) [b](../Makefile) [c](recipes.md) [d](#e) [f](https://g.h/i)"
    assert relinked(page, "docs/kubernetes.md") == (
        f"[a](k8s.md#x) [b]({BASE}/blob/main/Makefile) [c](recipes.md) [d](#e) [f](https://g.h/i)"
    )
    assert (
        relinked("[a](../../CONTRIBUTING.md)", "docs/reference/x.md") == "[a](../contributing.md)"
    )
    assert relinked("[a](docs/x.md)", "CONTRIBUTING.md") == "[a](x.md)"


def test_the_workflow_runs_what_can_be_run_anywhere() -> None:
    workflow = yaml.safe_load(text(".github/workflows/ci.yml"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert {".ci/run", "make site"} <= {step.get("run") for step in steps}
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action) for action in used)
