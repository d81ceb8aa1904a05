"""Small models of every architecture, and presets of them, that tests can make in a moment."""

import tensorflow as tf

import zoo

_IMAGES = {"image_shape": (4, 4, 1), "num_levels": 16}
_POINTS = {"num_blocks": 2, "width": 4}

# Arguments of each builder of the zoo.
SMALL = {
    "balanced": {**_IMAGES, "steps": (1, 1), "network": "conv_net", "width": 4},
    "glow": {**_IMAGES, "steps": (1, 1), "widths": (4, 4)},
    "graph_flow": {"num_blocks": 1, "width": 4, "depth": 1, "num_heads": 2},
    "jet": {**_IMAGES, "patch": 2, "width": 4, "num_couplings": 9, "depth": 1},
    "mixing_experiment": {**_IMAGES, "steps": (1,), "growth": 1},
    "planar_balanced": _POINTS,
    "planar_coupling": _POINTS,
    "planar_maf": _POINTS,
    "realnvp": {**_IMAGES, "widths": (4, 4)},
    "table_autoregressive": _POINTS,
    "table_balanced": _POINTS,
    "table_coupling": _POINTS,
    "table_tarflow": {**_POINTS, "depth": 1},
    "tarflow": {**_IMAGES, "patch": 2, "width": 4, "num_blocks": 2, "depth": 1},
    "residual_type": {**_IMAGES, "steps": (1, 1), "widths": (8, 8), "prior_width": 4},
}


def small_arguments(name):
    """Returns the arguments that make a small model of a name of the zoo."""
    return SMALL[zoo.find(name).builder.__name__]


def architectures():
    """Returns one name for each builder and architecture of the zoo."""
    names = {}
    for name in sorted(zoo.list_models(), key=lambda name: not name.endswith(".digits")):
        names.setdefault((zoo.find(name).builder, name.split(".")[0]), name)
    return sorted(names.values())


def save_small(path, name, **changes):
    """Writes a preset of a model with other arguments and random weights; returns its path."""
    entry = zoo.find(name)
    metadata = {
        **{"summary": "", "command": "", "steps": 0, "training_seconds": 0, "machine": ""},
        **{"parameters": 0, "versions": {}, "paper": "", "licence": "Apache-2.0"},
        "metric": {"name": "", "value": 0, "definition": "", "data": "", "command": ""},
    }
    arguments = {**entry.arguments, **changes}
    zoo.save(path, entry.build(seed=1, **changes), name, arguments, metadata)
    return str(path)


def moved(model):
    """The model, with weights that are not those of the start: there the last layers are zero."""
    for i, variable in enumerate(model.trainable_variables):
        noise = tf.random.stateless_normal(variable.shape, [i, 1], stddev=0.1)
        variable.assign_add(tf.cast(noise, variable.dtype))
    return model
