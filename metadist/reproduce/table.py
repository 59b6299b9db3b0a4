"""A published table as data: which runs it takes, which figures of theirs, what was published.

One TOML file each, closed and validated. ``[base]`` is what all runs share, ``[runs.NAME]`` what
one of them has beside it; ``[[rows]]`` are the figures, of one run or of two set against each
other; ``[defaults]`` holds keys that a row has unless it says otherwise. Published figures stand in
the unit that is printed: accuracy in percent.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_pipeline.storage.typed_paths import typed_path
from metadist.discovery import nearest
from metadist.errors import TableError
from metadist.objectives import Metric, known_metric
from metadist.recipe.files import parse_toml, read_text, toml_names

Better = Literal["higher", "lower", "neither"]
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
_TABLES = Path(__file__).parent / "tables"
_SLUG = re.compile(r"[a-z0-9][a-z0-9_.-]*")
#: What a row may show beside the scores of an evaluation, and in which direction it is better.
_OTHERS: dict[str, Better] = {"speed": "higher", "finding": "neither"}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class Published(_Section):
    """A figure as it was published.

    Attributes:
        value: in the row's unit.
        ci95: half-width of its 95 % interval, if one was published.
        relation: ``at_least`` where only a bound is claimed.
        ensemble: how many predictors were averaged; no single model compares with that.
        members: what they were.
        checked: False for a figure that nobody has compared with its source; it is shown, never
            compared.
    """

    value: float
    ci95: Annotated[float, Field(ge=0)] | None = None
    relation: Literal["equal", "at_least"] = "equal"
    ensemble: Annotated[int, Field(ge=2)] | None = None
    members: Literal["models", "checkpoints"] = "models"
    checked: bool = True


class Base(_Section):
    """What all runs share.

    Attributes:
        recipe: a built-in recipe, or a file beside the table's.
        set: ``section.key=value`` overrides.
        published_steps, published_batch: outer steps and tasks of each, as published; 0 where
            nothing is meta-trained.
    """

    recipe: str
    set: list[str] = []
    published_steps: Natural
    published_batch: Natural


class RunSpec(_Section):
    """A run: the base and what differs from it. ``set`` is added to the base's.

    Attributes:
        fractions: keys that are counted in outer steps, and how many times their value goes into a
            run: a schedule then has the same shape at any budget.
    """

    recipe: str | None = None
    set: list[str] = []
    fractions: dict[str, Positive] = {}
    published_steps: Natural | None = None
    published_batch: Natural | None = None
    differences: list[str] = []


class Row(_Section):
    """A figure that is printed beside a published one.

    Attributes:
        id: for ``--rows``, unique in the table.
        run: of which run.
        metric: ``accuracy``, ``mse`` or another metric that an evaluation records, ``speed``
            (training tasks per second), or ``finding`` (a number that the learner reports of
            itself).
        percent: whether the metric is a fraction that is printed in percent; of one that is built
            in this is known.
        finding, part: which quantity, and of which part of the network.
        shots, queries, episodes, step: of the evaluation; as in the recipe if not given. The figure
            is the one after ``step`` adaptation steps.
        versus, combine: another run, and how its figure is set against this one's: ``ratio``
            (this / that) or ``difference`` (this - that).
        better: which direction is the better one.
        source: what was published where; ``read_in``: where it was read for this table.
        not_comparable: why the two figures cannot be compared, if they cannot.
        complete_data: they can only if our dataset is the complete one, by its own word.
        differences: of our protocol from the published one, in sentences.
        series, at: line and abscissa in the table's pictures.
    """

    id: str
    label: str
    run: str
    metric: str
    percent: bool | None = None
    finding: str = ""
    part: str = ""
    shots: Positive | None = None
    queries: Positive | None = None
    episodes: Positive | None = None
    step: Natural | None = None
    versus: str | None = None
    combine: Literal["ratio", "difference"] | None = None
    better: Better | None = None
    published: Published | None = None
    source: str = ""
    read_in: str = ""
    not_comparable: str = ""
    complete_data: bool = False
    differences: list[str] = []
    series: str = ""
    at: float | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Row:
        if not _SLUG.fullmatch(self.id):
            raise ValueError(f"id: lower-case letters, digits, '_', '.', '-', got {self.id!r}")
        if (self.versus is None) != (self.combine is None):
            raise ValueError("versus and combine go together: another run, and how to combine")
        if self.combine is not None and self.better is None:
            raise ValueError("better is needed beside combine: 'higher', 'lower' or 'neither'")
        if self.scored and self.percent is not None and self.built_in is not None:
            raise ValueError(f"percent: it is known of {self.metric!r}; leave it out")
        if self.scored and self.built_in is None and self.better is None:
            raise ValueError(
                f"metric: {self.metric!r} is not built in; say whether better = 'higher' or "
                "'lower', or name one that is"
            )
        if (self.metric == "finding") != bool(self.finding and self.part):
            raise ValueError("finding and part are needed with metric = 'finding', and only there")
        if self.published is None and not self.not_comparable:
            raise ValueError("published is needed, or not_comparable: why there is nothing")
        if self.published is not None and not (self.source and self.read_in):
            raise ValueError("source and read_in are needed: whose figure it is, where it was read")
        return self

    @property
    def runs(self) -> tuple[str, ...]:
        """The runs whose figures it takes."""
        return (self.run,) if self.versus is None else (self.run, self.versus)

    @property
    def scored(self) -> bool:
        """Whether it is a score of an evaluation."""
        return self.metric not in _OTHERS

    @property
    def built_in(self) -> Metric | None:
        """What its score is, if that is built in."""
        try:
            return known_metric(self.metric)
        except ValueError:
            return None

    @property
    def direction(self) -> Better:
        """Which direction is the better one."""
        if self.better is not None:
            return self.better
        if (found := self.built_in) is not None:
            return "higher" if found.higher_is_better else "lower"
        return _OTHERS[self.metric]

    @property
    def in_percent(self) -> bool:
        """Whether figures are fractions that are printed in percent."""
        return self.built_in.percent if self.built_in is not None else bool(self.percent)

    @property
    def unit(self) -> str:
        """What stands behind the figure; empty for a plain number."""
        if self.combine == "ratio":
            return "×"
        if self.in_percent:
            return "points" if self.combine else "%"
        return "tasks/s" if self.metric == "speed" else ""

    @property
    def scale(self) -> float:
        """What a measured figure is multiplied by to have that unit."""
        return 100.0 if self.unit in ("%", "points") else 1.0


class Picture(_Section):
    """A picture: ``curves``, validation against outer steps for each run, or ``rows``, the figures
    against ``Row.at``, a line for each ``Row.series``."""

    kind: Literal["curves", "rows"] = "curves"
    x: str = "outer steps"
    y: str
    log_x: bool = False
    log_y: bool = False


class Table(_Section):
    """A published table.

    Attributes:
        name: of its file.
        folder: where files that its recipes name are looked for.
        tasks: the budget of a run unless another is asked for, in tasks.
        validations: points of a run's validation curve.
        exclusive: its figures are times: one run after the other, whatever is asked for.
        differences: of all rows.
    """

    name: str
    folder: Path
    title: str
    summary: str
    tasks: Positive
    validations: Positive = 8
    exclusive: bool = False
    differences: list[str] = []
    base: Base
    runs: dict[str, RunSpec]
    rows: Annotated[list[Row], Field(min_length=1)]
    pictures: list[Picture] = []

    @model_validator(mode="after")
    def _consistent(self) -> Table:
        kinds = [picture.kind for picture in self.pictures]
        if len(set(kinds)) < len(kinds):
            raise ValueError("pictures: one of each kind at most: they are named by it")
        for name in self.runs:
            if not _SLUG.fullmatch(name):
                raise ValueError(f"run names: lower-case letters, digits, '_', '.', got {name!r}")
        ids = [row.id for row in self.rows]
        for index, row in enumerate(self.rows):
            if row.id in ids[:index]:
                raise ValueError(f"two rows have the id {row.id!r}")
            for run in row.runs:
                if run not in self.runs:
                    raise ValueError(
                        f"row {row.id!r}: no run {run!r} under [runs].{nearest(run, self.runs)}"
                    )
        if unused := self.runs.keys() - {run for row in self.rows for run in row.runs}:
            raise ValueError(f"no row takes a figure of the runs {', '.join(sorted(unused))}")
        return self

    def chosen(self, ids: list[str]) -> list[Row]:
        """The rows of these ids, in the table's order; all of them if there are none.

        Raises:
            TableError: there is no such row.
        """
        known = [row.id for row in self.rows]
        for row_id in ids:
            if row_id not in known:
                raise TableError(
                    f"--rows: table {self.name} has no row {row_id!r}; it has "
                    f"{', '.join(known)}.{nearest(row_id, known)}"
                )
        return [row for row in self.rows if not ids or row.id in ids]

    def recipe_of(self, run: str) -> str:
        """Name or path of a run's recipe."""
        recipe = self.runs[run].recipe or self.base.recipe
        beside = self.folder / recipe
        return str(beside) if beside.is_file() else recipe

    def overrides_of(self, run: str, steps: int = 0) -> list[str]:
        """The overrides of a run; those that depend on its outer steps too, if they are given."""
        spec = self.runs[run]
        parts = [f"{key}={max(1, steps // parts)}" for key, parts in spec.fractions.items()]
        return [*self.base.set, *spec.set, *(parts if steps else [])]

    def published_tasks(self, run: str) -> int:
        """The published budget of a run, in tasks; 0 where nothing is meta-trained."""
        spec, base = self.runs[run], self.base
        steps = base.published_steps if spec.published_steps is None else spec.published_steps
        batch = base.published_batch if spec.published_batch is None else spec.published_batch
        return steps * batch


_MODELS: dict[str, type[BaseModel]] = {
    "published": Published, "rows": Row, "runs": RunSpec, "base": Base, "pictures": Picture,
}  # fmt: skip


def table_names() -> list[str]:
    """Names of the tables that come with the package."""
    return toml_names(_TABLES)


def load_table(name_or_path: str) -> Table:
    """A table that comes with the package, or one from a file.

    Raises:
        TableError: neither, or the file says something else than a table needs.
    """
    known = table_names()
    if name_or_path in known:
        path = _TABLES / f"{name_or_path}.toml"
    elif not (path := typed_path(name_or_path)).is_file():
        raise TableError(
            f"no table {name_or_path!r}.{nearest(name_or_path, known)} It is neither a file nor "
            f"one of the built-in tables: {', '.join(known)}"
        )
    return parse_table(read_text(path, TableError), path)


def parse_table(text: str, path: Path) -> Table:
    """A table from TOML text.

    Args:
        path: of its file, which gives it its name.

    Raises:
        TableError: not TOML, an unknown key (with the nearest valid one) or a bad value.
    """
    document = parse_toml(text, path, TableError)
    defaults, rows = document.pop("defaults", {}), document.get("rows")
    if not isinstance(defaults, dict):
        raise TableError(f"{path}: [defaults] must be a table, got {defaults!r}")
    if isinstance(rows, list):
        document["rows"] = [{**defaults, **r} if isinstance(r, dict) else r for r in rows]
    for own in ("name", "folder"):
        if own in document:
            raise TableError(f"{path}: unknown key {own!r}: a table is named by its file")
    try:
        return Table.model_validate({**document, "name": path.stem, "folder": path.parent})
    except ValidationError as error:
        raise TableError(f"{path}: {_explain(error, document)}") from None


def _explain(error: ValidationError, document: dict[str, Any]) -> str:
    """A validation error: where, what was demanded, what was got, and the nearest valid key."""
    lines = []
    for detail in error.errors():
        place = ""
        value: Any = document
        holder: type[BaseModel] = Table
        model: type[BaseModel] = Table
        for key in detail["loc"]:
            holder, model = model, _MODELS.get(str(key), model)
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                value = {}
            if isinstance(key, int):
                name = value.get("id") if isinstance(value, dict) else None
                place += f"[{key + 1}]" + (f" {name!r}" if name else "")
            else:
                place += f"{': ' if place.endswith(chr(39)) else '.' if place else ''}{key}"
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            key = str(detail["loc"][-1])
            message = f"unknown key.{nearest(key, holder.model_fields)}"
        elif detail["type"] not in ("missing", "value_error"):
            message += f", got {detail['input']!r}"
        lines.append(f"{place}: {message}" if place else message)
    return "; ".join(dict.fromkeys(lines))
