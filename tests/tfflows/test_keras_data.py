"""Data as people have them: lists, float64, data sets of unknown rank."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import FlowModel, bijectors, distributions

tfb = tfp.bijectors
tfd = tfp.distributions

X = np.random.default_rng(0).normal(1.0, 2.0, [10, 2])


def compiled(dtype, rate=0.0):
    model = FlowModel(distributions.trainable_normal([2], dtype=dtype), units="nats")
    model.compile(keras.optimizers.SGD(rate))
    return model


@pytest.fixture(scope="module", params=["float32", "float64"])
def model(request):
    return compiled(request.param)


def unknown_rank(x):
    return tf.data.Dataset.from_generator(
        lambda: (x[i : i + 4] for i in range(0, len(x), 4)), output_types=tf.as_dtype(x.dtype)
    )


FORMS = {
    "float64": lambda x: x,
    "float32": lambda x: x.astype("float32"),
    "big-endian": lambda x: x.astype(">f8"),
    "not contiguous": lambda x: np.asfortranarray(x),
    "list": lambda x: x.tolist(),
    "tuple": lambda x: tuple(map(tuple, x)),
    "Tensor": tf.constant,
    "data set": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(4),
    "unknown rank": unknown_rank,
    "unknown rank, float32": lambda x: unknown_rank(x.astype("float32")),
}


@pytest.mark.filterwarnings("ignore:.*(ran out of data|shuffle=True)")
@pytest.mark.parametrize("form", FORMS)
def test_data_in_every_form(model, form):
    x = FORMS[form](X)
    single = "float32" in form or model.weights[0].dtype == tf.float32
    expected, rtol = 0.5 * np.sum(X**2, -1) + np.log(2 * np.pi), 1e-5 if single else 1e-13
    history = model.fit(x, validation_data=x, batch_size=4, verbose=0).history
    for name in ("loss", "val_loss"):
        np.testing.assert_allclose(history[name], [np.mean(expected)], rtol=rtol)
    np.testing.assert_allclose(model.evaluate(x, verbose=0), [np.mean(expected)] * 2, rtol=rtol)
    np.testing.assert_allclose(model.predict(x, verbose=0), -expected, rtol=rtol)
    if isinstance(x, tf.data.Dataset):
        return
    np.testing.assert_allclose(model(x), -expected, rtol=rtol)
    assert model(x).dtype == model.weights[0].dtype
    split = model.fit(x, validation_split=0.5, shuffle=False, verbose=0).history
    np.testing.assert_allclose(split["loss"], np.mean(expected[:5]), rtol=rtol)
    np.testing.assert_allclose(split["val_loss"], np.mean(expected[5:]), rtol=rtol)
    pair = model.fit(x, validation_data=(x, None, np.arange(10.0)), verbose=0).history
    np.testing.assert_allclose(pair["val_loss"], np.mean(np.arange(10) * expected), rtol=rtol)


def test_float64_is_trained_in_float64():
    model = compiled("float64", rate=0.125)  # Keras has the rate in float32.
    model.fit(X, batch_size=10, verbose=0)
    np.testing.assert_allclose(model.weights[0], 0.125 * X.mean(axis=0), rtol=1e-14)


def test_float64_images_in_float64():
    shift = tfb.Shift(tf.Variable(np.float64(0.5)))
    base = distributions.standard_normal([2], dtype=tf.float64)
    density = tfd.TransformedDistribution(base, tfb.Invert(shift))
    model = FlowModel(distributions.Dequantized(density, num_levels=16), units="nats")
    model.compile(keras.optimizers.SGD(0.0))
    images = np.arange(8.0).reshape(4, 2)
    found = [model.evaluate(x, verbose=0)[0] for x in (images, images.astype("uint8"))]
    expected = -np.mean(model.distribution.log_prob(images, seed=[0, 0]))
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-14)


def test_lists_of_integers_are_floats_and_arrays_of_integers_are_refused(model):
    assert model.fit([[1, 2], [3, 4]], verbose=0).history["loss"][0] > 0
    for method in (model.fit, model.evaluate, model.predict, model):
        with pytest.raises(ValueError, match=r"integers have no density(.|\n)*x\.dtype=int64"):
            method(np.array([[1, 2], [3, 4]]))


def test_a_flow_that_looks_at_its_rank_takes_data_of_unknown_rank():
    norm = bijectors.ActNorm.trainable([None, None, 2])
    base = distributions.standard_normal([2, 2, 2])
    model = FlowModel(tfd.TransformedDistribution(base, tfb.Invert(norm)))
    model.compile(keras.optimizers.SGD(0.0))
    x = np.ones([6, 2, 2, 2], "float32")
    expected = model.evaluate(x, verbose=0)
    np.testing.assert_allclose(model.evaluate(unknown_rank(x), verbose=0), expected, rtol=1e-6)


def test_what_are_no_events_is_an_error_where_it_would_broadcast():
    model = compiled("float32")
    for method in (model.fit, model.evaluate, model.predict, model.initialize):
        with pytest.raises(
            ValueError, match=r"^`x` must be a batch of events, \[n, 2\]\. Received"
        ):
            method(np.ones([4, 1], "float32"))
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=r"^`x` must be .*x\.shape=\(None, 3, 2\)\.$"):
            method(np.ones([4, 3, 2], "float32"), verbose=0)
        with pytest.raises(ValueError, match=r"^`x` must be .*Batch the data set"):
            method(tf.data.Dataset.from_tensor_slices(np.ones([4, 2], "float32")), verbose=0)


@pytest.mark.filterwarnings("ignore:.*shuffle=True")
def test_a_dictionary_is_no_batch():
    model = compiled("float32")
    data = tf.data.Dataset.from_tensors({"image": np.ones([4, 2], "float32"), "label": [0] * 4})
    for method in (model.fit, model.evaluate, model.predict):
        with pytest.raises(
            ValueError, match=r"^`x` must be events,.*names=\['image', 'label'\]\.$"
        ):
            method(data, verbose=0)


def test_weights_of_classes_need_classes():
    model = compiled("float32")
    x = np.ones([4, 2], "float32")
    for data in (x, tf.data.Dataset.from_tensors(x), tf.data.Dataset.from_tensors((x,))):
        with pytest.raises(ValueError, match="`class_weight` needs the class of each event"):
            model.fit(data, class_weight={0: 1.0}, verbose=0)


def test_fit_needs_compile():
    model = FlowModel(distributions.trainable_normal([2]), units="nats")
    with pytest.raises(ValueError, match="call `compile` before"):
        model.fit(np.ones([4, 2], "float32"))
