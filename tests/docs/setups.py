"""What single pages take for granted."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from pages import blocks
from PIL import Image

import metadist

_IMAGE = "strokes-5w1s-maml"
_CURVE = "sinusoid-10shot-maml"

#: Runs that a page names and does not make.
RUNS = {
    "README.md": (f"one={_IMAGE}", f"two={_IMAGE} run.seed=1"),
    "docs/python.md": (f"first={_IMAGE}", f"waves={_CURVE}"),
    "docs/comparing-runs.md": tuple(f"{n}={_IMAGE}" for n in ("base", "slow-inner", "fast-outer")),
    "docs/norm-and-protocols.md": tuple(f"sine-{n}={_CURVE} run.seed={n}" for n in (1, 2)),
    "docs/using-a-trained-model.md": (f"first={_IMAGE}",),
}

#: What stands for names that a reader fills in.
WORDS = {"DIR": "support", "RECIPE": _IMAGE}

_IN_MEMORY = """
from PIL import Image
import metadist
images = [Image.new("L", (28, 28), 50 * n) for n in range(5)]
labels, others = list("abcde"), images
"""
PRELUDE = {"docs/python.md": _IN_MEMORY, "docs/quick-start.md": _IN_MEMORY}


def _images() -> None:
    """Labelled images of five classes, and some without."""
    for number, label in enumerate(("alef", "bar", "hook", "loop", "wave")):
        for folder in (Path("support", label), Path("query", label)):
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (28, 28), 40 * number).save(folder / f"{number}.png")


def _module() -> None:
    """A network of which nothing is exported."""
    page = Path("docs/add-a-backbone.md").read_text(encoding="utf-8")
    found = re.search(r"^```python.*?^(.*?)^```", page, re.S | re.M)
    assert found
    Path("my_net.py").write_text(re.sub(r"^(PART|Options).*\n", "", found[1], flags=re.M))


def _figures() -> None:
    """The folder of figures that another page draws, prepared, and the recipe that it prints."""
    page = "docs/your-own-images.md"
    draws = next(block for block in blocks(page) if "colorsys" in block.text)
    exec(compile(draws.text, page, "exec"), {})
    recipe = next(block for block in blocks(page) if block.options.get("title") == "shapes.toml")
    Path("shapes.toml").write_text(recipe.text, encoding="utf-8")


def _own() -> None:
    _figures()
    _images()


def _prepared() -> None:
    _figures()
    metadist.prepare("image_folder", source="shapes", name="shapes", options={"size": 32})


def _walk() -> None:
    """A folder of classes to learn from, known images of four others and new ones."""
    _figures()
    for number in range(4):
        Path("known").mkdir(exist_ok=True)
        shutil.move(f"shapes/shape{35 - number}", f"known/class{number}")
    shutil.copytree("known/class0", "new")


def _plugins() -> None:
    shutil.copy("tests/support/plugins/set_regression.py", ".")


SETUP: dict[str, Callable[[], None]] = {
    "README.md": _images,
    "docs/using-a-trained-model.md": _images,
    "docs/quick-start.md": _own,
    "docs/add-a-backbone.md": _module,
    "docs/add-an-objective.md": _plugins,
    "docs/norm-and-protocols.md": _prepared,
    "docs/your-own-network.md": _walk,
}
