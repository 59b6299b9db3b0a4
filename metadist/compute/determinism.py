"""What decides the bits of arithmetic on this machine, and switching off what makes them vary."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch

from data_pipeline.storage.local import canonical_json, sha256_bytes
from metadist.compute.collectives import Group
from metadist.errors import NumericsError
from metadist.kernels.library import available
from metadist.process.environment import variables

#: Instruction sets that math libraries dispatch on.
_ISA = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl")
_ISA_PREFIXES = ("avx512_", "avx_", "amx_", "asimd", "sve")


def cpu_instruction_sets() -> str:
    """The vector instruction sets of this CPU, sorted, or its architecture where unknown."""
    text = ""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
    for line in text.splitlines():
        if line.lower().startswith(("flags", "features")):
            flags = line.partition(":")[2].split()
            return " ".join(sorted(f for f in flags if f in _ISA or f.startswith(_ISA_PREFIXES)))
    return platform.machine()


def numerics(device: torch.device, kernels: Literal["torch", "fused"] = "torch") -> dict[str, str]:
    """Everything that two processes must share to compute the same bits.

    Args:
        kernels: of the recipe; of compiled ones the build counts, or that there is none.
    """
    facts = {
        "metadist": version("metadist"),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_instruction_sets": cpu_instruction_sets(),
        "device": device.type,
        "threads": "1",
        "deterministic": "true",
        "tf32": "false",
    }
    if kernels == "fused":
        library = available()
        facts["kernels"] = f"{library.target} {library.digest}" if library else "none"
    # Settings by which these libraries choose other kernels.
    for name, value in sorted(os.environ.items()):
        if name.startswith(("MKL_", "ONEDNN_", "DNNL_", "OPENBLAS_")) and not name.endswith(
            ("_NUM_THREADS", "_VERBOSE")
        ):
            facts[name] = value
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = str(torch.version.cuda)
        facts["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return facts


def numerics_digest(facts: dict[str, str]) -> str:
    """One string that is equal if and only if the numerics are."""
    return sha256_bytes(canonical_json(facts))


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """One intra-op thread, deterministic kernels, no TF32, no autotuning; restored afterwards."""
    threads = torch.get_num_threads()
    deterministic = torch.get_deterministic_debug_mode()
    precision = torch.get_float32_matmul_precision()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    cudnn = (torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32)
    torch.set_num_threads(1)
    # What ``use_deterministic_algorithms`` does, which also imports PyTorch's compiler to tell it:
    # that costs every process some seconds.
    torch.set_deterministic_debug_mode("error")
    # A net for reading what was never written, which nothing here does; it costs about 4 %.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    # cuBLAS reads this when its handle is made; without it deterministic mode raises.
    cublas = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"} if device.type == "cuda" else {}
    try:
        with variables(cublas):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = cudnn


def check_equal(mine: dict[str, str], group: Group, reduction: str) -> None:
    """See that an exact group computes the same bits everywhere.

    Args:
        mine: this worker's :func:`numerics`.
        reduction: of the recipe.

    Raises:
        NumericsError: it does not; on every worker.
    """
    digest = numerics_digest(mine)
    first = group.broadcast({"digest": digest, "numerics": mine})
    differs = torch.tensor([int(digest != first["digest"])], dtype=torch.int64)
    group.sum_(differs)
    if int(differs) and reduction == "exact":
        there = first["numerics"]
        different = {k: (there.get(k), v) for k, v in mine.items() if there.get(k) != v}
        raise NumericsError(
            "engine.reduction = 'exact' needs workers whose arithmetic is the same; "
            f"{int(differs)} of {group.size} differ from rank 0"
            f"{f' (here, rank 0 against this worker: {different})' if different else ''}; "
            "use equal machines, or engine.reduction = 'fast'"
        )
