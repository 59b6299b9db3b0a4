"""What a recipe's data are and where they lie; embedded ones are made there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

from data_pipeline import datasets, episode_sources, functions
from data_pipeline.partitions.layout import partitions_root
from data_pipeline.registry import part_hint
from data_pipeline.storage.object_uri import address_of
from data_pipeline.storage.working_copies import pull, push
from data_pipeline.store.build import build_store, check_current, store_root
from data_pipeline.store.layout import DESCRIPTION
from metadist.discovery import module_names
from metadist.errors import RecipeError
from metadist.recipe.schema import Recipe
from metadist.recipe.sections import DataSection

#: What a recipe's dataset may be: where it is looked for, and what such a thing is in words.
KINDS = {
    "images": (datasets, "an image dataset"),
    "functions": (functions, "a family of functions"),
    "source": (episode_sources, "a source of episodes"),
}
Kind = Literal["images", "functions", "source"]


def kind_of(name: str) -> Kind:
    """What a recipe's dataset is.

    Raises:
        RecipeError: there is no such dataset.
    """
    known: list[str] = []
    for kind, (package, _) in KINDS.items():
        names = module_names(package)
        if name in names:
            return cast(Kind, kind)
        known += names
    raise RecipeError(
        f"data.dataset: unknown dataset {name!r}.{part_hint(name, known)} There are "
        f"{', '.join(known)}"
    )


def shards_root(data_dir: Path, recipe: Recipe) -> Path:
    """Where the training shards of a recipe lie: one directory per shape and seed of episodes."""
    section = recipe.data
    sizes = {"w": section.ways, "s": section.shots, "q": section.queries}
    sizes |= {"u": section.unlabeled, "d": section.distractors}
    sizes["a"] = int(section.attributes)
    shape = "".join(f"{size}{letter}" for letter, size in sizes.items() if size)
    turned = "" if section.rotations == "none" else f"-{section.rotations}"
    labels = "" if section.labels == "permuted" else f"-{section.labels}"
    within = "" if section.within == "all" else f"-within_{section.within}"
    drawer = "" if section.drawer == "any" else f"-{section.drawer}_drawer"
    clusters = f"-{section.partition}" if section.partition else ""
    name = f"{shape}{turned}{labels}{within}{drawer}{clusters}-seed{section.seed}"
    if kind_of(section.dataset) != "images":
        return data_dir / section.dataset / "shards" / name
    return store_of(data_dir, section).parent / "shards" / name


def store_of(data_dir: Path, section: DataSection) -> Path:
    """Where the class store of an image dataset lies."""
    spec = datasets.load(section.dataset).SPEC
    split = datasets.check_split(spec, section.split)
    return store_root(data_dir, section.dataset, split, section.store)


def partitions_of(data_dir: Path, section: DataSection) -> Path:
    """Where the partitions lie whose clusters stand for classes in training."""
    return partitions_root(store_of(data_dir, section), section.partition)


def to_be_made(recipe: Recipe, data_dir: Path) -> bool:
    """Whether :func:`prepare` would make data: embedded ones that are not there yet."""
    section = recipe.data
    if kind_of(section.dataset) != "images" or not datasets.load(section.dataset).SPEC.embedded:
        return False
    root = store_of(data_dir, section)
    pull(root, DESCRIPTION)
    return not (root / DESCRIPTION.name).is_file()


def prepare(
    recipe: Recipe, data_dir: Path, announce: Callable[[str], None] = lambda line: None
) -> None:
    """Make embedded data if it is not there yet. What is not made of images needs nothing.

    Raises:
        DataError: what is there is of another dataset, or was made by other code of this one.
        RecipeError: data that has to be brought is not there; the message says how to bring it.
    """
    section = recipe.data
    if kind_of(section.dataset) != "images":
        return
    root = store_of(data_dir, section)
    pull(root, DESCRIPTION)
    if (root / DESCRIPTION.name).is_file():
        check_current(root, section.dataset, section.split)
        # An interrupted preparation may not have filled an object store yet.
        push(root, DESCRIPTION)
        return
    spec = datasets.load(section.dataset).SPEC
    if spec.embedded:
        announce(f"Making {section.dataset} ({spec.summary}) in {address_of(root)}")
        # Another process may be making the same data; whoever is later takes the other's.
        with contextlib.suppress(FileExistsError):
            build_store(section.dataset, data_dir, split=section.split, name=section.store)
        return
    split = f" --split {section.split}" if section.split else ""
    name = f" --name {section.store}" if section.store else ""
    raise RecipeError(
        f"{address_of(root)}: no prepared {section.dataset!r} data there (data.split and "
        "data.store say which); run "
        f"'metadist data prepare {section.dataset} --source PATH{split}{name}' first, or name "
        "the directory that has it with --data-dir or METADIST_DATA_DIR"
    )
