"""`FlowModel`: trains any distribution with Keras."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from tfflows import batch_parts, evaluation, keras_data, weight_files
from tfflows._keras import show_regularizers, weight_losses
from tfflows._tensorflow import variables_of_optimizer
from tfflows.analysis.bits import bits_per_dim
from tfflows.contexts import Conditioned
from tfflows.distributions.discrete import density_of, is_discrete, to_real
from tfflows.evaluation.state import MODES
from tfflows.non_finite import NonFiniteError, explain_errors
from tfflows.numerics.parameters import check_finite
from tfflows.regularizers import Penalty
from tfflows.shown_metrics import ShownMetrics
from tfflows.steps import LikelihoodSteps
from tfflows.types import Network, TensorLike
from tfflows.variables import named_variables, set_trainable

__all__ = ["UNITS", "FlowModel", "NonFiniteError"]

UNITS = ("bits_per_dim", "nats", "nats_per_node")
"""Units of a score, `FlowModel(units=)`."""


@keras.saving.register_keras_serializable(package="tfflows")
class FlowModel(LikelihoodSteps, keras.Model):
    """Maximum likelihood for a distribution, as a `keras.Model`.

    The loss is the mean of `-log p(x)` over the batch, in nats, and the penalties. Beside it Keras
    shows the likelihood alone: in bits per dimension for images (`units="bits_per_dim"`), in nats
    per event (`units="nats"`), or in nats per node for events `[N, F]` (`units="nats_per_node"`).
    The variables trained are those of the distribution.

    In another `keras.Model` it is a layer that returns `log p(x)`, trained and saved with the rest.

    Networks are called with `training=True` in `fit` (`evaluation.calling_networks` says which are
    refused), and their losses (`kernel_regularizer`, `activity_regularizer`, `add_loss`) are part
    of the loss, shown as `network_losses` if there are any.

    `fit` and `evaluate` take what Keras takes. With `sample_weight`, or `class_weight` and classes
    `y`, the loss is the mean of `-weight log p(x)`, and the likelihood shown the weighted mean.

    `fit` runs one function, compiled by XLA if `compile(jit_compile=True)`, that returns loss and
    gradients; the gradients are applied outside it, so the same code runs on one device and under
    any `tf.distribute` strategy (make the distribution and the model inside `strategy.scope()`).
    Under a strategy the batch is the global one, and the loss the mean of the rows that it has,
    though a replica have fewer than others or none.

    Noise, of dequantisation and of estimated log-dets, follows from `seed`, the number of the step
    and that of the part of the batch, so that a resumed run draws the noise of an unbroken one.
    Parts are shards, on all replicas: two replicas draw what one with two shards draws.

    **Conditional.** If a part of the distribution takes a context (`conditional=True`), the model
    is `p(x | y)`, and `fit`, `evaluate`, `predict`, `initialize` and calls take `y`, one row an
    event: the context, or what `context` makes one of. `condition(y)` returns the distribution.

    Args:
      distribution: a `tfd.Distribution`; or a registered function that makes one, see
        `from_builder`.
      context: a callable from `y` to the context, trained along: an `Embedding` of labels, an
        encoder of images, a network that sums up sets of observations. A Keras layer that is built,
        or any function; it may be random in training. By default `y` is the context.
      context_dropout: part of the events of a batch that are given zeros for a context in training,
        drawn anew in each step; at least 0, less than 1. What `guide` needs.
      units: `"bits_per_dim"`, `"nats"` or `"nats_per_node"`.
      seed: seed of the noise.
      shards: number of parts of a batch that a step evaluates side by side. On a CPU with one
        thread an operation (`tf.config.threading`) and a shard a core, small convolutions keep the
        cores busier than threads that share each of them; graph and compile time grow with it.
      check_finite: whether to stop with a `NonFiniteError` at the first loss or gradient that is
        not finite. Costs one comparison a step; must be off on TPU. Under the policy
        `mixed_float16`, where Keras scales the loss and leaves out steps whose gradients overflow,
        the loss alone is looked at.
      regularizers: a dictionary from names to functions as those of `tfflows.regularizers`, whose
        penalties are added to the loss that is trained and shown beside it under their names.
      memory: what the backward pass finds of what the flow computed: `"store"`, all; `"recompute"`,
        the input of each block and coupling; `"invert"`, the output of each series of layers. See
        `evaluation.memory`. With regularizers, which look at blocks, `"invert"` does what
        `"recompute"` does.
      loop: whether layers that repeat are one loop in the graph, see `evaluation.looping`; not with
        regularizers. The step of a deep flow is traced and compiled in a fraction of the time.
      name: name of the model.

    #### Example

    ```python
    import keras
    import numpy as np
    import tensorflow as tf
    import tfflows

    base = tfflows.distributions.trainable_normal([2])
    model = tfflows.FlowModel(base, units="nats")
    model.compile(keras.optimizers.Adam(0.1))
    model.fit(np.random.normal(3., 1., [256, 2]).astype("float32"), epochs=2, verbose=0)
    ```
    """

    def __init__(
        self,
        distribution: tfd.Distribution,
        *,
        context: Network | None = None,
        context_dropout: float = 0.0,
        units: str = "bits_per_dim",
        seed: int = 0,
        shards: int = 1,
        check_finite: bool = True,
        regularizers: Mapping[str, Penalty] | None = None,
        memory: str = "store",
        loop: bool = False,
        name: str = "flow_model",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, autocast=False, **kwargs)  # Keras would cast data to float32.
        if units not in UNITS:
            raise ValueError(f"`units` must be one of {UNITS}. Received: units={units!r}.")
        if memory not in MODES:
            raise ValueError(f"`memory` must be one of {MODES}. Received: memory={memory!r}.")
        if not 0 <= context_dropout < 1:
            raise ValueError(
                "`context_dropout` must be at least 0 and less than 1. "
                f"Received: context_dropout={context_dropout}."
            )
        if not isinstance(distribution, tfd.Distribution):
            raise ValueError(
                "`distribution` must be a `tfd.Distribution`. "
                f"Received: distribution={distribution!r}."
            )
        self.distribution = distribution
        self._conditioned = Conditioned(distribution, context)
        if context_dropout and not self._conditioned.is_conditional:
            raise ValueError(
                "`context_dropout` must be 0 for a distribution that takes no context. "
                f"Received: context_dropout={context_dropout}."
            )
        self.context_dropout = context_dropout
        self._module = self._conditioned.module  # What has all the variables.
        self.units = units
        self.seed = seed
        self.shards = shards
        self.check_finite = check_finite
        self.regularizers = dict(regularizers or {})
        self.memory = memory
        self.loop = loop
        self._builder: tuple[Callable[..., Any], dict[str, Any]] | None = None
        self._jit = False
        dtype = "float64" if self._real_dtype == tf.float64 else "float32"
        self._loss_metric = keras.metrics.Mean(name="loss", dtype=dtype)
        means = [keras.metrics.Mean(name=key, dtype=dtype) for key in (units, *self.regularizers)]
        self._shown_metrics = ShownMetrics(means)
        self._network_metric = keras.metrics.Mean(name="network_losses", dtype=dtype)
        # Those that networks assign to in a step.
        self._updated: list[keras.Variable] = []
        self._loss_and_gradients: Callable[..., Any] | None = None
        self._trained: list[int] | None = None
        self._has_classes = False  # Whether `fit` is given weights of classes.
        for path, variable in named_variables(self._module).items():
            if not hasattr(variable, "path"):  # As Keras's own have, by which optimizers choose.
                variable.path = path
        show_regularizers(self._module)
        self.built = True
        if not self.trainable:
            set_trainable(self._module, False)

    @classmethod
    def from_builder(
        cls,
        builder: Callable[..., tfd.Distribution],
        builder_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Returns a model that can be saved whole, as a `.keras` file.

        Args:
          builder: a function registered with `keras.saving.register_keras_serializable`, which
            returns the distribution.
          builder_kwargs: its keyword arguments, of types that JSON knows.
          **kwargs: other arguments of `FlowModel`.
        """
        builder_kwargs = dict(builder_kwargs or {})
        model = cls(builder(**builder_kwargs), **kwargs)
        model._builder = (builder, builder_kwargs)
        return model

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration; needs a model made by `from_builder`."""
        if self._builder is None:
            raise ValueError(
                "A `.keras` file needs to know how the distribution is made: use "
                "`FlowModel.from_builder(builder)`, or `save_weights`, which needs nothing. "
                f"Received: a model of the distribution {self.distribution.name!r}."
            )
        builder, builder_kwargs = self._builder
        context = self._conditioned.context
        network = None if context is None else context.network
        return {
            "builder": keras.saving.serialize_keras_object(builder),
            "builder_kwargs": builder_kwargs,
            "context": keras.saving.serialize_keras_object(network),
            "context_dropout": self.context_dropout,
            "units": self.units,
            "seed": self.seed,
            "shards": self.shards,
            "check_finite": self.check_finite,
            "memory": self.memory,
            "loop": self.loop,
            "trainable": self.trainable,
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], custom_objects: Mapping[str, Any] | None = None
    ) -> Self:
        """Makes a model from what `get_config` returned.

        Only a registered function is called as builder: a file may come from strangers.
        """
        config = dict(config)
        described = config.pop("builder")
        name = described.get("config") if isinstance(described, dict) else None
        registered = keras.saving.get_registered_object
        builder = registered(name, custom_objects) if isinstance(name, str) else None
        if not inspect.isfunction(builder):
            raise ValueError(
                "`builder` must be a function registered with "
                "`keras.saving.register_keras_serializable`; the module that does so must have "
                f"been imported. Received: builder={described!r}."
            )
        context = config.pop("context", None)
        context = keras.saving.deserialize_keras_object(context, custom_objects)
        builder_kwargs = config.pop("builder_kwargs")
        return cls.from_builder(builder, builder_kwargs, context=context, **config)

    # Variables: those of the distribution, which Keras does not find by itself.

    @property
    def trainable(self) -> bool:
        """Whether anything is trained; set, it is handed on to all parts of the distribution."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = bool(value)
        set_trainable(self._module, self._trainable)

    @property
    def trainable_weights(self) -> list[tf.Variable]:
        """The distribution's trainable variables."""
        return list(self._module.trainable_variables) if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[tf.Variable]:
        """The distribution's other variables."""
        trainable = {id(variable) for variable in self.trainable_weights}
        return [v for v in self._module.variables if id(v) not in trainable]

    @property
    def weights(self) -> list[tf.Variable]:
        """All the distribution's variables."""
        return self.trainable_weights + self.non_trainable_weights

    @property
    def variables(self) -> list[tf.Variable]:
        """All the distribution's variables."""
        return self.weights

    @property
    def trainable_variables(self) -> list[tf.Variable]:
        """The distribution's trainable variables."""
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[tf.Variable]:
        """The distribution's other variables."""
        return self.non_trainable_weights

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The loss, in nats; the likelihood, in `units`; the penalties, in nats."""
        return [self._loss_metric, self._shown_metrics]

    @property
    def metrics_names(self) -> list[str]:
        """The names of what `evaluate` returns, in this order."""
        return ["loss", *sorted(metric.name for metric in self._shown_metrics.metrics)]

    def count_params(self) -> int:
        """Returns the number of trainable parameters."""
        return sum(v.shape.num_elements() for v in self.trainable_weights)

    def save_own_variables(self, store: Any) -> None:
        """Writes each variable under its path, for `save_weights` and `.keras`."""
        weight_files.write(self._module, store)

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` wrote; refuses names or shapes that do not match."""
        weight_files.read(self._module, store)

    # Likelihood.

    @property
    def losses(self) -> list[tf.Tensor]:
        """The losses of the regularizers of the networks' weights."""
        return weight_losses(self._module)

    def condition(self, y: Any) -> tfd.Distribution:
        """Returns `p(x | y)`, as `tfflows.condition` does, with the weights of now.

        Args:
          y: a batch as `fit` takes it, whose size becomes the batch shape; or one label, or one
            context if there is no network that makes it.

        Raises:
          ValueError: if the distribution is not conditional, or `y` is no such batch.

        #### Example

        ```python
        import keras
        import tensorflow_probability as tfp
        import tfflows
        from tfflows import bijectors, networks

        network = networks.MaskedMLP(num_dims=2, num_params=2, context_size=4)
        networks.build_network(network, [2], context_shape=[4])
        affine = bijectors.transforms.Affine()
        flow = bijectors.Autoregressive(network, [2], affine, conditional=True, context_ndims=1)
        base = tfflows.distributions.standard_normal([2])
        density = tfp.distributions.TransformedDistribution(base, tfp.bijectors.Invert(flow))

        model = tfflows.FlowModel(density, context=keras.layers.Embedding(2, 4), units="nats")
        model.condition(1).sample(5, seed=0).shape  # [5, 2]
        model.condition([0, 1, 1]).sample(seed=0).shape  # [3, 2]
        ```
        """
        if y is None or not self._conditioned.is_conditional:
            keras_data.check_given(y, self._conditioned.is_conditional)
        y = keras_data.as_condition_arrays(y, self.distribution)
        y = keras_data.as_conditions(y, self._real_dtype)
        if tf.is_tensor(y) and y.shape.rank == 0 and self._conditioned.context is not None:
            return self._conditioned.bind(y[tf.newaxis])[0]
        return self._conditioned.bind(y, is_batch=False)

    def _log_prob(self, x, y, seed, training=False):
        dropout = (self.context_dropout, seed) if training and self.context_dropout else None
        distribution = self._conditioned.bind(y, dropout=dropout)
        with (
            evaluation.memory(self.memory),
            evaluation.looping(self.loop),
            evaluation.estimating(seed),
        ):
            if is_discrete(distribution):
                return distribution.log_prob(x, seed=seed)
            return distribution.log_prob(x)

    def __call__(
        self, x: TensorLike | dict[str, tf.Tensor], y: Any = None, *args: Any, **kwargs: Any
    ) -> tf.Tensor:
        """Returns `call(x, y)`; `x` may be a list, which Keras takes for several inputs."""
        if isinstance(x, (list, tuple)):
            x = keras_data.as_events(x, self.distribution)
        y = keras_data.as_condition_arrays(y, self.distribution)
        with explain_errors(self):
            return super().__call__(x, y, *args, **kwargs)

    def call(
        self,
        x: TensorLike | dict[str, tf.Tensor],
        y: Any = None,
        training: bool | None = None,
    ) -> tf.Tensor:
        """Returns `log p(x)`, or `log p(x | y)`, in nats, one value an event."""
        x = keras_data.as_events(x, self.distribution)
        y = keras_data.as_conditions(y, self._real_dtype)
        self._conditioned.check(x, y)

        def log_prob():
            with evaluation.calling_networks(bool(training)) as calls:
                result = self._log_prob(x, y, [self.seed, 0])
            calls.assign_updates()
            return result, tf.add_n([zero, *calls.total(zero.dtype)])

        zero = tf.zeros([], self._real_dtype)
        result, loss = batch_parts.if_any(x, log_prob, lambda: (tf.zeros([0], zero.dtype), zero))
        self.add_loss(loss)  # For a model that this one is a part of.
        return result

    @property
    def _real_dtype(self):
        """The dtype of `log p(x)`."""
        return keras_data.real_dtype(self.distribution)

    def _in_units(self, nats):
        """Converts a loss in nats to what is shown."""
        if self.units == "nats":
            return nats
        if self.units == "nats_per_node":
            return nats / self.distribution.event_shape[-2]
        return bits_per_dim(-nats, self.distribution.event_shape.num_elements())

    def initialize(
        self,
        batch: TensorLike,
        y: Any = None,
        only: Callable[[tfp.bijectors.Bijector], bool] = lambda part: True,
    ) -> None:
        """Runs data-dependent initialisation (`ActNorm`) on one batch, in eager mode.

        Args:
          batch: a batch of data as `fit` takes it.
          y: its `y`, if the distribution is conditional.
          only: says of a part that has such an initialisation whether to run it; by default of all.

        Raises:
          ValueError: if a row is not finite, or images are not the integers that the distribution
            is over; or `y` is not what `fit` takes.
        """
        distribution = self.distribution
        batch = keras_data.as_events(keras_data.as_array(batch, distribution), distribution)
        y = keras_data.as_condition_arrays(y, distribution)
        y = keras_data.as_conditions(y, self._real_dtype)
        self._conditioned.check(batch, y)
        for part in tf.nest.flatten(y):
            if part is not None and part.dtype.is_floating:
                check_finite(part, name="y")
        distribution = self._conditioned.bind(y)
        batch = to_real(distribution, batch, seed=[self.seed, -1])
        flow = tfp.bijectors.Invert(density_of(distribution).bijector)
        evaluation.initialize(flow, batch, only)

    # Training.

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adamax",
        jit_compile: bool | str = False,
        **kwargs: Any,
    ) -> None:
        """Configures training.

        Args:
          optimizer: a Keras optimizer or its name.
          jit_compile: whether XLA compiles loss and gradients. Faster on GPU and TPU; on CPU
            slower for convolutions.
          **kwargs: other arguments of `keras.Model.compile`, but for those that name a loss or
            metrics.

        Raises:
          ValueError: if there is a loss or a metric among them.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"`{name}` must not be given: the loss is `-log p(x)` and the penalties of "
                    f"`FlowModel(regularizers=...)`. Received: {name}={kwargs[name]!r}."
                )
        self._jit = bool(jit_compile) and jit_compile != "auto"
        self._loss_and_gradients = None
        # Keras's own compilation wraps the optimizer too, which fails under a strategy.
        super().compile(optimizer=optimizer, jit_compile=False, **kwargs)

    def get_compile_config(self) -> dict[str, Any] | None:
        """Returns the arguments of `compile`, for a `.keras` file."""
        config = super().get_compile_config()
        return config and {**config, "jit_compile": self._jit}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles with what `get_compile_config` returned."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_weights)

    def make_train_function(self, force: bool = False) -> Callable[..., Any] | None:
        """Makes the function of a step, anew if what is frozen has changed."""
        variables = self.trainable_weights
        if not variables:
            warnings.warn(f"`fit` changes nothing: all of {self.name!r} is frozen.", stacklevel=2)
        if self.optimizer.built:
            self._check_optimizer(variables)
        trained = list(map(id, variables))
        if force or trained != self._trained:
            force, self._loss_and_gradients = True, None
        self._trained = trained
        return super().make_train_function(force)

    def _check_optimizer(self, variables):
        """Raises an error if the optimizer can't train `variables`, or would change others."""
        known = set(map(id, variables_of_optimizer(self.optimizer)))
        trained = set(map(id, variables))
        averaging = getattr(self.optimizer, "inner_optimizer", self.optimizer).use_ema
        if trained - known or (averaging and trained != known):
            raise ValueError(
                "What is frozen has changed since the optimizer was built: call `compile` again, "
                "with a new optimizer. Received: an optimizer of "
                f"{len(known)} variables, {len(trained)} to train."
            )

    def _warn_if_trainable_state_changed(self):
        """Warns of nothing: the next `fit` heeds what is frozen, compiled again or not."""

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds nothing: all is built. Keras would draw a batch, and add up workers' `uint8`."""

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains; see `keras.Model.fit`. Data may be lists too; `float64` stays what it is.

        Raises:
          NonFiniteError: if the loss or a gradient is not finite; says in which step. The weights
            are those before the step.
          ValueError: if images are not the integers that the distribution is over, data are no
            batches of its events, or `compile` was not called before.
        """
        if not self.compiled:
            raise ValueError(
                "`fit` needs an optimizer: call `compile` before, as in "
                "`model.compile(keras.optimizers.Adamax(1e-3))`. Received: a model without one."
            )
        if not self.optimizer.built:  # Much faster here than inside the traced step.
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_weights)
        self._has_classes = kwargs.get("class_weight") is not None
        try:
            with explain_errors(self):
                return self._call_keras(super().fit, args, kwargs)
        finally:
            if self._has_classes:  # They may be in a validation set, but no other.
                self._has_classes, self.test_function = False, None

    def _call_keras(self, method, args, kwargs, y=None):
        """Calls a method of Keras with data as it takes them."""
        conditional = self._conditioned.is_conditional
        classes = self._has_classes
        return keras_data.call(method, self.distribution, args, kwargs, conditional, y, classes)

    def evaluate(self, *args: Any, **kwargs: Any) -> float | list[float] | dict[str, float]:
        """Evaluates; see `keras.Model.evaluate`.

        Raises:
          ValueError: if images are not the integers that the distribution is over.
        """
        with explain_errors(self):
            return self._call_keras(super().evaluate, args, kwargs)

    def predict(self, x: Any, *args: Any, y: Any = None, **kwargs: Any) -> np.ndarray:
        """Returns `log p(x)`, or `log p(x | y)`, of all data in nats; see `keras.Model.predict`.

        Args:
          x: events, or a data set: of pairs `(x, y)`, if the distribution is conditional.
          *args: see `keras.Model.predict`; `y` may be the first, as in `evaluate`.
          y: what `fit` takes, if the distribution is conditional.
          **kwargs: see `keras.Model.predict`.

        Raises:
          ValueError: if images are not the integers that the distribution is over, or `y` is
            missing or in vain.
        """
        if args and not (args[0] is None or isinstance(args[0], int | np.integer)):
            y, args = args[0], args[1:]  # No size of a batch.
        with explain_errors(self):
            return self._call_keras(super().predict, (x, *args), kwargs, y)
