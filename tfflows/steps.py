"""What one step of `FlowModel.fit` and `FlowModel.evaluate` computes."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfflows import _keras, batch_parts, keras_data
from tfflows._optimizers import fused_updates
from tfflows._tensorflow import clip_gradients, steps_taken
from tfflows.analysis.layers import record_evaluations
from tfflows.evaluation import network_calls
from tfflows.non_finite import NonFiniteError, diagnose_non_finite
from tfflows.numerics.rows import rows_are_there


class LikelihoodSteps:
    """The steps of a `FlowModel`, whose attributes they use."""

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step of maximum likelihood; called by `fit`."""
        x, y, weights = self._unpack(data)
        if self._loss_and_gradients is None:
            self._loss_and_gradients = self._make_loss_and_gradients()
        step = tf.identity(steps_taken(self.optimizer))  # Before the optimizer counts on.
        seed = self._step_seed(step)
        total = batch_parts.rows_on_all_replicas(x)
        loss, penalties, gradients, updates = batch_parts.if_any(
            x, lambda: self._loss_and_gradients(x, seed, weights, total, y), self._no_gradients
        )
        weight = _total_weight(weights, loss.dtype)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            # Keras clips the gradient of each replica and then adds them up. Clipping must see that
            # of the global batch, and what Keras then gets must be within its limits already. All
            # replicas have the loss of the batch, so that they stop together.
            context, add = tf.distribute.get_replica_context(), tf.distribute.ReduceOp.SUM
            [loss, *penalties], gradients, weight = (
                context.all_reduce(add, values) if values else values
                for values in ([loss, *penalties], gradients, weight)
            )
            gradients = [g / replicas for g in self._clipped(gradients)]
        checks = []
        if self.check_finite:
            checks = [self._assert_finite([loss, *penalties], gradients, x, seed, (y, weights))]
        with tf.control_dependencies(checks):
            gradients = [tf.identity(g) for g in gradients]
            for variable, value in zip(self._updated, updates, strict=True):
                _keras.assign(variable, value)
            with fused_updates(self.optimizer):
                self.optimizer.apply(gradients, self.trainable_weights)
        _keras.apply_constraints(self._module)
        if self._is_scaled:  # A step whose gradients overflow is left out, and counts.
            steps_taken(self.optimizer).assign(step + 1)
        for module in self._module.submodules:
            if hasattr(module, "update_norm"):
                module.update_norm()
        rows = batch_parts.num_rows(x) if total is None else total
        return self._report(loss, penalties, rows, weight)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Evaluates one batch; called by `evaluate`. The noise depends on the rows before it."""
        x, y, weights = self._unpack(data)
        seed = self._step_seed(self._loss_metric.count.value)

        def terms():
            with network_calls.calling_networks(training=False) as calls:
                return self._terms(x, y, seed, weights, calls)

        loss, *penalties = batch_parts.if_any(x, terms, lambda: self._no_terms)
        weight = _total_weight(weights, loss.dtype)
        return self._report(loss, penalties, batch_parts.num_rows(x), weight)

    def predict_step(self, data: Any) -> tf.Tensor:
        """Returns `log p(x)`, or `log p(x | y)`, of one batch; called by `predict`."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        if isinstance(x, tuple):
            x, y = x
        given: Any = self
        return given(x, y if self._conditioned.is_conditional else None)

    def _unpack(self, data):
        """Returns events, what they are given or `None`, and their weights `[n]` or `None`."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
        x = keras_data.as_batch(x, self.distribution)
        if weights is not None:
            weights = tf.reshape(tf.cast(weights, self._real_dtype), [batch_parts.num_rows(x)])
        if (weights is not None or self._has_classes) and not self._conditioned.is_conditional:
            y = None  # Keras knows no weights without it.
        y = keras_data.as_conditions(y, self._real_dtype)
        self._conditioned.check(x, y)
        return x, y, weights

    def _step_seed(self, step):
        """Returns the seed of this step for the first part of the batch on this replica."""
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32) if context else 0
        return tf.stack([self.seed + self.shards * replica, tf.cast(step, tf.int32)])

    def _make_loss_and_gradients(self) -> Callable[..., Any]:
        """Returns the function that XLA compiles.

        `(x, seed) -> loss, penalties, gradients`, and the new values of the variables `_updated`.
        `y` is what a conditional distribution is given. With `total`, a number of rows, the first
        are what `x` adds to the means of as many rows. `x` must not be empty.
        """

        def loss_and_gradients(x, seed, weights=None, total=None, y=None):
            with rows_are_there():
                if total is None:
                    total = batch_parts.num_rows(x)
                parts = batch_parts.split(x, (y, weights), self.shards)
                # Shards of one size are traced once.
                shard = evaluate if self.shards == 1 else tf.function(evaluate, autograph=False)
                results = [
                    shard(part, *others, seed + tf.constant([index, 0]), rows, total)
                    for index, (part, others, rows) in enumerate(parts)
                ]
            terms, gradients, updates = zip(*results, strict=True)
            loss, *penalties = map(tf.add_n, zip(*terms, strict=True))
            return loss, penalties, list(map(tf.add_n, zip(*gradients, strict=True))), updates[-1]

        def evaluate(x, y, weights, seed, rows, total):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                variables = self.trainable_weights
                tape.watch(variables)
                with network_calls.calling_networks() as calls:
                    terms = self._terms(x, y, seed, weights, calls)
                terms = [batch_parts.portion(term, rows, total) for term in terms]
                loss = self.optimizer.scale_loss(tf.add_n(terms))
            gradients = tape.gradient(
                loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            gradients = [tf.convert_to_tensor(g) for g in gradients]
            self._updated = [variable for variable, _ in calls.updates.values()]
            return terms, gradients, [value for _, value in calls.updates.values()]

        return tf.function(loss_and_gradients, jit_compile=self._jit, reduce_retracing=True)

    def _terms(self, x, y, seed, weights, calls):
        """Returns the mean of `-weight log p(x)` over rows, the penalties, and network losses."""
        if not self.regularizers:
            losses, penalties = -self._log_prob(x, y, seed, calls.training), []
        else:
            with record_evaluations() as records:
                losses = -self._log_prob(x, y, seed, calls.training)
            penalties = [f(records, self.distribution) for f in self.regularizers.values()]
        loss = tf.reduce_mean(losses if weights is None else weights * losses)
        terms = [loss, *(tf.cast(penalty, loss.dtype) for penalty in penalties)]
        calls.losses += self.losses
        self._shown_metrics.show(self._network_metric, bool(calls.losses))
        return terms + calls.total(loss.dtype)

    @property
    def _no_terms(self):
        """What a batch without rows adds to the terms."""
        return [tf.zeros([], self._real_dtype)] * len(self._shown_metrics.metrics)

    def _no_gradients(self):
        """Returns what a batch without rows adds to loss, penalties and gradients; no updates."""
        loss, *penalties = self._no_terms
        gradients = [tf.zeros_like(variable) for variable in self.trainable_weights]
        return loss, penalties, gradients, [tf.identity(v.value) for v in self._updated]

    @property
    def _is_scaled(self):
        """Whether gradients are those of a multiple of the loss, for networks in `float16`."""
        return isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)

    def _clipped(self, gradients):
        if not gradients:  # All is frozen.
            return gradients
        optimizer = self.optimizer
        scale = optimizer.dynamic_scale.value if self._is_scaled else optimizer.loss_scale_factor
        if scale is None:
            return clip_gradients(optimizer, gradients)
        unscaled = [g / scale for g in gradients]
        clipped = clip_gradients(getattr(optimizer, "inner_optimizer", optimizer), unscaled)
        return [g * scale for g in clipped]

    def _report(self, loss, penalties, rows, weight):
        """Adds to what is shown; returns its values so far.

        Args:
          loss: the mean of `-weight log p(x)`.
          penalties: the penalties.
          rows: number of rows of which they are the mean.
          weight: sum of the rows' weights in a list, which is empty if there are none.
        """
        rows = tf.cast(rows, loss.dtype)
        likelihood, weight = loss, (weight or [rows])[0]
        if weight is not rows:
            likelihood = tf.math.divide_no_nan(loss * rows, weight)
        self._loss_metric.update_state(tf.add_n([loss, *penalties]), sample_weight=rows)
        shown, *others = self._shown_metrics.metrics
        shown.update_state(self._in_units(likelihood), sample_weight=weight)
        for metric, penalty in zip(others, penalties, strict=True):
            metric.update_state(penalty, sample_weight=rows)
        values = {"loss": self._loss_metric.result(), **self._shown_metrics.result()}
        if isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
            # There Keras averages the replicas' values along their first axis.
            return {name: value[tf.newaxis] for name, value in values.items()}
        return values

    def _assert_finite(self, terms, gradients, x, seed, others):
        """Returns an operation that fails, with a diagnosis, if anything is not finite.

        Args:
          terms: likelihood and penalties.
          gradients: the gradients.
          x: the batch.
          seed: that of the step.
          others: `y` and weights, or `None` for what there is not.
        """
        # Scaled gradients may overflow: their optimizer then leaves the step out.
        bounded = self._is_scaled or not gradients
        norm = 0.0 if bounded else tf.linalg.global_norm(gradients)

        def diagnose():
            parts = [part for part in tf.nest.flatten(others) if part is not None]
            return tf.py_function(
                functools.partial(self._diagnose, others), [x, seed, *parts], tf.bool
            )

        finite = tf.math.is_finite(tf.add_n(terms)) & tf.math.is_finite(norm)
        return tf.cond(finite, lambda: True, diagnose)

    def _diagnose(self, others, x, seed, *parts):
        values = iter(parts)  # Those of this step, in the order of the structure.
        y, weights = tf.nest.map_structure(lambda v: None if v is None else next(values), others)
        with network_calls.calling_networks():
            raise NonFiniteError(diagnose_non_finite(self, x, y, seed, weights))


def _total_weight(weights, dtype):
    """Returns the sum of weights in a list; an empty list if there are none."""
    return [] if weights is None else [tf.cast(tf.reduce_sum(weights), dtype)]
