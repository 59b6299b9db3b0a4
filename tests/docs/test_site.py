"""The site of docs/: built strictly, complete, and without a word to anybody when it is read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import metadist

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    command = ["build", "--strict", "--config-file", ".mkdocs.yml", "--site-dir", str(place)]
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", *command],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return place


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]+)"', text)
        loaded += re.findall(
            r'<link[^>]* rel="(?:stylesheet|preconnect)"[^>]* href="([^"]+)"', text
        )
        assert not [one for one in loaded if re.match(r"(https?:)?//", one)], page
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\(['\"]?(https?:)?//", styles)


def test_the_reference_has_what_the_package_offers(site: Path) -> None:
    reference = (site / "reference/index.html").read_text(encoding="utf-8")
    results = (site / "reference/results.html").read_text(encoding="utf-8")
    for name in metadist.__all__:
        assert re.search(rf'id="metadist\.(?:[\w.]+\.)?{name}"', reference + results), name
    # Roles of Sphinx' in docstrings have become links.
    assert not re.search(r":(class|func|meth):", reference + results)
