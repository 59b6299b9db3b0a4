"""Sine, logarithm and normal numbers are right, and frozen to the last bit."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from data_pipeline import functions
from data_pipeline.functions._portable import logarithm, normals, sine
from data_pipeline.rng import Stream, fold
from data_pipeline.storage.local import sha256_bytes

UNIFORMS = Stream(fold("portable"), 0).uniforms(20_000)
#: Ends and middle of the grid, and both sides of every change of approximation.
EDGES = np.array(
    [0.0, 2.0**-53, 1e-12, 1.38e-11, 1.4e-11, 0.0749999, 0.075, 0.0750001, 0.25, 0.5 - 2.0**-53]
)


def test_the_bits_are_frozen() -> None:
    frozen = {
        normals: "2af479e23685929da04460903e071a45ef461e4262806825bea455a72a1fd16b",
        sine: "83a21386724fe39efce77e7617b53105a6ec236f8a523d1909a4de8d1829913a",
        logarithm: "80b38a99128b89207ca2bff859d779ad30ce8c9c49bc2febdaa2a6135882968b",
    }
    for function, expected in frozen.items():
        assert sha256_bytes(function(UNIFORMS).tobytes()) == expected, function.__name__


def test_normals_are_quantiles() -> None:
    below = np.concatenate([EDGES, UNIFORMS[UNIFORMS < 0.5]])
    expected = [NormalDist().inv_cdf(u + 2.0**-54) for u in below.tolist()]
    np.testing.assert_allclose(normals(below), expected, rtol=3e-15)


def test_both_tails_are_alike_and_finite() -> None:
    mirrored = (1.0 - 2.0**-53) - UNIFORMS
    assert np.array_equal(normals(mirrored), -normals(UNIFORMS))
    ends = normals(np.array([0.0, 1.0 - 2.0**-53]))
    assert ends.tolist() == pytest.approx([-8.292361075813595, 8.292361075813595], rel=1e-14)


def test_normals_are_normal() -> None:
    z = normals(UNIFORMS)
    # Five standard errors of each moment.
    for power, moment, error in ((1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)):
        assert abs((z**power).mean() - moment) < 5 * error / len(z) ** 0.5


def test_logarithm() -> None:
    x = np.concatenate([np.exp(1400 * UNIFORMS - 700), 0.5 + UNIFORMS, [2.0**-54, 1.0, 0.5, 2.0]])
    np.testing.assert_allclose(logarithm(x), np.log(x), rtol=1e-15, atol=0)


def test_sine() -> None:
    x = 200 * UNIFORMS - 100
    np.testing.assert_allclose(sine(x), np.sin(x), rtol=0, atol=2e-14)
    near = 24 * UNIFORMS - 12
    np.testing.assert_allclose(sine(near), np.sin(near), rtol=0, atol=1e-15)


def test_families_leave_the_library_alone() -> None:
    """Powers and transcendental functions of the libraries differ between machines."""
    banned = re.compile(r"\bmath\b|\bnp\.(sin|cos|tan|exp|log|power|random|linalg)|\*\* ?\d")
    folder = Path(str(functions.__file__)).parent
    for path in folder.glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not banned.search(line), f"{path.name}: {line}"
