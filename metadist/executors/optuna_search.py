"""Points that Optuna proposes, from what others have scored."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Sequence
from typing import Any

from ray.tune.search import Searcher

from metadist.errors import SpaceError
from metadist.space import Choice, Integers, LogUniform, Point, Space, Uniform, When


def tpe_searcher(space: Space, seed: int, known: Sequence[Point], metric: str) -> Searcher:
    """Optuna's tree-structured Parzen estimator; conditions are part of the space."""
    check_optuna()
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return OptunaSearch(
        space=functools.partial(_propose, space),
        metric=metric,
        mode=space.mode,
        points_to_evaluate=[dict(p) for p in known] or None,
        # Known points draw no random numbers: with the same ones again they would be repeated.
        sampler=optuna.samplers.TPESampler(seed=_seed(seed, len(known)), multivariate=False),
    )


def check_optuna() -> None:
    """See that points can be proposed.

    Raises:
        SpaceError: Optuna is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise SpaceError(
            "searcher 'tpe' needs Optuna, which is not installed: pip install 'metadist[tune]', or "
            "--searcher random"
        )


def _seed(seed: int, known: int) -> int:
    if not known:
        return seed % 2**32
    return int.from_bytes(hashlib.sha256(f"{seed} {known}".encode()).digest()[:4], "big")


def _propose(space: Space, trial: Any) -> None:
    """Have a trial of Optuna's draw each value that counts; Optuna remembers them."""
    chosen: dict[str, Any] = {}
    for key, domain in space.search.items():
        if isinstance(domain, When):
            if chosen.get(domain.key) not in domain.values:
                continue
            domain = domain.then
        chosen[key] = _suggest(trial, key, domain)


def _suggest(trial: Any, key: str, domain: Any) -> Any:
    match domain:
        case LogUniform(low, high):
            return trial.suggest_float(key, low, high, log=True)
        case Uniform(low, high):
            return trial.suggest_float(key, low, high)
        case Integers(low, high, log_scale):
            return trial.suggest_int(key, low, high, log=log_scale)
        case Choice(values):
            return trial.suggest_categorical(key, list(values))
    raise AssertionError(domain)
