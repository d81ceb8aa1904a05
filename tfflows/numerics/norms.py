"""Operator norms of convolutions and matrices: bounds that always hold."""

import functools
import math

import numpy as np
import tensorflow as tf

from tfflows.types import TensorFunction, TensorLike

_GRID = 12  # Points of the frequency grid per unit of degree.
_PRODUCTS = 5  # Gram iterations.
_EARLY = 2  # Those after which a norm far below its cap is left alone.


def conv_norm_bound(kernel: TensorLike, support: np.ndarray | None = None) -> tf.Tensor:
    """Returns a certified upper bound on the operator norm of a convolution.

    `M` is the cross-correlation with stride 1 of images `[H, W, C]` of any size, zero-padded or
    periodic, and has values of `C'` channels. With `d` the half width of the kernel along an axis
    and `S(w) = sum_ab kernel[a, b] exp(i (a w_1 + b w_2))`, `|a| <= d_1`, `|b| <= d_2`,

        |M|_2 <= sup_w |S(w)|_2
              <= max_{w in grid} gram(S(w)) / (cos(pi d_1 / N_1) cos(pi d_2 / N_2))

    **Any size.** On infinite images `M` is multiplication by `S(w)` in Fourier space. Zero padding
    restricts it to a subspace and projects onto that; a periodic image only has some of the `w`.

    **Grid** of `N = 12 d` frequencies along each axis, a factor of at most 1.072. For unit vectors
    `u`, `v` the real part `p(w)` of `u^* S(w) v` is a trigonometric polynomial of degree `d` in
    each of `w_1`, `w_2`. Let `P = max |p|` along one axis be attained at `t`, where we may take
    `p(t) = P`. By the inequality of Bernstein and Szego, `p'^2 + d^2 p^2 <= d^2 P^2`, so
    `arccos(p / P)` changes at a rate of at most `d` and `p(w) >= P cos(d |w - t|)` for
    `|w - t| <= pi / d`. Some point of the grid is within `pi / N` of `t`. Apply this to one axis
    after the other, with `u`, `v` the singular vectors where the supremum is attained. (Ehlich and
    Zeller, 1964.)

    **Gram iteration**, Delattre et al. (2023). With `G_1 = S^* S`, `G_{k+1} = G_k^* G_k`,
    `gram(S) = |G_5|_F^(1/32)`, at most `n^(1/64)` above `|S|_2` for `n = min(C, C')`, since the
    smaller of `S^* S` and `S S^*` is taken. `G_1`, `G_3` and `G_5` are divided by their Frobenius
    norms, so that nothing over- or underflows.

    **First product.** Directly, `G_1 = S^* S`, if `m = max(C, C') <= 2 n`. Otherwise `G_1 = sum_ab
    kernel[a]^* kernel[b] exp(i (b - a) w)`: the products of all pairs of taps, in one product of
    matrices, serve all frequencies.

    **Rounding.** With `T` taps and unit roundoff `eps / 2`, the sum over taps is wrong by at most
    `(T + 2) sqrt(T) eps / 2` of `|kernel|_F`, which by Parseval is no more than the largest
    `|S(w)|_F <= sqrt(n) |S(w)|_2`. A product `G^* G` is wrong by at most
    `m eps |G|_F^2 <= m n eps |G^* G|_2`, and an error in `G_k` counts `2^-k` times.
    The bound is multiplied by `1 + eps (m n + sqrt(n T) (T + 2) + 8)`.
    From pairs, `G_1` is wrong by `(m + T^2 + 4) eps / 2` of the sum of all
    `|kernel[a]|_F |kernel[b]|_F`, which is at most `T |kernel|_F^2 <= n T |S(w)|_2^2`; the factor
    is then `1 + eps (n T (m + T^2 + 4) / 4 + n^2 + 8)`.

    The gradient is that of the bound with the largest frequency held constant.

    Args:
      kernel: `[kh, kw, C, C']` with odd `kh` and `kw`.
      support: `[kh, kw]`, `False` for taps that are known to be zero, which then cost nothing.

    Returns:
      A scalar of the dtype of `kernel`; 0, with gradient 0, for a kernel of zeros.

    Raises:
      ValueError: if the kernel has an even size.

    #### References

    Delattre, Barthelemy, Araujo, Allauzen, *Efficient Bound of Lipschitz Constant for Convolutional
    Layers by Gram Iteration*, ICML 2023, arXiv:2305.16173.

    Ehlich, Zeller, *Schwankung von Polynomen zwischen Gitterpunkten*, Mathematische Zeitschrift 86,
    1964.
    """
    return _norm_bound(tf.convert_to_tensor(kernel), support, None)


def matrix_norm_bound(matrix: TensorLike) -> tf.Tensor:
    """Returns certified upper bounds on the operator norms of matrices.

    The lesser of `sqrt(|M|_1 |M|_inf)` and `|G_5|_F^(1/32)`, `G_1 = M^T M`, `G_{k+1} = G_k^T G_k`,
    at most `n^(1/64)` above `|M|_2` for the smaller side `n`; rounding is allowed for as in
    `conv_norm_bound`.

    Args:
      matrix: `[..., m, n]`.

    Returns:
      `[...]`.
    """
    matrix = tf.convert_to_tensor(matrix)
    height, width = matrix.shape[-2:]
    if height < width:
        matrix = tf.linalg.matrix_transpose(matrix)
    magnitude, size = tf.abs(matrix), max(height, width)
    sums = [tf.reduce_max(tf.reduce_sum(magnitude, axis), axis=-1) for axis in (-2, -1)]
    flat = tf.reshape(matrix, [-1, 1, size, min(height, width)])
    scale = tf.stop_gradient(_or_one(tf.reduce_max(tf.abs(flat), axis=[1, 2, 3])))
    first = _gram(flat / scale[:, tf.newaxis, tf.newaxis, tf.newaxis])
    norms = scale * _norm(_iterate(first, 1.0, range(1, _PRODUCTS + 1)), _PRODUCTS)
    eps = np.finfo(matrix.dtype.as_numpy_dtype).eps
    return tf.minimum(
        (1 + eps * (size + 8)) * tf.sqrt(sums[0]) * tf.sqrt(sums[1]),
        (1 + eps * (height * width + 8)) * tf.reshape(norms, tf.shape(sums[0])),
    )


def sequence_norm_bound(sequence: TensorLike) -> tf.Tensor:
    """Returns certified upper bounds on the norms of the convolution with sequences.

    The case of one channel and one dimension of `conv_norm_bound`, by the FFT: `|S(w)|` on a grid
    of `12 d` frequencies for `2 d + 1` taps. The transform is allowed an error of
    `6 eps log2(12 d)` of the norm of its result, whose mean square is at most the largest square.

    Args:
      sequence: `[..., 2 d + 1]`.

    Returns:
      `[...]`.
    """
    sequence = tf.convert_to_tensor(sequence)
    degree = sequence.shape[-1] // 2
    length = max(1, _GRID * degree)
    values = tf.abs(tf.signal.rfft(sequence, [length]))
    eps = np.finfo(sequence.dtype.as_numpy_dtype).eps
    error = 6 * eps * (1 + math.log2(length)) * math.sqrt(length)
    return tf.reduce_max(values, axis=-1) * ((1 + error) / math.cos(math.pi * degree / length))


def capped_kernel(
    kernel: TensorLike, max_norm: float, support: np.ndarray | None = None
) -> tf.Tensor:
    """Returns `kernel / max(1, conv_norm_bound(kernel) / max_norm)`.

    Stops after two of the five products where the norm is well below `max_norm`: the bound falls
    with each Gram iteration, and the first ones may tell that there is nothing to do.

    Args:
      kernel: see `conv_norm_bound`.
      max_norm: the largest operator norm, a positive Python `float`.
      support: see `conv_norm_bound`.

    Raises:
      ValueError: see `conv_norm_bound`.
    """
    kernel = tf.convert_to_tensor(kernel)
    return kernel / _norm_bound(kernel, support, max_norm)


def _norm_bound(kernel, support, max_norm):
    """Returns `b = conv_norm_bound(kernel)`, or `max(1, b / max_norm)`."""
    height, width = kernel.shape[:2]
    if height % 2 == 0 or width % 2 == 0:
        raise ValueError(
            f"`kernel` must have odd spatial sizes. Received: kernel.shape={tuple(kernel.shape)}."
        )
    support = np.ones([height, width], bool) if support is None else support
    options = tuple(map(tuple, np.argwhere(support).tolist())), max_norm

    @tf.custom_gradient
    def bound(kernel):
        value, largest = _call(_evaluate, [tf.stop_gradient(kernel)], options)

        def gradient(upstream):
            return _call(_pull_back, [kernel, value, largest, upstream], options)

        return value, gradient

    return bound(kernel)


@functools.cache
def _not_inlined(function):
    """Makes a function a call in the graphs that use it, of which each shape has one copy.

    A graph with hundreds of kernels is several times as large, and as slow to start, without.
    """
    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True})


def _call(function, tensors, options):
    """Calls a function as a concrete one, which does not warn of being traced for many shapes."""
    return _not_inlined(function).get_concrete_function(*tensors, *options)(*tensors)


def _evaluate(kernel, offsets, max_norm):
    """Returns what `_norm_bound` does, and the index of the largest frequency."""
    phases, factor = _frequency_grid(kernel, offsets)
    first, scale = _first_product(kernel, offsets, tf.constant(phases, kernel.dtype))
    factor = tf.cast(factor * _rounding(kernel, offsets), kernel.dtype) * scale
    early = _iterate(first, 1.0, range(1, _EARLY + 1))

    def finish():
        norms = factor * _norm(_iterate(*early, range(_EARLY + 1, _PRODUCTS + 1)), _PRODUCTS)
        return tf.reduce_max(norms), tf.argmax(norms)

    if max_norm is None:
        return finish()
    at_most = factor * tf.reduce_max(_norm(early, _EARLY))
    value, largest = tf.cond(
        at_most <= max_norm, lambda: (at_most, tf.constant(0, tf.int64)), finish
    )
    return tf.maximum(tf.ones([], kernel.dtype), value / max_norm), largest


def _pull_back(kernel, value, largest, upstream, offsets, max_norm):
    """Returns the gradient of `_norm_bound`, with the largest frequency held constant."""
    phases, factor = _frequency_grid(kernel, offsets)
    factor *= _rounding(kernel, offsets) / (max_norm or 1.0)
    phase = tf.gather(tf.constant(phases, kernel.dtype), largest[tf.newaxis])

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            first, scale = _first_product(kernel, offsets, phase)
            iterated = _iterate(first, 1.0, range(1, _PRODUCTS + 1))
            bound = factor * scale * _norm(iterated, _PRODUCTS)[0]
        return tape.gradient(bound, kernel, upstream)

    if max_norm is None:
        return gradient()
    return tf.cond(value > 1, gradient, lambda: tf.zeros_like(kernel))


def _from_pairs(kernel):
    """Returns whether the first product is that of pairs of taps."""
    return max(kernel.shape[2:]) > 2 * min(kernel.shape[2:])


def _rounding(kernel, offsets):
    """Returns the factor by which rounding errors may make the bound too small."""
    count, (least, larger) = len(offsets), sorted(kernel.shape[2:])
    if _from_pairs(kernel):
        error = least * count * (larger + count**2 + 4) / 4 + least**2
    else:
        error = larger * least + math.sqrt(least * count) * (count + 2)
    return 1 + np.finfo(kernel.dtype.as_numpy_dtype).eps * (error + 8)


def _first_product(kernel, offsets, phases):
    """Returns `G_1 = S^* S` of the kernel divided by a constant, and that constant.

    Args:
      kernel: `[kh, kw, C, C']`.
      offsets: row and column of its taps that may not be zero.
      phases: what `_frequency_grid` returned, or some of its rows.

    Returns:
      Real and imaginary part, `[F, 2, n, n]`, or `[F, 1, n, n]` for a single tap; a scalar.
    """
    height, width, *channels = kernel.shape
    count, (least, larger) = len(offsets), sorted(channels)
    taps = tf.reshape(kernel, [-1, *channels])
    if count < height * width:
        taps = tf.gather(taps, [row * width + column for row, column in offsets])
    if channels[0] < channels[1]:
        taps = tf.transpose(taps, [0, 2, 1])  # S^T, of the same norm.
    # Constant scales change neither the value nor the gradient, but keep all numbers near 1.
    scale = tf.stop_gradient(_or_one(tf.reduce_max(tf.abs(taps))))
    if not _from_pairs(kernel):
        return _gram(_combine(phases, taps / scale)), scale
    rows = tf.reshape(tf.transpose(taps / scale, [1, 0, 2]), [larger, -1])
    pairs = tf.reshape(_real_gram(rows), [count, least, count, least])
    pairs = tf.reshape(tf.transpose(pairs, [0, 2, 1, 3]), [-1, least, least])
    return _combine(phases, pairs), scale


def _combine(phases, matrices):
    """Returns `sum_k exp(i angles_k) matrices[k]`, real and imaginary part `[F, 2, m, n]`."""
    _, parts, count = phases.shape
    combined = tf.tensordot(phases, tf.reshape(matrices, [count, -1]), axes=1)
    return tf.reshape(combined, [-1, parts, *matrices.shape[1:]])


def _frequency_grid(kernel, offsets):
    """Returns the phases of a grid and the factor by which its maximum bounds the supremum.

    Returns:
      `[F, 2, K]`, cosine and sine of `a w_1 + b w_2` for the offsets `(a, b)`, or for the
      differences of pairs of them, for one of `w` and `-w`, which have the same norm; for a single
      tap `[F, 1, 1]`, without the sine; and the factor.
    """
    degrees = [size // 2 for size in kernel.shape[:2]]
    sizes = [max(1, _GRID * d) for d in degrees]
    indices = {min((i, j), (-i % sizes[0], -j % sizes[1])) for i, j in np.ndindex(*sizes)}
    frequencies = 2 * np.pi * np.array(sorted(indices)) / sizes
    at = np.array(offsets) - degrees
    if _from_pairs(kernel):
        at = (at[np.newaxis] - at[:, np.newaxis]).reshape(-1, 2)
    angles = frequencies @ at.T
    factor = math.prod(1 / math.cos(math.pi * d / n) for d, n in zip(degrees, sizes, strict=True))
    parts = [np.cos(angles)] if len(offsets) == 1 else [np.cos(angles), np.sin(angles)]
    return np.stack(parts, axis=1), factor


def _iterate(g, divisor, iterations):
    """Goes on with Gram iterations, whose first product is given.

    Returns:
      `G_k` of the last iteration and the number, `[F]`, by which its root is to be multiplied,
      since `G_k` is divided by its norm now and then.
    """
    for k in iterations:
        if k > 1:
            g = _gram(g)
        if k % 2:
            squared = tf.reduce_sum(g**2, axis=[1, 2, 3])
            scale = tf.stop_gradient(_or_one(tf.sqrt(squared)))
            divisor *= scale ** (0.5**k)
            g /= scale[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return g, divisor


def _norm(iterated, k):
    """Returns `|G_k|_F^(2^-k)`, `[F]`, given what `_iterate` returned."""
    g, divisor = iterated
    squared = tf.reduce_sum(g**2, axis=[1, 2, 3])
    # The root has no finite gradient at 0.
    root = _or_one(squared) ** (0.5 ** (k + 1))
    return divisor * tf.where(squared > 0, root, tf.zeros_like(root))


def _gram(g: tf.Tensor) -> tf.Tensor:
    """Returns `G^* G` for complex matrices `[F, 2, C, C']`, or real ones `[F, 1, C, C']`.

    The products are real, `6 C C'^2` flop.
    """
    if g.shape[1] == 1:
        return _real_gram(g)
    real, imaginary = tf.unstack(g, axis=1)
    rows = tf.reshape(g, [-1, 2 * g.shape[-2], g.shape[-1]])
    mixed = tf.matmul(real, imaginary, transpose_a=True)
    return tf.stack(
        [tf.matmul(rows, rows, transpose_a=True), mixed - tf.linalg.matrix_transpose(mixed)],
        axis=1,
    )


@tf.custom_gradient
def _real_gram(g: tf.Tensor) -> tuple[tf.Tensor, TensorFunction]:
    """Returns `G^T G`, whose gradient takes one product; automatically, it would take two."""

    def gradient(upstream):
        return tf.matmul(g, upstream + tf.linalg.matrix_transpose(upstream))

    return tf.matmul(g, g, transpose_a=True), gradient


def _or_one(x: tf.Tensor) -> tf.Tensor:
    """Replaces zeros by ones."""
    return tf.where(x > 0, x, tf.ones_like(x))
