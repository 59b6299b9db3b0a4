"""No kernel reads or writes beyond its buffers, whatever the shape."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from metadist.kernels import build

HERE = Path(__file__).parent
WATCH = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("target", build.possible(), ids=lambda target: target.name)
def test_every_call_stays_within_its_buffers(target: build.Target, tmp_path: Path):
    try:
        cxx = build.compiler()
    except build.NoCompiler as error:
        pytest.skip(str(error))
    flags = [cxx, *build.FLAGS, *target.flags, *WATCH, "-Wall", "-Wextra", f"-I{build.SOURCE}"]
    objects = []
    for number, suffix in build.TYPES:
        objects.append(str(tmp_path / f"{suffix}.o"))
        names = [f"-DREAL={number}", f"-DSUFFIX={suffix}", "-c", str(build.SOURCE / "abi.cpp")]
        said = subprocess.run(
            [*flags, *names, "-o", objects[-1]], capture_output=True, text=True, check=True
        )
        assert said.stderr == ""
    driver = tmp_path / "driver"
    subprocess.run(
        [*flags, "-fexceptions", str(HERE / "sanitized.cpp"), *objects, "-o", driver], check=True
    )
    done = subprocess.run([driver], capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == "clean\n"
