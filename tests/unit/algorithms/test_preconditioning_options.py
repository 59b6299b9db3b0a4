"""Options and learned quantities of Meta-SGD, Meta-Curvature, T-net and MT-net."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch

from metadist.algorithms import options
from metadist.algorithms.tnet import Transformed
from metadist.errors import RecipeError
from tests.numerics.preconditioning_models import CONV, KEY, LR, mlp


def test_step_sizes_start_where_the_options_say():
    constant, _ = CONV.learner("meta_sgd", 1)
    uniform, _ = CONV.learner("meta_sgd", 1, init="uniform", low=0.02, high=0.03)
    for name, p in constant.init(KEY).items():
        if name.startswith("rule."):
            assert bool((p == torch.tensor(LR)).all())
            drawn = uniform.init(KEY)[name]
            assert 0.02 <= float(drawn.min()) < float(drawn.max()) <= 0.03
    with pytest.raises(RecipeError, match="low must be below high, got low = 0"):
        options("meta_sgd", {"init": "uniform", "low": 0.2, "high": 0.1})


def test_each_parameter_has_the_matrices_of_its_variant():
    names = {
        variant: {
            n.rpartition(".")[2]
            for n in CONV.learner("meta_curvature", 1, variant=variant)[0].init(KEY)
            if n.startswith("rule.")
        }
        for variant in ("mc1", "mc2")
    }
    assert names == {"mc1": {"in", "kernel", "vector"}, "mc2": {"out", "in", "kernel", "vector"}}
    shapes = {
        n.removeprefix("rule."): tuple(p.shape)
        for n, p in CONV.learner("meta_curvature", 1)[0].init(KEY).items()
    }
    assert shapes["conv1.weight.out"] == (4, 4)
    assert shapes["conv1.weight.in"] == (1, 1)
    assert shapes["conv1.weight.kernel"] == (9, 9)
    assert shapes["head.weight.in"] == (4, 4)
    assert "head.weight.kernel" not in shapes


def test_a_tnet_refuses_a_network_without_a_hook():
    class Plain:
        def forward(self, params, x, norm, trace=None):
            return x, {}

    with pytest.raises(RecipeError, match=r"takes a layer_hook, which Plain does not"):
        Transformed(cast(Any, Plain()))


def test_quantities_say_what_was_learned():
    sizes, _ = mlp(1).learner("meta_sgd", 1)
    params = sizes.init(KEY)
    params["rule.linear2.weight.step_size"] = torch.tensor([[-1.0, 0.5, 2.0]])
    found = sizes.learned_quantities(params)
    assert found["step_size_mean"]["linear2.weight"] == [0.5]
    assert found["step_size_min"]["linear2.weight"] == [-1.0]
    assert found["step_size_max"]["linear2.weight"] == [2.0]

    masks, _ = mlp(1).learner("mtnet", 1)
    params = masks.init(KEY)
    params["rule.linear2.logits"] = torch.tensor([math.log(3.0)], dtype=torch.float64)
    params["linear1.transform"] = torch.tensor([[0.0, 3.0], [0.5, 0.0]])
    found = masks.learned_quantities(params)
    # The probability of being updated, not its complement.
    assert found["p_update"] == {"linear1": [0.5], "linear2": [pytest.approx(0.75)]}
    assert found["transform_smallest"]["linear1"] == [pytest.approx(0.5)]
    assert found["transform_largest"]["linear1"] == [pytest.approx(3.0)]
    plain, _ = mlp(1).learner("mtnet", 1, transform=False)
    assert set(plain.learned_quantities(plain.init(KEY))) == {"p_update"}

    curved, _ = mlp(1).learner("meta_curvature", 1)
    params = curved.init(KEY)
    params["rule.linear1.weight.in"] = torch.diag(torch.tensor([-4.0, 0.25]))
    params["rule.linear2.bias.vector"] = torch.tensor([-2.0])
    found = curved.learned_quantities(params)
    assert found["curvature_smallest"]["linear1.weight.in"] == [pytest.approx(0.25)]
    assert found["curvature_largest"]["linear1.weight.in"] == [pytest.approx(4.0)]
    assert found["curvature_largest"]["linear2.bias.vector"] == [2.0]
