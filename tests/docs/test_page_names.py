"""What pages name is there: files, headings, options, keys, variables; and the reverse."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import click
import pytest
from pages import PAGES, ROOT, named, options_of, spans, tokens
from site_pages import repository

from metadist.cli.main import main
from metadist.evaluation.inference.fitted_model import FittedModel
from metadist.evaluation.inference.predictions import Predictions
from metadist.evaluation.inference.trained_model import TrainedModel
from metadist.objectives import Objective
from metadist.recipe.schema import Recipe

#: Options of other tools that pages speak of, beside those that stand in the scripts of cluster/.
OTHERS = {
    "sbatch": {
        "--account",
        "--exclusive",
        "--gres",
        "--nodes",
        "--partition",
        "--requeue",
        "--time",
    },
    "ray": {"--tmux"},
    "docker": {"--build-arg"},
    "the code of Reptile": {"--transductive"},
}
VARIABLE = re.compile(r"\bMETADIST_[A-Z][A-Z0-9_]*\b")


def links(page: str) -> set[str]:
    """Targets of its links and pictures; the README's are absolute, and those of a clone here."""
    inline = [child for token in tokens(page) for child in token.children or ()]
    found = {str(t.attrs.get("href") or t.attrs.get("src") or "") for t in inline}
    here = re.compile(rf"{re.escape(repository())}/(blob|raw)/main/")
    return {here.sub("", target) if page == "README.md" else target for target in found if target}


@cache
def anchors(page: str) -> set[str]:
    """Of its headings, as GitHub makes them."""
    found: set[str] = set()
    whole = tokens(page)
    for token, after in pairwise(whole):
        if token.type == "heading_open":
            text = "".join(child.content for child in after.children or ())
            plain = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(plain if plain not in found else f"{plain}-1")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    here = (ROOT / page).parent
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        there = (here / path).resolve() if path else ROOT / page
        assert there.exists(), f"{page}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(str(there.relative_to(ROOT))), f"{page}: {target}"


@cache
def known_keys() -> dict[str, set[str]]:
    """Keys of a recipe by section, with the options of all parts."""
    keys = {name: set(field.annotation.model_fields) for name, field in Recipe.model_fields.items()}  # type: ignore[union-attr]
    rooms = {"backbones": "model", "algorithms": "algorithm", "objectives": "objective"}
    for room, section in rooms.items():
        for name in import_module(f"metadist.{room}").names():
            keys[section] |= set(import_module(f"metadist.{room}.{name}").Options.model_fields)
    return keys


@pytest.mark.parametrize("page", PAGES)
def test_what_stands_in_backticks_is_there(page: str) -> None:
    ours = options_of(main)
    scripts = "".join(
        p.read_text("utf-8")
        for p in (ROOT / "cluster").rglob("*")
        if p.is_file() and p.suffix != ".pyc"
    )
    others = {*re.findall(r"--[a-z-]+", scripts)}.union(*OTHERS.values())
    for span in spans(page):
        if span.startswith("metadist "):
            words = span.split()[1:]
            try:
                allowed = options_of(named(words))
            except click.ClickException as error:
                pytest.fail(f"{page}: `{span}`: {error.format_message()}")
            given = {w.partition("=")[0] for w in words if re.match(r"--\w", w)}
            assert given <= allowed, f"{page}: `{span}`"
        elif re.match(r"--[a-z]", span):
            option = re.split(r"[ =]", span)[0]
            assert option in ours | others, f"{page}: `{span}`"
        elif (key := re.fullmatch(r"(\w+)\.(\w+)(?: ?=.*)?", span)) and key[1] in known_keys():
            # `run.json` is a file, `model.adapt` what an object can do.
            a_file = key[2] in ("json", "toml", "parquet")
            of = {"model": TrainedModel, "objective": Objective}.get(key[1])
            can = of is not None and hasattr(of, key[2])
            assert a_file or can or key[2] in known_keys()[key[1]], f"{page}: `{span}`"


@pytest.mark.parametrize("of", [TrainedModel, FittedModel, Predictions], ids=lambda of: of.__name__)
def test_the_page_of_python_names_what_its_objects_have(of: type) -> None:
    name = {TrainedModel: "model", FittedModel: "fitted", Predictions: "found"}[of]
    text = (ROOT / "docs/python.md").read_text("utf-8")
    named = set(re.findall(rf"`{name}\.(\w+)", text))
    assert named
    assert named <= {*dir(of), *of.__annotations__}


def variables(*paths: Path) -> set[str]:
    """Names of ours in these files."""
    return {name for path in paths for name in VARIABLE.findall(path.read_text("utf-8"))}


def test_the_page_of_variables_has_those_that_are_read() -> None:
    product = [
        p
        for room in ("metadist", "data_pipeline", "tune_spaces")
        for p in (ROOT / room).rglob("*.py")
    ]
    scripts = [p for p in (ROOT / "cluster").rglob("*") if p.is_file() and p.suffix != ".pyc"]
    others = [
        ROOT / "Makefile",
        ROOT / "hatch_build.py",
        ROOT / "tests/conftest.py",
        ROOT / ".ci/run",
        *(ROOT / "tests/k8s").glob("*.py"),
    ]
    read = variables(*product, *scripts, *(path for path in others if path.is_file()))
    read |= {"METADIST_EXPECT_CPU_TORCH"} & variables(*(ROOT / "tests/unit").glob("*.py"))
    page = ROOT / "docs/environment.md"
    listed = set(re.findall(r"^\| `(METADIST_\w+)`", page.read_text("utf-8"), re.M))
    assert listed == read
    assert variables(*(ROOT / name for name in PAGES)) <= listed


@pytest.mark.parametrize(
    "line",
    re.findall(
        r"^\| `(METADIST_\w+_S)` \| (\d+)", (ROOT / "docs/environment.md").read_text("utf-8"), re.M
    ),
    ids=lambda v: v,
)
def test_a_default_is_the_code_s(line: tuple[str, str]) -> None:
    name, default = line
    files = [p for room in ("metadist", "data_pipeline") for p in (ROOT / room).rglob("*.py")]
    given = [
        found
        for p in files
        for found in re.findall(rf'seconds_of\("{name}", ([\d.]+)', p.read_text("utf-8"))
    ]
    assert {float(value) for value in given} == {float(default)}


def test_every_page_is_reached_from_the_readme_or_the_index() -> None:
    reached = set()
    waiting = ["README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page not in PAGES:
            continue
        reached.add(page)
        for target in links(page):
            path = (ROOT / page).parent / target.partition("#")[0]
            if path.suffix == ".md" and path.exists():
                waiting.append(str(path.resolve().relative_to(ROOT)))
    assert sorted(set(PAGES) - reached) == []
