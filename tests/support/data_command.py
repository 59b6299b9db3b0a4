"""``metadist data`` as a test runs it, and images for it to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner, Result
from PIL import Image

from metadist.cli.main import main

CLASSES, IMAGES, SIZE = 14, 6, 12


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["data", *arguments], prog_name="metadist")


def done(*arguments: str) -> str:
    """Standard output of a command that must work."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result, *words: str) -> None:
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error:"), result.output
    for word in words:
        assert word in error


def draw_images(folder: Path, seed: int = 0) -> Path:
    """A folder of one folder of noise per class."""
    noise = np.random.default_rng(seed)
    for c in range(CLASSES):
        place = folder / f"class{c:02d}"
        place.mkdir(parents=True)
        for i in range(IMAGES):
            pixels = noise.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{i}.png")
    return folder
