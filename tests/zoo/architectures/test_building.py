"""Sides of images that shrink to nothing."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from tfflows import bijectors
from zoo.architectures.building import Seeds, token_mixing

IMAGES = "glow.digits balanced.digits sylvester.digits convexp_glow.digits realnvp.digits"


@pytest.mark.parametrize("name", [*IMAGES.split(), "emerging_glow.cifar10"])
@pytest.mark.parametrize(
    "shape",
    [(6, 6, 1), (2, 2, 1), (1, 1, 1), (0, 8, 1), (8, 8, 0), (8, 8), (-8, 8, 1), (8.0, 8, 1), "88"],
)
def test_sides_that_shrink_to_nothing(name, shape):
    if name == "realnvp.digits" and shape in ((6, 6, 1), (2, 2, 1)):
        return  # One level less.
    with pytest.raises(ValueError, match=r"`image_shape` must be \(height.*image_shape=") as error:
        zoo.create(name, image_shape=shape)
    assert "Take fewer levels, or pad or resize the images" in str(error.value)


def test_tokens_are_mixed_as_an_image_or_each_by_one_matrix():
    patchify = bijectors.Patchify([4, 6, 2], 2)
    x = tf.random.stateless_normal([3, 6, 8], [1, 2])
    to_image, exponential, back = token_mixing("conv_exponential", patchify, Seeds(1), "a")
    image = exponential.forward(patchify.inverse(x))
    mixed = tfp.bijectors.Chain([back, exponential, to_image])
    np.testing.assert_allclose(mixed.forward(x), patchify.forward(image), atol=1e-6)
    flow = tfp.bijectors.Chain(token_mixing("matrix_exponential", patchify, Seeds(1), "a")[::-1])
    kernel = flow.trainable_variables[0][0, 0]
    expected = tf.einsum("ntc,dc->ntd", x, tf.linalg.expm(tf.transpose(kernel)))
    np.testing.assert_allclose(flow.forward(x), expected, rtol=1e-4, atol=1e-5)
    log_det = 6 * tf.linalg.trace(kernel)
    np.testing.assert_allclose(flow.forward_log_det_jacobian(x, 2), log_det, rtol=1e-4)
    assert token_mixing(None, patchify, Seeds(1), "a") == []
    with pytest.raises(ValueError, match="`mixing` must be None or one of conv_exponential, matri"):
        token_mixing("exponential", patchify, Seeds(1), "a")
