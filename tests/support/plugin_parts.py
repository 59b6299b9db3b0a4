"""Parts from outside in files of their own, and small recipes that name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import metadist

FOLDER = Path(__file__).parent / "plugins"

IMAGES = """
[data]
dataset = "blots"
ways = 4
shots = 1
queries = 2
[model]
name = "conv4"
filters = 4
[algorithm]
name = "prototypes"
[outer]
steps = 4
batch = 5
lr = 0.01
[eval]
queries = 3
extra_queries = 0
every = 2
episodes = 6
val_episodes = 3
"""
FUNCTIONS = """
[data]
dataset = "sinusoid"
ways = 0
shots = 5
queries = 4
[model]
name = "mlp"
hidden = 8
norm = "none"
[algorithm]
name = "set_regression"
representation = 6
[objective]
name = "density"
[outer]
steps = 4
batch = 5
lr = 0.01
[eval]
queries = 7
extra_queries = 0
every = 2
episodes = 6
val_episodes = 3
"""


def plugins(*names: str) -> list[Path]:
    """The files of parts, by the names that recipes have for them."""
    return [FOLDER / f"{name}.py" for name in names]


@dataclass(frozen=True)
class Learned:
    """A learner from outside with a recipe.

    Attributes:
        parts: all that come from outside.
        sets: ``section.key=value`` of its recipe.
        elsewhere: arguments of an evaluation of another shape than that of training.
        protocol: what that evaluation is called.
        score: the metric that decides.
    """

    name: str
    recipe: str
    parts: tuple[str, ...]
    sets: tuple[str, ...] = ()
    elsewhere: Mapping[str, Any] = field(default_factory=dict)
    protocol: str = ""
    score: str = "accuracy"

    def __str__(self) -> str:
        return self.name

    @property
    def plugins(self) -> list[Path]:
        """Their files."""
        return plugins(*self.parts)

    def train(self, root: Path, name: str, *sets: str, **more: Any) -> Mapping[str, Any]:
        """A run in ``root / "runs"`` on data in ``root / "data"``."""
        given = {"offline": True, "plugins": self.plugins, **more}
        path = root / f"{self.name}.toml"
        path.write_text(self.recipe, encoding="utf-8")
        return metadist.train(
            None if "resume" in more else path,
            name=None if "resume" in more else name,
            overrides=[*(() if "resume" in more else self.sets), *sets],
            data_dir=root / "data",
            runs_dir=root / "runs",
            **given,
        )


#: The three that are held to everything.
LEARNED = (
    Learned(
        "prototypes",
        IMAGES,
        ("blots", "prototypes"),
        ("data.ways=20", "eval.ways=5", "model.norm=running"),
        elsewhere={"ways": 3, "shots": 2, "queries": 4},
        protocol="test-3way-2shot-4q",
    ),
    Learned(
        "set_regression",
        FUNCTIONS,
        ("set_regression",),
        elsewhere={"shots": 9, "queries": 5},
        protocol="test-9shot-5q",
        score="nll",
    ),
    Learned(
        "refined_prototypes",
        IMAGES,
        ("blots", "refined_prototypes"),
        (
            "algorithm.name=refined_prototypes",
            "algorithm.distractors=true",
            "data.unlabeled=2",
            "data.distractors=3",
        ),
        elsewhere={"ways": 6, "shots": 2, "queries": 4},
        protocol="test-6way-2shot-4q",
    ),
)


def prepared(root: Path) -> Path:
    """The same folder, with the images of ``blots`` in ``root / "data"``."""
    metadist.prepare("blots", data_dir=root / "data", plugins=plugins("blots"))
    return root
