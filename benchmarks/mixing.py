"""Time of the layers that mix dimensions between couplings, as the zoo's Glow has them.

python -m benchmarks.mixing [--only=emerging,periodic] [--output=results.json] [--quick]

Forward with log-det and all gradients, as in training, and inverse; a batch of 32, graph mode and
XLA. Those that mix positions include the 1x1 convolution in front of them.
"""

from benchmarks import measuring

SHAPES = ([16, 16, 12], [8, 8, 24])
BATCH = 32


def operations(mixing: str, shape: list[int], jit: bool) -> dict[str, object]:
    """Returns the operations of a mixing as functions of no arguments; `run` before timing."""
    import tensorflow as tf

    from tfflows import bijectors, evaluation
    from zoo.architectures.building import Seeds
    from zoo.architectures.mixing import mixing_layers

    flow = bijectors.Sequential(mixing_layers(mixing, shape, Seeds(1), "layer"))
    x = tf.random.stateless_normal([BATCH, *shape], [1, 2])

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, log_det = evaluation.forward_and_log_det(flow, x)
            loss = tf.reduce_sum(y**2) / 2 - tf.reduce_sum(log_det)
        return tape.gradient(loss, [x, *flow.trainable_variables])

    def inverse(y):
        return evaluation.inverse_and_log_det(flow, y)[0]

    compiled = {
        name: tf.function(function, jit_compile=jit)
        for name, function in (("forward + gradients", step), ("inverse", inverse))
    }
    return {name: (lambda function=function: function(x)) for name, function in compiled.items()}


def main():
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    parser.add_argument("--only", help="names of mixings, by commas (default: all)")
    args = parser.parse_args()
    measuring.set_up_tensorflow(args.onednn)
    from zoo.architectures.mixing import CHANNEL_MIXING, SPATIAL_MIXING

    names = args.only.split(",") if args.only else [*CHANNEL_MIXING, *SPATIAL_MIXING]
    rounds, seconds = (1, 0.0) if args.quick else (3, 0.15)
    rows = []
    for shape in SHAPES[-1:] if args.quick else SHAPES:
        contestants = {
            (mixing, name, mode): measuring.turn(run, seconds)
            for mixing in names
            for mode in ("graph", "XLA")
            for name, run in operations(mixing, shape, mode == "XLA").items()
        }
        times = measuring.in_rounds(contestants, rounds)
        for mixing in names:
            row = {"mixing": mixing, "shape": "x".join(map(str, shape))}
            for name in ("forward + gradients", "inverse"):
                for mode in ("graph", "XLA"):
                    value = measuring.median(times[mixing, name, mode])
                    row[f"{name}, {mode}, ms"] = 1e3 * value
            rows.append(row)
    measuring.report(rows, ["tensorflow", "tensorflow-probability"], args.output, batch=BATCH)


if __name__ == "__main__":
    measuring.run(main)
