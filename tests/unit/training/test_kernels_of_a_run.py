"""Who computes a run is settled when it begins, and stays so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from run_place import Boom, Place, die_before, died

import metadist
from metadist.compute.collectives import Group
from metadist.compute.determinism import check_equal
from metadist.compute.resolve import by_torch
from metadist.contracts.thread_group import run_group
from metadist.errors import NumericsError, ResourceError
from metadist.kernels import library
from metadist.recipe.schema import load_recipe

FUSED = "engine.kernels=fused"


@pytest.fixture
def built() -> None:
    if library.find() is None:
        pytest.skip("no kernels: they were not built here")


def hide(patch: pytest.MonkeyPatch) -> None:
    """As where no kernels were built."""
    patch.setattr(library, "find", lambda target="": None)
    library.load.cache_clear()


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    library.load.cache_clear()


@pytest.mark.usefixtures("built")
def test_what_begins_without_kernels_goes_on_without(place: Place, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    expected = place.train(name="torch")
    with monkeypatch.context() as patch:
        hide(patch)
        die_before(patch, 6)
        with pytest.raises(Boom):
            place.train(FUSED, name="a", announce=said.append)
    assert sum(line.startswith("engine.kernels: no compiled kernels here") for line in said) == 1
    assert place.run("a").recipe().engine.kernels == "torch"
    result = place.train(FUSED, name="a", resume="auto")
    assert result["params_sha256"] == expected["params_sha256"]


@pytest.mark.usefixtures("built")
def test_what_begins_with_kernels_is_refused_without_and_can_be_looked_at(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    expected = place.train(FUSED, name="whole")
    died(place, monkeypatch, 6, FUSED, name="a")
    with monkeypatch.context() as patch:
        hide(patch)
        with pytest.raises(ResourceError, match=r"engine\.kernels = 'fused' needs"):
            place.train(FUSED, name="a", resume="auto")
        looked_at = metadist.evaluate(
            "whole", runs_dir=place.runs, data_dir=place.runs.parent / "data"
        )
        assert looked_at["episodes"] == expected["episodes"]
        assert "other numerics" in caplog.text
    result = place.train(FUSED, name="a", resume="auto")
    assert result["params_sha256"] == expected["params_sha256"]


def test_workers_with_another_build_are_refused_by_name():
    def worker(group: Group) -> None:
        check_equal({"torch": "2", "kernels": f"x86-64-v3 {group.rank}"}, group, "exact")

    with pytest.raises(NumericsError, match="1 of 2 differ from rank 0"):
        run_group(2, worker)


@pytest.mark.parametrize(
    ("batch", "kernels", "chunk"),
    [(32, "fused", 4), (7, "fused", 1), (16, "fused", 2), (500, "fused", 8), (32, "torch", 1)],
)
def test_chunks_by_default(batch: int, kernels: str, chunk: int):
    stated = (f"outer.batch={batch}", f"engine.kernels={kernels}")
    recipe = load_recipe("omniglot-5w1s-maml", stated)
    assert recipe.engine.chunk == chunk
    explicit = load_recipe("omniglot-5w1s-maml", (*stated, f"engine.chunk={chunk}"))
    assert recipe.hash == explicit.hash
    assert by_torch(recipe).engine.chunk == chunk
