"""What is refused before anything is trained: episodes of other parts, and of a first stage."""

from __future__ import annotations

from pathlib import Path

import pytest
from ended_runs import FUNCTIONS

from data_pipeline.errors import DataError
from metadist import plugins
from metadist.compute.resolve import resolve
from metadist.driver.preflight import preflight
from metadist.errors import RecipeError
from metadist.recipe.schema import parse_recipe

#: Sinusoids; ``test`` changes the columns of test episodes, ``train`` those of a stage.
SOURCE = '''"""Sinusoids, altered."""

from data_pipeline.episode_sources import SourceSpec
from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.sources import identity_of
from data_pipeline.episodes.staged import staged_identity
from data_pipeline.episodes.types import EpisodeBatch

PART = "episode_source"
SPEC = SourceSpec("altered", "sinusoids, altered", version=1)


class Plain:
    def __init__(self, part, spec, seed, identity=None):
        self._inner = FunctionEpisodes("sinusoid", part, spec, seed)
        self.identity = identity or identity_of(SPEC, part, spec, seed)
        self.schema = self.episodes([0]).schema

    def episodes(self, ids):
        batch = self._inner.episodes(ids)
        columns, part = dict(batch.columns), self.identity.part
        {change}
        return EpisodeBatch(batch.ids, columns)


class Staged:
    stages = 2

    def __init__(self, spec, seed):
        self.identity, self._asked = identity_of(SPEC, "train", spec, seed), (spec, seed)
        self.schema = Plain("train", spec, seed).schema

    def stage(self, number, params_digest, params):
        return Plain("train", *self._asked, staged_identity(self.identity, number, params_digest))


def open(part, spec, seed):
    return Staged(spec, seed) if {staged} and part == "train" else Plain(part, spec, seed)
'''


def refused(tmp_path: Path, change: str, *overrides: str, staged: bool = False) -> None:
    path = tmp_path / "altered.py"
    text = SOURCE.replace("{change}", change).replace("{staged}", str(staged))
    path.write_text(text, encoding="utf-8")
    with plugins.use(path):
        stated = parse_recipe(FUNCTIONS, "x", ("data.dataset=altered", *overrides))
        preflight(resolve(stated), tmp_path)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_every_part_has_what_the_learner_needs(part: str, tmp_path: Path) -> None:
    oracle = ("algorithm.name=oracle", "inner.steps=0", "eval.steps=0")
    refused(tmp_path, "pass", *oracle)
    change = f"if part == {part!r}: columns['other'] = columns.pop('latent')"
    refused(tmp_path, change)
    said = f"the {part} episodes of altered have" if part != "train" else "latent"
    with pytest.raises(RecipeError, match=said):
        refused(tmp_path, change, *oracle)


@pytest.mark.parametrize(
    ("side", "said"),
    [("x", r"float32 \[10, 2\], of training episodes float32 \[10, 1\]"), ("y", "")],
)
def test_every_part_has_examples_alike(side: str, said: str, tmp_path: Path) -> None:
    change = (
        "if part == 'test': columns |= {name: column.repeat(2, -1) for name, column in "
        f"columns.items() if name.endswith('_{side}')}}"
    )
    with pytest.raises(RecipeError, match=rf"altered: support_{side} of test episodes is {said}"):
        refused(tmp_path, change)


def test_the_first_stage_is_drawn(tmp_path: Path) -> None:
    refused(tmp_path, "pass", staged=True)
    change = "if part == 'train': columns['query_y'] = columns['query_y'] + len(ids)"
    with pytest.raises(DataError, match=r"drawn again \(column 'query_y'\)"):
        refused(tmp_path, change, staged=True)
