"""Points that Optuna proposes, from what others have scored."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from metadist.errors import SpaceError
from metadist.space import Choice, Domain, Integers, LogUniform, Point, Space, Uniform, When

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from ray.tune.search import Searcher


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
    if not is_installed():
        raise SpaceError(
            "searcher 'tpe' needs Optuna, which is not installed: pip install 'metadist[tune]', or "
            "--searcher random"
        )


def is_installed() -> bool:
    """Whether there is an Optuna."""
    return importlib.util.find_spec("optuna") is not None


def _seed(seed: int, known: int) -> int:
    if not known:
        return seed % 2**32
    return int.from_bytes(hashlib.sha256(f"{seed} {known}".encode()).digest()[:4], "big")


def _propose(space: Space, trial: Any) -> None:
    """Have a trial of Optuna's draw each value that counts; Optuna remembers them."""
    chosen: dict[str, Any] = {}
    for key, domain in space.search.items():
        if isinstance(domain, When) and chosen.get(domain.key) not in domain.values:
            continue
        kind, limits = _in_words_of_optuna(domain)
        chosen[key] = getattr(trial, f"suggest_{kind}")(key, **limits)


def distribution(domain: Domain) -> BaseDistribution:
    """A domain as Optuna has it, without its condition."""
    from optuna import distributions

    kind, limits = _in_words_of_optuna(domain)
    made: BaseDistribution = getattr(distributions, f"{kind.capitalize()}Distribution")(**limits)
    return made


def _in_words_of_optuna(domain: Domain) -> tuple[str, dict[str, Any]]:
    match domain:
        case LogUniform(low, high):
            return "float", {"low": low, "high": high, "log": True}
        case Uniform(low, high):
            return "float", {"low": low, "high": high}
        case Integers(low, high, log):
            return "int", {"low": low, "high": high, "log": log}
        case Choice(values):
            return "categorical", {"choices": values}
        case When():
            return _in_words_of_optuna(domain.then)
    raise AssertionError(domain)
