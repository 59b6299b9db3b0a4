"""What a trained learner must know of its tasks to meet new ones without its data.

It stands in run.json from a run's creation on, and in the configuration of a saved model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from PIL import Image

from data_pipeline import datasets
from data_pipeline.episodes.types import Column
from data_pipeline.formats.images import MAX_PIXELS, Fit, Preparation
from data_pipeline.formats.samples import MOST
from metadist.episode_data import EpisodeData
from metadist.runs.readers.fields import count, mapping
from metadist.tasks import TaskShape

#: Where it stands in run.json.
KEY = "tasks"
#: Nobody's example has more axes, or an axis that is longer.
_MOST_AXES, _MOST_SIZE = 8, 1 << 20


@dataclass(frozen=True)
class TaskFacts:
    """What a learner must know of its tasks.

    Attributes:
        shape: of the tasks it was trained for.
        preparation: how pixels are made of images; None: inputs are numbers, taken as they are.
    """

    shape: TaskShape
    preparation: Preparation | None

    @classmethod
    def of(cls, data: EpisodeData) -> TaskFacts:
        """Of the data of a run."""
        store = data.store
        if store is None:
            return cls(data.shape, _drawn(data.schema["support_x"]))
        prepare = datasets.preparation(store.dataset, store.shape, store.options)
        return cls(data.shape, prepare)

    @classmethod
    def read(cls, shape: Mapping[str, Any], preparation: Mapping[str, Any] | None) -> TaskFacts:
        """The inverse of :meth:`document`. What it raises is in ``runs.record.UNREADABLE``."""
        found = _shape(shape)
        if preparation is None:
            return cls(found, None)
        prepare = _preparation(preparation)
        height, width, channels = prepare.shape
        if found.inputs != (channels, height, width):
            raise ValueError(
                f"shape.inputs: {[channels, height, width]} is needed, as images are prepared, got "
                f"{list(found.inputs)}"
            )
        return cls(found, prepare)

    def document(self) -> dict[str, Any]:
        """As it is written: ``shape``, ``preparation``."""
        prepare, shape = self.preparation, asdict(self.shape)
        if not self.shape.attributes:
            del shape["attributes"]  # as it was before there were any
        return {
            "shape": shape | {"inputs": list(self.shape.inputs)},
            "preparation": None
            if prepare is None
            else asdict(prepare) | {"shape": list(prepare.shape)},
        }


def _sizes(value: Any, name: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not 0 < len(value) <= _MOST_AXES:
        raise ValueError(f"{name}: a list of sizes is needed, got {str(value)[:40]!r}")
    return tuple(count(size, name, 1, _MOST_SIZE) for size in value)


def _shape(given: Mapping[str, Any]) -> TaskShape:
    facts = dict(mapping(given, "shape"))
    inputs = _sizes(facts.pop("inputs"), "shape.inputs")
    facts["outputs"] = count(facts["outputs"], "shape.outputs", 1, _MOST_SIZE)
    for name in facts.keys() - {"outputs"}:
        count(facts[name], f"shape.{name}")
    shape = TaskShape(inputs, **facts)
    if shape.ways not in (0, shape.outputs):
        raise ValueError(f"shape.ways: 0 or shape.outputs is needed, got {shape.ways}")
    return shape


def _preparation(given: Mapping[str, Any]) -> Preparation:
    facts = dict(mapping(given, "preparation"))
    for name in ("low", "high"):
        count(facts.get(name, 0), f"preparation.{name}", 0, MOST)
    known = {
        "fit": get_args(Fit),
        "resampling": tuple(one.name.lower() for one in Image.Resampling),
        "invert": (False, True),
        "upright": (False, True),
    }
    for name, words in known.items():
        value = facts.get(name, words[0])
        if type(value) is not type(words[0]) or value not in words:
            raise ValueError(f"preparation.{name}: one of {words} is needed, got {value!r:.40}")
    height, width, channels = _sizes(facts.pop("shape"), "preparation.shape")
    if channels not in (1, 3) or height * width > MAX_PIXELS:
        raise ValueError(f"preparation.shape: no image is {height} x {width} x {channels}")
    return Preparation((height, width, channels), **facts)


def _drawn(inputs: Column) -> Preparation | None:
    """How images are read where a source draws them itself, uint8 [n, H, W, C]: as those of a
    dataset that says nothing of it."""
    if inputs.dtype != "uint8" or len(inputs.shape) != 4 or inputs.shape[3] not in (1, 3):
        return None
    _, height, width, channels = inputs.shape
    return Preparation((height, width, channels), upright=True)
