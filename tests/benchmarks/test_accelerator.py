"""What is trained on an accelerator is the model that comes back."""

import numpy as np
import tensorflow as tf

from benchmarks import accelerator
from tfflows.variables import named_variables


def test_convolutions_trained_as_plu_come_back_dense():
    trained = accelerator.build("glow.digits", "plu")
    rng = np.random.default_rng(0)
    for variable in trained.trainable_variables:
        variable.assign_add(rng.normal(0, 0.05, variable.shape).astype("float32"))
    paths = [None, *named_variables(trained)]  # The program has parameters that are no variables.
    arrays = {f"variable{i}": v for i, v in enumerate(named_variables(trained).values(), start=1)}
    model = accelerator.build("glow.digits", "dense")
    accelerator.assign(accelerator.build("glow.digits", "plu"), model, paths, arrays)
    x = tf.constant(rng.integers(0, 17, [3, 8, 8, 1]), tf.float32)
    expected = trained.distribution.log_prob(x)
    np.testing.assert_allclose(model.distribution.log_prob(x), expected, rtol=1e-5)
    assert "dense" in {m.parameters["parameterization"] for m in accelerator.convolutions(model)}
