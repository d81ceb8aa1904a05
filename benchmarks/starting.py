"""What TensorFlow's start of operations costs, beside a RealNVP of `benchmarks.splines`.

python -m benchmarks.starting [--output=results.json] [--quick]

Milliseconds a call, in graph mode and under XLA: a function that does nothing, one that returns the
24 variables of the flow's networks, the networks alone with their gradients, without a flow around
them, and random numbers.
"""

import functools

from benchmarks import measuring
from benchmarks.splines import FULL, QUICK, SIZES, Case


def functions(case):
    """Returns what is timed for a case, Python functions of no arguments."""
    import tensorflow as tf

    from benchmarks.splines_tensorflow import make_network

    half, x = case.dimension // 2, tf.constant(case.data())
    networks = [make_network(half, case.width, 2 * half) for _ in range(4)]
    variables = [v.value for network in networks for v in network.trainable_variables]

    def gradients():
        with tf.GradientTape() as tape:
            loss = tf.add_n([tf.reduce_sum(network(x[:, :half]) ** 2) for network in networks])
        return tape.gradient(loss, variables)

    return {
        "nothing": lambda: tf.constant(0.0),
        "24 variables": lambda: [v + 0.0 for v in variables],
        "networks and gradients": gradients,
        "random normals": lambda: tf.random.stateless_normal(x.shape, [0, 1]),
    }


def run_case(case, effort):
    """Measures a case; returns a row for each function."""
    import tensorflow as tf

    found = functions(case)
    modes = {"graph, ms": False, "XLA, ms": True}
    turns = {
        (what, mode): measuring.turn(
            tf.function(function, jit_compile=jit, autograph=False), effort.seconds
        )
        for what, function in found.items()
        for mode, jit in modes.items()
    }
    seconds = measuring.in_rounds(turns, effort.rounds)
    return [
        {
            "D": case.dimension,
            "batch": case.batch,
            "what": what,
            **{mode: 1e3 * measuring.median(seconds[what, mode]) for mode in modes},
        }
        for what in found
    ]


def main():
    """Measures, prints the table, writes the JSON."""
    flags = measuring.flag_parser(__doc__.splitlines()[0]).parse_args()
    measuring.set_up_tensorflow(flags.onednn)
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(measuring.num_threads())
    effort, sizes = (QUICK, SIZES[:1]) if flags.quick else (FULL, SIZES)
    environment = measuring.environment(["tensorflow", "keras"])
    measuring.print_values(environment)
    make = functools.partial(Case, "affine couplings")
    rows = [row for size in sizes for row in run_case(make(*size), effort)]
    measuring.print_table(rows)
    measuring.write_results(flags.output, {"environment": environment, "results": rows})


if __name__ == "__main__":
    measuring.run(main)
