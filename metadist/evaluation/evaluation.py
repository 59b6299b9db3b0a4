"""What an evaluation of a learner found: a number for each episode, step and metric.

An episode whose outputs are not finite has failed, which is what a learner that diverges comes to:
its accuracy is 0; of an error it is counted beside the mean over the rest. Of errors that explode
and stay finite the median tells, which stands beside every mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metadist.evaluation.protocols import EvalProtocol
from metadist.objectives import Metric
from metadist.runs.readers.evaluations import metric_facts
from metadist.statistics.classes import EpisodeClasses
from metadist.statistics.format import finite
from metadist.statistics.instances import ByInstance

if TYPE_CHECKING:
    from metadist.episode_data import EpisodeData


@dataclass(frozen=True)
class Evaluation:
    """Results on E episodes after 0 to K adaptation steps.

    Attributes:
        kind: the objective's name.
        metrics: what was measured, the one that decides first.
        trained_steps: adaptation steps of training; None for learners with different ones.
        columns: of each metric, and ``loss``, float64 [E, K + 1]: what the metric says (or NaN)
            where an episode has failed.
        failed: bool [E, K + 1]: an output was not finite.
        episode_digest: what decides the bits of the episodes.
        needs: what the learner was told of each task beside its examples.
        pooled: after each number of steps, what is no mean over episodes.
        classes: that the episodes are of; None of functions, and where nobody asks.
        verification: curve and threshold of pairs of examples, where they were asked for.
        by_instance: of a learner that predicts in sequence, where it is asked.
    """

    protocol: EvalProtocol
    kind: str
    metrics: tuple[Metric, ...]
    trained_steps: int | None
    columns: Mapping[str, NDArray[np.float64]]
    failed: NDArray[np.bool_]
    episode_digest: str
    needs: frozenset[str] = frozenset()
    pooled: Sequence[Mapping[str, float]] = ()
    classes: EpisodeClasses | None = None
    verification: Mapping[str, Any] | None = None
    by_instance: ByInstance | None = None

    def with_classes(self, data: EpisodeData) -> Evaluation:
        """The same, knowing which classes of ``data`` its episodes are of."""
        how = self.protocol
        return replace(self, classes=data.classes(how.part, how.episodes, how.seed, how.ways))

    @property
    def metric(self) -> Metric:
        """The one that decides."""
        return self.metrics[0]

    @property
    def score(self) -> NDArray[np.float64]:
        """Its values, [E, K + 1]."""
        return self.columns[self.metric.name]

    @property
    def figure(self) -> dict[str, float]:
        """The protocol's figure: :meth:`at` the number of steps it is about."""
        return self.at(self.protocol.figure_step)

    @property
    def further(self) -> dict[str, float]:
        """What else the protocol says: means of the other metrics, and what is pooled."""
        step = self.protocol.figure_step
        means = {metric.name: self.at(step, metric)["mean"] for metric in self.metrics[1:]}
        return means | dict(self.pooled[step] if self.pooled else {})

    @property
    def failures(self) -> int:
        """Episodes that have failed after the number of steps that the figure is about."""
        return int(self.failed[:, self.protocol.figure_step].sum())

    @property
    def ci95_classes(self) -> float:
        """Half-width of the figure's interval over new classes; NaN where there is none."""
        step = self.protocol.figure_step
        if self.classes is None:
            return math.nan
        return float(self.classes.ci95(self.score[:, step : step + 1])[0])

    @property
    def of_classes(self) -> dict[str, Any]:
        """What stands beside the figure of classes: how many, and the interval over new ones."""
        if self.classes is None:
            return {}
        return {**self.classes.told(), "ci95_classes": finite(self.ci95_classes)}

    def at(self, step: int, metric: Metric | None = None) -> dict[str, float]:
        """Mean, 95 % confidence half-width, median and worst decile after ``step`` steps.

        The interval is 1.96 standard deviations (over episodes, ddof 0) over the root of their
        number. The worst decile is the mean over the worst tenth of the episodes. The median is
        over all episodes, a failed one being worse than any other where it is left out of the
        mean; infinite if that is half of them.

        Args:
            metric: the one that decides if none is named.
        """
        metric = metric or self.metric
        column, failed = self.columns[metric.name][:, step], self.failed[:, step]
        left_out = metric.leaves_out_failed
        median = _median(np.where(failed, metric.worst, column) if left_out else column)
        kept = column[~failed] if left_out else column
        if not len(kept):
            names = ("mean", "ci95", "worst_decile", "loss")
            return {**dict.fromkeys(names, math.nan), "median": median}
        ordered = np.sort(kept)
        tenth = max(1, len(kept) // 10)
        worst = ordered[:tenth] if metric.higher_is_better else ordered[-tenth:]
        losses = self.columns["loss"][~failed, step]
        with np.errstate(over="ignore", invalid="ignore"):
            deviation = float(kept.std())  # errors of 1e200 have none that is finite
        return {
            "mean": _mean(kept),
            # One episode says nothing of its spread.
            "ci95": 1.96 * deviation / math.sqrt(len(kept)) if len(kept) > 1 else math.nan,
            "worst_decile": _mean(worst),
            "loss": _mean(losses) if len(losses) else math.nan,
            "median": median,
        }

    def summary(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What ``evaluation/<name>.json`` holds; no times, places or numbers of workers."""
        protocol = self.protocol
        return {
            "part": protocol.part,
            **({"ways": protocol.ways} if protocol.other_ways else {}),
            "shots": protocol.shots,
            "queries": protocol.queries,
            "kind": self.kind,
            "score": self.metric.name,
            "episodes": len(self.score),
            "failed": self.failures,
            "failed_by_step": [int(n) for n in self.failed.sum(0)],
            "episode_digest": self.episode_digest,
            "trained_steps": self.trained_steps,
            "figure_step": protocol.figure_step,
            "by_step": [
                {"step": k, **{n: finite(v) for n, v in self.at(k).items()}}
                for k in range(self.score.shape[1])
            ],
            **self._more(),
            **facts,
        }

    def _more(self) -> dict[str, Any]:
        """What not every objective or learner has."""
        steps = range(self.score.shape[1])
        more = metric_facts(self.metric)
        further: dict[str, Any] = {}
        for metric in self.metrics[1:]:
            found = [self.at(step, metric) for step in steps]
            figures = {n: [finite(f[n]) for f in found] for n in ("mean", "ci95")}
            further[metric.name] = figures | metric_facts(metric)
        if further:
            more["metrics"] = further
        if self.pooled and self.pooled[0]:
            names = self.pooled[0]
            more["pooled"] = {n: [finite(after[n]) for after in self.pooled] for n in names}
        if self.verification:
            more["verification"] = dict(self.verification)
        if self.by_instance is not None:
            more["by_instance"] = self.by_instance.as_dict()
        if self.needs:
            more["needs"] = sorted(self.needs)
        return more


def _mean(values: NDArray[np.float64]) -> float:
    """The mean, rounded once."""
    try:
        return math.fsum(values) / len(values)
    except OverflowError:  # the sum is beyond float64, the mean need not be
        return math.fsum(v / len(values) for v in values.tolist())


def _median(values: NDArray[np.float64]) -> float:
    ordered = np.sort(values).tolist()
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(low / 2 + high / 2)
