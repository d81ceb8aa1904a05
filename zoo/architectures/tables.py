"""Flows of the rows of tables: `*.table`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, distributions, networks
from tfflows.bijectors import transforms
from tfflows.networks.building import Conditioner
from tfflows.types import Network
from zoo import columns as table_columns
from zoo.architectures.balanced import CONTRACTIONS
from zoo.architectures.building import Seeds, pairs, transform_of
from zoo.architectures.tarflow import affine
from zoo.columns import Columns

tfb = tfp.bijectors
tfd = tfp.distributions


# Of the networks of couplings and splines: tables may have few rows. PyTorch's default, which is
# also that of other flows. Affine autoregressive flows learn faster, and no worse of few rows, from
# He's start (validation splits of the tables of `benchmarks.tables`).
_GAIN = 1 / 3
_LEAST_SCALE = 1e-3


def log_softplus(h: tf.Tensor) -> tf.Tensor:
    """Returns the logarithm of a scale that is 1 at 0, grows linearly, and is at least 0.001.

    Outliers are scaled by less than by the exponential of a network that sees them for the first
    time.
    """
    scale = tf.nn.softplus(h + float(np.log(np.e - 1)))
    return tf.math.log(_LEAST_SCALE + (1 - _LEAST_SCALE) * scale)


class NormalizedContext(Conditioner):
    """A network whose context is brought to mean 0 and variance 1 first.

    Args:
      network: a built network `(x, context)`.
      loc: means of the context, `[K]`.
      scale: its standard deviations, `[K]`.
    """

    def __init__(self, network: Network, loc: Any, scale: Any, **kwargs: Any) -> None:
        super().__init__({}, **kwargs)
        self.network = network
        self._loc, self._scale = np.asarray(loc, np.float32), np.asarray(scale, np.float32)

    def call(self, x: tf.Tensor, context: tf.Tensor | None = None) -> tf.Tensor:
        """Calls the network."""
        return self.network(x, (tf.cast(context, tf.float32) - self._loc) / self._scale)


class _Context:
    """What the layers of a flow are given of the columns that it is conditioned by."""

    def __init__(self, context_size: int | None, columns: Columns) -> None:
        self._columns = table_columns.as_list(columns)
        if self._columns and context_size not in (None, len(self._columns)):
            raise ValueError(
                "`context_size` must be the number of `condition_columns`, which need not be "
                f"given. Received: context_size={context_size}, {len(self._columns)} columns."
            )
        self.size = len(self._columns) or context_size
        self.options = {} if self.size is None else {"conditional": True, "context_ndims": 1}

    def build(self, network: Network, *event_shape: int) -> Network:
        """Returns a network, built."""
        shape = None if self.size is None else [self.size]
        networks.build_network(network, event_shape, shape)
        if not self._columns:
            return network
        loc, scale = ([column[key] for column in self._columns] for key in ("loc", "scale"))
        return networks.build_network(NormalizedContext(network, loc, scale), event_shape, shape)


def _model(columns: Columns, layers: list) -> tfd.Distribution:
    """Returns the distribution of rows, given the layers between normalised rows and latents."""
    size = table_columns.num_latents(columns)
    flow = bijectors.Sequential(
        [table_columns.normalizer(columns), *layers, bijectors.ActNorm.trainable([size])]
    )
    density = tfd.TransformedDistribution(distributions.standard_normal([size]), tfb.Invert(flow))
    integers = table_columns.are_integers(columns)
    if not any(integers):
        return density
    return distributions.Dequantized(density, num_levels=None, entries=integers)


def _size(columns: Columns, what: str, least: int = 2) -> int:
    """Returns the dimension of a row, which couplings need to be 2 or more."""
    table_columns.check(columns)
    size = table_columns.num_latents(columns)
    if size < least:
        raise ValueError(
            f"{what} must have {least} columns or more, not counting one for each simplex"
            + ("; maf.table and rq_nsf_ar.table take one" if least > 1 else "")
            + f". Received: {size}."
        )
    return size


def _linear(size: int, seed: int, name: str, scale: float = 1.0) -> bijectors.InvertibleConv1x1:
    """Returns a linear map by its LU decomposition, at first a permutation and a scale.

    All blocks of a flow have one permutation, so that they are alike.
    """
    permutation = np.random.RandomState(seed).permutation(size)  # The same in every NumPy.
    if np.array_equal(permutation, np.arange(size)):
        permutation = permutation[::-1]
    weight = tf.Variable(np.log(scale) * tf.eye(size), name=f"{name}_weight")
    return bijectors.InvertibleConv1x1(
        weight,
        parameterization="plu",
        permutation=permutation,
        sign=np.ones(size, np.float32),
        event_ndims=1,
        name=name,
    )


def _repeat(num_blocks: int, block: Callable[[int], list]) -> list:
    """Returns blocks that are alike."""
    blocks = [bijectors.Block(block(i), name=f"block{i}") for i in range(num_blocks)]
    return [bijectors.Repeat(blocks)]


def table_autoregressive(
    columns: Columns,
    num_bins: int | None,
    linear: bool,
    condition_columns: Columns = 0,
    context_size: int | None = None,
    num_blocks: int = 5,
    width: int = 64,
    depth: int = 2,
    bound: float = 4.0,
    seed: int = 0,
) -> tfd.Distribution:
    """Builds a masked autoregressive flow: every column is moved by those before it.

    Args:
      columns: the columns, see `zoo.columns`; a number for so many real ones of mean 0 and
        variance 1.
      num_bins: bins of rational-quadratic splines; `None` for an affine map.
      linear: `True` for a linear map before each block, by its LU decomposition; `False` for the
        columns in reverse order.
      condition_columns: columns of the context, which are brought to mean 0 and variance 1.
      context_size: size of a context that is taken as it is; `None` for none.
      num_blocks: number of blocks.
      width: hidden units of the networks.
      depth: hidden layers of the networks.
      bound: half the side of the box of the splines.
      seed: seed of the initial weights.
    """
    seeds, size = Seeds(seed), _size(columns, "The table", 1)
    context = _Context(context_size, condition_columns)
    transform = (
        transforms.Affine(log_softplus) if num_bins is None else transform_of(num_bins, bound)
    )

    def block(index):
        network = networks.MaskedMLP(
            size,
            transform.num_parameters,
            width=width,
            depth=depth,
            gain=2.0 if num_bins is None else _GAIN,
            context_size=context.size,
            seed=seeds(),
        )
        first = (
            _linear(size, seed, f"block{index}_linear")
            if linear
            else bijectors.Flip(event_ndims=1, name=f"block{index}_flip")
        )
        moved = bijectors.Autoregressive(
            context.build(network, size),
            [size],
            transform,
            name=f"block{index}_autoregressive",
            **context.options,
        )
        return [first, moved]

    return _model(columns, _repeat(num_blocks, block))


def table_tarflow(
    columns: Columns,
    condition_columns: Columns = 0,
    context_size: int | None = None,
    num_blocks: int = 4,
    width: int = 32,
    depth: int = 2,
    clip: float | None = 3.0,
    seed: int = 0,
) -> tfd.Distribution:
    """Builds TarFlow of rows: each column is a token, moved by what a transformer sees before it.

    Args:
      columns: see `table_autoregressive`.
      condition_columns: see `table_autoregressive`.
      context_size: see `table_autoregressive`.
      num_blocks: number of blocks; every other one sees the columns from last to first.
      width: features of a token.
      depth: layers of each block.
      clip: bound on the log-scales; `None` for none.
      seed: see `table_autoregressive`.
    """
    seeds, size = Seeds(seed), _size(columns, "The table", 1)
    context, transform = _Context(context_size, condition_columns), affine(clip)

    def block(index):
        network = networks.CausalTransformer(
            [size, 1],
            transform.num_parameters,
            width=width,
            depth=depth,
            context_size=context.size,
            seed=seeds(),
        )
        moved = bijectors.Autoregressive(
            context.build(network, size, 1),
            [size, 1],
            transform,
            name=f"block{index}_autoregressive",
            **context.options,
        )
        return [moved, bijectors.Flip(-2, event_ndims=2)]

    reshape = tfb.Reshape(event_shape_out=[size, 1], event_shape_in=[size])
    return _model(columns, [reshape, *_repeat(num_blocks, block), tfb.Invert(reshape)])


def table_coupling(
    columns: Columns,
    num_bins: int | None,
    linear: bool,
    condition_columns: Columns = 0,
    context_size: int | None = None,
    num_blocks: int = 8,
    width: int = 64,
    depth: int = 2,
    bound: float = 4.0,
    seed: int = 0,
) -> tfd.Distribution:
    """Builds a flow of couplings: one half of the columns moves the other.

    Args:
      columns: see `table_autoregressive`; two or more.
      num_bins: see `table_autoregressive`.
      linear: `True` for a linear map before each coupling; `False` for halves that take turns,
        with an `ActNorm` before each.
      condition_columns: see `table_autoregressive`.
      context_size: see `table_autoregressive`.
      num_blocks: number of couplings.
      width: see `table_autoregressive`.
      depth: see `table_autoregressive`.
      bound: see `table_autoregressive`.
      seed: see `table_autoregressive`.
    """
    seeds, size = Seeds(seed), _size(columns, "The table of a flow of couplings")
    context = _Context(context_size, condition_columns)
    transform, kept = transform_of(num_bins, bound), size // 2

    def block(index):
        name, reverse = f"block{index}", not linear and index % 2 == 1
        network = networks.MLP(
            transform.num_parameters * (size - kept),
            width=width,
            depth=depth,
            gain=_GAIN,
            seed=seeds(),
        )
        first = (
            _linear(size, seed, f"{name}_linear")
            if linear
            else bijectors.ActNorm.trainable([size], name=f"{name}_act_norm")
        )
        coupling = bijectors.Coupling(
            context.build(network, kept),
            [size],
            transform,
            reverse=reverse,
            name=f"{name}_coupling",
            **context.options,
        )
        return [first, coupling]

    if linear:
        return _model(columns, _repeat(num_blocks, block))
    blocks = [bijectors.Block(block(i), name=f"block{i}") for i in range(num_blocks)]
    return _model(columns, pairs(blocks))


def table_balanced(
    columns: Columns,
    condition_columns: Columns = 0,
    context_size: int | None = None,
    num_blocks: int = 8,
    width: int = 64,
    depth: int = 2,
    slope: float = 0.75,
    num_hats: int = 2,
    num_bins: int = 16,
    contraction: str | None = None,
    gain: float | None = None,
    seed: int = 0,
) -> tfd.Distribution:
    """Builds the volume-balanced flow: blocks of a linear map, couplings and an activation.

    Args:
      columns: see `table_autoregressive`; two or more.
      condition_columns: see `table_autoregressive`.
      context_size: see `table_autoregressive`.
      num_blocks: number of blocks.
      width: see `table_autoregressive`.
      depth: see `table_autoregressive`.
      slope: see `zoo.architectures.balanced.balanced_block`.
      num_hats: see `zoo.architectures.balanced.balanced_block`.
      num_bins: bins of the activation.
      contraction: see `zoo.architectures.balanced.balanced_block`.
      gain: see `zoo.architectures.balanced.balanced`.
      seed: see `table_autoregressive`.
    """
    seeds, size = Seeds(seed), _size(columns, "The table of a flow of couplings")
    context, first, scale = _Context(context_size, condition_columns), size // 2, slope**-0.5
    hats = transforms.MexicanHatScale(num_hats, float(np.log(scale)))

    def block(index):
        name = f"block{index}"
        options = {"width": width, "depth": depth, "gain": _GAIN}
        nets = [
            context.build(networks.MLP((num_hats + 1) * moved, seed=seeds(), **options), seen)
            for seen, moved in ((size - first, first), (first, size - first))
        ]
        layers = [
            _linear(size, seed, f"{name}_linear", scale),
            bijectors.DualAffineCoupling(
                nets,
                [size],
                scale=hats,
                gain=1 / num_blocks if gain is None else gain,
                name=f"{name}_affine",
                **context.options,
            ),
        ]
        if contraction is not None:
            layers.append(CONTRACTIONS[contraction](name=f"{name}_{contraction}"))
        activation = bijectors.RationalQuadraticActivation.trainable(
            [size], slope=slope, num_bins=num_bins, name=f"{name}_activation"
        )
        return [*layers, activation]

    return _model(columns, _repeat(num_blocks, block))
