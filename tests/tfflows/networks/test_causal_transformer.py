"""CausalTransformer: what its outputs depend on, precision, context, and one token at a time."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tfflows.networks.awake import images
from tfflows import bijectors, networks
from tfflows.bijectors import transforms
from tfflows.networks.transformer import TransformerBlock, default_head_size

SHAPE = [5, 3]


def make(seed=1, context=None, scale=0.2, event_shape=None, **kwargs):
    """A network that is not zero any more."""
    shape = event_shape or SHAPE
    network = networks.CausalTransformer(
        shape, 2, **{"width": 12, "seed": seed, "context_size": context, **kwargs}
    )
    networks.build_network(network, shape, context and [context])
    rng = np.random.default_rng(0)
    for variable in network.trainable_variables:
        variable.assign_add(rng.normal(0, scale, variable.shape))
    return network


@pytest.mark.parametrize(
    ("positions", "dtype"),
    [
        ("learned", "float32"),
        ("rotary", "mixed_bfloat16"),
        pytest.param("rotary", "float64", marks=pytest.mark.slow),
        pytest.param("learned", "mixed_float16", marks=pytest.mark.slow),
    ],
)
def test_a_token_depends_on_those_before_it_alone_to_the_last_bit(positions, dtype):
    network = make(positions=positions, dtype=dtype, head_size=4)
    x = images([2, *SHAPE], "float64" if dtype == "float64" else "float32")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = network(x)
        tokens = tf.unstack(y, axis=1)
    for i, token in enumerate(tokens):
        gradient = tape.gradient(token, x, unconnected_gradients="zero").numpy()
        assert not np.any(gradient[:, i:])
        assert np.all(gradient[:, :i])
        others = tf.concat([x[:, :i], 1e6 * x[:, i:]], axis=1)
        np.testing.assert_array_equal(network(others)[:, : i + 1], y[:, : i + 1])


def test_all_tokens_see_each_other_in_a_block_that_is_not_causal():
    block = TransformerBlock(8, 4, is_causal=False, seeds=np.random.default_rng(0))
    x = images([2, 4, 8])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = block(x)
    assert np.all(np.any(tape.batch_jacobian(y, x) != 0, axis=(2, 4)))


def test_starts_at_zero_and_follows_from_the_seed():
    first, same, other = (
        networks.build_network(networks.CausalTransformer(SHAPE, 2, width=8, seed=seed), SHAPE)
        for seed in (1, 1, 2)
    )
    assert not np.any(first(images([2, *SHAPE])))
    for a, b in zip(first.variables, same.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    moved = [np.any(a != b) for a, b in zip(first.variables, other.variables, strict=True)]
    assert sum(moved) == 10  # Kernels and positions.
    kernels = [np.asarray(v).tobytes() for v in first.variables if len(v.shape) == 2]
    assert len(set(kernels)) == len(kernels)


@pytest.mark.parametrize(("batch", "context"), [((), None), ((0,), 4), ((2, 3), 4)])
def test_any_batch_shape_and_what_a_context_reaches(batch, context):
    network = make(context=context)
    options = {"conditional": True, "context_ndims": 1} if context else {}
    flow = bijectors.Autoregressive(network, SHAPE, transforms.Affine(), **options)
    x = images([*batch, *SHAPE])

    def forward(value):
        given = {"context": value * tf.ones([4])} if context else {}
        return flow.copy(**given).forward(x)

    y = forward(1.0)
    assert y.shape == x.shape
    if context and batch != (0,):
        assert np.all(y != forward(2.0))  # The first token, too.


@pytest.mark.slow
def test_config_and_a_keras_file_make_the_same_network(tmp_path):
    network = make(context=2, positions="rotary", head_size=6)
    again = networks.CausalTransformer.from_config(network.get_config())
    networks.build_network(again, SHAPE, [2])
    again.set_weights(network.get_weights())
    args = images([2, *SHAPE]), images([2, 2])
    np.testing.assert_array_equal(again(*args), network(*args))
    inputs = [keras.Input(SHAPE), keras.Input([2])]
    keras.Model(inputs, network(*inputs)).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(list(args)), network(*args), atol=1e-6)


@pytest.mark.parametrize(
    ("positions", "context", "mode"),
    [("learned", None, "eager"), ("rotary", None, "graph"), ("learned", 4, "xla")],
)
def test_one_token_at_a_time_with_a_cache(positions, context, mode):
    network = make(context=context, positions=positions, dtype="float64", head_size=4)
    transform = transforms.Affine(shift_first=True)
    x = images([3, *SHAPE], "float64")
    given = [images([3, context], "float64", seed=2)] if context else []
    y, _ = transform.move(x, network(x, *given), inverse=False)

    def decode(y, *given):
        return network.decode(lambda y, h: transform.move(y, h, inverse=True)[0], y, *given)

    if mode != "eager":
        decode = tf.function(decode, jit_compile=mode == "xla")
    np.testing.assert_allclose(decode(y, *given), x, atol=1e-8)


def test_heads_are_of_64_features_or_what_divides_the_width():
    assert [default_head_size(width) for width in (64, 768, 96, 48, 7, 1)] == [64, 64, 48, 48, 7, 1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"head_size": 5}, "`width` must be a multiple of `head_size`. Received: width=12, head_"),
        ({"head_size": 3, "positions": "rotary"}, "`head_size` must be even for rotary positions."),
        (
            {"head_size": 2.0},
            "`head_size` must be a positive integer, or None. Received: head_size",
        ),
        ({"positions": "none"}, "`positions` must be one of learned, rotary. Received: positions="),
        ({"event_shape": [4]}, r"`event_shape` must be \[T, d\].*Received: event_shape=\[4\]"),
        (
            {"event_shape": [None, 2]},
            "`event_shape` must be .* all of them known. Received: event_",
        ),
        (
            {"event_shape": [0, 2]},
            "`event_shape` must be .* positive integers.* Received: event_sh",
        ),
        ({"event_shape": "ab"}, "`event_shape` must be .*Received: event_shape='ab'"),
        ({"width": 0}, "`width` must be a positive integer. Received: width=0"),
        ({"width": "8"}, "`width` must be a positive integer. Received: width='8'"),
        ({"width": True}, "`width` must be a positive integer. Received: width=True"),
        ({"depth": -1}, "`depth` must be an integer, 0 or more. Received: depth=-1"),
        ({"num_params": 1.5}, "`num_params` must be a positive integer. Received: num_params=1.5"),
        ({"context_size": 0}, "`context_size` must be a positive integer, or None. Received: cont"),
        ({"seed": 1.5}, "`seed` must be an integer, 0 or more, or None. Received: seed=1.5"),
    ],
)
def test_arguments_that_make_no_network(wrong, message):
    with pytest.raises(ValueError, match=message) as e:
        networks.CausalTransformer(**{"event_shape": SHAPE, "num_params": 2, "width": 12, **wrong})
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("shapes", "context_size", "message"),
    [
        (
            ([2, 5, 4],),
            None,
            r"`x` of `CausalTransformer` must have shape \[N, 5, 3\].*\(2, 5, 4\)",
        ),
        (([2, 6, 3],), None, r"`x` of .* Received: x.shape=\(2, 6, 3\)"),
        (([5, 3],), None, r"`x` of .* Received: x.shape=\(5, 3\)"),
        (([2, 5, 3],), 4, "`context` of .* must be given.* Received: context=None, context_size=4"),
        (([2, 5, 3], [2, 3]), 4, "must be of size `context_size`. Received: .* context_size=4"),
        (([2, 5, 3], [2, 3]), None, "must be of size `context_size`. .* context_size=None"),
        (([2, 5, 3], [2, 2, 4]), 4, r"`context` of .* must have shape \[N, K\]"),
    ],
)
def test_inputs_that_the_network_was_not_made_for(shapes, context_size, message):
    network = networks.CausalTransformer(SHAPE, 2, width=4, depth=1, context_size=context_size)
    with pytest.raises(ValueError, match=message) as e:
        network(*map(tf.zeros, shapes))
    assert "\n" not in str(e.value)


def test_numbers_of_numpy_are_arguments():
    network = networks.CausalTransformer(np.array(SHAPE), np.int64(2), width=np.int32(4))
    assert network.get_config()["width"] == 4
    assert type(network.get_config()["width"]) is int


def test_one_token_alone(recwarn):
    network = make(event_shape=[1, 3])
    flow = bijectors.Autoregressive(network, [1, 3], transforms.Affine())
    x = images([2, 1, 3])
    np.testing.assert_allclose(flow.inverse(flow.forward(x) + 0.0), x, atol=1e-5)
    assert not [w for w in recwarn if "softmax" in str(w.message)]
