"""What a learner is held to, on each small network and kind of task that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from metadist import algorithms
from metadist.contracts import documentation
from metadist.contracts.finding import Inspection, first_this, found
from metadist.contracts.learner import declared, gradients, sequences, sight, together
from metadist.contracts.settings import Setting, make, places, switched
from metadist.discovery import find
from metadist.inner.blocks.sequence import PredictsSequences
from metadist.overrides import Scalar

#: Without these all further checks would say the same again.
SOUND = (declared.metrics, declared.statistics, sight.pure, gradients.finite)


def inspect(name: str, options: Mapping[str, Scalar], inspection: Inspection) -> None:
    """Run all checks of a learner."""
    module = find(algorithms, name, "algorithm")
    inspection.run(documentation.CHECKS, module)
    tried = [
        inspection.builds(partial(make, name, where), str(where)) for where in places(name, options)
    ]
    taken = [setting for setting in tried if setting]
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
        if isinstance(setting.learner, PredictsSequences):
            inspection.run(sequences.CHECKS, setting, str(setting.where))
    for setting in working[:1] + [s for s in working if s.where.norm == "running"]:
        inspection.run(together.CHECKS, setting, str(setting.where))
    for setting in working[:1]:
        for other in switched(name, options):
            where = replace(setting.where, part_options=other)
            if again := inspection.builds(partial(make, name, where), str(where)):
                inspection.run(gradients.CHECKS, again, str(where))
    if not taken and not inspection.broken:
        nowhere = found(
            "a learner that takes one of the small networks here",
            f"none that it takes: {'; '.join(sorted(set(inspection.refused)))}",
            "see TARGETS and what build refuses",
        )
        inspection.tell("works somewhere", [nowhere])


def _runs(setting: Setting, inspection: Inspection) -> bool:
    on = str(setting.where)
    inspection.run([sight.known_needs], setting, on)
    return all(inspection.run([check], setting, on) for check in (sight.needs, sight.runs))
