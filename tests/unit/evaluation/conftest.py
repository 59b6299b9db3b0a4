"""The simulated group of the numerical tests."""

from __future__ import annotations

from tests.numerics.conftest import run_group

__all__ = ["run_group"]
