"""A place to compute that is not there is refused before anything is made, here or in MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import metadist
from metadist.cli.main import main
from metadist.errors import ResourceError
from metadist.executors.cluster import connection
from metadist.executors.world_size import WorldSize
from metadist.reproduce import reproduce

SINES = "sinusoid-10shot-maml"


@pytest.fixture(autouse=True)
def _no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def nothing_made() -> bool:
    return not list(Path.cwd().rglob("*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", SINES, "--device=cuda"], "no GPU that torch can use"),
        (["train", SINES, "--device=cuda", "--workers=2"], "no GPU that torch can use"),
        (["train", SINES, "--device=cuda", "--workers=1:2"], "no GPU that torch can use"),
        (["train", SINES, "--resume=auto", "--device=cuda"], "no GPU that torch can use"),
        (["train", SINES, "--workers=2", "--address=127.0.0.1:1"], "no Ray head answers"),
        (["reproduce", "sinusoid-shots", "--device=cuda"], "no GPU that torch can use"),
        (["reproduce", "sinusoid-shots", "--device=cuda", "--workers=2"], "no GPU that torch"),
        (["train", SINES, "--device=cuda:7"], "'auto', 'cpu', 'cuda'"),
        (["tune", "sinusoid-lr", "--device=mps"], "'auto', 'cpu', 'cuda'"),
    ],
)
def test_on_the_command_line(words: list[str], said: str) -> None:
    result = CliRunner().invoke(main, words, prog_name="metadist")
    assert result.exit_code in (1, 2)
    assert said in result.stderr
    assert nothing_made()


@pytest.mark.parametrize("device", ["cuda:7", "mps", "gpu", "CPU"])
def test_in_python_no_other_word_is_taken_for_the_cpu(device: Any) -> None:
    for call in (
        lambda: metadist.train(SINES, device=device),
        lambda: metadist.train(SINES, device=device, workers=2),
        lambda: metadist.tune("sinusoid-lr", device=device),
        lambda: reproduce("sinusoid-shots", device=device),
    ):
        with pytest.raises(ResourceError, match=r"auto, cpu, cuda .*CUDA_VISIBLE_DEVICES"):
            call()
    assert nothing_made()


@pytest.mark.slow
def test_a_finished_run_needs_no_device() -> None:
    small = ["outer.steps=1", "eval.every=1", "eval.episodes=2", "eval.val_episodes=2"]
    result = metadist.train(SINES, name="a", overrides=small, offline=True)
    with pytest.raises(ResourceError, match="no GPU"):
        metadist.evaluate("a", device="cuda")
    assert metadist.train(resume="a", device="cuda", offline=True) == result


def test_fewer_gpus_than_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    connection.check_workers(WorldSize(2, 2), "cuda", None, print)
    with pytest.raises(ResourceError, match="3 needs 3 GPUs, the cluster has 2"):
        connection.check_workers(WorldSize(3, 3), "cuda", None, print)
