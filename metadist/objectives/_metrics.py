"""What is measured, and how people read it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeVar, get_args

from metadist.errors import PluginError

T = TypeVar("T")

#: What a name in a record may be, and how long a title.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
_MOST_LETTERS = 1000
#: What a report knows more of: the fraction of right labels has a level of chance, the squared
#: error of functions a floor.
Measured = Literal["", "right", "squared_error"]


@dataclass(frozen=True)
class Metric:
    """A number of one episode.

    Attributes:
        name: of its column in tables, its key in records and recipes.
        title: for people.
        higher_is_better: or a lower one.
        percent: a fraction that people read in percent.
        failed: what an episode scores whose predictions are not finite; NaN: it is left out of the
            mean and counted beside it.
        measures: ``right``: the fraction of labels that are right, which guessing has 1 / ways of;
            ``squared_error``: its mean; empty: anything else.
    """

    name: str
    title: str
    higher_is_better: bool
    percent: bool = False
    failed: float = math.nan
    measures: Measured = field(default="", compare=False)

    @property
    def leaves_out_failed(self) -> bool:
        """Whether episodes that have failed are left out of the mean."""
        return math.isnan(self.failed)

    @property
    def worst(self) -> float:
        """Worse than any value: what a failed episode is, where it is left out of the mean."""
        return -math.inf if self.higher_is_better else math.inf

    def better(self, value: float, than: float) -> bool:
        """Whether a value is strictly better; NaN never is."""
        return value > than if self.higher_is_better else value < than

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`read` reads it back."""
        fields = asdict(self)
        if not self.measures:
            del fields["measures"]
        return fields | {"failed": None if self.leaves_out_failed else self.failed}

    @classmethod
    def read(cls, recorded: Mapping[str, Any]) -> Metric:
        """From a record; raises KeyError, TypeError or ValueError where it is none."""
        failed, measures = recorded["failed"], recorded.get("measures", "")
        if measures not in get_args(Measured):
            raise ValueError(f"measures: {get_args(Measured)} are known, got {measures!r:.40}")
        return cls(
            name=metric_name(recorded["name"]),
            title=_checked(recorded["title"], str, "title")[:_MOST_LETTERS],
            higher_is_better=_checked(recorded["higher_is_better"], bool, "higher_is_better"),
            percent=_checked(recorded["percent"], bool, "percent"),
            failed=math.nan if failed is None else float(failed),
            measures=measures,
        )


def metric_name(value: Any) -> str:
    """The name of a metric in a record; raises ValueError where it is none."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(f"metric {value!r:.40}: letters, digits, '_', '-' and '.', at most 80")
    return value


def _checked(value: Any, kind: type[T], name: str) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"{name}: {kind.__name__} is needed, got {value!r:.40}")
    return value


ACCURACY = Metric(
    "accuracy", "accuracy", higher_is_better=True, percent=True, failed=0.0, measures="right"
)
MSE = Metric("mse", "mean squared error", higher_is_better=False, measures="squared_error")
NLL = Metric("nll", "negative log-likelihood", higher_is_better=False)
ROC_AREA = Metric("area_under_roc_curve", "area under the ROC curve", higher_is_better=True)

#: Names that mean something else in tables, records and results.
RESERVED = frozenset(
    [
        "loss",
        "failed",
        "episode",
        "episodes",
        "step",
        "steps",
        "ci95",
        "run",
        "needs",
        "classes",
        "ways",
        "best_step",
        "average",
        "params_sha256",
        "tasks_per_second",
        "data_wait",
        "restarts",
        "seconds",
    ]
)
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def check_names(of: str, names: Iterable[str]) -> None:
    """See that numbers may be called so.

    Raises:
        PluginError: a name is not one, means something else, or comes twice.
    """
    known: set[str] = set()
    for name in names:
        bad = not NAME.fullmatch(name) or name in RESERVED or re.search(r"_(\d+q|ci95)$", name)
        if bad or name in known:
            raise PluginError(
                f"{of}: a metric needs a name of its own, of small letters, digits and _, which "
                f"means nothing else in results (as {', '.join(sorted(RESERVED)[:6])} do); got "
                f"{name!r}"
            )
        known.add(name)


BUILT_IN = {metric.name: metric for metric in (ACCURACY, MSE, NLL, ROC_AREA)}


def known_metric(name: str, recorded: Mapping[str, Any] | None = None) -> Metric:
    """A metric as a record names it; no code of a plug-in is asked.

    Args:
        recorded: what the record says of it, if it is not built in.

    Raises:
        ValueError: neither built in nor described.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if recorded is None or recorded.get("name") != name:
        raise ValueError(f"metric {name!r}: {', '.join(BUILT_IN)} or a described one is needed")
    return Metric.read(recorded)
