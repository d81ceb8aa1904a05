"""The parts of TensorFlow and TFP that are not public API. Nothing else imports them.

Each has a public stand-in that would be wrong or slower here; when an upgrade breaks one, this is
the file to mend.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.backend.common.stateless_scope import get_stateless_scope
from keras.src.random.seed_generator import global_seed_generator
from keras.src.trainers.compile_utils import MetricsList  # Asked by callbacks for a direction.
from tensorflow.python import pywrap_tfe  # No public call tells whether a tape records.
from tensorflow.python.autograph.core import config as autograph  # No public list of rules.
from tensorflow.python.eager import forwardprop_util, tape
from tensorflow.python.eager.record import (
    record_operation,  # The public one misleads forward mode.
    stop_recording,  # Of all tapes; public: of one known.
)
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
from tensorflow.python.ops.parallel_for import pfor
from tensorflow.python.trackable.base import Trackable  # What a checkpoint looks into.
from tensorflow_probability.python.bijectors import pad

# `tfb.Chain([...])` and `tfb.Invert(b)` return instances of these classes, not of their own.
from tensorflow_probability.python.bijectors.chain import _Chain as ChainBase
from tensorflow_probability.python.bijectors.invert import _Invert as InvertBase
from tensorflow_probability.python.internal.slicing import PROVENANCE_ATTR

__all__ = [
    "ChainBase",
    "InvertBase",
    "MetricsList",
    "Recording",
    "Trackable",
    "apart_from_forward_mode",
    "averages_of_optimizer",
    "clip_gradients",
    "forget_deferred_variables",
    "forget_origin",
    "have_tangents",
    "is_compiled_by_xla",
    "is_forward_mode",
    "is_inside_keras_call",
    "is_known_layer",
    "layers_of",
    "let_tapes_record",
    "make_global_seed",
    "record_operation",
    "seed_states",
    "set_trainable",
    "stateless_scope",
    "steps_taken",
    "stop_recording",
    "tf_variable",
    "variables_of_optimizer",
]

# Reached from a user's `tf.function`, AutoGraph would convert one function after the other and find
# nothing that Python does not do as well: seconds of the first trace.
autograph.CONVERSION_RULES = (autograph.DoNotConvert("tfflows"), *autograph.CONVERSION_RULES)


class _NumPyOfPad:
    """NumPy, but for a `reshape` that takes the name `newshape`, which NumPy 2.4 took back.

    `tfb.Pad` of TFP 0.25 gives it by that name. Simplices rest on `Pad`: `tfb.SoftmaxCentered`,
    `tfb.UnitVector`, the event-space bijectors of `tfd.Dirichlet` and `tfd.VectorDeterministic`.
    """

    def __getattr__(self, name):
        return getattr(np, name)

    def reshape(self, array, newshape):
        return np.reshape(array, newshape)


pad.np = _NumPyOfPad()


def clip_gradients(
    optimizer: keras.optimizers.Optimizer, gradients: list[tf.Tensor]
) -> list[tf.Tensor]:
    """Returns the gradients as a Keras optimizer would clip them before it applies them."""
    return optimizer._clip_gradients(gradients)


def variables_of_optimizer(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """Returns the variables that a Keras optimizer that is built has a state for."""
    return getattr(optimizer, "inner_optimizer", optimizer)._trainable_variables


def averages_of_optimizer(
    optimizer: keras.optimizers.Optimizer,
) -> list[tuple[tf.Variable, keras.Variable]]:
    """Returns the variables of which a Keras optimizer keeps a moving average, each with that."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if not inner.use_ema or not int(inner.iterations.numpy()):  # Before the first step they are 0.
        return []
    pairs = zip(inner._trainable_variables, inner._model_variables_moving_average, strict=True)
    return list(pairs)


def steps_taken(optimizer: keras.optimizers.Optimizer) -> tf.Variable:
    """Returns the variable that counts steps; public is only that of updates of the weights."""
    return getattr(optimizer, "inner_optimizer", optimizer)._iterations.value


def have_tangents(tensors: Iterable[tf.Tensor]) -> bool:
    """Returns whether a `tf.autodiff.ForwardAccumulator` follows any of the tensors."""
    return bool(forwardprop_util.pack_tangents(list(tensors)).indices)


@contextlib.contextmanager
def let_tapes_record() -> Iterator[None]:
    """Lets tapes record again inside of `stop_recording`: those opened here, and all others."""
    stopped = pywrap_tfe.TFE_Py_TapeSetIsStopped()
    if stopped:
        pywrap_tfe.TFE_Py_TapeSetRestartOnThread()
    try:
        yield
    finally:
        if stopped:
            pywrap_tfe.TFE_Py_TapeSetStopOnThread()


def is_forward_mode() -> bool:
    """Returns whether forward mode now runs a gradient: new tapes don't record."""
    with tf.GradientTape(watch_accessed_variables=False) as new:
        x = tf.zeros([])
        new.watch(x)
        y = tf.identity(x)
    return new.gradient(y, x) is None


@contextlib.contextmanager
def apart_from_forward_mode() -> Iterator[None]:
    """A context that is no part of the gradient that forward mode runs: new tapes record."""
    pywrap_tfe.TFE_Py_ForwardAccumulatorPushState()
    try:
        yield
    finally:
        pywrap_tfe.TFE_Py_ForwardAccumulatorPopState()


def forget_deferred_variables() -> None:
    """Lets Keras forget the variables that it still has to initialise, after that has failed.

    It would try again whenever another layer is built, fail again, and leave that layer without
    variables, silently. Public is only `keras.utils.clear_session`, which also resets policies.
    """
    global_state.set_global_attribute("uninitialized_variables", [])


def tf_variable(variable: keras.Variable) -> tf.Variable:
    """Returns the `tf.Variable` of a Keras variable.

    Its public `value` is a tensor inside of a `keras.StatelessScope` and under mixed precision.
    """
    return variable.value if variable._value is None else variable._value


def stateless_scope() -> keras.StatelessScope | None:
    """Returns the innermost `keras.StatelessScope`, or `None`."""
    return get_stateless_scope()


def is_inside_keras_call() -> bool:
    """Returns whether a Keras layer is being called, from which others inherit `training`."""
    return global_state.get_global_attribute("current_call_ctx") is not None


def is_compiled_by_xla() -> bool:
    """Returns whether what is traced now is part of a function with `jit_compile=True`."""
    return not tf.executing_eagerly() and GraphOrParentsInXlaContext(
        tf.compat.v1.get_default_graph()
    )


def make_global_seed() -> None:
    """Makes the variable of the random numbers that Keras draws without a seed, if there is none.

    Keras makes it when it needs it, which fails inside of a `keras.StatelessScope`.
    """
    global_seed_generator()


def seed_states(layer: keras.layers.Layer) -> list[keras.Variable]:
    """Returns the variables of the random numbers of a Keras layer, but for those of its parts."""
    return [generator.state for generator in layer._seed_generators]


def layers_of(layer: keras.layers.Layer) -> list[keras.Operation]:
    """Returns a Keras layer and all its parts; operations of a functional model too."""
    operations = [op for part in layer._flatten_layers() for op in getattr(part, "operations", ())]
    return list({id(part): part for part in [*layer._flatten_layers(), *operations]}.values())


def is_known_layer(layer: keras.Operation) -> bool:
    """Returns whether a layer is one of Keras or tfflows, and no vessel for a user's function."""
    kind, vessels = type(layer), (keras.layers.Lambda, keras.layers.TFSMLayer)
    known = kind.__module__.startswith(("keras.src.", "tfflows.networks."))
    return known and isinstance(layer, keras.layers.Layer) and not isinstance(layer, vessels)


def set_trainable(variable: tf.Variable, trainable: bool) -> None:
    """Says whether tapes watch a `tf.Variable` by themselves, and whether TFP calls it trainable.

    TensorFlow fixes this when a variable is made; Keras changes it in its own variables alone.
    """
    parts = variable.values if isinstance(variable, tf.distribute.DistributedValues) else [variable]
    for part in parts:
        part._trainable = trainable


def forget_origin(module: tf.Module) -> None:
    """Makes a copy of a distribution of TFP one that does not keep what it is a copy of.

    TFP does so to slice that anew, for gradients of its variables.
    """
    if hasattr(module, PROVENANCE_ATTR):
        delattr(module, PROVENANCE_ATTR)


class Recording:
    """What the open gradient tapes recorded of one evaluation.

    A value that was computed before a tape was opened is not on that tape, so a remembered
    evaluation may only be used if the tapes that would record it now are those that did.

    Args:
      value: what the evaluation is remembered for.
      output: what it computed, or `None` to ask what would be recorded of one made now.
      variables: the variables that it read.
    """

    def __init__(
        self, value: tf.Tensor, output: tf.Tensor | None, variables: Sequence[tf.Variable]
    ) -> None:
        self._open = not pywrap_tfe.TFE_Py_TapeSetIsEmpty()
        self._probe = None
        if self._open:
            read = _read(variables)
            self._watched = [_derivatives([value]), _derivatives(read)]
            self._tapes = _derivatives([value, *read])
            if output is not None and self._tapes:
                # Depends on the output, has no elements, and nobody else can watch it: its tapes
                # are those that are open now, for as long as they are.
                self._probe = tf.reshape(output, [-1])[:0]

    def can_stand_in(self, now: Self) -> bool:
        """Returns whether an evaluation made `now` would be recorded by the same tapes."""
        if not self._open or not now._open:
            return self._open == now._open
        if self._watched != now._watched or now._tapes > 1:
            return False  # TensorFlow does not tell which of several tapes.
        return now._tapes == 0 or _derivatives([self._probe]) == 1


def _derivatives(tensors):
    """Returns how many tapes watch the tensors: 0, 1, or 2 for more or a persistent one."""
    return pywrap_tfe.TFE_Py_TapeSetPossibleGradientTypes(tensors)


def _read(variables):
    """Marks variables as read, as an evaluation would; returns the tensors tapes know them by."""
    if tf.distribute.in_cross_replica_context():
        local = tf.distribute.get_strategy().experimental_local_results
        variables = [part for variable in variables for part in local(variable)]
    for variable in variables:
        if variable.trainable:
            tape.variable_accessed(variable)
    return [variable.handle for variable in variables]


def _vectorize_qr(pfor_input):
    """Returns the QR decompositions of all matrices of a `tf.vectorized_map`."""
    matrices = pfor_input.stacked_input(0)
    q, r = tf.linalg.qr(matrices, full_matrices=pfor_input.get_attr("full_matrices"))
    return pfor.wrap(q, True), pfor.wrap(r, True)


with contextlib.suppress(KeyError):  # TensorFlow has a rule by now.
    pfor.RegisterPFor("Qr")(_vectorize_qr)
