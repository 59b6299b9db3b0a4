"""Kernels for every processor that this one can stand in for compute what the tape does."""

from __future__ import annotations

import pytest

from metadist.kernels import build
from metadist.kernels.library import Library
from tests.kernels.networks import Pair, check
from tests.kernels.test_networks import SOME
from tests.numerics.reference import EXACT


@pytest.fixture(scope="module", params=build.possible(), ids=lambda target: target.name)
def kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Not the cached one: less is optimised, so that it is compiled in seconds."""
    target: build.Target = request.param
    try:
        path = build.build(target, tmp_path_factory.mktemp(target.name), ["-O1"])
    except build.NoCompiler as error:
        pytest.skip(str(error))
    return Library(path, target.name)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", SOME)
def test_a_pass_is_the_tapes(kernels: Library, name: str):
    check(Pair.make(kernels, *SOME[name]), EXACT)
