"""Families of functions: their functions, ranges, bits and floors, against independent maths."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from data_pipeline import functions
from data_pipeline.datasets import PARTS, Part
from data_pipeline.episodes.functions import FunctionEpisodes
from data_pipeline.episodes.types import EpisodeBatch, EpisodeSpec
from data_pipeline.errors import DataError
from data_pipeline.functions import Drawn
from data_pipeline.rng import Stream, fold
from data_pipeline.storage.local import sha256_bytes

NAMES = functions.names()
MIXTURES = {"mixture1d": 4, "mixture2d": 6}
NOISE = {"mixture1d": 0.3, "mixture2d": 0.3, "sinusoid_fixed": 0.1}
TASKS = 3000
Value = Callable[..., Any]

#: The members of the mixtures as the paper gives them: function of x, z and parameters; ranges.
MEMBERS: list[tuple[Value, list[tuple[float, float]]]] = [
    (lambda x, z, a, w, b: a * np.sin(w * x + b), [(0.1, 5), (0.8, 1.2), (0, 2 * np.pi)]),
    (lambda x, z, a, b: a * x + b, [(-3, 3), (-3, 3)]),
    (lambda x, z, a, b, c: a * x**2 + b * x + c, [(-0.2, 0.2), (-2, 2), (-3, 3)]),
    (
        lambda x, z, a, b, c, d: a * x**3 + b * x**2 + c * x + d,
        [(-0.1, 0.1), (-0.2, 0.2), (-2, 2), (-3, 3)],
    ),
    (lambda x, z, a, b: a * x**2 + b * z**2, [(-1, 1), (-1, 1)]),
    (lambda x, z, a, b: np.sin(-a * (x**2 + z**2)) + b, [(-0.2, 0.2), (-3, 3)]),
]
#: The other families, without their noise, and the range of their (first) input.
SINGLE: dict[str, tuple[Value, list[tuple[float, float]], float]] = {
    "sinusoid": (lambda x, z, a, b: a * np.sin(x - b), [(0.1, 5), (0, np.pi)], 5),
    "sinusoid_frequency": (
        lambda x, z, a, w, b: a * np.sin(w * x + b),
        [(0.1, 5), (0.8, 1.2), (0, np.pi)],
        5,
    ),
    "sinusoid_fixed": (lambda x, z, a: a * np.sin(x), [(0.1, 4)], 5),
    "polynomial0": (lambda x, z, a: a + 0 * x, [(-1, 1)], 2),
    "polynomial1": (lambda x, z, a, b: a + b * x, [(-1, 1), (-0.5, 0.5)], 2),
    "polynomial2": (
        lambda x, z, a, b, c: a + b * x + c * x**2,
        [(-1, 1), (-0.5, 0.5), (-0.25, 0.25)],
        2,
    ),
}
#: E[y|x] in closed form where it is not 0: the best that can be done without the support.
BEST: dict[str, Value] = {
    "sinusoid": lambda x: -2.55 * 2 / np.pi * np.cos(x),
    "sinusoid_frequency": lambda x: (
        2.55 * 2 / np.pi * (np.sin(1.2 * x) - np.sin(0.8 * x)) / (0.4 * x)
    ),
    "sinusoid_fixed": lambda x: 2.05 * np.sin(x),
}


def drawn(name: str, index: int, points: int = 9, part: Part = "train") -> Drawn:
    return functions.load(name).draw(Stream(fold("test", name), index), points, part)


def truth(name: str, x: Any, latent: Any) -> Any:
    """The noise-free function [points] in the library's own arithmetic."""
    if name in MIXTURES:
        value, ranges = MEMBERS[int(latent[0])]
        return value(x[:, 0], x[:, -1], *latent[1 : 1 + len(ranges)])
    value, ranges, _ = SINGLE[name]
    return value(x[:, 0], None, *latent[: len(ranges)])


@functools.cache
def batch(name: str, part: Part = "test") -> EpisodeBatch:
    """Many episodes; not to be changed."""
    return FunctionEpisodes(name, part, EpisodeSpec(0, 1, 5), 0).episodes(range(TASKS))


def test_every_family_is_tested_here() -> None:
    assert set(NAMES) == {*SINGLE, *MIXTURES}


@pytest.mark.parametrize("name", NAMES)
def test_the_specification_holds(name: str) -> None:
    spec = functions.load(name).SPEC
    assert spec.name == name
    for part in PARTS:
        x, y, latent = drawn(name, 0, 9, part)
        assert x.shape == (9, spec.inputs)
        assert y.shape == (9, spec.outputs)
        assert latent.shape == (len(spec.latent),)
        assert {x.dtype, y.dtype, latent.dtype} == {np.dtype(np.float64)}


FROZEN: dict[tuple[str, Part], str] = {
    ("mixture1d", "train"): "4e2c547044053b8263a1f0400b8743aaab11db46cf906c22cdddf214f51aee2f",
    ("mixture2d", "train"): "f694c9660efb03693c37aee35dfb28d2ce8febf6e98c69727924e814fde8172a",
    ("polynomial0", "train"): "9ea915c9173f4296c5087c2a50c44ee540587ac13dd0f9a9096bb89a829d4aef",
    ("polynomial1", "train"): "bde4e5b34a373c083c16db027a01acbceea1fabe76af721c6925548deb204e65",
    ("polynomial2", "train"): "7755580e7950b1b7238386b17d769df232c6939f8aad72ef5b79240326716cb9",
    ("sinusoid", "train"): "e84496acb5759da6902742c4d046f5f30c08b6e052ee82045a308dac546a7890",
    ("sinusoid_fixed", "train"): "0db94619b8ccf05ba31e7f408532c86030c8013374ead912c9a760e6511712cb",
    ("sinusoid_fixed", "test"): "1196ce7246c2e197b09151df85aa23783c9015b39310c8c9454d5a7c60acb9b7",
    (
        "sinusoid_frequency",
        "train",
    ): "3bd87a008bf9b5f03f54391c075e67f5e0d56d5b7e665210d2fe1eb43e5b76ee",
}


@pytest.mark.parametrize(("name", "part"), FROZEN)
def test_episodes_are_frozen(name: str, part: Part) -> None:
    episodes = FunctionEpisodes(name, part, EpisodeSpec(0, 5, 10), 0).episodes(range(40))
    got = sha256_bytes(b"".join(a.tobytes() for a in episodes.arrays().values()))
    assert got == FROZEN[name, part]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", ["train", "test"])
def test_the_first_points_do_not_depend_on_how_many_follow(name: str, part: Part) -> None:
    for index in range(12):
        few, many = drawn(name, index, 3, part), drawn(name, index, 50, part)
        assert np.array_equal(few[0], many[0][:3])
        assert np.array_equal(few[1], many[1][:3])
        assert np.array_equal(few[2], many[2])


@pytest.mark.parametrize("name", [n for n in NAMES if n not in NOISE])
def test_latent_is_the_function(name: str) -> None:
    for index in range(200):
        x, y, latent = drawn(name, index)
        np.testing.assert_allclose(y[:, 0], truth(name, x, latent), rtol=0, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("name", NOISE)
@pytest.mark.parametrize("part", ["train", "test"])
def test_latent_is_the_function_but_for_the_noise(name: str, part: Part) -> None:
    rest = []
    for index in range(1000):
        x, y, latent = drawn(name, index, 20, part)
        rest.append((y[:, 0] - truth(name, x, latent)) / NOISE[name])
    z = np.concatenate(rest)
    # Five standard errors of the moments of a normal distribution.
    for power, moment, error in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs((z**power).mean() - moment) < 5 * error / len(z) ** 0.5
    # Support and query, or one task and the next, do not share their noise.
    table = np.stack(rest)
    assert abs((table[:, 0] * table[:, -1]).mean()) < 5 / 1000**0.5
    assert abs((table[:-1] * table[1:]).mean()) < 5 / table[1:].size ** 0.5


# --- ranges -------------------------------------------------------------------------------------


def fills(values: Any, low: float, high: float) -> None:
    """Uniform in [low, high]: nothing outside, every tenth of it as often as it should be."""
    assert low <= values.min()
    assert values.max() <= high
    counts = np.histogram(values, 10, (low, high))[0]
    expected = values.size / 10
    # 27.9 is exceeded once in a thousand times; the draws are fixed.
    assert ((counts - expected) ** 2 / expected).sum() < 27.9


@pytest.mark.slow
@pytest.mark.parametrize("name", SINGLE)
def test_parameters_and_inputs_fill_their_ranges(name: str) -> None:
    latent = batch(name).columns["latent"]
    _, ranges, bound = SINGLE[name]
    for column, (low, high) in enumerate(ranges):
        fills(latent[:, column], low, high)
    fills(batch(name).query_x[:, :, 0].ravel(), -bound, bound)


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXTURES)
def test_mixtures_draw_each_family_alike(name: str) -> None:
    x, latent = batch(name).query_x, batch(name).columns["latent"]
    counts = np.bincount(latent[:, 0].astype(int), minlength=MIXTURES[name])
    assert len(counts) == MIXTURES[name]
    expected = TASKS / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < 20.5
    for number in range(len(counts)):
        mine = latent[:, 0] == number
        ranges = MEMBERS[number][1]
        for column, (low, high) in enumerate(ranges, start=1):
            fills(latent[mine, column], low, high)
        assert not latent[mine, 1 + len(ranges) :].any()
        fills(x[mine, :, 0].ravel(), -5, 5)
        if x.shape[2] == 2 and number < 4:
            assert (x[mine, :, 1] == 1).all()
        elif x.shape[2] == 2:
            fills(x[mine, :, 1].ravel(), -5, 5)


@pytest.mark.slow
def test_fixed_sinusoids_give_the_training_task_away() -> None:
    train = batch("sinusoid_fixed", "train")
    latent = train.columns["latent"]
    amplitude, index = latent[:, 0], latent[:, 1].astype(int)
    np.testing.assert_allclose(amplitude, np.linspace(0.1, 4, 20)[index], rtol=1e-15)
    for x in (train.support_x, train.query_x):
        assert np.array_equal(x[:, :, 1:], np.eye(20)[index][:, None].repeat(x.shape[1], axis=1))
    counts = np.bincount(index, minlength=20)
    # 43.8 is exceeded once in a thousand times.
    assert ((counts - TASKS / 20) ** 2 / (TASKS / 20)).sum() < 43.8


@pytest.mark.slow
@pytest.mark.parametrize("part", ["val", "test"])
def test_fixed_sinusoids_of_other_parts_give_nothing_away(part: Part) -> None:
    episodes = batch("sinusoid_fixed", part)
    latent = episodes.columns["latent"]
    amplitude, index = latent[:, 0], latent[:, 1].astype(int)
    assert np.array_equal(episodes.query_x[:, 0, 1:], np.eye(20)[index])
    assert len(set(amplitude.tolist())) == TASKS
    for i in range(20):
        assert amplitude[index == i].min() < 0.6
        assert amplitude[index == i].max() > 3.5


# --- floors -------------------------------------------------------------------------------------


def nodes(low: float, high: float, count: int) -> tuple[Any, Any]:
    """Gauss-Legendre points and weights of a uniform distribution."""
    x, w = np.polynomial.legendre.leggauss(count)
    return (high + low) / 2 + (high - low) / 2 * x, w / 2


def moments(value: Value, ranges: list[tuple[float, float]], x: Any, z: Any) -> tuple[Any, Any]:
    """E[y|x, z] and E[y²|x, z] over the parameters, by quadrature on their product grid."""
    count = 16 if len(ranges) < 4 else 4
    axes = [nodes(low, high, count) for low, high in ranges]
    grids = np.meshgrid(*(points for points, _ in axes), indexing="ij")
    weights = functools.reduce(np.multiply.outer, (w for _, w in axes)).ravel()
    y = value(x[:, None], z[:, None], *(grid.ravel() for grid in grids))
    return y @ weights, y**2 @ weights


def line(bound: float) -> tuple[Any, Any, Any]:
    x, w = nodes(-bound, bound, 40)
    return x, np.ones_like(x), w


def plane(bound: float) -> tuple[Any, Any, Any]:
    x, w = nodes(-bound, bound, 40)
    left, right = np.meshgrid(x, x)
    return left.ravel(), right.ravel(), np.multiply.outer(w, w).ravel()


def spread(members: list[tuple[Value, list[tuple[float, float]]]], place: Any) -> float:
    """E Var[y|x] of a mixture of functions that no input tells apart."""
    x, z, weights = place
    means, squares = zip(*(moments(*member, x, z) for member in members), strict=True)
    variance = np.mean(squares, axis=0) - np.mean(means, axis=0) ** 2
    return float(variance @ weights)


def quadrature(name: str) -> float:
    if name == "mixture1d":
        noiseless = spread(MEMBERS[:4], line(5))
    elif name == "mixture2d":
        # z = 1 tells the families of one variable from the two others.
        noiseless = (4 * spread(MEMBERS[:4], line(5)) + 2 * spread(MEMBERS[4:], plane(5))) / 6
    else:
        value, ranges, bound = SINGLE[name]
        noiseless = spread([(value, ranges)], line(bound))
    return noiseless + NOISE.get(name, 0) ** 2


@pytest.mark.parametrize("name", NAMES)
def test_the_floor_is_the_variance_that_the_input_leaves(name: str) -> None:
    assert functions.load(name).SPEC.floor == pytest.approx(quadrature(name), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_best_without_the_support_is_at_the_floor(name: str) -> None:
    episodes = batch(name)
    x, y = episodes.query_x[:, :, 0].astype(float), episodes.query_y[:, :, 0].astype(float)
    best = BEST.get(name, np.zeros_like)
    errors = ((y - best(x)) ** 2).mean(axis=1)
    floor = functions.load(name).SPEC.floor
    assert floor is not None
    assert abs(errors.mean() - floor) < 4 * errors.std() / TASKS**0.5
    # It is the best indeed: a shift or another scale does worse on the same tasks.
    for other in (lambda x: best(x) + 0.3, lambda x: 1.3 * best(x) - 0.3, lambda x: 0.3 * x):
        assert ((y - other(x)) ** 2).mean() > errors.mean()


def test_known_floors() -> None:
    floors = {name: functions.load(name).SPEC.floor for name in NAMES}
    assert floors["sinusoid"] == pytest.approx(3.006, abs=5e-4)
    assert floors["sinusoid_frequency"] == pytest.approx(3.114, abs=5e-4)
    assert floors["polynomial0"] == pytest.approx(1 / 3)
    assert floors["polynomial1"] == pytest.approx(4 / 9)
    assert floors["polynomial2"] == pytest.approx(23 / 45)


@pytest.mark.slow
def test_memorising_the_grid_is_enough_in_training() -> None:
    train = batch("sinusoid_fixed", "train")
    amplitude = train.query_x[:, :, 1:] @ np.linspace(0.1, 4, 20)
    error = train.query_y[:, :, 0] - amplitude * np.sin(train.query_x[:, :, 0])
    assert (error**2).mean() == pytest.approx(0.01, rel=0.06)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_functions_have_no_labels(name: str) -> None:
    with pytest.raises(DataError, match=r"no labels.*'fixed'.*'sinusoid_fixed'"):
        FunctionEpisodes(name, "train", EpisodeSpec(0, 1, 1, labels="fixed"), 0)
