"""Flows inside of TFP: slices, mixtures, joint distributions, maps, MCMC, variational fits."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, condition, distributions, evaluation, networks
from tfflows.bijectors import transforms

tfb = tfp.bijectors
tfd = tfp.distributions

CONTEXT = tf.constant(np.random.default_rng(1).normal(size=[3, 2]), tf.float32)


def mlp(inputs, outputs, seed, context=None):
    network = networks.MLP(outputs, width=8, seed=seed)
    return networks.build_network(network, inputs, context)


def perturb(model):
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign_add(0.3 * rng.normal(size=variable.shape))
    return model


def coupling(seed, **kwargs):
    return bijectors.Coupling(mlp([1], 2, seed), [2], transforms.Affine(), **kwargs)


def conditional(kind="sequential"):
    """A flow of events [4] or [4, 4, 1], conditional on a vector [2]."""
    options = {"conditional": True, "context_ndims": 1}
    if kind == "multi_scale":
        return bijectors.MultiScale(
            [
                bijectors.Sequential(
                    [
                        bijectors.Squeeze(),
                        bijectors.Coupling(
                            mlp([*shape[:2], shape[2] // 2], shape[2], 1, [2]),
                            shape,
                            transforms.Affine(),
                            **options,
                        ),
                    ]
                )
                for shape in ([2, 2, 4], [1, 1, 8])
            ],
            [4, 4, 1],
        )
    if kind == "dual":
        return bijectors.DualAffineCoupling(
            [mlp([2], 2 * 5, seed, [2]) for seed in (1, 2)], [4], **options
        )
    couplings = {
        "sequential": lambda: bijectors.Coupling(
            mlp([2], 4, 1, [2]), [4], transforms.Affine(), **options
        ),
        "spline": lambda: bijectors.Coupling(
            mlp([2], 2 * 11, 1, [2]), [4], transforms.RationalQuadratic(4), **options
        ),
        "mixture": lambda: bijectors.Coupling(
            mlp([2], 2 * 11, 1, [2]), [4], transforms.LogisticMixture(3), **options
        ),
    }
    return bijectors.Sequential(
        [
            bijectors.ActNorm.trainable([4]),
            couplings[kind](),
            bijectors.InvertibleConv1x1.trainable([4], seed=1),
        ]
    )


def flow():
    return perturb(bijectors.Sequential([coupling(1), bijectors.Flip(event_ndims=1), coupling(2)]))


def model_of(bijector, shape):
    return tfd.TransformedDistribution(distributions.standard_normal(shape), tfb.Invert(bijector))


@pytest.fixture
def model():
    return perturb(model_of(conditional(), [4]))


def events(batch, shape=(4,), seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=[*batch, *shape]), tf.float32)


def one_by_one(model, x):
    """`log p(x | context)` for each of the contexts, `[3, ...]`."""
    return np.stack([condition(model, context).log_prob(x) for context in CONTEXT])


# Batches.


@pytest.mark.parametrize("kind", ["sequential", "spline", "mixture", "dual", "multi_scale"])
def test_a_slice_is_the_distribution_given_that_context(kind):
    shape, latent = ([4, 4, 1], [16]) if kind == "multi_scale" else ([4], [4])
    model = perturb(model_of(conditional(kind), latent))
    batch, x = condition(model, CONTEXT), events([5], shape)
    expected = one_by_one(model, x)
    for index in (1, -1):
        assert batch[index].batch_shape == []
        np.testing.assert_allclose(batch[index].log_prob(x), expected[index], rtol=1e-4)
    two = batch[1:]
    assert two.batch_shape == [2]
    np.testing.assert_allclose(two.log_prob(x[:, tf.newaxis]), expected[1:].T, rtol=1e-4)
    column = batch[:, tf.newaxis]
    assert column.batch_shape == [3, 1]
    np.testing.assert_allclose(column.log_prob(x), expected, rtol=1e-4)
    assert len(batch[1].trainable_variables) == len(model.trainable_variables)


def test_a_slice_has_gradients_to_the_variables(model):
    with tf.GradientTape() as tape:
        loss = condition(model, CONTEXT)[0].log_prob(tf.ones([4]))
    assert all(g is not None for g in tape.gradient(loss, model.trainable_variables))


def test_parameters_of_a_batch_are_sliced_and_broadcast():
    shift, x = tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.zeros([2])
    batch = model_of(bijectors.ActNorm(shift, tf.zeros([2]), event_ndims=1), [2])
    assert batch.batch_shape == [2]
    assert batch.batch_shape_tensor().numpy().tolist() == [2]
    expected = [-np.log(2 * np.pi) - 2.5, -np.log(2 * np.pi) - 12.5]
    np.testing.assert_allclose(batch.log_prob(x), expected, rtol=1e-6)
    np.testing.assert_allclose(batch[1].log_prob(x), expected[1], rtol=1e-6)
    np.testing.assert_allclose(
        tfd.BatchBroadcast(batch, [3, 2]).log_prob(x)[2], expected, rtol=1e-6
    )


@pytest.mark.parametrize("jit", [False, True])
def test_the_batch_of_contexts_may_be_unknown(model, jit):
    if jit:  # XLA knows all sizes.
        function = tf.function(lambda c, x: condition(model, c).log_prob(x), jit_compile=True)
    else:
        specs = [tf.TensorSpec([None, 2]), tf.TensorSpec([None, 1, 4])]
        function = tf.function(lambda c, x: condition(model, c).log_prob(x), input_signature=specs)
    x = events([5, 1])
    expected = one_by_one(model, x[:, 0]).T
    np.testing.assert_allclose(function(CONTEXT, x), expected, rtol=1e-4)
    sample = tf.function(
        lambda c: condition(model, c).sample(2, seed=[1, 2]),
        input_signature=[tf.TensorSpec([None, 2])],
    )
    draws = sample(CONTEXT)
    assert draws.shape == [2, 3, 4]
    np.testing.assert_allclose(draws, condition(model, CONTEXT).sample(2, seed=[1, 2]), rtol=1e-4)


def test_act_norm_of_a_batch_of_unknown_size():
    @tf.function(input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec([None, 2, 2, 3])])
    def forward(shift, x):
        return bijectors.ActNorm(shift, tf.zeros([3])).forward(x)

    shift, x = events([4], [3]), events([4], [2, 2, 3])
    np.testing.assert_allclose(forward(shift, x), x + shift[:, tf.newaxis, tf.newaxis], rtol=1e-6)


@pytest.mark.parametrize("kind", ["dense", "householder", "triangular"])
def test_a_sylvester_posterior_of_a_batch_of_unknown_size(kind):
    build = getattr(bijectors.Sylvester, kind)

    def draw(h):
        r1, r2, columns, bias = tf.unstack(tf.reshape(h, [-1, 4, 4, 4]), axis=1)
        first = () if kind == "triangular" else (columns,)
        layer = build(*first, r1, r2, bias[:, 0])
        posterior = tfd.TransformedDistribution(distributions.standard_normal([4]), layer)
        z, log_q = posterior.experimental_sample_and_log_prob(2, seed=[1, 2])
        return z, log_q, posterior.log_prob(tf.identity(z))

    h = events([3], [64])
    expected = draw(h)
    actual = tf.function(draw, input_signature=[tf.TensorSpec([None, 64])])(h)
    assert actual[0].shape == [2, 3, 4]
    assert np.all(np.diff(actual[0], axis=1) != 0)  # Noise of its own for each of the batch.
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(actual[1], actual[2], rtol=1e-4, atol=1e-4)


# In distributions of TFP.


def test_mixture_of_flows_classifies_a_batch_of_unknown_size(model):
    probs = np.array([0.2, 0.3, 0.5])
    mixture = tfd.MixtureSameFamily(
        tfd.Categorical(probs=probs.astype("float32")), condition(model, CONTEXT)
    )
    x = events([5])
    joint = np.exp(one_by_one(model, x)) * probs[:, np.newaxis]
    spec = [tf.TensorSpec([None, 4])]
    log_prob = tf.function(mixture.log_prob, input_signature=spec)
    np.testing.assert_allclose(log_prob(x), np.log(joint.sum(0)), rtol=1e-4)
    posterior = tf.function(
        lambda x: mixture.posterior_marginal(x).probs_parameter(), input_signature=spec
    )
    np.testing.assert_allclose(posterior(x), (joint / joint.sum(0)).T, rtol=1e-3, atol=1e-6)
    unlike = tfd.Mixture(
        tfd.Categorical(probs=probs.astype("float32")), [condition(model, c) for c in CONTEXT]
    )
    np.testing.assert_allclose(unlike.log_prob(x), np.log(joint.sum(0)), rtol=1e-4)


def test_sample_and_batch_reshape(model):
    batch, x = condition(model, CONTEXT), events([6, 3, 5])
    expected = np.stack([condition(model, c).log_prob(x[:, i]) for i, c in enumerate(CONTEXT)], 1)
    repeated = tfd.Sample(batch, [5])
    np.testing.assert_allclose(repeated.log_prob(x), expected.sum(-1), rtol=1e-4)
    draws, log_prob = repeated.experimental_sample_and_log_prob(2, seed=1)
    np.testing.assert_allclose(repeated.log_prob(tf.identity(draws)), log_prob, rtol=1e-4)
    reshaped = tfd.BatchReshape(batch, [3, 1])
    np.testing.assert_allclose(reshaped.log_prob(x[:, :, :1])[:, :, 0], expected[..., 0], rtol=1e-4)


def test_flow_in_an_auto_batched_joint_distribution(model):
    @tfd.JointDistributionCoroutineAutoBatched
    def joint():
        context = yield tfd.Sample(tfd.Normal(0.0, 1.0), 2, name="context")
        z = yield tfd.TransformedDistribution(condition(model, context), tfb.Scale(2.0), name="z")
        yield tfd.Independent(tfd.Normal(z, 1.0), 1, name="x")

    draws = joint.sample(6, seed=1)
    assert draws.x.shape == [6, 4]
    expected = (
        tf.reduce_sum(tfd.Normal(0.0, 1.0).log_prob(draws.context), -1)
        + condition(model, draws.context).log_prob(draws.z / 2)
        - 4 * np.log(2.0)
        + tf.reduce_sum(tfd.Normal(draws.z, 1.0).log_prob(draws.x), -1)
    )
    np.testing.assert_allclose(joint.log_prob(draws), expected, rtol=1e-4)


def test_kl_divergence_of_the_same_flow_is_that_of_the_bases():
    bijector = tfb.Invert(flow())
    bases = [tfd.MultivariateNormalDiag(loc) for loc in ([0.0, 0.0], [1.0, 2.0])]
    first, second = (tfd.TransformedDistribution(base, bijector) for base in bases)
    np.testing.assert_allclose(tfd.kl_divergence(first, second), 2.5, rtol=1e-6)


# In bijectors of TFP.


def test_parts_between_the_ends_of_a_sequential_may_be_several_tensors():
    parts = [flow(), tfb.Scale(2.0)]
    split = tfb.Split([2, 2])
    both = bijectors.Sequential([split, tfb.JointMap(parts), tfb.Invert(split)])
    x = events([5])
    y = both.forward(x)
    expected = tf.concat([parts[0].forward(x[:, :2]), 2 * x[:, 2:]], -1)
    np.testing.assert_allclose(y, expected, rtol=1e-5)
    np.testing.assert_allclose(both.inverse(tf.identity(y)), x, atol=1e-4)
    log_det = parts[0].forward_log_det_jacobian(x[:, :2]) + 2 * np.log(2.0)
    np.testing.assert_allclose(both.forward_log_det_jacobian(x), log_det, rtol=1e-4)


@pytest.mark.parametrize("invert", [False, True])
def test_several_tensors_at_an_end_of_a_sequential_are_refused(invert):
    split = tfb.Invert(tfb.Split([1, 1])) if invert else tfb.Split([1, 1])
    with pytest.raises(ValueError, match=r"must map one `Tensor` to one: put .*`tfb.Chain`.*Rec"):
        bijectors.Sequential([split])


# Under transformations of TensorFlow.


@pytest.mark.parametrize("kind", ["sequential", "spline", "mixture"])
def test_vectorised_map_and_forward_mode(kind):
    model = condition(perturb(model_of(conditional(kind), [4])), CONTEXT[0])
    x = events([5])

    def gradient(x):
        return tfp.math.value_and_gradient(model.log_prob, x)[1]

    np.testing.assert_allclose(tf.vectorized_map(gradient, x), gradient(x), rtol=1e-3, atol=1e-4)
    with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as accumulator:
        log_prob = model.log_prob(x)
    expected = tf.reduce_sum(gradient(x), -1)
    np.testing.assert_allclose(accumulator.jvp(log_prob), expected, rtol=1e-3, atol=1e-4)


def test_vectorised_map_over_contexts(model):
    x = events([5])
    mapped = tf.vectorized_map(lambda c: condition(model, c).log_prob(x), CONTEXT)
    np.testing.assert_allclose(mapped, one_by_one(model, x), rtol=1e-4)


# Inference.


def test_a_flow_is_a_preconditioner_of_mcmc():
    # In the latent space of its own density the target is the base: the same chain, seen there.
    base, to_data = distributions.standard_normal([2]), tfb.Invert(flow())
    target = tfd.TransformedDistribution(base, to_data)

    def chain(log_prob, start, bijector):
        kernel = tfp.mcmc.HamiltonianMonteCarlo(log_prob, step_size=0.5, num_leapfrog_steps=3)
        kernel = tfp.mcmc.TransformedTransitionKernel(kernel, bijector)
        sample = tf.function(tfp.mcmc.sample_chain, autograph=False)
        return sample(20, start, kernel=kernel, trace_fn=None, seed=[1, 2])

    start = events([3], [2])
    expected = to_data.forward(chain(base.log_prob, start, tfb.Identity()))
    actual = chain(target.log_prob, to_data.forward(start), to_data)
    np.testing.assert_allclose(actual, expected, rtol=1e-2, atol=1e-3)


def test_fit_surrogate_posterior_takes_an_optimizer_of_keras_3():
    target = tfd.MultivariateNormalTriL([1.0, -2.0], [[1.0, 0.0], [0.8, 0.6]])
    surrogate = model_of(bijectors.Sequential([coupling(1), coupling(2, reverse=True)]), [2])
    before = [v.numpy() for v in surrogate.trainable_variables]
    optimizer = keras.optimizers.Adam(0.03)
    losses = tfp.vi.fit_surrogate_posterior(
        target.log_prob, surrogate, optimizer, num_steps=300, sample_size=16, seed=[1, 2]
    )
    assert optimizer.iterations == 300
    assert losses[0] > 2
    assert abs(np.mean(losses[-50:])) < 0.1
    for old, new in zip(before, surrogate.trainable_variables, strict=True):
        assert np.any(old != new.numpy())


def test_initialize_takes_an_array():
    layer = bijectors.ActNorm.trainable([2])
    evaluation.initialize(layer, np.array([[1.0, 2.0], [3.0, 6.0]]))  # float64
    np.testing.assert_allclose(
        layer.forward([[1.0, 2.0], [3.0, 6.0]]), [[-1, -1], [1, 1]], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("bijector", "x", "y"),
    [
        (tfb.Pad, [1.0, 2.0], [1.0, 2.0, 0.0]),
        (tfb.SoftmaxCentered, [0.0, np.log(2.0)], [0.25, 0.5, 0.25]),
        (tfb.UnitVector, [2.0, 2.0], [4 / 9, 4 / 9, 7 / 9]),
        (tfd.Dirichlet([1.0, 1.0, 1.0]), [0.0, np.log(2.0)], [0.25, 0.5, 0.25]),
        (tfd.VectorDeterministic([1.0, 2.0]), np.zeros([2, 0], np.float32), [1.0, 2.0]),
    ],
)
def test_simplices_and_spheres_whatever_the_version_of_numpy(bijector, x, y):
    # Those of TFP 0.25 call `np.reshape` as NumPy 2.4 no longer allows: `tfflows._tensorflow`.
    if isinstance(bijector, tfd.Distribution):
        bijector = bijector.experimental_default_event_space_bijector
    bijector = bijector()
    np.testing.assert_allclose(bijector.forward(x), np.float32(y), rtol=1e-6)
    np.testing.assert_allclose(bijector.inverse(np.float32(y)), x, atol=1e-6)


def test_a_surrogate_posterior_with_a_simplex():
    # As in docs/composing.md: after counts of 30, 50 and 20 it is Dirichlet(31, 51, 21).
    counts = np.float32([30, 50, 20])
    prior = tfd.JointDistributionNamed(
        {
            "probs": tfd.Dirichlet(tf.ones([3])),
            "counts": lambda probs: tfd.Multinomial(100.0, probs=probs),
        }
    )
    pinned = prior.experimental_pin(counts=counts)
    flow = bijectors.Sequential([bijectors.ActNorm.trainable([2]), coupling(1)])
    to_events = [
        pinned.experimental_default_event_space_bijector(),
        tfb.pack_sequence_as(pinned.event_shape),
        tfb.JointMap([tfb.Identity()]),
        tfb.Split([2]),
    ]
    q = tfd.TransformedDistribution(
        distributions.standard_normal([2]), tfb.Chain([*to_events, tfb.Invert(flow)])
    )
    target = pinned.unnormalized_log_prob
    optimizer = keras.optimizers.Adam(0.2)
    tfp.vi.fit_surrogate_posterior(target, q, optimizer, 30, sample_size=8, seed=[1, 2])
    probs = tf.nest.flatten(q.sample(2000, seed=[3, 4]))[0]
    np.testing.assert_allclose(tf.reduce_sum(probs, -1), 1.0, atol=1e-5)
    np.testing.assert_allclose(tf.reduce_mean(probs, 0), (counts + 1) / 103, atol=0.02)
