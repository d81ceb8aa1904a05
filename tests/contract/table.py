"""One row for every bijector: how to make it, and what it takes. A new method adds a row."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfflows import bijectors, condition, networks
from tfflows.bijectors import transforms, triangular

tfb = tfp.bijectors


# Those of couplings that shrink without a bound.
SMALL_SCALES = ("sigmoid", "double_sigmoid", "exp")


@dataclasses.dataclass(frozen=True)
class Row:
    """A constructor.

    Attributes:
      name: name of the test.
      make: makes the bijector for a dtype.
      event_shape: shape of its events.
      num_variables: number of trainable variables it must report.
      low: smallest value of its domain.
      high: largest value of its domain.
      large: size of the inputs that still come back to full precision, on an unbounded domain.
      batch_shape: batch shape of its parameters.
      onto: whether it reaches every value, so that a normal can be its base.
      any_input: whether it takes any shape and dtype.
      sliceable: whether a batch of it can be sliced, rather than raise an error.
      slow: whether it runs with `-m slow` alone: another row has the same code, and is faster.
    """

    name: str
    make: Callable[[tf.DType], tfb.Bijector]
    event_shape: tuple[int, ...]
    num_variables: int
    low: float = -3.0
    high: float = 3.0
    large: float = 1e3
    batch_shape: tuple[int, ...] = ()
    onto: bool = True
    any_input: bool = False
    sliceable: bool = True
    slow: bool = False


def conv_net(dtype, inputs, outputs, context=None):
    network = networks.ConvNet(outputs, width=8, seed=1, dtype=tf.as_dtype(dtype).name)
    return networks.build_network(network, inputs, context)


def coupling(dtype, shape, outputs, *, inputs=None, scale="tanh", **kwargs):
    inputs = inputs or [*shape[:2], shape[2] // 2]
    return bijectors.Coupling(
        conv_net(dtype, inputs, outputs),
        shape,
        transforms.Affine(scale),
        dtype=dtype,
        **kwargs,
    )


def token_coupling(dtype, **kwargs):
    network = Dense(dtype, 3, 6)
    return bijectors.Coupling(network, [4, 3], transforms.Affine(), dtype=dtype, **kwargs)


def dense_coupling(dtype, transform):
    network = Dense(dtype, 1, 2 * transform.num_parameters)
    return bijectors.Coupling(network, [3, 2, 3], transform, dtype=dtype)


def residual_flow(dtype, shape, **kwargs):
    network = networks.LipschitzNet(
        shape[-1], width=4, seed=1, max_lipschitz=0.7, dtype=tf.as_dtype(dtype).name, **kwargs
    )
    network = networks.build_network(network, shape)
    return bijectors.ResidualFlow(network, shape, dtype=dtype)


def vectors(dtype, count=2):
    """A batch of three contexts."""
    return tf.cast(np.linspace(-1, 1, 3 * count).reshape(3, count), dtype)


def residual_flow_conditional(dtype):
    network = networks.LipschitzNet(
        3,
        width=4,
        kernel_sizes=(1, 1),
        max_lipschitz=0.7,
        context_size=2,
        seed=1,
        dtype=tf.as_dtype(dtype).name,
    )
    network = networks.build_network(network, [3], [2])
    flow = bijectors.ResidualFlow(network, [3], conditional=True, dtype=dtype)
    return condition(flow, vectors(dtype))


def whitening(dtype, batch=()):
    rng = np.random.default_rng(5)
    vectors = np.linalg.qr(rng.normal(size=[*batch, 4, 4]))[0]
    arrays = (rng.normal(size=[*batch, 4]), vectors, [3.0, 1.0, 0.5, 0.2])
    return bijectors.Whitening(*(tf.constant(a, dtype) for a in arrays))


def dual_affine_coupling(dtype):
    nets = [conv_net(dtype, [3, 2, 2], 5), conv_net(dtype, [3, 2, 1], 10)]
    return bijectors.DualAffineCoupling(nets, [3, 2, 3], gain=0.25, dtype=dtype)


class Dense(tf.Module):
    """A network that is no Keras layer: any callable will do, a `tf.Module` is tracked."""

    def __init__(self, dtype, inputs=2, outputs=4):
        super().__init__()
        self.weight = tf.Variable(np.ones([inputs, outputs]), dtype=dtype)

    def __call__(self, a):
        return tf.tanh(tf.tensordot(a, self.weight, axes=1))


def vector_coupling(dtype):
    return bijectors.Coupling(Dense(dtype), [4], transforms.Affine(), dtype=dtype)


def scalar_coupling(dtype):
    """Entries are moved by a bijector of TFP, whose parameters come from those before."""

    def bend(h):
        return tfb.SinhArcsinh(h[..., 0] / 4, tf.exp(h[..., 1] / 4))

    return bijectors.Coupling(Dense(dtype), [4], bend, dtype=dtype)


def autoregressive(dtype, transform, size=4, context=None):
    network = networks.MaskedMLP(
        size,
        transform.num_parameters,
        width=8,
        seed=1,
        context_size=context,
        dtype=tf.as_dtype(dtype).name,
    )
    network = networks.build_network(network, [size], context and [context])
    flow = bijectors.Autoregressive(
        network, [size], transform, conditional=context is not None, dtype=dtype
    )
    if context is None:
        return flow
    return condition(flow, tf.cast(np.linspace(-1, 1, 3 * context).reshape(3, context), dtype))


def tokens(dtype, inversion, context=None):
    """An autoregressive flow of four tokens."""
    network = networks.CausalTransformer(
        [4, 2], 2, width=6, depth=1, context_size=context, seed=1, dtype=tf.as_dtype(dtype).name
    )
    networks.build_network(network, [4, 2], context and [context])
    flow = bijectors.Autoregressive(
        network,
        [4, 2],
        transforms.Affine(shift_first=True),
        inversion=inversion,
        conditional=context is not None,
        context_ndims=1,
        dtype=dtype,
    )
    return flow if context is None else condition(flow, vectors(dtype, context))


def conditional_coupling(dtype):
    network = conv_net(dtype, [2, 2, 1], 4, context=[4, 4, 2])
    flow = bijectors.Coupling(
        network, [2, 2, 3], transforms.Affine(), conditional=True, dtype=dtype
    )
    context = tf.cast(np.linspace(-1, 1, 3 * 4 * 4 * 2).reshape(3, 4, 4, 2), dtype)
    return condition(flow, context)


def linear_operator(dtype, kind):
    rng = np.random.default_rng(3)
    if kind == "dense":
        matrix = tf.Variable(0.3 * rng.normal(size=[5, 5]), dtype=dtype)
        return tf.linalg.LinearOperatorFullMatrix(matrix)
    if kind == "toeplitz":
        column, row = 0.1 * rng.normal(size=[2, 5])
        row[0] = column[0]
        return tf.linalg.LinearOperatorToeplitz(
            tf.Variable(column, dtype=dtype), tf.Variable(row, dtype=dtype)
        )
    return tf.linalg.LinearOperatorKronecker(
        [
            tf.linalg.LinearOperatorFullMatrix(
                tf.Variable(0.5 * rng.normal(size=[2, 2]), dtype=dtype)
            ),
            tf.linalg.LinearOperatorFullMatrix(
                tf.Variable(0.5 * rng.normal(size=[3, 3]), dtype=dtype)
            ),
        ]
    )


def sylvester(dtype, kind, batch=()):
    rng = np.random.default_rng(6)

    def make(*shape, scale=1.0):
        value = tf.constant(scale * rng.normal(size=[*batch, *shape]), dtype)
        return value if batch else tf.Variable(value)

    size = 2 if kind == "dense" else 4
    parts = make(size, size), make(size, size), make(size)
    if kind == "triangular":
        return bijectors.Sylvester.triangular(*parts, reverse=True)
    build = getattr(bijectors.Sylvester, kind)
    return build(make(4, 2) if kind == "dense" else make(3, 4), *parts)


class Previous(tf.Module):
    """An autoregressive function: of the entry before and, less, of the entry itself."""

    def __init__(self, dtype):
        super().__init__()
        self.scale = tf.Variable(tf.ones([4], dtype))

    def __call__(self, u):
        before = tf.concat([tf.zeros_like(u[..., :1]), u[..., :-1]], axis=-1)
        h = tf.tanh(self.scale * before + u / 2)
        return h, (1 - h**2) / 2


def sylvester_operator(dtype):
    matrix = tf.Variable(
        np.eye(4) + 0.2 * np.random.default_rng(8).normal(size=[4, 4]), dtype=dtype
    )
    return bijectors.Sylvester(tf.linalg.LinearOperatorFullMatrix(matrix), Previous(dtype))


def conv_sylvester(dtype, size=None):
    network = networks.MaskedConvNet(
        2, width=8, context_size=size, seed=1, dtype=tf.as_dtype(dtype).name
    )
    networks.build_network(network, [3, 4, 2], size and [size])
    options = {"conditional": size is not None, "seed": 1, "dtype": dtype}
    flow = bijectors.ConvSylvester.trainable([3, 4, 2], network, **options)
    return flow if size is None else condition(flow, vectors(dtype, size))


def classic_conv_sylvester_conditional(dtype):
    function = triangular.ConvTriangularTanh.trainable(
        [3, 4, 2], context_size=2, seed=1, dtype=dtype
    )
    identity = bijectors.Flip(axis=())
    flow = bijectors.Sylvester(identity, function, event_shape=(3, 4, 2), conditional=True)
    return condition(flow, vectors(dtype))


def large_kernel(dtype):
    kernel = tf.Variable(np.random.default_rng(4).normal(size=[3, 3, 2, 2]) / 3, dtype=dtype)
    return bijectors.ConvExponential(kernel, max_norm=None)


def graph(dtype, kind):
    """A graph of 4 nodes, directed, weighted, with self loops."""
    rng = np.random.default_rng(6)
    matrix = rng.normal(size=[3, 4, 4]) * (rng.uniform(size=[3, 4, 4]) < 0.6)
    options = {}
    if kind == "masked":
        options["mask"] = tf.constant([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]])
    if kind not in ("batch", "masked"):
        matrix = matrix[0]
    matrix = tf.constant(matrix, dtype)
    if kind == "sparse":
        matrix = tf.sparse.from_dense(matrix)
    if kind == "norm_above_1":
        options["max_norm"] = 2.5
    flow = bijectors.GraphConvExponential.trainable(
        [None, 3],
        None if kind == "conditional" else matrix,
        conditional=kind == "conditional",
        seed=1,
        dtype=dtype,
        **options,
    )
    return condition(flow, matrix) if kind == "conditional" else flow


def multi_scale(dtype):
    def level(shape, *first):
        return bijectors.Sequential(
            [
                *first,
                bijectors.ActNorm.trainable(shape, dtype=dtype),
                coupling(dtype, shape, shape[-1]),
            ]
        )

    levels = [level([2, 2, 4], bijectors.Squeeze()), level([1, 1, 8], bijectors.Squeeze())]
    return bijectors.MultiScale(levels, [4, 4, 1])


IMAGE = (5, 4, 2)

ROWS = [
    Row("act_norm", lambda d: bijectors.ActNorm.trainable([None, None, 3], dtype=d), (4, 2, 3), 2),
    Row(
        "act_norm_vector",
        lambda d: bijectors.ActNorm.trainable([3], dtype=d),
        (3,),
        2,
    ),
    Row(
        "act_norm_batch",
        lambda d: bijectors.ActNorm(tf.ones([3, 2], d), tf.zeros([3, 2], d) + 0.3),
        (2, 2, 2),
        0,
        batch_shape=(3,),
    ),
    *[
        Row(
            f"conv1x1_{kind}",
            lambda d, kind=kind: bijectors.InvertibleConv1x1.trainable(
                [None, None, 4], parameterization=kind, seed=2, dtype=d
            ),
            (3, 2, 4),
            2 if kind == "qr" else 1,
        )
        for kind in ("dense", "plu", "qr", "householder")
    ],
    Row(
        "conv1x1_batch",
        lambda d: bijectors.InvertibleConv1x1(
            tf.constant([[[2.0, 1.0], [0.0, 1.0]], [[0.5, 0.1], [0.3, -1.0]]], d)
        ),
        (2, 3, 2),
        0,
        batch_shape=(2,),
    ),
    Row(
        "conv_exponential",
        lambda d: bijectors.ConvExponential.trainable(IMAGE, seed=1, dtype=d),
        IMAGE,
        1,
    ),
    Row(
        "conv_exponential_3x5_periodic",
        lambda d: bijectors.ConvExponential.trainable(
            IMAGE, kernel_size=(3, 5), padding="periodic", seed=1, dtype=d
        ),
        IMAGE,
        1,
    ),
    Row("conv_exponential_unconstrained", large_kernel, IMAGE, 1),
    Row(
        "conv_exponential_power_iteration",
        lambda d: bijectors.ConvExponential.trainable(
            IMAGE, norm="power_iteration", seed=1, dtype=d
        ),
        IMAGE,
        1,
    ),
    *[
        Row(
            f"emerging_conv_{mask}_{name}",
            lambda d, mask=mask, size=size: bijectors.EmergingConv.trainable(
                [None, None, 2], kernel_size=size, mask=mask, seed=1, dtype=d
            ),
            IMAGE,
            1,
            slow=(mask, name) in (("square", "3x5"), ("raster", "3x3")),
        )
        for mask in ("square", "raster")
        for name, size in (("3x3", 3), ("3x5", (3, 5)))
    ],
    *[
        Row(
            f"periodic_conv_{name}",
            lambda d, size=size: bijectors.PeriodicConv.trainable(
                [None, None, 2], kernel_size=size, seed=1, dtype=d
            ),
            shape,
            1,
        )
        for name, size, shape in (("3x3", 3, IMAGE), ("5x3_odd_width", (5, 3), (4, 3, 2)))
    ],
    *[
        Row(
            f"woodbury_conv_{name}",
            lambda d, channel_rank=channel_rank: bijectors.WoodburyConv.trainable(
                IMAGE, rank=3, channel_rank=channel_rank, seed=1, dtype=d
            ),
            IMAGE,
            variables,
        )
        for name, channel_rank, variables in (("spatial", None, 2), ("both", 1, 4))
    ],
    *[
        Row(
            f"matvec_exponential_{kind}",
            lambda d, kind=kind: bijectors.MatvecExponential(linear_operator(d, kind)),
            (6,) if kind == "kronecker" else (5,),
            1 if kind == "dense" else 2,
            slow=kind != "dense",
        )
        for kind in ("dense", "toeplitz", "kronecker")
    ],
    Row(
        "matvec_exponential_batch",
        lambda d: bijectors.MatvecExponential(
            tf.linalg.LinearOperatorFullMatrix(tf.constant([[[0.3, 0.1], [-0.2, 0.0]]] * 3, d))
        ),
        (2,),
        0,
        batch_shape=(3,),
    ),
    *[
        Row(
            f"sylvester_{kind}",
            lambda d, kind=kind: sylvester(d, kind),
            (4,),
            3 if kind == "triangular" else 4,
            slow=kind == "householder",
        )
        for kind in ("dense", "householder", "triangular")
    ],
    Row(
        "sylvester_batch",
        lambda d: sylvester(d, "dense", (3,)),
        (4,),
        0,
        batch_shape=(3,),
        sliceable=False,
    ),
    Row("sylvester_operator", sylvester_operator, (4,), 2),
    Row("conv_sylvester", conv_sylvester, (3, 4, 2), 14),
    *[
        Row(name, make, (3, 4, 2), count, batch_shape=(3,), sliceable=False, slow=True)
        for name, make, count in (
            ("conv_sylvester_conditional", lambda d: conv_sylvester(d, 2), 16),
            ("classic_conv_sylvester_conditional", classic_conv_sylvester_conditional, 4),
        )
    ],
    *[
        Row(
            f"graph_conv_exponential_{kind}",
            lambda d, kind=kind: graph(d, kind),
            (4, 3),
            2,
            batch_shape=(3,) if kind in ("batch", "masked") else (),
            sliceable=False,
            slow=kind in ("batch", "masked", "norm_above_1"),
        )
        for kind in ("dense", "sparse", "batch", "masked", "conditional", "norm_above_1")
    ],
    *[
        Row(
            f"coupling_{scale}",
            lambda d, scale=scale: coupling(d, [3, 2, 3], 2 if scale is None else 4, scale=scale),
            (3, 2, 3),
            6,
            large=10.0 if scale in SMALL_SCALES else 1e3,  # A small s loses what it scales.
            slow=scale == "double_sigmoid",
        )
        for scale in ("tanh", *SMALL_SCALES, None)
    ],
    Row(
        "coupling_reverse",
        lambda d: coupling(d, [3, 2, 3], 2, split_size=2, inputs=[3, 2, 2], reverse=True),
        (3, 2, 3),
        6,
    ),
    Row(
        "coupling_checkerboard",
        lambda d: coupling(d, [3, 2, 2], 4, inputs=[3, 2, 2], split="checkerboard"),
        (3, 2, 2),
        6,
    ),
    *[
        Row(
            f"coupling_token{'_reverse' * reverse}",
            lambda d, reverse=reverse: token_coupling(d, split="token", reverse=reverse),
            (4, 3),
            1,
            slow=reverse,
        )
        for reverse in (False, True)
    ],
    Row("coupling_vector", vector_coupling, (4,), 1),
    Row("coupling_conditional", conditional_coupling, (2, 2, 3), 6, batch_shape=(3,)),
    Row(
        "coupling_mexican_hat",
        lambda d: coupling(d, [3, 2, 3], 6, scale=transforms.MexicanHatScale(2, 0.3)),
        (3, 2, 3),
        6,
    ),
    *[
        Row(name, lambda d, transform=transform: dense_coupling(d, transform), (3, 2, 3), 1)
        for name, transform in (
            ("coupling_rational_quadratic", transforms.RationalQuadratic(4)),
            ("coupling_logistic_mixture", transforms.LogisticMixture(3)),
        )
    ],
    Row("coupling_scalar", scalar_coupling, (4,), 1, large=10.0),
    Row("autoregressive", lambda d: autoregressive(d, transforms.Affine()), (4,), 6),
    Row(
        "autoregressive_logistic_mixture",
        lambda d: autoregressive(d, transforms.LogisticMixture(3)),
        (4,),
        6,
        large=3.0,  # Its network makes large means of large entries, with flat parts between.
        slow=True,
    ),
    Row(
        "autoregressive_12",
        lambda d: autoregressive(d, transforms.Affine(), size=12),
        (12,),
        6,
    ),
    Row(
        "autoregressive_conditional",
        lambda d: autoregressive(d, transforms.Affine(), context=2),
        (4,),
        7,
        batch_shape=(3,),
    ),
    *[
        Row(name, make, (4, 2), count, batch_shape=batch, slow=True)
        for name, make, count, batch in (
            ("autoregressive_tokens", lambda d: tokens(d, "parallel"), 17, ()),
            ("autoregressive_tokens_sequential", lambda d: tokens(d, "sequential"), 17, ()),
            ("autoregressive_tokens_conditional", lambda d: tokens(d, "sequential", 2), 18, (3,)),
        )
    ],
    Row("dual_affine_coupling", dual_affine_coupling, (3, 2, 3), 12),
    *[
        Row(
            f"strided_conv_{kind}_{stride}",
            lambda d, kind=kind, stride=stride: bijectors.StridedConv.trainable(
                [None, None, 2], stride=stride, scale=1.5, parameterization=kind, dtype=d
            ),
            (4, 2, 2),
            1,
        )
        for kind, stride in (("plu", 1), ("plu", 2), ("dense", 2))
    ],
    *[
        Row(
            f"rational_quadratic_activation_{kind}",
            lambda d, kind=kind: bijectors.RationalQuadraticActivation.trainable(
                [None, None, 2], slope=0.7, num_bins=5, parameterization=kind, dtype=d
            ),
            (3, 2, 2),
            4,
        )
        for kind in ("contractive", "paper")
    ],
    *[
        Row(
            name,
            lambda d, make=make: make(),
            (3, 2, 2),
            0,
            large=3.0,  # Far out the image is rounded to the end of the interval.
            onto=False,
            any_input=True,
        )
        for name, make in (
            ("tanh_contraction", bijectors.TanhContraction),
            ("normal_cdf_contraction", bijectors.NormalCDFContraction),
        )
    ],
    Row(
        "residual_flow_dense",
        lambda d: residual_flow(d, [2], kernel_sizes=(1, 1)),
        (2,),
        6,
    ),
    Row(
        "residual_flow_conditional",
        residual_flow_conditional,
        (3,),
        7,
        batch_shape=(3,),
        slow=True,
    ),
    Row("residual_flow_conv", lambda d: residual_flow(d, [3, 2, 2]), (3, 2, 2), 9, slow=True),
    Row("whitening", whitening, (4,), 0),
    Row("whitening_batch", lambda d: whitening(d, [2, 1]), (4,), 0, batch_shape=(2, 1)),
    Row("squeeze", lambda d: bijectors.Squeeze(), (4, 2, 3), 0),
    Row("squeeze_glow", lambda d: bijectors.Squeeze(order="glow"), (4, 2, 3), 0),
    Row("patchify", lambda d: bijectors.Patchify([4, 6, 2], (2, 3)), (4, 6, 2), 0),
    Row("flip", lambda d: bijectors.Flip(axis=(-3, -1)), (2, 3, 2), 0, any_input=True),
    *[
        Row(name, make, (2, 2, 1), 0, low=0.0, high=high, any_input=True)
        for name, make, high in (
            ("normalize_image", lambda d: bijectors.NormalizeImage(17), 17.0),
            ("logit_image", lambda d: bijectors.LogitImage(256), 256.0),
        )
    ],
    *[
        Row(name, make, (3,), 0, low=0.0, high=4.0, any_input=True)
        for name, make in (
            (
                "normalize_columns",
                lambda d: bijectors.NormalizeColumns([1.0, -2.0, 0.3], [2.0, 0.5, 3.0]),
            ),
            (
                "normalize_columns_bounded",
                lambda d: bijectors.NormalizeColumns(
                    [0.2, 0.0, 0.1],
                    [0.5, 1.0, 2.0],
                    low=[0.0, -np.inf, -1.0],
                    high=[np.inf, 4.0, 5.0],
                ),
            ),
        )
    ],
    Row("multi_scale", multi_scale, (4, 4, 1), 16),
    Row(
        "sequential_with_tfp",
        lambda d: bijectors.Sequential(
            [
                bijectors.ActNorm.trainable([None, None, 2], dtype=d),
                tfb.Chain([tfb.Scale(tf.constant(2.0, d)), tfb.Softplus()]),
                tfb.Invert(bijectors.Flip()),
            ]
        ),
        (3, 2, 2),
        2,
        large=10.0,  # Softplus loses negative inputs far from 0.
        onto=False,
    ),
]


def perturbed(row, dtype):
    """Returns the bijector of a row away from its initial values, most of which are special."""
    bijector = row.make(dtype)
    rng = np.random.default_rng(7)
    for variable in bijector.trainable_variables:
        variable.assign_add(tf.cast(0.2 * rng.normal(size=variable.shape), variable.dtype))
    return bijector


def inputs(row, dtype, batch_shape=None, seed=0):
    """Returns a batch from inside the domain of a row."""
    rng = np.random.default_rng(seed)
    margin = 0.01 * (row.high - row.low)
    batch_shape = (row.batch_shape or (3,)) if batch_shape is None else batch_shape
    shape = (*batch_shape, *row.event_shape)
    return tf.constant(rng.uniform(row.low + margin, row.high - margin, shape), dtype)
