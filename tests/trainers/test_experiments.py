"""Names of the runs of experiments, and sizes of their models."""

import json
import math

import pytest

import zoo
from trainers import experiments


def test_names_of_runs_differ():
    for make in experiments.EXPERIMENTS.values():
        names = [r.name for r in make()]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "change", ["wide first", "narrow first", "splines", "mixtures", "flow dequantiser"]
)
def test_changes_that_are_compared_keep_the_number_of_parameters(change):
    (run,) = (r for r in experiments.improvements(seeds=(0,)) if r.labels["change"] == change)
    given = [flag.removeprefix("--set=") for flag in run.flags if flag.startswith("--set=")]
    arguments = {name: json.loads(value) for name, value in (text.split("=") for text in given)}
    model = zoo.create("convexp_glow.cifar10_small", discrete=True, **arguments)
    count = sum(math.prod(v.shape) for v in model.trainable_variables)
    assert count == pytest.approx(743_844, rel=0.01)
