"""A metric's name means nothing else in tables, records and results."""

from __future__ import annotations

import pytest
import torch

from metadist import objectives
from metadist.errors import PluginError
from metadist.objectives import Metric
from metadist.objectives.regression import Regression
from metadist.tasks import TaskShape

VALUES = TaskShape((2,), 1)


@pytest.mark.parametrize("name", ["loss", "failed", "ci95", "step", "mse_15q", "Brier", "", "a b"])
def test_a_metric_that_means_something_else_is_refused(name, monkeypatch):
    monkeypatch.setattr(Regression, "metrics", (Metric(name, "mine", higher_is_better=False),))
    with pytest.raises(PluginError, match="a metric needs a name of its own"):
        objectives.build("", {}, VALUES)


@pytest.mark.parametrize("found", [{"ci95": 1.0}, {"mse": 1.0}, {"a": torch.tensor(1.0)}])
def test_pooled_numbers_have_names_of_their_own(found, monkeypatch):
    monkeypatch.setattr(Regression, "pooled", lambda self, sums: found)
    with pytest.raises(PluginError, match=r"pooled\(\)"):
        Regression().checked_pooled({})
