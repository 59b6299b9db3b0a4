"""Affine distortions: as defined, spread over all there are, of training alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metadist.algorithms.siamese import Siamese
from metadist.context import NormMode
from metadist.errors import RecipeError
from metadist.inner.embedding import distortions
from metadist.inner.embedding.distortions import COMPONENTS, amounts, distorted, drawn
from metadist.keys import Key
from tests.contract.cases import Case
from tests.contract.checks import check_definition
from tests.contract.setting import make
from tests.numerics.metric_checks import near
from tests.numerics.siamese_reference import distorted as defined

CASE = Case("siamese", "conv4-stride", "running", 0, (("embedding", 3), ("distortions", "affine")))
Mistake = Callable[[pytest.MonkeyPatch], None]


def images(count: int = 3, shape: tuple[int, ...] = (2, 6, 9)) -> Tensor:
    return Key.of("images").uniform((count, *shape), torch.float64)


def draw(name: str = "draw") -> Tensor:
    return drawn(Key.of(name))


def check_defined() -> None:
    near(distorted(images(), draw()), defined(images(), draw()))


def transposed(patch: pytest.MonkeyPatch) -> None:
    """Turned and sheared the other way."""
    right = distortions.matrices
    patch.setattr(distortions, "matrices", lambda found: right(found).transpose(1, 2))


def unmoved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(distortions, "TRANSLATION", 0.0)


def all_alike(patch: pytest.MonkeyPatch) -> None:
    """The same distortion for every example of a task."""
    patch.setattr(distortions, "STRIDES", (0.0,) * COMPONENTS)


def test_images_are_distorted_as_defined():
    check_defined()


@pytest.mark.parametrize("mistake", [transposed, unmoved, all_alike])
def test_other_distortions_are_noticed(mistake: Mistake, monkeypatch: pytest.MonkeyPatch):
    mistake(monkeypatch)
    with pytest.raises(AssertionError):
        check_defined()


def test_nothing_is_drawn_that_changes_nothing():
    """Below 1/2 a component is not there."""
    still = torch.zeros(COMPONENTS, dtype=torch.float64)
    assert not amounts(still, 0, 1).any()
    near(distorted(images(1), still), images(1))


def test_distortions_of_a_task_are_spread_over_all():
    found = amounts(draw(), 0, 1000)
    assert bool(((found == 0).double().mean(0) - 0.5).abs().max() < 0.01)
    assert bool((found.min(0).values < -0.97).all())
    assert bool((found.max(0).values > 0.97).all())
    # Components do not go together.
    together = torch.corrcoef(found.T) - torch.eye(COMPONENTS, dtype=found.dtype)
    assert float(together.abs().max()) < 0.05


def test_examples_go_on_where_the_support_set_ends():
    whole = distorted(images(5), draw())
    assert torch.equal(distorted(images(5)[3:], draw(), 3), whole[3:])
    assert not torch.equal(distorted(images(5)[3:], draw()), whole[3:])


@pytest.mark.parametrize("norm", ["running", "support"])
def test_training_learns_from_distorted_images(norm: NormMode):
    setting = make(replace(CASE, norm=norm)).only(0)
    check_definition(setting, setting.loop())
    plain = replace(CASE, norm=norm, options=CASE.options[:1])
    with pytest.raises(AssertionError):
        check_definition(replace(setting, case=plain), setting.loop())


def test_a_new_task_is_seen_as_it_is():
    setting = make(CASE)
    other = make(replace(CASE, options=CASE.options[:1])).at(phase="test")
    tested = setting.at(phase="test")
    assert tested.noise == [{}] * len(setting)
    for got, wanted in zip(tested.predictions(0), other.predictions(0), strict=True):
        assert torch.equal(got, wanted)


def test_what_is_no_image_is_refused():
    with pytest.raises(RecipeError, match=r"distorts images \[C, H, W\].*\[5\]; leave it out"):
        make(replace(CASE, model="mlp-relu", norm="none"))
    assert isinstance(make(CASE).algorithm, Siamese)
