"""TensorFlow functions as programs of XLA, for devices that TensorFlow does not have.

Of a function that it is about to compile, XLA hands out an HLO module, whose parameters are the
arguments and then what the function captures: the variables of a model. What else speaks XLA runs
it. JAX does, on a GPU or TPU too: `Program.to_jax` makes a `jax.export.Exported` of it, which is
also a format of files.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfflows import _jax, _tensorflow
from tfflows._jax import export as export_to_jax
from tfflows._jax import import_jax
from tfflows.training import FlowModel
from tfflows.types import Structure
from tfflows.variables import named_variables

__all__ = [
    "PLATFORMS",
    "Program",
    "export_to_jax",
    "import_jax",
    "loss_and_gradients",
    "make_program",
]

PLATFORMS = _jax.PLATFORMS
"""Platforms of programs; JAX is on one of them."""

_ASSIGNING = ("Assign", "ResourceApply", "ResourceScatter", "ResourceStridedSliceAssign")


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A function as XLA is about to compile it, with the values of what it captures.

    Attributes:
      name: for error messages.
      hlo: a serialized `HloModuleProto`, of static shapes, not yet optimised. Its parameters are
        the arguments and then what is captured, its results those of the function, all flat: see
        `tf.nest.flatten`.
      arguments: a `tf.TensorSpec` for each argument, in their structure.
      captured: name -> value of what is captured, in the order of the parameters. Variables have
        their paths in a module as names, see `named_variables`; what is in none is `captured/0`,
        `captured/1`, and so on.
      results: a `tf.TensorSpec` for each result, in their structure.
    """

    name: str
    hlo: bytes = dataclasses.field(repr=False)
    arguments: tuple[Structure, ...]
    captured: Mapping[str, np.ndarray] = dataclasses.field(repr=False)
    results: Structure

    def to_jax(self, platforms: Sequence[str] = PLATFORMS) -> Any:
        """Returns a `jax.export.Exported` of `(captured, *arguments) -> results`.

        Its `call` takes a dictionary like `captured`, then the arguments, and may be a part of what
        `jax.jit` or `jax.lax.scan` compile, such as a training. It has no gradient: make a program
        that returns one. `jax.export.deserialize` reads what `serialize()` returns, in a process
        that needs JAX and nothing else.

        Args:
          platforms: names of those that it can be called on.

        Raises:
          ImportError: if there is no JAX; says what to install.

        #### Example

        <!-- skip -->
        ```python
        import jax
        import tensorflow as tf

        import tfflows
        from tfflows import programs

        flow = tfflows.bijectors.ActNorm.trainable([3])
        program = programs.make_program(flow.forward, tf.zeros([5, 3]), module=flow)
        forward = jax.jit(program.to_jax().call)
        forward(program.captured, jax.numpy.ones([5, 3]))  # [5, 3]
        ```
        """
        captured = {name: _spec(value) for name, value in self.captured.items()}
        function = self.to_jax_function(platforms)
        return export_to_jax(function, (captured, *self.arguments), platforms, self.has_wide_types)

    def to_jax_function(self, platforms: Sequence[str] = PLATFORMS) -> Callable[..., Any]:
        """Returns what `to_jax` exports, for use in this process.

        Args:
          platforms: see `to_jax`.

        Raises:
          ImportError: if there is no JAX; says what to install.
        """
        inner = _jax.to_exported(self.hlo, self.name, platforms)

        def call(captured, *arguments):
            flat = [*tf.nest.flatten(arguments), *(captured[name] for name in self.captured)]
            return tf.nest.pack_sequence_as(self.results, inner.call(*flat))

        return call

    @property
    def has_wide_types(self) -> bool:
        """Whether anything has a type of 64 bits, which JAX has inside of `jax.enable_x64()`."""
        specs = tf.nest.flatten([self.arguments, self.results])
        dtypes = [*(spec.dtype for spec in specs), *(v.dtype for v in self.captured.values())]
        return any(tf.as_dtype(dtype).size == 8 for dtype in dtypes)


def make_program(
    function: Callable[..., Structure],
    *arguments: Structure,
    module: tf.Module | None = None,
    name: str = "program",
    tensor_float_32: bool = False,
) -> Program:
    """Returns a TensorFlow function as a program of XLA.

    Args:
      function: a function of tensors that XLA can compile, or a `tf.function`. It must not assign
        to variables: new values of them may be among its results.
      *arguments: for each argument an example or a `tf.TensorSpec`, or a structure of these, of
        which shapes and dtypes count.
      module: what has the variables, by whose paths they are named.
      name: for error messages.
      tensor_float_32: whether accelerators may multiply matrices with less than `float32`: as
        TF32 on a GPU, as `bfloat16` on a TPU. Faster, and too coarse for the log-dets of many
        layers. On a CPU it makes no difference.

    Raises:
      ValueError: if XLA can't compile the function, or it assigns to variables, or captures what
        has no value, such as a table for look-ups.

    #### Example

    ```python
    import tensorflow as tf

    import tfflows
    from tfflows import programs

    flow = tfflows.bijectors.ActNorm.trainable([3])
    program = programs.make_program(flow.forward, tf.TensorSpec([5, 3]), module=flow)
    sorted(program.captured)  # ["log_scale", "shift"]
    ```
    """
    python_function = getattr(function, "python_function", function)
    specs = tf.nest.map_structure(_spec, arguments)

    def of_flat(*flat):
        return python_function(*tf.nest.pack_sequence_as(specs, flat))

    traced = tf.function(of_flat, jit_compile=True, autograph=False)
    flat_specs = tf.nest.flatten(specs)
    concrete = traced.get_concrete_function(*flat_specs)
    _refuse_assignments(concrete.graph.as_graph_def(), name)
    if integers := _captured_integers(concrete):
        traced = _with_constants(concrete, integers)
    captured = _read_captured(
        traced.get_concrete_function(*flat_specs), concrete.graph.variables, module, name
    )
    with _multiplying(tensor_float_32):
        try:
            hlo = traced.experimental_get_compiler_ir(*flat_specs)(stage="hlo_serialized")
        except (ValueError, tf.errors.OpError) as error:
            raise ValueError(
                f"XLA must be able to compile `{name}`. Received: {_first_line(error)}"
            ) from error
    results = tf.nest.map_structure(tf.TensorSpec.from_tensor, concrete.structured_outputs)
    return Program(name, hlo, specs, captured, results)


def loss_and_gradients(
    model: FlowModel, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any
) -> Program:
    """Returns the program of what a step of `FlowModel.fit` computes before it changes a variable.

    It is that of `(x, seed)`, with `y` and `sample_weight` after them if they are given, and of the
    variables of the model, under their paths. Its results are

        loss       mean of -log p(x), times the weights, []
        penalties  of the regularizers and networks, a list of []
        gradients  path -> gradient of loss and penalties, for each trainable variable
        updates    path -> new value of what networks assign to in training

    `seed` is `[model.seed, number of the step]`, `int32`. What `fit` does then is left to whoever
    calls it: to give the optimizer the gradients and the variables the updates, to apply the
    constraints of networks, and to call `update_norm` of the layers that have it.

    Args:
      model: a model that is compiled: an optimizer that scales the loss scales the gradients.
      x: a batch as `fit` takes it, of which shape and dtype count.
      y: what it is given, if the distribution is conditional.
      sample_weight: a weight for each row.
      **kwargs: see `make_program`.

    Raises:
      ValueError: if the model is not compiled; or see `make_program`.

    #### Example

    ```python
    import numpy as np
    import tfflows
    from tfflows import programs

    model = tfflows.FlowModel(tfflows.distributions.trainable_normal([2]), units="nats")
    model.compile("adam")
    program = programs.loss_and_gradients(model, np.zeros([64, 2], "float32"))
    sorted(program.results)  # ["gradients", "loss", "penalties", "updates"]
    sorted(program.results["gradients"]) == sorted(program.captured)  # True
    ```
    """
    if not model.compiled:
        raise ValueError(
            "`model` must be compiled, as in `model.compile('adam')`. "
            "Received: a model without an optimizer."
        )
    data = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
    x, y, weights = model._unpack(tf.nest.map_structure(tf.convert_to_tensor, data))
    paths = {id(v): path for path, v in named_variables(model._module).items()}
    compiled: Any = model._make_loss_and_gradients()
    step = compiled.python_function

    def function(x, seed, *others):
        given = iter(others)
        y_, weights_ = (None if value is None else next(given) for value in (y, weights))
        loss, penalties, gradients, updates = step(x, seed, weights_, None, y_)
        updated = [_tensorflow.tf_variable(v) for v in model._updated]
        return {
            "loss": loss,
            "penalties": penalties,
            "gradients": _by_path(paths, model.trainable_weights, gradients),
            "updates": _by_path(paths, updated, updates),
        }

    others = [value for value in (y, weights) if value is not None]
    seed = tf.TensorSpec([2], tf.int32)
    return make_program(
        function, x, seed, *others, module=model._module, name="loss_and_gradients", **kwargs
    )


def _by_path(paths: Mapping[int, str], variables: Iterable, values: Iterable) -> dict:
    return {paths[id(v)]: value for v, value in zip(variables, values, strict=True)}


def _spec(value: Any) -> tf.TensorSpec:
    """Returns shape and dtype of a tensor, array or number, or of what says them."""
    if isinstance(value, tf.TensorSpec):
        return tf.TensorSpec(value.shape, value.dtype)  # Names of arguments must not collide.
    value = tf.convert_to_tensor(value)
    return tf.TensorSpec(value.shape, value.dtype)


def _captured_integers(concrete):
    """Returns the names of the placeholders of captured integers, with their values."""
    captures = concrete.graph.captures
    return {
        inside.name: value
        for value, inside in captures
        if value.dtype.is_integer and not tf.is_symbolic_tensor(value)
    }


def _with_constants(concrete, integers):
    """Returns a function with the integers that it captures as constants.

    They may be axes or shapes, which XLA has to know: `tfb.Permute` has its axis as a tensor.
    """
    graph = concrete.graph
    graph_def, inputs = graph.as_graph_def(), {tensor.op.name for tensor in graph.inputs}
    body = [node for node in graph_def.node if node.name not in inputs]
    del graph_def.node[:]
    graph_def.node.extend(body)
    captures = {inside.name: value for value, inside in graph.captures}
    arguments = [tensor.name for tensor in graph.inputs if tensor.name not in captures]
    constants = {name: value.numpy() for name, value in integers.items()}

    def function(*flat):
        capture = tf.compat.v1.get_default_graph().capture
        given = {
            name: tf.constant(constants[name]) if name in constants else capture(value)
            for name, value in captures.items()
        }
        given |= dict(zip(arguments, flat, strict=True))
        results = [tensor.name for tensor in graph.outputs]
        made = [name for name in results if name not in given]  # The others go straight through.
        found = tf.graph_util.import_graph_def(graph_def, given, made)
        given |= dict(zip(made, found, strict=True))
        return [given[name] for name in results]

    return tf.function(function, jit_compile=True, autograph=False)


def _read_captured(concrete, variables, module, name):
    """Returns the values that a function captures, by name, in the order of its parameters."""
    variables = {id(v.handle): v for v in variables}
    paths = {} if module is None else named_variables(module)
    names = {id(v.handle): path for path, v in paths.items()}
    captured, others = {}, 0
    for tensor in concrete.captured_inputs:
        path = names.get(id(tensor))
        if path is None:
            path, others = f"captured/{others}", others + 1
        value = variables.get(id(tensor), tensor)
        if value.dtype in (tf.resource, tf.variant):
            raise ValueError(
                f"`{name}` must capture nothing but variables and tensors. Received: {tensor}."
            )
        captured[path] = value.numpy()
    return captured


def _refuse_assignments(graph, name):
    """Raises an error if a graph, or a function that it calls, assigns to a variable."""
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    if found := sorted({node.op for node in nodes if node.op.startswith(_ASSIGNING)}):
        raise ValueError(
            f"`{name}` must not assign to variables: return their new values. "
            f"Received: a function with {', '.join(found)}."
        )


@contextlib.contextmanager
def _multiplying(tensor_float_32: bool) -> Iterator[None]:
    """Lets XLA multiply matrices in the precision of `float32` or in less."""
    config = tf.config.experimental
    before = config.tensor_float_32_execution_enabled()
    config.enable_tensor_float_32_execution(tensor_float_32)
    try:
        yield
    finally:
        config.enable_tensor_float_32_execution(before)


def _first_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
