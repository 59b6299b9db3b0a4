"""Compiling the kernels, once, before anything runs.

    python -m metadist.kernels.build           for this machine's processor
    python -m metadist.kernels.build --all     for every kind of processor of this architecture

What is built is kept under digests of the source with the flags, and of the compiler's version, so
that another compiler or another source is another file. Nothing is compiled in the middle of a run.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from metadist.errors import ResourceError

HERE = Path(__file__).parent
SOURCE = HERE / "source"
#: Objects that came with a wheel.
PREBUILT = HERE / "prebuilt"
FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=fast",  # a product and a sum are rounded once where the processor can
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-exceptions",
    "-fno-rtti",
    "-Wno-psabi",  # no vector is handed from one object to another
)
TYPES = (("float", "f32"), ("double", "f64"))


@dataclass(frozen=True)
class Target:
    """A kind of processor.

    Attributes:
        features: what ``/proc/cpuinfo`` calls the instructions that are used.
        flags: of the compiler.
    """

    name: str
    architecture: str
    features: frozenset[str]
    flags: tuple[str, ...]


_AVX2 = {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"}
_AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
#: The best first.
TARGETS = (
    Target(
        "x86-64-v4",
        "x86_64",
        frozenset(_AVX2 | _AVX512),
        ("-march=x86-64-v4", "-mprefer-vector-width=512", "-DVECTOR_BYTES=64"),
    ),
    Target("x86-64-v3", "x86_64", frozenset(_AVX2), ("-march=x86-64-v3", "-DVECTOR_BYTES=32")),
    Target("portable", "", frozenset(), ("-DVECTOR_BYTES=16",)),
)


class NoCompiler(ResourceError):
    """There is no C++ compiler, or it cannot build the kernels."""


@cache
def processor_features() -> frozenset[str]:
    """What ``/proc/cpuinfo`` says of the processor; nothing where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def of_this_architecture() -> list[Target]:
    """Targets that the compiler of this machine can make, the best first."""
    return [target for target in TARGETS if target.architecture in ("", platform.machine())]


def possible() -> list[Target]:
    """Targets that this machine's processor can run, the best first."""
    mine = processor_features()
    return [target for target in of_this_architecture() if target.features <= mine]


def compiler() -> str:
    """The C++ compiler: ``CXX``, else the first of the usual names that is there.

    Raises:
        NoCompiler: there is none.
    """
    named = os.environ.get("CXX", "")
    for name in (named,) if named else ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return found
    raise NoCompiler(
        f"kernels: {'CXX names ' + repr(named) if named else 'c++, g++ or clang++'}, which is not "
        "there; install a C++ compiler, or name one by CXX"
    )


@cache
def compiler_version(path: str) -> str:
    """The first line that a compiler says of itself.

    Raises:
        NoCompiler: it says nothing.
    """
    return _run([path, "--version"]).splitlines()[0]


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except OSError as error:
        raise NoCompiler(f"kernels: {command[0]} cannot be run: {error}") from error
    except subprocess.CalledProcessError as error:
        said = "\n".join(error.stderr.strip().splitlines()[-8:])
        raise NoCompiler(f"kernels: {' '.join(command)} failed:\n{said}") from error
    return done.stdout


@cache
def source_digest() -> str:
    """Of all source files, with their names."""
    digest = sha256()
    for path in sorted(SOURCE.iterdir()):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _key(*parts: str) -> str:
    return sha256("\0".join(parts).encode()).hexdigest()[:16]


def stem(target: Target) -> str:
    """What names of a target's builds begin with: they are of this source and these flags."""
    return f"{target.name}-{_key(source_digest(), platform.machine(), *FLAGS, *target.flags)}"


def built(target: Target) -> Path | None:
    """The build of a target that is there, a wheel's first, else the newest; None if none is."""
    places = [PREBUILT]
    with suppress(ResourceError):
        places.append(cache_dir())
    for place in places:
        if found := list(place.glob(f"{stem(target)}-*.so")):
            return max(found, key=lambda path: (path.stat().st_mtime_ns, path.name))
    return None


def cache_dir() -> Path:
    """Where builds are kept: below ``build`` of a checkout, else in the user's cache.

    Raises:
        ResourceError: there is no place for them.
    """
    checkout = HERE.parents[1]
    if (checkout / "pyproject.toml").is_file() and (checkout / "metadist" / "kernels") == HERE:
        return checkout / "build" / "kernels"
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "metadist" / "kernels"
    try:
        return Path.home() / ".cache" / "metadist" / "kernels"
    except RuntimeError as error:
        raise ResourceError(
            "kernels: there is no home directory to keep them in; set XDG_CACHE_HOME"
        ) from error


def build(target: Target, folder: Path, extra_flags: Sequence[str] = ()) -> Path:
    """The object of a target in a folder, compiled unless it is there.

    Args:
        extra_flags: for the compiler, behind all others.

    Raises:
        NoCompiler: it cannot be compiled.
        ResourceError: it cannot be written.
    """
    cxx = compiler()
    path = folder / f"{stem(target)}-{_key(compiler_version(cxx), *extra_flags)}.so"
    if path.exists():
        return path
    flags = [*FLAGS, *target.flags, *extra_flags]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".building-") as temporary:
            place = Path(temporary)

            def compiled(number: str, suffix: str) -> str:
                out = str(place / f"{suffix}.o")
                names = [f"-DREAL={number}", f"-DSUFFIX={suffix}"]
                _run([cxx, *flags, *names, "-c", str(SOURCE / "abi.cpp"), "-o", out])
                return out

            with ThreadPoolExecutor() as both:
                objects = list(both.map(lambda kind: compiled(*kind), TYPES))
            linked = place / "linked.so"
            runtime = ["-shared", "-static-libgcc", "-static-libstdc++", *extra_flags]
            _run([cxx, *runtime, *objects, "-o", str(linked)])
            linked.replace(path)  # whole or not at all, however many build it at once
    except OSError as error:
        raise ResourceError(
            f"kernels: {folder} cannot be written ({error}); make it writable, or set "
            "XDG_CACHE_HOME to another place"
        ) from error
    return path


def main() -> None:
    """Build for this machine, or for all of its architecture."""
    parser = argparse.ArgumentParser(prog="python -m metadist.kernels.build")
    parser.add_argument("--all", action="store_true", help="for every kind of processor")
    parser.add_argument("--into", type=Path, help="a folder; without it the cache")
    parser.add_argument("--optional", action="store_true", help="succeed without a compiler too")
    asked = parser.parse_args()
    try:
        for target in of_this_architecture() if asked.all else possible()[:1]:
            sys.stdout.write(f"{build(target, asked.into or cache_dir())}\n")
    except ResourceError as error:
        if not asked.optional:
            sys.exit(f"error: {error}")
        sys.stdout.write(f"{error}\nRuns compute with torch alone, at about half the speed.\n")


if __name__ == "__main__":
    main()
