"""ActNorm: what batches it may be initialised with."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp

from tfflows import FlowModel, bijectors, distributions, evaluation

tfb = tfp.bijectors
tfd = tfp.distributions


def batch(*deviations, mean=5.0):
    """A batch `[1000, C]` with a mean and a deviation in each channel."""
    z = np.random.default_rng(0).normal(size=[1000, len(deviations)])
    return (mean + z * deviations).astype("float32")


@pytest.mark.parametrize("mean", [0.0, 0.1, 5.0, 1000.0])
@pytest.mark.parametrize("deviations", [(1e-9, 2e-9), (1.0, 1e-4), (1e6, 30.0)])
def test_channels_that_vary_become_standard_whatever_their_unit(deviations, mean):
    x = batch(*deviations, mean=mean * min(deviations))
    norm = bijectors.ActNorm.trainable([2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        norm.initialize(x)
    y = norm.forward(x).numpy()
    np.testing.assert_allclose(y.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(y.std(axis=0), 1.0, rtol=1e-3)


@pytest.mark.parametrize("mean", [0.0, 0.1, 5.0, 1000.0])
def test_a_constant_channel_gets_the_scale_of_the_one_that_varies_most(mean):
    x = batch(0.5, 0.0, 2.0, mean=mean)
    norm = bijectors.ActNorm.trainable([3], name="norm_7")
    with pytest.warns(UserWarning, match=r"^Channel\(s\) 1, 1 in all, .* 'norm_7' are constant"):
        norm.initialize(x)
    scale = np.exp(norm.trainable_variables[0])
    np.testing.assert_allclose(scale[1], 1 / x[:, 2].std(), rtol=1e-3)
    np.testing.assert_allclose(norm.forward(x).numpy()[:, 1], 0.0, atol=1e-3)


def test_a_batch_of_constants_keeps_its_scale():
    norm = bijectors.ActNorm.trainable([2])
    with pytest.warns(UserWarning, match=r"Channel\(s\) 0, 1, 2 in all"):
        norm.initialize(np.full([1, 2], 3.0, "float32"))
    np.testing.assert_array_equal(norm.trainable_variables[0], [0.0, 0.0])


def test_a_channel_that_is_constant_at_first_trains():
    base = distributions.trainable_normal([2])
    norm = bijectors.ActNorm.trainable([2])
    trained = FlowModel(tfd.TransformedDistribution(base, tfb.Invert(norm)), units="nats")
    with pytest.warns(UserWarning, match="are constant in the batch"):
        trained.initialize(batch(1.0, 0.0))
    trained.compile(keras.optimizers.Adam(0.01))
    losses = trained.fit(batch(1.0, 1.0), epochs=2, verbose=0).history["nats"]
    assert max(losses) < np.log(2 * np.pi * np.e) + 0.1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_are_named(value):
    x = np.ones([6, 2], "float32")
    x[4, 1] = value
    flow = bijectors.ActNorm.trainable([2])
    trained = FlowModel(
        tfd.TransformedDistribution(distributions.standard_normal([2]), tfb.Invert(flow))
    )
    for initialize in (
        flow.initialize,
        trained.initialize,
        lambda x: evaluation.initialize(flow, x),
        lambda x: evaluation.initialize(tfb.Scale(2.0), x),
    ):
        with pytest.raises(ValueError, match=r"must be finite\. .* 1 row\(s\) of .*, number 4\."):
            initialize(x)
    assert not any(np.any(v) for v in flow.trainable_variables)


def test_what_a_layer_makes_of_a_row_is_named_with_the_layer():
    flow = bijectors.Sequential([tfb.Log(), bijectors.ActNorm.trainable([2], name="second")])
    x = np.ones([6, 2], "float32")
    x[3, 0] = -1.0
    with pytest.raises(ValueError, match="1 row.* of what reaches 'second', number 3"):
        evaluation.initialize(flow, x)
