"""condition: contexts reach every part, have gradients, and are distributions of TFP."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.tfflows.small_flows import SHAPE, coupling, images, model_of, parts
from tfflows import bijectors, condition, guide, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions


class ContextNetwork(tf.Module):
    """Shift and log-scale of two numbers, linear in a context of one."""

    def __init__(self):
        super().__init__()
        self.weight = tf.Variable([[0.5, -1.0, 0.3, 0.2]])
        self.calls = 0

    def __call__(self, a, context):
        self.calls += 1
        return context * self.weight + 0.1 * tf.reduce_sum(a, -1, keepdims=True)


def conditional(**kwargs):
    return bijectors.Coupling(
        ContextNetwork(), [4], transforms.Affine(), conditional=True, **kwargs
    )


CONTEXT = tf.constant([[-1.0], [0.5], [2.0]])


def one_by_one(flow, x):
    """`forward` of each example with a context of its own."""
    rows = [
        condition(flow, CONTEXT[i]).forward(x[i]) if isinstance(flow, tfb.Bijector) else None
        for i in range(len(x))
    ]
    return tf.stack(rows)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda a, b: bijectors.Sequential([a, tfb.Scale(2.0), b]),
        lambda a, b: tfb.Chain([a, tfb.Scale(2.0), b]),
        lambda a, b: tfb.Invert(tfb.Chain([a, bijectors.Flip(), tfb.Invert(b)])),
        lambda a, b: bijectors.Sequential([tfb.Invert(bijectors.Sequential([a, b]))]),
    ],
    ids=["sequential", "chain", "invert", "nested"],
)
def test_condition_reaches_every_part(wrap):
    first, second = conditional(), conditional(reverse=True)
    flow = wrap(first, second)
    bound = condition(flow, CONTEXT)
    assert type(bound) is type(flow)
    assert bound.experimental_batch_shape(x_event_ndims=1) == [3]
    assert {v.ref() for v in bound.trainable_variables} == {
        v.ref() for v in flow.trainable_variables
    }
    x = images(shape=[4])
    y = bound.forward(x)
    assert first.network.calls and second.network.calls
    np.testing.assert_allclose(y, one_by_one(flow, x), rtol=1e-5)
    np.testing.assert_allclose(bound.inverse(tf.identity(y)), x, rtol=1e-4, atol=1e-5)
    other = condition(flow, CONTEXT + 1).forward(x)
    assert np.all(np.any(np.abs(other - y) > 1e-3, axis=-1))


def conditional_image_coupling(shape, context_shape):
    network = networks.ConvNet(shape[-1], width=4, seed=1)
    networks.build_network(network, [*shape[:2], shape[2] // 2], context_shape)
    network.layers[-1].kernel.assign(np.full(network.layers[-1].kernel.shape, 0.1))
    return bijectors.Coupling(network, shape, transforms.Affine(), conditional=True)


def test_condition_reaches_the_levels_of_a_multi_scale_flow():
    shape = [4, 4, 1]
    levels = [
        bijectors.Sequential([bijectors.Squeeze(), conditional_image_coupling([2, 2, 4], shape)]),
        bijectors.Sequential([bijectors.Squeeze(), conditional_image_coupling([1, 1, 8], shape)]),
    ]
    flow = bijectors.MultiScale(levels, shape)
    model = model_of(tfb.Invert(flow), [16])
    x, context = images(2, shape), images(2, shape, seed=5)
    bound = condition(model, context)
    assert bound.batch_shape == [2]
    assert bound.event_shape == shape
    log_prob = bound.log_prob(x)
    for i in range(2):
        alone = condition(model, context[i]).log_prob(x[i])
        np.testing.assert_allclose(log_prob[i], alone, rtol=1e-4)
    latents = condition(flow, context).forward(x)
    moved = np.any(latents != condition(flow, context + 1.0).forward(x), axis=0)
    # Both levels: half of the first level's four channels, half of the second's eight.
    assert moved[: flow.latent_sizes[0]].any()
    assert moved[flow.latent_sizes[0] :].any()


def test_conditioned_distribution_samples_for_every_context():
    model = model_of(bijectors.Sequential([conditional(), tfb.Shift(1.0)]), [4])
    bound = condition(model, CONTEXT)
    assert bound.batch_shape == [3]
    x = bound.sample(5, seed=1)
    assert x.shape == [5, 3, 4]
    log_prob = bound.log_prob(x)
    assert log_prob.shape == [5, 3]
    alone = condition(model, CONTEXT[1]).log_prob(x[:, 1])
    np.testing.assert_allclose(log_prob[:, 1], alone, rtol=1e-5)
    # The original is as it was: without a context.
    with pytest.raises(ValueError, match=r"has no context: bind one with `tfflows\.condition"):
        model.log_prob(x)


def test_conditional_flow_without_context_names_the_layer():
    flow = bijectors.Sequential([conditional(name="second_coupling")])
    with pytest.raises(ValueError, match="`Coupling` named 'second_coupling' is conditional"):
        flow.forward(tf.zeros([3, 4]))


def test_condition_refuses_what_takes_no_context():
    for model in (coupling(), bijectors.Sequential(parts()), tfd.Normal(0.0, 1.0)):
        with pytest.raises(ValueError, match="`model` must have a conditional part"):
            condition(model, CONTEXT)


def test_context_gets_gradients():
    flow = bijectors.Sequential([conditional()])
    context = tf.Variable(CONTEXT)

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(condition(flow, tf.identity(context)).forward(x) ** 2)
        return tape.gradient(loss, [context, *flow.trainable_variables])

    for gradient in gradients(images(shape=[4])):
        assert np.any(gradient != 0)


def test_mixture_of_conditioned_flows():
    model = model_of(tfb.Invert(conditional()), [4])
    components = condition(model, CONTEXT)
    mixture = tfd.MixtureSameFamily(tfd.Categorical(probs=[0.2, 0.3, 0.5]), components)
    x = images(shape=[4])
    parts_ = np.stack([condition(model, c).log_prob(x) for c in CONTEXT])
    expected = np.log(np.sum(np.exp(parts_) * [[0.2], [0.3], [0.5]], axis=0))
    np.testing.assert_allclose(mixture.log_prob(x), expected, rtol=1e-5)
    assert mixture.sample(7, seed=1).shape == [7, 4]


def test_joint_and_independent_distributions():
    model = model_of(tfb.Invert(coupling()), SHAPE)
    joint = tfd.JointDistributionSequential(
        [model, lambda z: tfd.Independent(tfd.Normal(z, 1.0), 3)]
    )
    z, x = joint.sample(2, seed=[1, 2])
    expected = model.log_prob(z) + tf.reduce_sum(tfd.Normal(z, 1.0).log_prob(x), [1, 2, 3])
    np.testing.assert_allclose(joint.log_prob(z, x), expected, rtol=1e-5)
    batch = condition(model_of(conditional(), [4]), CONTEXT)
    together = tfd.Independent(batch, 1)
    y = images(shape=[4])
    np.testing.assert_allclose(together.log_prob(y), np.sum(batch.log_prob(y)), rtol=1e-5)


def autoregressive():
    network = networks.MaskedMLP(num_dims=4, num_params=2, context_size=1, seed=1, width=8)
    networks.build_network(network, [4], [1])
    affine = transforms.Affine()
    flow = bijectors.Autoregressive(network, [4], affine, conditional=True, context_ndims=1)
    for variable in flow.trainable_variables:
        variable.assign_add(0.3 * tf.random.stateless_normal(variable.shape, [1, 2]))
    return flow


@pytest.mark.parametrize("null", [None, [3.0]])
@pytest.mark.parametrize("make", [lambda: conditional(context_ndims=1), autoregressive])
def test_guidance_goes_on_from_no_context_past_the_context(make, null):
    flow, weight = make(), 1.5
    x = tf.random.stateless_normal([3, 4], [1, 2])
    guided = guide(flow, CONTEXT, weight, null)
    nothing = tf.zeros([1]) if null is None else tf.constant(null)

    def parameters(context):
        moving = x[:, :2] if isinstance(flow, bijectors.Coupling) else x
        return flow.network(moving, tf.broadcast_to(context, [3, 1]))

    h = parameters(CONTEXT) + weight * (parameters(CONTEXT) - parameters(nothing))
    moved = x[:, 2:] if isinstance(flow, bijectors.Coupling) else x
    move = flow.transform.move_channels if h.shape.rank == 2 else flow.transform.move
    expected, log_slopes = move(moved, h, inverse=False)
    y = guided.forward(x)
    np.testing.assert_allclose(y[:, -expected.shape[1] :], expected, rtol=1e-5, atol=1e-6)
    log_det = guided.forward_log_det_jacobian(x, 1)
    np.testing.assert_allclose(log_det, tf.reduce_sum(log_slopes, 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(guided.inverse(tf.identity(y)), x, atol=1e-4)
    np.testing.assert_allclose(guide(flow, CONTEXT, 0.0).forward(x), condition(flow, CONTEXT)(x))
    assert len(guided.trainable_variables) == len(flow.trainable_variables)


def test_guidance_is_one_more_flow():
    """It has a density and gradients, whatever it is part of; copies are guided, too."""
    hats = [networks.build_network(networks.MLP(10, seed=s), [2], [1]) for s in (1, 2)]
    dual = bijectors.DualAffineCoupling(hats, [4], conditional=True, context_ndims=1)
    flow = bijectors.Sequential([conditional(context_ndims=1), bijectors.Block([dual])])
    base = tfd.MultivariateNormalDiag(tf.zeros([4]))
    model = tfd.TransformedDistribution(base, tfb.Invert(flow))
    x = tf.random.stateless_normal([3, 4], [1, 2])

    @tf.function(jit_compile=True)
    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(guide(model, CONTEXT, 2.0).log_prob(x))
        return loss, tape.gradient(loss, model.trainable_variables)

    loss, found = gradients(x)
    assert all(np.all(np.isfinite(part)) for part in found)
    guided = guide(model, CONTEXT, 2.0)
    np.testing.assert_allclose(loss, tf.reduce_sum(guided.log_prob(x)), rtol=1e-5)
    np.testing.assert_allclose(guided.copy().log_prob(x), guided.log_prob(x))
    assert np.all(guided.log_prob(x) != condition(model, CONTEXT).log_prob(x))


def test_what_can_not_be_guided_is_refused():
    for weight in (-1.0, float("nan"), float("inf"), "1", True, None):
        with pytest.raises(ValueError, match="`weight` must be a number, 0 or more. Received"):
            guide(conditional(), CONTEXT, weight)
    with pytest.raises(ValueError, match="`model` must have a conditional part"):
        guide(bijectors.Flip(), CONTEXT, 1.0)
    with pytest.raises(ValueError, match=r"`null` must have shape \[\.\.\., 1\]"):
        guide(autoregressive(), CONTEXT, 1.0, null=[1.0, 2.0])
    with pytest.raises(ValueError, match="`null` must be given for contexts that are integers"):
        guide(conditional(), [[1], [0], [2]], 1.0)
    network = networks.LipschitzNet(4, width=4, seed=1, context_size=1)
    networks.build_network(network, [4], [1])
    flow = bijectors.ResidualFlow(network, [4], conditional=True, context_ndims=1)
    with pytest.raises(ValueError, match="to be guided. Received: a conditional ResidualFlow"):
        guide(flow, CONTEXT, 1.0)
