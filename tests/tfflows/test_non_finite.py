"""What is not finite, in data, parameters or gradients, is named."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfflows
from tests.tfflows.densities import assert_same, data, density, sgd, weights
from tfflows import FlowModel, bijectors, distributions
from tfflows.training import NonFiniteError

tfb = tfp.bijectors
tfd = tfp.distributions


def fails(model, x, match):
    """Checks that `fit` stops with the message and leaves weights and step count alone."""
    before, steps = weights(model), int(model.optimizer.iterations)
    with pytest.raises(NonFiniteError, match=match):
        model.fit(x, batch_size=len(x), verbose=0)
    assert_same(weights(model), before)
    assert int(model.optimizer.iterations) == steps


@pytest.fixture
def compiled():
    model = FlowModel(density())
    model.compile(sgd())
    return model


def test_nan_in_the_data(compiled):
    x = data(8)
    x[3, 1, 0, 1] = np.nan
    fails(compiled, x, "The data are not finite")


def test_infinity_in_the_data(compiled):
    x = data(8)
    x[0, 0, 0, 0] = np.inf
    fails(compiled, x, "The data are not finite")


@pytest.mark.parametrize(
    ("index", "name", "kind"), [(0, "norm", "ActNorm"), (2, "coupling", "Coupling")]
)
def test_nan_in_a_parameter_names_the_layer(compiled, index, name, kind):
    layer = compiled.distribution.bijector.bijector.bijectors[index]
    variable = layer.trainable_variables[0]
    variable.assign(tf.fill(variable.shape, np.nan))
    fails(compiled, data(8), rf"first layer that is not finite is '{name}' \({kind}\)")


def test_base_that_is_not_finite(compiled):
    for variable in compiled.distribution.distribution.trainable_variables:
        variable.assign(tf.fill(variable.shape, np.nan))
    fails(compiled, data(8), "base distribution's log-probability is not finite")


def test_infinite_gradient_names_the_variable():
    class Root(bijectors.FlowBijector):
        """A shift by `sqrt(0)`, whose derivative is infinite."""

        def __init__(self, weight, name="root"):
            self.weight = weight
            super().__init__(forward_min_event_ndims=1, parameters=dict(locals()), name=name)

        def _forward_and_log_det(self, x):
            return x + tf.sqrt(self.weight), tf.zeros([])

    base = distributions.standard_normal([2])
    model = FlowModel(
        tfd.TransformedDistribution(base, tfb.Invert(Root(tf.Variable(0.0)))), units="nats"
    )
    model.compile(sgd())
    fails(
        model, np.ones([4, 2], "float32"), r"The loss is finite; the gradient of '.*weight' is not"
    )


def test_check_can_be_turned_off():
    model = FlowModel(density(), check_finite=False)
    model.compile(sgd())
    x = data(8)
    x[0] = np.nan
    model.fit(x, batch_size=8, verbose=0)
    assert np.all(np.isnan(weights(model)[0]))


def test_error_is_public():
    assert issubclass(tfflows.training.NonFiniteError, ArithmeticError)
