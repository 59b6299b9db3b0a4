"""The pages about networks of one's own: their files are run as they are printed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from pages import files

import metadist
from metadist import backbones, plugins
from metadist.backbones import Norm
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.tasks import TaskShape

DOCS = Path(__file__).parents[2] / "docs"
BACKBONES, WALK = "add-a-backbone.md", "your-own-network.md"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def write_files(name: str) -> None:
    """The files that a page has its reader write."""
    for file, text in files(f"docs/{name}").items():
        Path(file).write_text(text, encoding="utf-8")


def test_without_exports_it_is_the_same_network():
    write_files(BACKBONES)
    source = Path("small_resnet.py").read_text(encoding="utf-8")
    bare = re.sub(r"^(PART|Options).*\n", "", source, flags=re.M)
    Path("my_net.py").write_text(bare, encoding="utf-8")
    made = []
    for plugin, name in (("my_net.py:make", "make"), ("small_resnet.py", "small_resnet")):
        with plugins.use([plugin]):
            network = backbones.build(name, {"width": 4}, TaskShape((1, 28, 28), 5, ways=5))
            made.append(network.init(Key.of("page")))
    one, two = made
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_network_by_hand_keeps_its_contract():
    write_files(BACKBONES)
    shape = TaskShape((2, 9, 9), 4, ways=4)
    x = Key.of("page").normal((5, 2, 9, 9), torch.float64)
    with plugins.use(["conv_mean.py"]):
        network = backbones.build("conv_mean", {"filters": 3}, shape)
        with pytest.raises(RecipeError, match="conv_mean needs images"):
            backbones.build("conv_mean", {}, TaskShape((2,), 4, ways=4))
    params = {n: p.double() + 0.1 for n, p in network.init(Key.of("page")).items()}
    output = network.forward(params, x, Norm("batch", record=True))
    assert set(output.statistics) == set(network.norm_layers)
    body = {n: p for n, p in params.items() if n not in network.layers[-1].parameters}
    assert torch.equal(network.forward(body, x, Norm("batch"), head=False).value, output.features)
    seen: list[str] = []

    def hook(name: str, outputs: torch.Tensor) -> torch.Tensor:
        seen.append(name)
        return outputs

    network.forward(params, x, Norm("off"), layer_hook=hook)
    assert seen == [layer.name for layer in network.layers]


def test_the_error_on_the_page_is_that_of_today():
    Path("nets.py").write_text(
        "from torch import nn\n\n\ndef make(inputs, outputs):\n"
        "    layers = nn.Flatten(), nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, outputs)\n"
        "    return nn.Sequential(*layers)\n"
    )
    with plugins.use(["nets.py:make"]), pytest.raises(RecipeError) as refused:
        backbones.build("make", {}, TaskShape((8,), 3))
    assert f"Error: {refused.value}" in " ".join(page(BACKBONES).split())


@pytest.mark.slow
def test_the_network_of_the_walk_keeps_its_contract():
    write_files(WALK)
    report = metadist.check("./resnet.py:make")
    assert report.ok, str(report)
    assert not report.of("warning"), str(report)
