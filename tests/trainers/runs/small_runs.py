"""A small model with its backups, a run in a folder, and what TensorBoard has of it."""

import keras
import numpy as np
import tensorflow as tf

import tfflows
import zoo
from trainers.runs import backup
from trainers.runs.run import Run


def small_model(size=2, optimizer="adam"):
    """A model of `size` dimensions that trains in a moment, and has taken no step."""
    model = tfflows.FlowModel(tfflows.distributions.trainable_normal([size]), units="nats")
    model.compile(keras.optimizers.get(optimizer))
    model.optimizer.build(model.trainable_weights)
    return model


def take_steps(model, count, folder):
    """Takes steps, with a backup after each."""
    size = model.distribution.event_shape[0]
    x = np.random.default_rng(0).normal(size=[4, size]).astype("float32")
    model.fit(
        x, batch_size=4, epochs=count, verbose=0, shuffle=False, callbacks=[backup.Backup(folder)]
    )


def weights(model):
    return [v.numpy() for v in [*model.weights, *model.optimizer.variables]]


def run_in(workdir):
    entry = zoo.find("glow.digits")
    return Run(entry, entry.recipe, workdir, num_examples=1)


def events(workdir):
    """Returns what TensorBoard has, as (part, name, step), sorted."""
    return sorted(
        (path.parent.name, value.tag, event.step)
        for path in workdir.glob("tensorboard/*/*")
        for event in map(
            tf.compat.v1.Event.FromString, tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
        )
        for value in event.summary.value
    )
