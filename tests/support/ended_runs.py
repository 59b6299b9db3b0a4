"""Small runs that have ended, for tests of what comes after training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data_pipeline.store.build import build_store
from metadist.compute.collectives import Solo
from metadist.compute.resolve import resolve
from metadist.compute.setup import Setup
from metadist.recipe.schema import Recipe, parse_recipe
from metadist.runs.listing import create_run
from metadist.runs.run_dir import RunDir
from metadist.training.loop import TrainingLoop

#: Data and network of recipes on functions; lines about the network may follow.
SINUSOIDS = """
[data]
dataset = "sinusoid"
ways = 0
shots = 10
queries = 10
[model]
name = "mlp"
norm = "none"
"""
FUNCTIONS = f"""{SINUSOIDS}
hidden = 8
[algorithm]
name = "maml"
[outer]
steps = 4
batch = 2
[eval]
queries = 10
extra_queries = 20
steps = 2
every = 2
episodes = 8
val_episodes = 4
"""
IMAGES = """
[data]
dataset = "image_folder"
ways = 3
shots = 1
queries = 2
[model]
name = "conv4"
filters = 4
[algorithm]
name = "maml"
[inner]
lr = 0.4
[outer]
steps = 2
batch = 2
[eval]
queries = 2
extra_queries = 4
steps = 3
every = 2
episodes = 9
val_episodes = 4
"""


def image_data(directory: Path) -> Path:
    """A data directory with a store of 24 classes of 8 images, 16x16: blobs with noise."""
    rng = np.random.default_rng(0)
    for c in range(24):
        folder = directory / "images" / f"class-{c:02d}"
        folder.mkdir(parents=True)
        pattern = rng.integers(0, 200, (4, 4)).repeat(4, 0).repeat(4, 1)
        for i in range(8):
            pixels = (pattern + rng.integers(0, 56, (16, 16))).astype(np.uint8)
            Image.fromarray(pixels, "L").save(folder / f"{i}.png")
    data = directory / "data"
    options = {"size": 16, "channels": 1}
    build_store("image_folder", data, source=directory / "images", options=options)
    return data


def ended_run(root: Path, name: str, text: str, *overrides: str) -> RunDir:
    """A run under ``root / "runs"`` on data in ``root / "data"``, trained and evaluated."""
    recipe: Recipe = resolve(parse_recipe(text, name, overrides))
    setup = Setup.open(recipe, root / "data")
    digest = setup.data.digest
    facts = {"dataset": {"name": recipe.data.dataset, "digest": digest}, "mlflow": None}
    run = create_run(root / "runs", name, recipe, facts)
    result = TrainingLoop(run, setup, Solo(), torch.device("cpu")).train()
    run.update(status="finished", result=result)
    return run
