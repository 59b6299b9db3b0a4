"""What single pages take for granted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from PIL import Image

_IMAGE = "strokes-5w1s-maml"
_CURVE = "sinusoid-10shot-maml"

#: Runs that a page names and does not make.
RUNS = {
    "README.md": (f"first={_IMAGE}",),
    "docs/python.md": (f"first={_IMAGE}", f"waves={_CURVE}"),
    "docs/comparing-runs.md": tuple(f"{n}={_IMAGE}" for n in ("base", "slow-inner", "fast-outer")),
    "docs/norm-and-protocols.md": (
        f"first={_IMAGE}",
        *(f"sine-{n}={_CURVE}" for n in (1, 2)),
    ),
    "docs/using-a-trained-model.md": (f"first={_IMAGE}",),
}

#: What stands for names that a reader fills in.
WORDS = {"RUN": "first", "DIR": "support"}

PRELUDE = {
    "docs/python.md": """
from PIL import Image
import metadist
images = [Image.new("L", (28, 28), 50 * n) for n in range(5)]
labels, others = list("abcde"), images
""",
}


def _images() -> None:
    """Labelled images of five classes, and some without."""
    for number, label in enumerate(("alef", "bar", "hook", "loop", "wave")):
        for folder in (Path("support", label), Path("query")):
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("L", (28, 28), 40 * number).save(folder / f"{number}.png")


def _module() -> None:
    """A network of which nothing is exported."""
    page = Path("docs/add-a-backbone.md").read_text(encoding="utf-8")
    found = re.search(r"^```python.*?^(.*?)^```", page, re.S | re.M)
    assert found
    Path("my_net.py").write_text(re.sub(r"^(PART|Options).*\n", "", found[1], flags=re.M))


SETUP: dict[str, Callable[[], None]] = {
    "README.md": _images,
    "docs/using-a-trained-model.md": _images,
    "docs/add-a-backbone.md": _module,
}
