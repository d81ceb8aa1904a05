"""Two runs of one seed end with the same weights, bit by bit, for every architecture."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.small_presets import architectures, small_arguments
from tfflows import FlowModel

ALWAYS = ("convexp_glow.digits", "gnf_convexp.mog4")  # The exponentials, where chance once was.
STEPS = 20


def small_model(name, **options):
    """Returns a `FlowModel` whose parts are all at work, and a batch."""
    entry = zoo.find(name)
    distribution = entry.build(seed=1, **small_arguments(name))
    rng = np.random.default_rng(0)
    for variable in distribution.trainable_variables:
        variable.assign_add(rng.normal(0, 0.05, variable.shape).astype("float32"))
    shape = [16, *distribution.event_shape]
    x = rng.integers(0, 16, shape) if entry.num_levels else rng.normal(size=shape)
    return FlowModel(distribution, units=entry.units, **options), tf.constant(x, distribution.dtype)


def run_twice(model, x):
    """Returns the weights after two runs from the same start, which share one graph."""
    model.compile(keras.optimizers.Adam(1e-3))
    data = tf.data.Dataset.from_tensors(x).repeat(STEPS)
    model.optimizer.build(model.trainable_weights)
    state = [*model.weights, *(v.value for v in model.optimizer.variables)]
    start, ends = [v.numpy() for v in state], []
    for _ in range(2):
        for variable, value in zip(state, start, strict=True):
            variable.assign(value)
        model.fit(data, verbose=0)
        ends.append([v.numpy() for v in state])
    assert any(np.any(a != b) for a, b in zip(start, ends[0], strict=True))
    return ends


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in ALWAYS else [pytest.mark.slow]) for n in architectures()],
)
def test_runs_end_the_same(name):
    for one, other in zip(*run_twice(*small_model(name)), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"shards": 2}, {"memory": "recompute"}, {"memory": "invert"}])
def test_runs_end_the_same_however_a_step_is_computed(options):
    for one, other in zip(*run_twice(*small_model(ALWAYS[0], **options)), strict=True):
        np.testing.assert_array_equal(one, other)
