"""Small models of the zoo, and images for them."""

import numpy as np
import tensorflow as tf

import zoo
from zoo import registry

SMALL = {
    "glow": {"image_shape": (4, 4, 1), "num_levels": 16, "steps": (1, 1), "widths": (4, 4)},
    "balanced": {
        "image_shape": (4, 4, 1),
        "num_levels": 16,
        "steps": (1, 1),
        "network": "conv_net",
        "width": 4,
    },
    "mixing_experiment": {"image_shape": (4, 4, 1), "num_levels": 16, "steps": (1,), "growth": 1},
}


def small(name="convexp_glow.digits", **kwargs):
    overrides = SMALL[registry.find(name).builder.__name__]
    return zoo.create(name, **overrides, **kwargs)


def images(count=3, shape=(4, 4, 1)):
    return tf.constant(np.random.default_rng(0).integers(0, 16, [count, *shape]), tf.uint8)
