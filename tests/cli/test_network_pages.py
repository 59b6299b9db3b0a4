"""The pages about networks of one's own: their files are run as they are printed."""

from __future__ import annotations

import colorsys
import importlib
import random
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageDraw

import metadist
from metadist import backbones, plugins
from metadist.backbones import Norm
from metadist.cli.main import main
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.tasks import TaskShape

DOCS = Path(__file__).parents[2] / "docs"
BACKBONES, WALK = "add-a-backbone.md", "your-own-network.md"
QUICK = ["outer.steps=2", "outer.batch=2", "eval.every=1", "eval.episodes=2", "eval.val_episodes=2"]
QUICK += ["eval.extra_queries=0", "eval.steps=1"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[str]:
    return re.findall(r"^```python$\n(.*?)^```$", page(name), re.S | re.M)


def write_files(name: str) -> list[Path]:
    """The files that a page prints after their names."""
    named = re.findall(r"`(\w+\.py)`,?[^`]*\n\n```python$\n(.*?)^```$", page(name), re.S | re.M)
    for file, text in named:
        Path(file).write_text(text, encoding="utf-8")
    return [Path(file) for file, _ in named]


def gratings() -> None:
    """Images that are made in a moment."""
    (text,) = (block for block in blocks("add-a-dataset.md") if 'PART = "dataset"' in block)
    Path("gratings.py").write_text(text, encoding="utf-8")
    run = CliRunner().invoke(main, ["data", "prepare", "gratings", "--plugin=gratings.py"])
    assert run.exit_code == 0, run.output


def test_the_files_of_the_page_train_as_it_says():
    files = write_files(BACKBONES)
    assert [file.name for file in files] == ["small_resnet.py", "conv_mean.py"]
    gratings()
    text = page(BACKBONES).replace("\\\n", " ")
    (command,) = re.findall(r"^\$ metadist (train .*)$", text, re.M)
    words = shlex.split(command)
    settings = [f"--set={setting}" for setting in (*QUICK, "data.dataset=gratings")]
    more = [*settings, "--plugin=gratings.py", "--offline"]
    for name in ("small_resnet", "conv_mean"):
        mine = [word.replace("small_resnet", name) for word in words]
        if name == "conv_mean":
            mine = [word.replace("model.width", "model.filters") for word in mine]
        run = CliRunner().invoke(main, [*mine, *more, "--name", name], prog_name="metadist")
        assert run.exit_code == 0, run.output
        assert f"model.{'width' if name == 'small_resnet' else 'filters'}" not in run.output


def test_without_exports_it_is_the_same_network():
    write_files(BACKBONES)
    source = Path("small_resnet.py").read_text(encoding="utf-8")
    bare = re.sub(r"^(PART|Options).*\n", "", source, flags=re.M)
    Path("my_net.py").write_text(bare, encoding="utf-8")
    gratings()
    my_net = importlib.import_module("my_net")

    shared: dict[str, Any] = {"offline": True, "overrides": [*QUICK, "data.dataset=gratings"]}
    one = metadist.train(
        "strokes-5w1s-maml", backbone=my_net.make, plugins=["gratings.py"], name="one", **shared
    )
    shared["overrides"] += ["model.name=small_resnet"]
    two = metadist.train(
        "strokes-5w1s-maml", plugins=["gratings.py", "small_resnet.py"], name="two", **shared
    )
    assert one["params_sha256"] == two["params_sha256"]


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


def draw(folder: Path, number: int, count: int) -> None:
    """Images of one class: a figure of its own colour and shape, somewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(number)
    hue, wide = rng.random(), rng.uniform(0.2, 0.8)
    for n in range(count):
        image = Image.new("RGB", (24, 18), (250, 250, 250))
        x, y = rng.uniform(2, 6), rng.uniform(2, 5)
        colour = tuple(int(255 * v) for v in colorsys.hsv_to_rgb(hue, 0.9, rng.uniform(0.6, 0.9)))
        ImageDraw.Draw(image).ellipse((x, y, x + 16 * wide, y + 12 * (1 - wide)), fill=colour)
        image.save(folder / f"{n:02d}.jpg")


def test_the_network_of_the_walk_keeps_its_contract():
    write_files(WALK)
    report = metadist.check("./resnet.py:make")
    assert report.ok, str(report)
    assert not report.of("warning"), str(report)


def test_the_walk_from_a_folder_to_labels(monkeypatch: pytest.MonkeyPatch, capsys: Any):
    files = write_files(WALK)
    assert [file.name for file in files] == ["resnet.py"]
    for number in range(30):
        draw(Path(f"shapes/shape{number:02d}"), number, 6)
    for number in range(4):
        draw(Path(f"known/class{number}"), 100 + number, 2)
    draw(Path("new"), 100, 3)
    (program,) = blocks(WALK)[1:]
    lines = [line for line in program.splitlines() if line.strip()]
    assert len(lines) < 20
    train = metadist.train

    def quick(*given: Any, overrides: list[str], **more: Any) -> Any:
        quickly = [*QUICK, "model.width=4", "data.queries=1"]
        return train(*given, overrides=[*overrides, *quickly], offline=True, **more)

    monkeypatch.setattr(metadist, "train", quick)
    exec(compile(program, "label.py", "exec"), {})
    told = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[0] for line in told] == ["00.jpg", "01.jpg", "02.jpg"]
    assert all(re.fullmatch(r"\S+ class[0-3] [01]\.\d\d", line) for line in told)
    sys.modules.pop("resnet")
