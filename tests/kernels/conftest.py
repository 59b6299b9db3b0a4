"""The build that a checkout has; it is compiled if nobody has done so yet."""

from __future__ import annotations

import pytest

from metadist.kernels import build, library
from metadist.kernels.library import Library


@pytest.fixture(scope="session")
def kernels() -> Library:
    """The best build for this machine."""
    if library.find() is None:
        try:
            build.build(build.possible()[0], build.cache_dir())
        except build.NoCompiler as error:
            pytest.skip(str(error))
    return library.load()
