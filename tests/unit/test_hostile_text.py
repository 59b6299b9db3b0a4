"""Names and texts of strangers on every page and picture that we write: text, and nothing else."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from compared_runs import compared_run, scores
from published import FACTS, REGRESSION, finish, planned_of, request_of, row, table
from report_page import Page
from report_runs import finished_run
from search_dirs import add_trial, conclude, make_search, rates_plan

import metadist
from data_pipeline.formats.labelled_images import LabelledImages
from metadist.comparison.page import render as render_comparison
from metadist.evaluation.inference.predictions import Predictions
from metadist.objectives import ACCURACY
from metadist.report.adaptation import draw
from metadist.report.html import render as render_run
from metadist.report.svg import pictures
from metadist.reproduce.render import markdown
from metadist.reproduce.result import assemble
from metadist.runs.readers.diagnostics import Caption, Diagnostics
from metadist.runs.readers.run_data import load_run
from metadist.search.report.data import search_data
from metadist.search.report.page import render as render_search

#: Ends every context there is, runs as a template, turns the line around, and is no UTF-8.
EVIL = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>]]>--></style></title></svg>&lt;"
    "{{ 7*7 }}{% include 'x' %}${7*7}\u202e\u2067\x00\x1b[31m\x9b\x85\ud800\ufffe"
)
#: A name of a file has no slash and no zero byte, and may be no UTF-8.
NAMED = "<script>alert(1)<script>\"'{{ 7*7 }}\u202e\x1b[31m\udcff"
#: What no page holds, as it is.
DAMAGE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe]")
TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "footer", "h1", "h2", "h3",
    "h4", "p", "b", "br", "small", "span", "div", "section", "article", "figure", "figcaption",
    "details", "summary", "table", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd", "code",
    "pre", "img", "svg", "defs", "g", "path", "text", "tspan", "use", "rect", "clippath", "image",
}  # fmt: skip


def check(page: str, images: int = 0) -> None:
    """A page has no more elements than its template, and each of its pictures is XML."""
    page.encode()
    assert not DAMAGE.search(page)
    seen = Page(page)
    assert set(seen.tags) <= TAGS, set(seen.tags) - TAGS
    # Matplotlib's pictures have one of their own each.
    assert seen.tags.count("style") == 1 + seen.tags.count("svg")
    assert seen.tags.count("img") == images
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in seen.links)
    for word in ("{{ 7*7 }}", "<script>alert(1)"):
        assert seen.text.count(word) > 4, word
    for picture in pictures(page).values():
        ET.fromstring(picture)


def test_the_report_of_a_run(tmp_path):
    data = load_run(finished_run(tmp_path))
    metric = replace(ACCURACY, title=EVIL)
    names = {EVIL: (0.5, 0.6), f"{EVIL}2": (0.1,)}
    found = {
        EVIL: names,
        **{f"own_{which}": names for which in ("smallest", "largest")},
    }
    told = {name: Caption(EVIL, EVIL) for name in found}
    layers = dict.fromkeys(names, 0.5)
    facts = {EVIL: {EVIL: [EVIL, {EVIL: True}]}}
    mine = ("status", "mlflow", "versions", "plugins", "numerics", "learner", "dataset")
    page = render_run(
        replace(
            data,
            name=NAMED,
            info={**data.info, **dict.fromkeys(mine, facts), "status": EVIL, "recipe_hash": EVIL},
            notes=[EVIL],
            protocols=[replace(own, metric=metric) for own in data.protocols],
            diagnostics=Diagnostics(found, layers, layers, 1, 1, 1, 1, 1, 1, told),
        )
    )
    check(page, images=4 * 20)


def test_the_report_of_a_search(tmp_path):
    plan = rates_plan(trials=4)
    search = make_search(tmp_path, plan)
    conclude(plan, search, [add_trial(plan, search, number) for number in range(1, 5)])
    data = search_data(search)
    hits = replace(ACCURACY, name="mse", title=EVIL, higher_is_better=False)
    space = replace(plan.space, about=EVIL, base=EVIL, fixed={EVIL: EVIL})
    page = render_search(
        replace(
            data,
            name=NAMED,
            status=EVIL,
            created=EVIL,
            plan=replace(plan, name=EVIL, space=space, measured=hits.as_dict()),
            default=dict.fromkeys(data.default, EVIL),
            trials=[replace(trial, error=EVIL, status="failed") for trial in data.trials],
            recipe=NAMED,
            notes=[EVIL],
        )
    )
    check(page)


def test_a_comparison(tmp_path):
    for name, mean in (("base", 0.6), ("other", 0.7)):
        compared_run(tmp_path, name, "inner.lr=0.1", score=scores(mean), classes=20)
    result = metadist.compare(["base", "other"], runs_dir=tmp_path).to_dict()
    metric = replace(ACCURACY, title=EVIL).as_dict()
    for name in ("base", "other"):
        evil = json.dumps(f"{name} {EVIL}")
        result = json.loads(json.dumps(result).replace(f'"{name}"', evil))
    first, second = (run["run"] for run in result["runs"])
    varying = {EVIL: {first: EVIL, second: [EVIL]}}
    check(render_comparison({**result, "metric": metric, "differences": varying}))


def test_adapted_images():
    labels = (f"{NAMED}0", f"{NAMED}1")
    pixels = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    images = LabelledImages(Path(NAMED), (NAMED, EVIL), labels, pixels, ())
    record: dict[str, Any] = {"run": NAMED, "algorithm": EVIL, "steps": 1, "notes": [EVIL]}
    record |= {"labels": dict.fromkeys(labels, 1), "right": 1, "queries": 2}
    svg = draw(record, images, images, Predictions(np.array([[0.0, 1.0], [0.0, 1.0]]), labels))
    svg.encode()
    assert not DAMAGE.search(svg)
    kinds = {element.tag.rpartition("}")[2] for element in ET.fromstring(svg).iter()}
    assert kinds == {"svg", "style", "g", "title", "text", "tspan", "image", "rect"}


def test_a_reproduced_table(tmp_path):
    evil = "<script>alert(1)</script> | {{ 7*7 }}"
    head = REGRESSION.replace("A table", evil).replace("What it is", evil).replace("paper", evil)
    body = row("a", "a", "value = 0.5").replace('"A"', f'"{evil}"')
    one = table(f'[runs.a]\ndifferences = ["{evil}"]\n{body}', head)
    request = request_of(one, tmp_path)
    planned = planned_of(request, "a")
    finish(planned, [3.0, 0.5])
    result = assemble(request, [planned], {}, FACTS | {"machine": evil})
    page = markdown(result, ["a.svg"])
    assert "<script" not in page
    assert page.lower().count("&lt;script>alert(1)") > 4
    assert all(line.count(" | ") == 5 for line in page.splitlines() if line.startswith("|"))
