"""TarFlow: its parts, sizes, round trip, log-det and what it refuses."""

import numpy as np
import pytest
import tensorflow as tf

import zoo
from tests.small_presets import small_arguments
from tests.zoo.weightless import size, weightless
from tfflows import bijectors, evaluation
from tfflows.evaluation.parts import rebuild
from zoo.architectures.building import ImageShapeError


def moved(name, **changes):
    """A small model, with weights that are not those of the start."""
    model = zoo.create(name, seed=1, **{**small_arguments(name), **changes})
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(rng.normal(0, 0.1, variable.shape))
    return model


def test_parts_are_those_of_the_paper():
    flow = moved("tarflow.digits").bijector.bijector
    kinds = [type(part).__name__ for part in flow.bijectors]
    assert kinds == ["NormalizeImage", "Patchify", "ActNorm", "Block", "Block"]
    assert [type(part).__name__ for part in flow.bijectors[-1].parts] == ["Autoregressive", "Flip"]
    assert flow.repeats == ((3, 1, 2),)


@pytest.mark.parametrize(
    ("clip", "positions"), [pytest.param(None, "learned", marks=pytest.mark.slow), (0.5, "rotary")]
)
def test_log_det_is_that_of_the_dense_jacobian(clip, positions):
    flow = moved("tarflow.digits", clip=clip, positions=positions).bijector.bijector
    x = tf.constant(np.random.default_rng(0).uniform(0, 16, [2, 4, 4, 1]), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, log_det = evaluation.forward_and_log_det(flow, x)
    jacobian = tf.reshape(tape.batch_jacobian(y, x), [2, 16, 16])
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], rtol=1e-4)
    with evaluation.looping():
        looped = tf.function(lambda x: evaluation.forward_and_log_det(flow, x))(x)
    for one, other in zip(looped, (y, log_det), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("tarflow.digits", 118_696),
        pytest.param("tarflow.mnist_by_class", 427_680, marks=pytest.mark.slow),
        pytest.param("tarflow.cifar10_small", 975_456, marks=pytest.mark.slow),
        pytest.param("tarflow.table", 102_412, marks=pytest.mark.slow),
    ],
)
def test_number_of_parameters(name, count):
    assert size(zoo.create(name)) == count


@pytest.mark.slow
def test_the_model_of_the_paper_is_counted_without_making_its_weights(monkeypatch):
    """460 million, of which 453.6 are in the 64 layers: pages that nobody writes to take none."""
    width, tokens, entries = 768, 1024, 12
    layers = 64 * (12 * width**2 + 13 * width)
    ends = 8 * (width * (entries + 1 + tokens) + 2 * entries * (width + 1)) + 2 * entries
    assert size(weightless(monkeypatch, "tarflow.imagenet64")) == layers + ends == 460_142_808


def test_images_that_can_not_be_cut():
    with pytest.raises(
        ImageShapeError, match=r"divisible by 4 for patches of 4x4, of which \(32, 2"
    ) as e:
        zoo.create("tarflow.cifar10_small", image_shape=(30, 28, 3))
    assert e.value.nearest == (32, 28, 3)
    with pytest.raises(ImageShapeError, match="Take another patch, or pad"):
        zoo.with_image_size(zoo.find("tarflow.mnist_by_class"), 30, 30)
    for patch in (0, -1, 2.0, True):
        with pytest.raises(
            ValueError,
            match="`patch` must (be an? (positive )?integer|not be negative). Received: patch",
        ):
            zoo.create("tarflow.digits", patch=patch)


@pytest.mark.slow
def test_trained_weights_come_back_both_ways():
    model = zoo.create("tarflow.digits", pretrained=True)
    flow, x = model.bijector.bijector, model.sample(5, seed=1)
    y = tf.function(flow.forward)(x)
    for inversion in ("parallel", "sequential"):

        def change(part, inversion=inversion):
            return {"inversion": inversion} if isinstance(part, bijectors.Autoregressive) else {}

        back = tf.function(rebuild(flow, changes=change).inverse, autograph=False)(y)
        np.testing.assert_allclose(back / 17, x / 17, atol=1e-5)
