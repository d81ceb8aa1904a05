"""Images whose size a graph does not know."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.bijectors.mixing_convs import DTYPE, emerging, moved, periodic
from tfflows import bijectors, evaluation
from tfflows.evaluation import inverse_and_log_det


@pytest.mark.parametrize(
    "flow",
    [
        emerging(),
        periodic(),
        moved(bijectors.ConvExponential.trainable([3, 4, 2], seed=1, dtype=DTYPE)),
        moved(bijectors.ConvExponential.trainable([3, 4, 2], max_norm=None, seed=1, dtype=DTYPE)),
    ],
    ids=["emerging", "periodic", "exponential", "exponential_without_a_cap"],
)
def test_images_whose_size_is_not_known(flow):
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, log_det = evaluation.forward_and_log_det(flow, x)
            back, _ = inverse_and_log_det(flow, tf.identity(y))
            loss = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(tf.sin(back)) + log_det
        return y, log_det, back, tape.gradient(loss, x)

    any_size = tf.function(run, input_signature=[tf.TensorSpec([None, None, None, 2], DTYPE)])
    for size in ((3, 4), (2, 5)):
        x = tf.constant(np.random.default_rng(0).normal(size=[2, *size, 2]))
        for actual, desired in zip(any_size(x), run(x), strict=True):
            np.testing.assert_allclose(actual, desired, atol=1e-11)


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (
            bijectors.ConvExponential(tf.zeros([3, 3, 2, 2]), padding="periodic"),
            r"needs images of known size\. Received: image size \(None, None\)",
        ),
        (bijectors.Squeeze(), "`Squeeze` needs static event shapes"),
        (
            bijectors.StridedConv.trainable([None, None, 2], stride=2),
            "`Squeeze` needs static event shapes",
        ),
    ],
)
def test_bijectors_that_need_the_size_say_so(flow, message):
    function = tf.function(flow.forward, input_signature=[tf.TensorSpec([None, None, None, 2])])
    with pytest.raises(ValueError, match=message):
        function(tf.ones([1, 4, 4, 2]))
