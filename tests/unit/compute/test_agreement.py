"""Parts that draw random numbers from elsewhere than their key are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plugin_files import module_net, noisy, write
from small_runs import SMALL
from torch import nn

import metadist
from metadist.api import TrainResult
from metadist.compute import agreement
from metadist.compute.agreement import check_workers
from metadist.compute.collectives import Solo
from metadist.errors import NumericsError
from metadist.keys import Key


def train(folder: Path, source: str, *more: str, **asked: Any) -> TrainResult:
    """A run with this part."""
    part = "algorithm" if 'PART = "algorithm"' in source else "model"
    return metadist.train(
        "sinusoid-10shot-maml",
        overrides=[*SMALL, f"{part}.name=odd", *more],
        plugins=[write(folder / "odd.py", source)],
        runs_dir=folder / "runs",
        data_dir=folder / "data",
        offline=True,
        **asked,
    )


def test_a_module_that_is_made_with_the_key_trains_to_the_same_bits(tmp_path):
    source = module_net(init="key.module(make)")
    runs = [train(tmp_path, source, name=name) for name in ("first", "second")]
    runs.append(train(tmp_path, source, "run.seed=1", name="third"))
    first, second, third = (run["params_sha256"] for run in runs)
    assert first == second != third


def test_fresh_parameters_of_no_key_are_refused_before_there_is_a_run(tmp_path):
    with pytest.raises(NumericsError, match=r"fresh maml on odd: .* 0\.bias, .*key\.module"):
        train(tmp_path, module_net(init="make()"))
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (module_net(constant="torch.rand(1)", added="self.constant"), "predictions after step 0"),
        (module_net(added="nn.functional.dropout(x, 0.5)"), "predictions after step 0"),
        (module_net(added="np.random.random()"), "predictions after step 0"),
        (module_net(added="random.random()"), "predictions after step 0"),
        (
            noisy("initial_state(self, ctx)", 'return {"odd": torch.rand(2)}'),
            "fresh odd on mlp: .*learner/odd",
        ),
        (
            noisy(
                "regulariser(self, params, task, fitted, prediction, ctx)",
                "return torch.rand(()) * prediction.mean.square().mean()",
            ),
            "step 1 of odd on mlp: .*linear1.weight",
        ),
    ],
    ids=["constant", "dropout", "numpy", "python", "state", "loss"],
)
def test_whatever_else_draws_is_refused_at_the_first_step(tmp_path, source, told):
    with pytest.raises(NumericsError, match=told):
        train(tmp_path, source, name="run")
    assert not list(tmp_path.glob("runs/run/checkpoints/*"))


def test_a_run_goes_on_only_if_its_parts_are_what_they_were(tmp_path, monkeypatch):
    """A constant of another process: what was learned around it means something else now."""
    source = module_net(constant='float(os.environ["ODD"])', added="self.constant")
    monkeypatch.setenv("ODD", "1.0")
    train(tmp_path, source, "outer.steps=3", name="run")
    source = source.replace('float(os.environ["ODD"])', "torch.rand(1)")
    monkeypatch.setattr("metadist.driver.resolve_run.changes", lambda *_: [])
    with pytest.raises(NumericsError, match="predictions after step 0"):
        train(tmp_path, source, resume="run")


class Third(Solo):
    """The third of three workers; the first has told it something."""

    rank, size = 2, 3

    def __init__(self, told: dict[str, torch.Tensor]) -> None:
        self._told = agreement._digests(told)

    def broadcast(self, value: Any) -> Any:
        return self._told


@pytest.mark.parametrize(
    ("here", "named"),
    [
        ({"a": torch.zeros(2), "b": torch.ones(2)}, "b;"),
        ({"a": torch.zeros(2), "b": torch.zeros(2, dtype=torch.float64)}, "b;"),
        ({"a": torch.tensor([-0.0, 0.0]), "b": torch.zeros(3)}, "a, b;"),
        ({"a": torch.zeros(2), "b": torch.zeros(2), "c": torch.zeros(2)}, "their names;"),
    ],
)
def test_workers_that_differ_are_named(here, named):
    there = {"a": torch.zeros(2), "b": torch.zeros(2)}
    check_workers(there, Third(there), "after 5 steps")
    with pytest.raises(NumericsError, match=r"after 5 steps: workers \[2\] of 3") as error:
        check_workers(here, Third(there), "after 5 steps")
    assert f"worker 0: {named}" in str(error.value)


def test_a_module_of_a_key_follows_it_and_leaves_torch_as_it_was():
    def bits(key: Key) -> list[float]:
        flat: list[float] = nn.utils.parameters_to_vector(
            key.module(lambda: nn.Linear(3, 2)).parameters()
        ).tolist()
        return flat

    before = torch.get_rng_state()
    assert bits(Key.of("a")) == bits(Key.of("a")) != bits(Key.of("b"))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ZeroDivisionError):
        Key.of("a").module(lambda: torch.rand(1) / (1 // 0))
    assert torch.equal(torch.get_rng_state(), before)
    with torch.device("meta"):
        assert Key.of("a").module(lambda: nn.Linear(3, 2)).weight.device.type == "cpu"
