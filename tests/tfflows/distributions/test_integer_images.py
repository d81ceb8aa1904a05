"""Images that are not the integers of a distribution are refused everywhere."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import zoo
from tfflows import FlowModel, distributions
from tfflows.training import NonFiniteError
from trainers import evaluate

tfb = tfp.bijectors
tfd = tfp.distributions

SHAPE = [2, 2, 1]
RULE = r"must be images of integers 0 \.\. 16\. Received: {} of 6 have other values.* x\.dtype={}, "
MODEL = distributions.Dequantized(
    tfd.TransformedDistribution(
        distributions.trainable_normal(SHAPE), tfb.Invert(tfb.Scale(tf.Variable(0.1)))
    ),
    num_levels=17,
)


def trained():
    return zoo.Trained(MODEL, zoo.find("glow.digits"), "digits", pathlib.Path())


def images(dtype="uint8"):
    return np.random.default_rng(0).integers(1, 17, [6, *SHAPE]).astype(dtype)


def with_value(value, dtype):
    x = images(dtype)
    x[4, 1, 0, 0] = value
    return x


WRONG = {
    "scaled": (images("float64") / 16, RULE.format(6, "float(64|32)")),
    "half": (with_value(0.5, "float32"), RULE.format(1, "float32") + r"from 0\.5 to 16"),
    "too bright": (with_value(200, "uint8"), RULE.format(1, "uint8") + "from 1 to 200"),
    "not in uint8": (with_value(300, "int64"), RULE.format(1, "int64") + "from 1 to 300"),
    "negative": (with_value(-1, "int32"), RULE.format(1, "int32") + "from -1 to"),
    "nan": (with_value(np.nan, "float32"), RULE.format(1, "float32")),
    "infinite": (with_value(np.inf, "float32"), RULE.format(1, "float32")),
}


@pytest.fixture(params=WRONG)
def wrong(request):
    return WRONG[request.param]


@pytest.mark.parametrize(
    "function",
    [
        MODEL.log_prob,
        MODEL.prob,
        MODEL.unnormalized_log_prob,
        MODEL.dequantize,
        MODEL.check,
        lambda x: MODEL.importance_log_prob(x, 2),
        FlowModel(MODEL),
        FlowModel(MODEL).initialize,
        lambda x: evaluate.score(trained(), [x[:3], x[3:]], 6, 1, 0),
    ],
)
def test_eager_mode_raises_an_error_with_dtype_range_and_remedy(function, wrong):
    with pytest.raises(ValueError, match=r"must be images of integers 0 \.\. 16") as error:
        function(wrong[0])
    assert "tf.round(16 * x)" in str(error.value)


def test_message(wrong):
    with pytest.raises(ValueError, match=wrong[1]):
        MODEL.log_prob(wrong[0])
    with pytest.raises(ValueError, match=r"0 \.\. 16\. Received: x\.dtype=complex64"):
        MODEL.log_prob(images("complex64"))
    with pytest.raises(ValueError, match="1 of 6 have other values, the first is number 4;"):
        MODEL.log_prob(with_value(-1, "int32"))
    with pytest.raises(ValueError, match="6 of 6"):
        MODEL.log_prob((images() / 16).tolist())


def traced(function, jit_compile):
    signature = [tf.TensorSpec(None, tf.float32)]
    return tf.function(function, signature, autograph=False, jit_compile=jit_compile)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graphs_assert_and_xla_gives_nan(jit_compile):
    function = traced(
        lambda x: (
            MODEL.log_prob(x, seed=1),
            MODEL.importance_log_prob(x, 2, seed=1),
            tf.reduce_sum(MODEL.dequantize(x, seed=1)[0], [-3, -2, -1]),
        ),
        jit_compile,
    )
    good = np.array(function(images()))
    assert np.all(np.isfinite(good))
    for x, _ in WRONG.values():
        x = x.astype("float32")
        if not jit_compile:
            with pytest.raises(tf.errors.InvalidArgumentError, match="integers 0 .. 16"):
                function(x)
            continue
        changed = (x != images()).any(axis=(1, 2, 3))
        np.testing.assert_array_equal(function(x), np.where(changed, np.nan, good))


def test_xla_is_given_no_assertions():
    """It leaves them out, with a warning for each; also those in functions inside."""

    def both(x):
        return MODEL.log_prob(x, seed=[0, 1]), MODEL.to_integers(tf.cast(x, tf.float32))

    for jit_compile in (True, False):
        function = tf.function(lambda x: tf.function(both)(x), jit_compile=jit_compile)
        graph = function.get_concrete_function(images("int32")).graph.as_graph_def()
        inner = [node for function in graph.library.function for node in function.node_def]
        asserts = [node for node in [*graph.node, *inner] if "Assert" in node.op]
        assert bool(asserts) != jit_compile


@pytest.mark.parametrize(
    "dtype", ["int8", "uint16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
)
def test_integers_of_any_dtype_pass(dtype):
    x = tf.cast(images(), dtype)
    np.testing.assert_array_equal(MODEL.log_prob(x, seed=1), MODEL.log_prob(images(), seed=1))


def test_lists_arrays_of_bool_and_all_of_uint8_pass():
    x = images()
    np.testing.assert_array_equal(MODEL.prob(x.tolist(), seed=1), MODEL.prob(x, seed=1))
    two = distributions.Dequantized(MODEL.distribution, num_levels=2)
    np.testing.assert_array_equal(
        two.log_prob(x > 5, seed=1), two.log_prob(np.int32(x > 5), seed=1)
    )
    all_levels = distributions.Dequantized(MODEL.distribution)
    graph = traced(all_levels.log_prob, False).get_concrete_function().graph
    assert any(node.type == "Assert" for node in operations(graph))
    signature = [tf.TensorSpec([6, *SHAPE], tf.uint8)]
    free = tf.function(all_levels.log_prob, signature, autograph=False).get_concrete_function()
    assert not any(node.type == "Assert" for node in operations(free.graph))


def operations(graph):
    functions = [f.graph for f in graph._functions.values()] if hasattr(graph, "_functions") else []
    return [node for g in [graph, *functions] for node in g.get_operations()]


@pytest.fixture(scope="module", params=["graph", "eager", "xla"])
def model(request):
    model = FlowModel(MODEL)
    model.compile(
        keras.optimizers.SGD(0.0),
        jit_compile=request.param == "xla",
        run_eagerly=request.param == "eager",
    )
    return model


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_keras_methods_raise_the_same(model, method):
    call = getattr(model, method)
    call(images(), verbose=0)
    for x, rule in (WRONG[name] for name in ("scaled", "too bright", "nan")):
        with pytest.raises((ValueError, NonFiniteError), match=rf"{rule}|The data are not finite"):
            call(x, verbose=0)


def test_two_replicas_raise_the_same(two_replicas):
    with two_replicas.scope():
        base = distributions.trainable_normal(SHAPE)
        model = FlowModel(distributions.Dequantized(base, num_levels=17))
        model.compile(keras.optimizers.SGD(0.0))
    x = np.concatenate([images(), images() + 1])
    for method in (model.fit, model.evaluate, model.predict):
        with pytest.raises(ValueError, match=r"0 \.\. 16\. Received: \d of 6 have other values"):
            method(x, batch_size=12, verbose=0)
