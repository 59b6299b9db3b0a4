"""What a trained learner must know of its tasks to meet new ones without its data.

It stands in run.json from a run's creation on, and in the configuration of a saved model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from data_pipeline import datasets
from data_pipeline.episodes.types import Column
from data_pipeline.formats.images import Preparation
from metadist.episode_data import EpisodeData
from metadist.tasks import TaskShape

#: Where it stands in run.json.
KEY = "tasks"


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
        facts = {**shape, "inputs": tuple(shape["inputs"])}
        prepare = None
        if preparation is not None:
            prepare = Preparation(**{**preparation, "shape": tuple(preparation["shape"])})
        return cls(TaskShape(**facts), prepare)

    def document(self) -> dict[str, Any]:
        """As it is written: ``shape``, ``preparation``."""
        prepare = self.preparation
        return {
            "shape": asdict(self.shape) | {"inputs": list(self.shape.inputs)},
            "preparation": None
            if prepare is None
            else asdict(prepare) | {"shape": list(prepare.shape)},
        }


def _drawn(inputs: Column) -> Preparation | None:
    """How images are read where a source draws them itself, uint8 [n, H, W, C]: as those of a
    dataset that says nothing of it."""
    if inputs.dtype != "uint8" or len(inputs.shape) != 4 or inputs.shape[3] not in (1, 3):
        return None
    _, height, width, channels = inputs.shape
    return Preparation((height, width, channels), upright=True)
