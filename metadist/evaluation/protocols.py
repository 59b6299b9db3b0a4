"""Under which protocol a learner is evaluated, and what the protocol is called.

The recipe has protocols of its own: as many ways and shots as in training unless ``eval.ways`` and
``eval.shots`` say otherwise, ``eval.queries`` and perhaps ``eval.extra_queries`` queries. Published
tables often evaluate the same learner with other shots, queries or adaptation steps (Lee & Choi,
2018: sinusoids trained with 10 shots, tested with 5, 10 and 20), and metric learners with other
ways (Snell et al., 2017: trained with 20 or 60, tested with 5). A name says the part, what differs
from the recipe, and the queries, so equal names of one run are equal protocols: ``test-15q``,
``test-20way-5shot-15q``, ``test-5shot-10step-10q``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from data_pipeline.episodes.types import EpisodeSource
from metadist.episode_data import EpisodeData
from metadist.errors import RunError
from metadist.recipe.schema import Recipe
from metadist.recipe.sections import MOST_EXAMPLES, MOST_STEPS, MOST_TASKS, too_many_rows

EvalPart = Literal["val", "test"]
#: The least and the most that may be asked for, as in a recipe.
_BOUNDS = {
    "ways": (2, MOST_EXAMPLES),
    "shots": (1, MOST_EXAMPLES),
    "queries": (1, MOST_EXAMPLES),
    "steps": (0, MOST_STEPS),
    "episodes": (1, MOST_TASKS),
    "seed": (0, 2**63 - 1),
}
#: How a name says what differs from the recipe, in this order.
_NAMES = {
    "ways": "{ways}way",
    "shots": "{shots}shot",
    "steps": "{steps}step",
    "episodes": "{episodes}episodes",
    "seed": "seed{seed}",
}


@dataclass(frozen=True)
class EvalRequest:
    """What an evaluation is to do otherwise than the recipe says; None: as it says.

    Attributes:
        part: whose classes or functions.
        shots: support examples per class, or support points.
        queries: query examples per class, or query points.
        steps: adaptation steps; the figure is the one after so many.
        episodes: tasks.
        seed: which tasks: another ``eval.seed`` draws others.
        ways: classes of an episode.
    """

    part: EvalPart = "test"
    shots: int | None = None
    queries: int | None = None
    steps: int | None = None
    episodes: int | None = None
    seed: int | None = None
    ways: int | None = None

    def __post_init__(self) -> None:
        if self.part not in ("val", "test"):
            raise RunError(f"part: 'test' or 'val' is needed, got {self.part!r}")
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise RunError(f"{name}: at least {least} is needed, got {value}")
            if value is not None and value > most:
                raise RunError(f"{name}: at most {most} are possible, got {value}")


#: As the recipe says.
OWN = EvalRequest()


@dataclass(frozen=True)
class EvalProtocol:
    """A protocol, complete.

    Attributes:
        name: of its files under ``evaluation/``.
        part, shots, queries, episodes, seed: as in :class:`EvalRequest`.
        steps: learners are evaluated after 0 to so many adaptation steps.
        figure_step: the number of steps whose figure is the protocol's: that of training, unless
            another was asked for.
        ways: classes of an episode; 0 for functions.
        other_ways: whether a learner was trained with another number of them.
    """

    name: str
    part: EvalPart
    shots: int
    queries: int
    episodes: int
    seed: int
    steps: int
    figure_step: int
    ways: int = 0
    other_ways: bool = False

    def source(self, data: EpisodeData) -> EpisodeSource:
        """Its episodes."""
        return data.live(self.part, self.queries, self.seed, self.shots, self.ways)


def own_protocols(recipe: Recipe) -> tuple[EvalProtocol, ...]:
    """The protocols of a recipe on test episodes, its main one first."""
    return tuple(
        protocol([("", recipe)], EvalRequest(queries=queries)) for queries in recipe.protocols
    )


def validation_protocol(recipe: Recipe) -> EvalProtocol:
    """The protocol on validation episodes while a recipe is trained, after as many steps."""
    # Only the figure after these is looked at; a longer curve would be for nothing.
    return protocol([("", recipe)], EvalRequest(part="val", steps=recipe.inner.steps))


def protocol(runs: Sequence[tuple[str, Recipe]], asked: EvalRequest) -> EvalProtocol:
    """What was asked, the rest as the recipes say.

    Args:
        runs: name and recipe of each run that is evaluated, one or several together.

    Raises:
        RunError: they do not agree on something that was not asked for, or it is too much.
    """
    recipes = [recipe for _, recipe in runs]
    names = [name for name, _ in runs]
    test = asked.part == "test"
    said = {
        "shots": [r.eval_shots for r in recipes],
        "queries": [r.eval.queries for r in recipes],
        "episodes": [r.eval.episodes if test else r.eval.val_episodes for r in recipes],
        "seed": [r.eval.seed for r in recipes],
        "steps": [r.inner.steps for r in recipes],
        "ways": [r.eval_ways for r in recipes],
    }
    curves = [r.eval_steps for r in recipes]
    if asked.ways and 0 in said["ways"]:
        raise RunError(
            f"ways: {names[said['ways'].index(0)] or 'the run'} learns functions, which have no "
            f"classes, {asked.ways} ways were asked for; leave the number of ways out"
        )
    chosen: dict[str, int] = {}
    for what, values in said.items():
        given = getattr(asked, what)
        chosen[what] = _agreed(what, names, values) if given is None else given
    figure_step = chosen.pop("steps")
    steps = max(curves) if asked.steps is None else asked.steps
    if too_long := too_many_rows(chosen["episodes"], steps):
        raise RunError(f"episodes: {too_long}")
    different = {what for what, number in chosen.items() if set(said[what]) != {number}}
    if asked.steps is not None and {*said["steps"], *curves} != {asked.steps}:
        different.add("steps")
    named = [text.format(**chosen, steps=steps) for w, text in _NAMES.items() if w in different]
    return EvalProtocol(
        name="-".join([asked.part, *named, f"{chosen['queries']}q"]),
        part=asked.part,
        steps=steps,
        figure_step=figure_step,
        other_ways={r.data.ways for r in recipes} != {chosen["ways"]},
        **chosen,
    )


def _agreed(what: str, names: Iterable[str], values: Sequence[int]) -> int:
    if len(set(values)) > 1:
        known_as = "eval.seed" if what == "seed" else f"the number of {what}"
        listed = ", ".join(f"{n}: {v}" for n, v in zip(names, values, strict=True))
        raise RunError(f"the runs do not agree on {known_as} ({listed}); say which with --{what}")
    return values[0]
