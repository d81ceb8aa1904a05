"""The flows of `benchmarks.tables` by tfflows: three rows of the zoo."""

import functools
import time

import keras
import numpy as np
import tensorflow as tf

import tfflows
import zoo
from benchmarks import tables_data
from benchmarks.tables_data import BINS, BLOCKS, BOUND, DEPTH, WIDTH

NAMES = {
    "affine autoregressive": "maf.table",
    "spline couplings": "rq_nsf.table",
    "transformer": "tarflow.table",
}


class Contestant:
    """A flow on a table, trained as `trainers.train` does it: `FlowModel.fit` under XLA.

    Args:
      kind: one of `tables_data.KINDS`.
      table: its rows, `[N, D]`.
      batch: size of a batch.
    """

    def __init__(self, kind, table, batch):
        self._table, self._batch = table, batch
        self._data = tables_data.split(table, 0)
        dimension = table.shape[1]
        sizes = {}  # By default those of the zoo.
        if kind in BLOCKS:
            sizes = {"num_blocks": BLOCKS[kind], "width": WIDTH, "depth": DEPTH, "bound": BOUND}
        if kind == "spline couplings":
            sizes["num_bins"] = BINS
        self._build = functools.partial(zoo.build, NAMES[kind], columns=dimension, **sizes)
        self.model = tfflows.FlowModel(self._build(seed=0), units="nats")
        optimizer = keras.optimizers.Adam(
            tables_data.LEARNING_RATE, global_clipnorm=tables_data.CLIP
        )
        self.model.compile(optimizer, jit_compile=True)
        self.model.optimizer.build(self.model.trainable_weights)
        self._optimizer_state = [v.numpy() for v in self.model.optimizer.variables]
        self._log_prob = tf.function(
            self.model.distribution.log_prob, jit_compile=True, autograph=False
        )

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(v.shape.num_elements() for v in self.model.distribution.trainable_variables)

    def begin(self, seed):
        """Makes splits anew, and gives the model the weights that one of this seed has at first.

        Nothing is compiled again.
        """
        self._data = tables_data.split(self._table, seed)
        fresh = tfflows.named_variables(self._build(seed=seed))
        for name, variable in tfflows.named_variables(self.model.distribution).items():
            variable.assign(fresh[name])
        for variable, value in zip(
            self.model.optimizer.variables, self._optimizer_state, strict=True
        ):
            variable.assign(value)
        self.model.initialize(tf.constant(self._data["train"][:256]))

    def batches(self, seed, count):
        """Returns batches of rows."""
        size = len(self._data["train"])
        numbers = np.stack([*tables_data.batches(size, self._batch, seed, count)])
        rows = tf.constant(self._data["train"])
        dataset = tf.data.Dataset.from_tensor_slices(numbers)
        return dataset.map(lambda n: tf.gather(rows, n)).prefetch(tf.data.AUTOTUNE)

    def score(self, split):
        """Returns the mean -log p(x)."""
        parts = [
            self._log_prob(part)
            for part in np.array_split(self._data[split], max(1, len(self._data[split]) // 5000))
        ]
        return -float(np.concatenate(parts).mean())

    def train(self, seed, steps, report):
        """Trains from the beginning, and returns the best report."""
        self.begin(seed)
        best = tables_data.Best()

        def see(epoch, logs):
            best.see((epoch + 1) * report, self.score)

        self.model.fit(
            self.batches(seed, steps).repeat(),
            epochs=steps // report,
            steps_per_epoch=report,
            shuffle=False,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=see)],
            verbose=0,
        )
        return best.answer()

    def time(self, steps):
        """Returns seconds a step, within a run: without what `fit` does before its first."""
        if self.model.steps_per_execution != steps:  # As many as `trainers.train` takes in a call.
            self.model.steps_per_execution = steps
            self.model.make_train_function(force=True)
        ends: list[float] = []
        see = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: ends.append(time.perf_counter()),
            on_train_end=lambda logs: ends.append(time.perf_counter()),
        )
        self.model.fit(
            self.batches(0, 2 * steps),
            epochs=2,
            steps_per_epoch=steps,
            shuffle=False,
            callbacks=[see],
            verbose=0,
        )
        return (ends[2] - ends[1]) / steps
