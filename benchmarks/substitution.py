"""Ways to undo an autoregressive convolution: pixel by pixel, as `EmergingConv`, or a wavefront.

python -m benchmarks.substitution [--output=results.json] [--quick]

Milliseconds for one convolution, kernels of 3x3 with the masks of `EmergingConv`. A pixel depends
only on pixels with a smaller `t = j + s i`, so the wavefront solves all those of one `t` at once,
in `W + s (H - 1)` steps (`s` = 1 for "square", 2 for "raster") in place of `H W`.
"""

import itertools

from benchmarks import measuring

SHAPES = ([16, 16, 12], [8, 8, 24])
BATCHES = (1, 32, 128)


def wavefront(y, kernel, column):
    """Returns what `causal_conv.solve_causal_conv` does."""
    import numpy as np
    import tensorflow as tf

    rows, columns, channels = kernel.shape[:3]
    eye = tf.eye(channels, dtype=y.dtype)
    center = tf.linalg.triangular_solve(kernel[-1, column], eye, lower=False)
    y = tf.reshape(tf.reshape(y, [-1, channels]) @ center, y.shape)
    skew = columns - column
    taps = [(a, b) for a, b in np.ndindex(rows, columns) if a < rows - 1 or b < column]
    weights = tf.concat([kernel[a, b] @ center for a, b in taps], axis=0)
    up = [rows - 1 - a for a, _ in taps]
    delays = [skew * above + column - b for above, (_, b) in zip(up, taps, strict=True)]

    # Row i moves to the right by skew i: rows of steps + skew entries, read as rows of steps.
    batch, height, width = y.shape[:3]
    steps = width + skew * (height - 1)
    y = tf.pad(y, [[0, 0], [0, 0], [0, steps + skew - width], [0, 0]])
    y = tf.reshape(y, [batch, -1, channels])[:, : height * steps]
    y = tf.transpose(tf.reshape(y, [batch, height, steps, channels]), [2, 0, 1, 3])
    inside = np.arange(steps)[:, None] - skew * np.arange(height)
    inside = tf.constant((inside >= 0) & (inside < width), y.dtype)[:, :, None]

    def step(t, recent, solved):
        # `recent` has the steps before this one, the last first, under `rows - 1` rows of zeros.
        parts = [
            recent[delay - 1, :, rows - 1 - above : rows - 1 - above + height]
            for delay, above in zip(delays, up, strict=True)
        ]
        sums = tf.reshape(tf.concat(parts, axis=-1), [-1, len(taps) * channels]) @ weights
        x = (y[t] - tf.reshape(sums, y.shape[1:])) * inside[t]
        new = tf.pad(x, [[0, 0], [rows - 1, 0], [0, 0]])[None]
        return [t + 1, tf.concat([new, recent[:-1]], axis=0), solved.write(t, x)]

    start = [
        tf.constant(0),
        tf.zeros([max(delays), batch, height + rows - 1, channels], y.dtype),
        tf.TensorArray(y.dtype, steps, element_shape=y.shape[1:]),
    ]
    solved = tf.while_loop(lambda t, *_: t < steps, step, start)[-1]
    x = tf.reshape(tf.transpose(solved.stack(), [1, 2, 0, 3]), [batch, -1, channels])
    x = tf.pad(x, [[0, 0], [0, height * skew], [0, 0]])
    return tf.reshape(x, [batch, height, -1, channels])[:, :, :width]


def contestants(shape, batch, mask, seconds):
    """Returns functions for `measuring.in_rounds`, after a check that all agree."""
    import numpy as np
    import tensorflow as tf

    from tfflows.bijectors import EmergingConv
    from tfflows.numerics.causal_conv import substitute

    flow = EmergingConv.trainable(shape, mask=mask, seed=1)
    kernel, column = flow._masked_kernels()[0], flow._column
    y = tf.random.stateless_normal([batch, *shape], [1, 2])
    functions = {
        "pixels": lambda y: substitute(y, kernel, column, False),
        "wavefront": lambda y: wavefront(y, kernel, column),
    }
    found, results = {}, []
    for (name, function), jit in itertools.product(functions.items(), (False, True)):
        compiled = tf.function(function, jit_compile=jit, autograph=False)
        results.append(compiled(y))
        run = measuring.turn(lambda compiled=compiled: compiled(y), seconds)
        found[f"{name}, {'XLA' if jit else 'graph'}, ms"] = run
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-5)
    return found


def main():
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    args = parser.parse_args()
    measuring.set_up_tensorflow(args.onednn)
    rounds, seconds = (1, 0.0) if args.quick else (5, 0.1)
    rows = []
    for shape, mask, batch in itertools.product(SHAPES, ("square", "raster"), BATCHES):
        times = measuring.in_rounds(contestants(shape, batch, mask, seconds), rounds)
        row = {"shape": "x".join(map(str, shape)), "mask": mask, "batch": batch}
        rows.append(row | {name: 1e3 * measuring.median(value) for name, value in times.items()})
    measuring.report(rows, ["tensorflow"], args.output)


if __name__ == "__main__":
    measuring.run(main)
