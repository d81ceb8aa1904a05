"""How flows are evaluated: one value a thread, which `with` blocks change and gradients keep."""

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import tensorflow as tf

from tfflows.numerics.parameters import stateless_seed
from tfflows.types import Seed

if TYPE_CHECKING:
    from tfflows.evaluation.network_calls import Calls

_T = TypeVar("_T")
# Called with a bijector, its input and, after it, the output and the log-det.
Observer: TypeAlias = Callable[..., Any]

MODES = ("store", "recompute", "invert")
_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How flows are evaluated.

    Attributes:
      memory: what gradient tapes keep of a flow, one of `MODES`.
      looping: whether a graph has one copy of the layers of a `Repeat`.
      accelerated: whether XLA compiles for an accelerator; `None` if it does where there is one.
      seed: stateless seed of the log-dets that are estimated, or `None` for fresh noise.
      num_terms: takes the place of the layers' own `num_terms`, or `None`.
      observers: pairs of functions that are called before and after each bijector.
      calls: the `network_calls.Calls` that hear what networks say, or `None`.
      is_inside: whether a layer is being evaluated whose values are not kept.
      number: of the innermost block that changes values, which no other block has; 0 outside.
    """

    memory: str = "store"
    looping: bool = False
    accelerated: bool | None = None
    seed: Seed = None
    num_terms: int | None = None
    observers: tuple[tuple[Observer, Observer], ...] = ()
    calls: "Calls | None" = None
    is_inside: bool = False
    number: int = 0

    @property
    def watching(self) -> tuple[tuple[Observer, Observer], ...]:
        """The observers of what is evaluated now: they don't look into layers that aren't kept."""
        return () if self.is_inside else self.observers

    @property
    def is_inverting(self) -> bool:
        """Whether a series of layers is to keep its output alone."""
        return self.memory == "invert" and not self.is_inside and not self.observers

    @property
    def is_looping(self) -> bool:
        """Whether the layers of a `Repeat` are to be one loop."""
        hidden = self.is_inside or self.observers
        return self.looping and not hidden and not tf.executing_eagerly()

    @property
    def is_accelerated(self) -> bool:
        """Whether what XLA compiles is to suit an accelerator."""
        return has_accelerator() if self.accelerated is None else self.accelerated

    def noise_seed(self, layer_seed: int) -> tf.Tensor:
        """Returns the stateless seed of the noise of a layer, for one evaluation."""
        if self.seed is None:
            return tf.random.uniform([2], maxval=2**31 - 1, dtype=tf.int32)
        return tf.random.experimental.stateless_fold_in(tf.cast(self.seed, tf.int32), layer_seed)


class _Local(threading.local):  # The replicas of a strategy are threads.
    evaluation = Evaluation()


_local = _Local()


def now() -> Evaluation:
    """Returns the `Evaluation` that holds in this thread."""
    return _local.evaluation


@contextlib.contextmanager
def evaluating(**changes: Any) -> Iterator[None]:
    """Changes attributes of the `Evaluation` inside the `with` block."""
    with _holding(dataclasses.replace(now(), **changes)):
        yield


@contextlib.contextmanager
def _holding(evaluation):
    before, _local.evaluation = _local.evaluation, evaluation
    try:
        yield
    finally:
        _local.evaluation = before


def bind(function: Callable[..., _T]) -> Callable[..., _T]:
    """Returns `function`, whose later calls, such as those of gradients, are evaluated as one now.

    What networks say in these calls is heard by nobody.
    """
    then = now()

    def call(*args):
        with _holding(dataclasses.replace(then, **apart(then))):
            return function(*args)

    return call


def apart(evaluation: Evaluation) -> dict[str, Any]:
    """Returns the changes by which what networks say is not heard by the block around."""
    calls = evaluation.calls
    return {} if calls is None else {"calls": calls.apart(), "number": new_number()}


def new_number() -> int:
    """Returns a number that no block has."""
    return next(_numbers)


def memory(mode: str) -> AbstractContextManager[None]:
    """Saves memory: says what gradient tapes inside the `with` block keep of a flow.

    - `"store"`: all that a gradient needs, as ever. Memory grows with every operation.
    - `"recompute"`: the input of each `Block`, and outside of blocks of each coupling, spline,
      exponential and residual layer. What is computed in it is done a second time when the
      gradient gets there: gradient checkpointing. Values and gradients are the same to rounding.
      Memory grows with every block.
    - `"invert"`: of a whole series of layers, only the output. When the gradient gets there, the
      input of each layer is found from its output by its inverse, and its gradient from that
      input. What is kept of a batch does not grow with the number of layers. The inputs found are
      the true ones up to the rounding errors of the inverses, which add up along a series: see
      `analysis.round_trip_error`. A layer whose inverse iterates takes that time, and an inverse
      that does not converge gives NaN. Series end where a level of `MultiScale` does.

    It applies to the parts of a composed flow (`Sequential`, `MultiScale`, `tfb.Chain`,
    `tfb.Invert`), in eager mode, in graphs and under XLA. What watches a flow, such as
    `observe_layers` and the regularizers, sees blocks and couplings but not what is inside of them,
    and keeps what it sees: under its eyes `"invert"` does what `"recompute"` does.

    Args:
      mode: `"store"`, `"recompute"` or `"invert"`.

    Returns:
      A context manager.

    Raises:
      ValueError: if it is none of them.

    #### Example

    ```python
    import tensorflow as tf
    import zoo
    from tfflows import evaluation

    density = zoo.create("balanced.digits")
    with tf.GradientTape() as tape, evaluation.memory("invert"):
        loss = -tf.reduce_mean(density.log_prob(tf.ones([4, 8, 8, 1])))
    gradients = tape.gradient(loss, density.trainable_variables)
    ```

    #### References

    Chen, Xu, Zhang, Guestrin, *Training Deep Nets with Sublinear Memory Cost*, 2016,
    arXiv:1604.06174. Gomez, Ren, Urtasun, Grosse, *The Reversible Residual Network: Backpropagation
    Without Storing Activations*, NeurIPS 2017, arXiv:1707.04585.
    """
    if mode not in MODES:
        raise ValueError(f"`memory` must be one of {MODES}. Received: {mode!r}.")
    return evaluating(memory=mode)


def looping(on: bool = True) -> AbstractContextManager[None]:
    """Lets graphs have one copy of layers that repeat, instead of one for each.

    Where a flow has a `Repeat` (32 blocks; or 32 times `ActNorm`, 1x1 convolution and coupling), a
    graph traced inside the `with` block has one `tf.while_loop` over the weights, stacked, in place
    of all the copies. Values and gradients are the same to rounding; the variables stay what and
    where they are, so weights saved one way load in the other. With the number of repetitions grows
    only what reads and stacks the variables.

    In eager mode, and under the eyes of `observe_layers` and of regularizers, which want to see
    each layer, nothing loops; nor do layers with variables that are frozen.

    What a gradient needs is kept as `memory` says, but that `"store"` keeps the input of each
    repetition: what happens inside of one is computed a second time.

    Args:
      on: `False` for no loops inside of a block that has them.

    Returns:
      A context manager.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors, evaluation

    layers = [bijectors.ConvExponential.trainable([8, 8, 4], seed=seed) for seed in range(32)]
    flow = bijectors.Sequential([bijectors.Repeat(layers)])

    @tf.function(jit_compile=True)
    def forward(x):
      with evaluation.looping():
        return flow.forward(x)

    y = forward(tf.ones([2, 8, 8, 4]))
    ```
    """
    return evaluating(looping=on)


def has_accelerator() -> bool:
    """Returns whether TensorFlow has a GPU or a TPU."""
    return bool(tf.config.list_logical_devices("GPU") + tf.config.list_logical_devices("TPU"))


def for_accelerator(on: bool = True) -> AbstractContextManager[None]:
    """Makes what is traced inside the `with` block suit an accelerator, though there be none here.

    A function that XLA compiles can be a program for another device than those of TensorFlow. Some
    gradients are sums into few places, which a CPU adds up one by one in half the time of anything
    else, and where the threads of a GPU wait for each other: there they are reductions. What is
    computed is the same, to rounding. Without this block that is decided by whether TensorFlow has
    a GPU or a TPU.

    Args:
      on: `False` for what suits a CPU.

    Returns:
      A context manager.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors, evaluation

    activation = bijectors.RationalQuadraticActivation.trainable([8, 8, 4])

    @tf.function(jit_compile=True)
    def gradients(x):
      with tf.GradientTape() as tape, evaluation.for_accelerator():
        loss = tf.reduce_sum(activation.forward(x) ** 2)
      return tape.gradient(loss, activation.trainable_variables)

    program = gradients.experimental_get_compiler_ir(tf.ones([2, 8, 8, 4]))(stage="hlo")
    " scatter(" in program  # False
    ```
    """
    return evaluating(accelerated=on)


def estimating(seed: Seed = None, num_terms: int | None = None) -> AbstractContextManager[None]:
    """Seeds the log-dets that are estimated inside the `with` block, or changes their precision.

    Some log-dets, such as those of `ResidualFlow` in many dimensions, are estimated with random
    numbers, but TFP's `log_prob` takes no seed. Inside the block the noise of each layer follows
    from `seed` and from the seed of the layer alone; outside of all such blocks it is fresh at
    every evaluation, from TensorFlow's global generator. `FlowModel` and `Dequantized.log_prob`
    open the block themselves, with the seed they were given.

    Args:
      seed: Python `int` or a stateless seed, which may be a `Tensor`: the number of a step, for
        instance; `None` for what holds outside of the block.
      num_terms: takes the place of the layers' own `num_terms`: 20 or so to score a model, where
        training does with fewer; `None` for what holds outside of the block.

    Returns:
      A context manager.

    #### Example

    ```python
    import tensorflow as tf
    from tfflows import bijectors, evaluation, networks

    network = networks.LipschitzNet(4, width=8, kernel_sizes=(1, 1), seed=1)
    networks.build_network(network, [4])
    flow = bijectors.ResidualFlow(network, [4], log_det="unbiased")
    with evaluation.estimating(seed=3, num_terms=20):
        y, log_det = evaluation.forward_and_log_det(flow, tf.ones([2, 4]))
    ```
    """
    changes = {}
    if seed is not None:
        changes["seed"] = stateless_seed(seed)
    if num_terms is not None:
        changes["num_terms"] = num_terms
    return evaluating(**changes, **({"number": new_number()} if changes else {}))


@contextlib.contextmanager
def observe_layers(before: Observer | None = None, after: Observer | None = None) -> Iterator[None]:
    """Watches the evaluation of each bijector of a composed flow, in the order of evaluation.

    It sees what the thread that opened the `with` block evaluates.

    Args:
      before: called as `before(bijector, input)`, the whole of a composed bijector first.
      after: called as `after(bijector, input, output, log_det)`, the whole last.

    Yields:
      Nothing.
    """
    observer = (before or (lambda *_: None), after or (lambda *_: None))
    with evaluating(observers=(*now().observers, observer)):
        yield
