"""What a learner is held to, on each small network and kind of task that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from metadist import algorithms
from metadist.contracts import documentation
from metadist.contracts.finding import Finding, Inspection, first_this, found
from metadist.contracts.learner import declared, gradients, sight, together
from metadist.contracts.settings import Setting, Where, make, places, switched
from metadist.discovery import find
from metadist.errors import RecipeError
from metadist.overrides import Scalar

#: Without these all further checks would say the same again.
SOUND = (declared.metrics, declared.statistics, sight.pure, gradients.finite)


def inspect(name: str, options: Mapping[str, Scalar], inspection: Inspection) -> None:
    """Run all checks of a learner."""
    module = find(algorithms, name, "algorithm")
    inspection.run(documentation.CHECKS, module)
    tried = [(where, _setting(name, where, inspection)) for where in places(name, options)]
    taken = [setting for _, setting in tried if isinstance(setting, Setting)]
    working = [setting for setting in taken if _runs(setting, inspection)]
    if len(working) < len(taken):
        inspection.add(first_this("a learner that adapts, predicts and trains once"))
    sound = True
    for setting in working:
        on = str(setting.where)
        inspection.run(declared.CHECKS, setting, on)
        sound = inspection.run(SOUND, setting, on) and sound
    if not sound:
        what = "metrics and statistics as declared, pure functions and finite gradients"
        inspection.add(first_this(f"{what}, to look at derivatives, queries and workers"))
        return
    for setting in working:
        inspection.run((*sight.CHECKS, *gradients.CHECKS), setting, str(setting.where))
    for setting in working[:1] + [s for s in working if s.where.norm == "running"]:
        inspection.run(together.CHECKS, setting, str(setting.where))
    for setting in working[:1]:
        for other in switched(name, options):
            where = replace(setting.where, part_options=other)
            if isinstance(again := _setting(name, where, inspection), Setting):
                inspection.run(gradients.CHECKS, again, str(where))
    if not taken and not any(f.level == "error" for f in inspection.findings.values()):
        reasons = {str(reason) for _, reason in tried}
        inspection.run([_works_somewhere], sorted(reasons))


def _runs(setting: Setting, inspection: Inspection) -> bool:
    """Whether there is anything to look at."""
    on = str(setting.where)
    inspection.run([sight.known_needs], setting, on)
    return all(inspection.run([check], setting, on) for check in (sight.needs, sight.runs))


def _setting(name: str, where: Where, inspection: Inspection) -> Setting | str:
    """The learner in a place; why it refuses, where it does."""
    made: list[Setting | str] = []

    def builds(place: Where) -> tuple[()]:
        try:
            made.append(make(name, place))
        except RecipeError as error:
            made.append(str(error))
        return ()

    inspection.run([builds], where, str(where))
    if made and isinstance(made[0], str):
        inspection.settings.pop(str(where), None)
    return made[0] if made else "its build, init or state fails"


def _works_somewhere(reasons: list[str]) -> Iterator[Finding]:
    """The learner takes one of the places here."""
    yield found(
        "a learner that takes one of the small networks here",
        f"none that it takes: {'; '.join(reasons)}",
        "see TARGETS and what build refuses",
    )
