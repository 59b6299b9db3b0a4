"""Checkpoints: everything a run needs to go on as if it had never stopped.

    checkpoints/step-%08d/{state.safetensors, checkpoint.json}

A directory under that name is complete. ``checkpoint.json`` is sealed by its own digest and holds
that of the tensors; nothing is ever unpickled.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from data_pipeline.storage.local import (
    new_directory,
    read_sealed_json,
    sha256_bytes,
    write_sealed_json,
)
from metadist.compute.digest import params_sha256
from metadist.errors import DamagedCheckpoint
from metadist.runs.record import UNREADABLE, describe
from metadist.runs.run_dir import Attempt, RunDir
from metadist.tasks import Params

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Best:
    """The best validation score so far and the parameters and learner state that had it."""

    step: int
    score: float
    params: Params
    learner_state: dict[str, Tensor]


@dataclass(frozen=True)
class TrainState:
    """A run between two outer steps. All tensors are on the CPU.

    Attributes:
        step: outer steps done.
        params: meta-parameters.
        optimizer: the outer optimiser's state.
        learner_state: outer state that is not trained by gradient (running statistics).
        best: None before the first validation.
        stage_params: those before the present stage, where training episodes depend on them.
    """

    step: int
    params: Params
    optimizer: dict[str, Tensor]
    learner_state: dict[str, Tensor]
    best: Best | None
    stage_params: Params = field(default_factory=dict)

    def current(self, score: float = math.nan) -> Best:
        """The parameters of this step with their validation score."""
        return Best(self.step, score, self.params, self.learner_state)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors under ``group/name``."""
        groups = {"params": self.params, "optimizer": self.optimizer, "learner": self.learner_state}
        if self.best is not None:
            groups["best-params"] = self.best.params
            groups["best-learner"] = self.best.learner_state
        groups["stage"] = self.stage_params
        return join_groups(groups)

    def scalars(self) -> dict[str, Any]:
        """What is not a tensor."""
        best = None if self.best is None else {"step": self.best.step, "score": self.best.score}
        return {"step": self.step, "best": best}

    @classmethod
    def of(cls, scalars: dict[str, Any], tensors: dict[str, Tensor]) -> TrainState:
        """The inverse of :meth:`scalars` and :meth:`tensors`."""
        groups, best = split_groups(tensors), scalars["best"]
        if best is not None:
            best = Best(best["step"], best["score"], groups["best-params"], groups["best-learner"])
        return cls(
            scalars["step"],
            groups["params"],
            groups["optimizer"],
            groups["learner"],
            best,
            groups["stage"],
        )


def join_groups(groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors under ``group/name``, on the CPU, as safetensors takes them."""
    return {
        f"{group}/{name}": tensor.detach().cpu().contiguous()
        for group, tensors in groups.items()
        for name, tensor in tensors.items()
    }


def split_groups(tensors: Mapping[str, Tensor]) -> defaultdict[str, dict[str, Tensor]]:
    """The inverse of :func:`join_groups`; a group without tensors is empty."""
    groups: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        group, _, name = key.partition("/")
        groups[group][name] = tensor
    return groups


def directory(run: RunDir, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run.store.checkpoint_path(step)


def steps(run: RunDir) -> list[int]:
    """Steps that have a checkpoint, ascending; whether they are good is not looked at.

    Of a run in an object store also those that have not been fetched.
    """
    return run.store.checkpoints()


def pull(run: RunDir, step: int) -> Path:
    """The directory of a checkpoint, fetched from an object store if it is not here.

    Raises:
        DamagedCheckpoint: it is not what was put there; the object is named.
    """
    path = directory(run, step)
    if not (path / "checkpoint.json").is_file():
        run.store.pull_checkpoint(step)
    return path


def save(attempt: Attempt, state: TrainState, facts: dict[str, Any]) -> Path:
    """Commit a checkpoint.

    Args:
        facts: what else to record (recipe hash, numerics, MLflow run).

    Raises:
        SupersededError: a later attempt has taken over; nothing is written.
        OSError: it could not be written (a full disk); earlier checkpoints are as they were.
    """
    data = safetensors.torch.save(state.tensors())
    body = {
        **facts,
        **state.scalars(),
        "attempt": attempt.number,
        "params_sha256": params_sha256(state.params),
        "files": {"state.safetensors": {"sha256": sha256_bytes(data), "bytes": len(data)}},
    }
    path = directory(attempt.run, state.step)
    with attempt.held(), new_directory(path, replace=True) as temporary:
        (temporary / "state.safetensors").write_bytes(data)
        write_sealed_json(temporary / "checkpoint.json", body)
    if attempt.run.store.shared:
        # It is on disk: should the store stay away, this node goes on from here.
        with attempt.commit():
            attempt.run.store.push_checkpoint(attempt.number, state.step)
    return path


def load(path: Path) -> tuple[TrainState, dict[str, Any]]:
    """A checkpoint and its record.

    Raises:
        DamagedCheckpoint: a file is missing, cut short or altered; it is named.
    """
    try:
        body = read_sealed_json(path / "checkpoint.json")
        expected = body["files"]["state.safetensors"]
        size, recorded = expected["bytes"], expected["sha256"]
        data = (path / "state.safetensors").read_bytes()
    except UNREADABLE as error:
        raise DamagedCheckpoint(f"{path}: {describe(error)}") from None
    name = path / "state.safetensors"
    if len(data) != size:
        raise DamagedCheckpoint(f"{name}: {size} bytes expected, got {len(data)}")
    digest = sha256_bytes(data)
    if digest != recorded:
        raise DamagedCheckpoint(f"{name}: digest {recorded} expected, got {digest}")
    try:
        state = TrainState.of(body, safetensors.torch.load(data))
        _check_scalars(state)
    except (SafetensorError, *UNREADABLE) as error:
        raise DamagedCheckpoint(f"{path}: {describe(error)}") from None
    return state, body


def _check_scalars(state: TrainState) -> None:
    best = state.best
    steps = [state.step] if best is None else [state.step, best.step]
    if not all(type(step) is int and step >= 0 for step in steps):
        raise ValueError(f"steps of 0 or more expected, got {steps}")
    if best is not None and type(best.score) not in (int, float):
        raise ValueError(f"a number expected as the best score, got {best.score!r}")


def _load_or_fetch(run: RunDir, step: int) -> tuple[TrainState, dict[str, Any]]:
    """Load a checkpoint; where the working copy's is damaged, the object store's may be good."""
    path = directory(run, step)
    try:
        return load(path)
    except DamagedCheckpoint:
        if not run.store.pull_checkpoint(step):
            raise
        return load(path)


def newest(run: RunDir, lineage: str) -> tuple[TrainState, dict[str, Any]] | None:
    """The newest good checkpoint; others are named in a warning and passed over.

    Args:
        lineage: of the run's recipe; a checkpoint of another recipe is not this run's.
    """
    for step in reversed(steps(run)):
        try:
            path = pull(run, step)
            state, body = _load_or_fetch(run, step)
        except DamagedCheckpoint as error:
            log.warning("damaged checkpoint passed over: %s", error)
            continue
        if body["step"] != step or body.get("lineage") != lineage:
            log.warning("%s: of another step or recipe, passed over", path)
            continue
        return state, body
    return None


def set_aside(attempt: Attempt, good: int) -> None:
    """Rename checkpoints after step ``good``, which were found damaged, so that none counts."""
    with attempt.commit():
        attempt.run.store.set_aside(attempt.number, good)


def prune(attempt: Attempt, keep: int, best_step: int | None) -> None:
    """Remove all but the ``keep`` newest checkpoints and the best one."""
    with attempt.commit():
        attempt.run.store.prune(attempt.number, keep, best_step)


def clone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU that later steps do not change."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def move(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The tensors on a device."""
    return {name: tensor.to(device) for name, tensor in tensors.items()}
