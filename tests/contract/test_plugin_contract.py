"""Learners from outside are held to what the package's own are: definition, vmap, workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from plugin_parts import FOLDER, plugins

import metadist
from data_pipeline import registry
from metadist import algorithms, backbones, objectives
from metadist.backbones import Norm
from metadist.compute.strategies import Loop, Vmap
from metadist.context import NormMode
from metadist.errors import RecipeError
from metadist.keys import Key
from metadist.plugins import use
from metadist.tasks import Examples, Prediction, TaskShape
from tests.contract.cases import (
    MODELS,
    WAYS,
    Case,
    Model,
    all_cases,
    defaults_of,
    each_mode,
    options_of,
    switched,
)
from tests.contract.checks import check_definition, check_differences, check_everything, check_same
from tests.contract.setting import make
from tests.contract.test_workers import case_of
from tests.contract.test_workers import check as check_workers
from tests.numerics.conftest import RunGroup, run_group  # noqa: F401
from tests.numerics.definitions import DEFINITIONS
from tests.numerics.plugin_definitions import PLUGINS, residual, set_prediction
from tests.numerics.reference import EXACT, derivative, distance, leaves, total

each = pytest.mark.parametrize("name", sorted(PLUGINS))


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Recipes may name them, and their definitions are known."""
    for name, definition in PLUGINS.items():
        monkeypatch.setitem(DEFINITIONS, name, definition)
    with use(plugins(*PLUGINS)):
        yield


def model_of(name: str) -> str:
    return "mlp-tanh" if name in ("set_regression", "heavy_ball") else "conv4-stride"


@each
def test_it_is_what_it_says(name: str) -> None:
    [one, *_] = [case for case in defaults_of(name) if case.model == model_of(name)]
    check_everything(make(one))
    with_options = options_of(name)
    assert {case.options for case in with_options} == set(switched(name))
    for case in with_options:
        setting = make(case)
        check_definition(setting, setting.vmap(len(setting))[0])


@pytest.mark.slow
@each
def test_it_is_with_any_option_on_any_network(name: str) -> None:
    for case in [*defaults_of(name), *options_of(name), *all_cases(name)]:
        check_everything(make(case))


@pytest.mark.slow
@each
def test_workers_and_interruptions_do_not_matter(
    name: str,
    run_group: RunGroup,  # noqa: F811
) -> None:
    options = (("distractors", True),) if name == "refined_prototypes" else ()
    check_workers(case_of(name, model_of(name), "loop", options), run_group)
    check_workers(case_of(name, model_of(name), "vmap", options), run_group)


@each
def test_it_predicts_the_same_together(name: str) -> None:
    setting = make(Case(name, model_of(name), "none", 2)).at(phase="test", inner_steps=3)
    one_by_one = [p for task in setting.predicted(Loop()) for p in task]
    together = [p for task in setting.predicted(Vmap(len(setting))) for p in task]
    assert len(one_by_one) == len(together) == len(setting) * (4 if name == "heavy_ball" else 1)
    for one, other in zip(one_by_one, together, strict=True):
        assert one.tensors().keys() == other.tensors().keys()
        for key, value in one.tensors().items():
            torch.testing.assert_close(value, other.tensors()[key], rtol=1e-12, atol=1e-12)


# --- a planted fault in each of them, which the definition finds ----------------------------------


def first_two(adapt: Callable[..., Any]) -> Callable[..., Any]:
    """Learn from two examples only."""
    two = torch.arange(2)
    return lambda self, params, task, ctx: adapt(
        self, params, task.with_support(task.support[two]), ctx
    )


@pytest.mark.parametrize(
    ("name", "what", "fault"),
    [
        ("prototypes", "class_means", lambda means: lambda f, y, ways: f[:ways]),
        ("refined_prototypes", "squared_distances", lambda distances: torch.cdist),
        ("set_regression", "SetRegression.adapt", first_two),
        ("heavy_ball", "HeavyBall.start", lambda start: lambda self, m, adapted, c: dict(adapted)),
    ],
)
def test_a_fault_is_noticed(
    name: str, what: str, fault: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(name, model_of(name), "none", 3)
    owner: Any = registry.load(algorithms, name, "algorithm")
    *path, attribute = what.split(".")
    for step in path:
        owner = getattr(owner, step)
    monkeypatch.setattr(owner, attribute, fault(getattr(owner, attribute)))
    setting = make(case)
    with pytest.raises(AssertionError):
        check_definition(setting, setting.loop())


# --- likelihoods ----------------------------------------------------------------------------------


def reference_nll(objective: str, mean: torch.Tensor, scale: torch.Tensor, y: torch.Tensor):
    """By torch's own distributions, of standard deviation ``scale``."""
    distributions = {
        "density": lambda: torch.distributions.Normal(mean, scale),
        "laplace": lambda: torch.distributions.Laplace(mean, scale / 2**0.5),
        "student_t": lambda: torch.distributions.StudentT(5.0, mean, scale * (3 / 5) ** 0.5),
    }
    return -distributions[objective]().log_prob(y).mean()


@pytest.mark.parametrize("objective", ["density", "laplace", "student_t"])
def test_a_likelihood_trains_mean_and_scale(objective: str) -> None:
    setting = make(Case("set_regression", "mlp-tanh", "none"))
    shape = TaskShape((2,), 1)
    with use(plugins(*({objective} - {"density"}))):
        likelihood = objectives.build(objective, {}, shape)
    setting = replace(setting, algorithm=replace(setting.algorithm, objective=likelihood))  # type: ignore[type-var]
    looped = setting.loop()
    losses, gradients = [], []
    for episode in setting.episodes:
        at = leaves(setting.params)
        means, scales = zip(*set_prediction(setting.case.reference, at, episode), strict=True)
        value = reference_nll(objective, torch.stack(means), torch.stack(scales), episode.query_y)
        losses.append(value.detach())
        gradients.append(derivative(value, at))
    torch.testing.assert_close(looped.metrics["loss"], torch.stack(losses), rtol=EXACT, atol=EXACT)
    assert distance(looped.gradients, total(gradients)) <= EXACT
    assert all(bool(g.any()) for g in looped.gradients.values())
    check_same(setting.vmap(len(setting)), looped)
    check_differences(setting)


@pytest.mark.parametrize("objective", ["density", "laplace"])
def test_what_is_pooled_is_the_fraction_that_is_covered(objective: str) -> None:
    with use(plugins(*({objective} - {"density"}))):
        likelihood = objectives.build(objective, {}, TaskShape((1,), 1))
    quantile = {"density": 1.959963984540054, "laplace": 2.1183297}[objective]
    mean = torch.zeros(5, 1, dtype=torch.float64)
    inside = 2.0 * quantile * torch.tensor([0.0, 0.5, -0.9, 0.999, 1.001], dtype=torch.float64)
    prediction = Prediction(mean, scale=2.0 * torch.ones_like(mean))
    counts = likelihood.counts(prediction, Examples(mean, inside[:, None]))
    assert {name: c.dtype for name, c in counts.items()} == dict.fromkeys(counts, torch.int64)
    assert {name: tuple(c.shape) for name, c in counts.items()} == likelihood.count_shapes
    assert likelihood.pooled(counts) == {"coverage_95": 0.8}


# --- a network ------------------------------------------------------------------------------------


@each_mode(["maml", "tnet", "heavy_ball"])
def test_a_network_is_what_it_says(
    algorithm: str, norm: NormMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"width": 3, "blocks": 2}
    model = Model("residual", options, residual, "labels", (2, 8, 8), WAYS)
    monkeypatch.setitem(MODELS, "small-residual", model)
    with use(plugins("residual")):
        setting = make(Case(algorithm, "small-residual", norm, 2))
    if algorithm == "tnet":  # the reference knows no transforms of this network
        check_same(setting.vmap(2), setting.looped)
        check_differences(setting)
    else:
        check_everything(setting)


def test_its_features_are_what_enters_the_head() -> None:
    with use(plugins("residual")):
        network = backbones.build("residual", {}, TaskShape((2, 9, 9), 4, 4))
    params = network.init(Key.of("residual"))
    params["head.weight"] = Key.of("head").normal((4, 16))
    x = Key.of("images").normal((6, 2, 9, 9))
    whole = network.forward(params, x, Norm("batch", record=True))
    bare = {n: p for n, p in params.items() if not n.startswith("head.")}
    features = network.forward(bare, x, Norm("batch"), head=False)
    assert torch.equal(features.value, whole.features)
    torch.testing.assert_close(whole.features @ params["head.weight"].T, whole.value)
    assert [layer.name for layer in network.layers] == list(whole.activations)
    assert set(whole.statistics) == set(network.norm_layers)
    with use(plugins("residual")), pytest.raises(RecipeError, match="residual needs images"):
        backbones.build("residual", {}, TaskShape((5,), 4, 4))


# --- metadist check -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_a_stranger_finds_no_fault_in_them(path: Path) -> None:
    report = metadist.check(path)
    assert report.ok
    assert {finding.level for finding in report.findings} <= {"note"}, str(report)
