"""What `tfflows.for_inference` gains: samples and scores of models, as they are and by it.

python -m benchmarks.inference [--model NAME_OR_PATH ...] [--processors] [--output=results.json]
                               [--quick]

Milliseconds a call in graph mode, for a single event and for a batch: `sample` of the density draws
latents and decodes them, `score` is its `log_prob`. A model without weights in the zoo gets random
ones. Both forms have to agree.
"""

import itertools
import time

from benchmarks import measuring

MODELS = (
    "glow.digits",
    "convexp_glow.digits",
    "sylvester.digits",
    "residual.digits",
    "convexp_glow.cifar10_small",
)
BATCHES = (1, 256)


def open_density(name):
    """Returns the density of a model over real events."""
    import tensorflow as tf

    import zoo

    if name not in zoo.list_models() or name in zoo.list_models(pretrained=True):
        return zoo.create(name, pretrained=True)
    density = zoo.create(name)
    for number, variable in enumerate(density.trainable_variables):
        noise = tf.random.stateless_normal(variable.shape, [0, number], dtype=variable.dtype)
        variable.assign_add(0.02 * noise)
    return density


def contestants(forms, batch, seconds, clock):
    """Returns functions for `measuring.in_rounds`, of each form for both operations.

    Args:
      forms: name -> density.
      batch: number of events.
      seconds: of a turn.
      clock: see `measuring.burst`.
    """
    import numpy as np
    import tensorflow as tf

    found, x = {}, None
    for operation in ("sample", "score"):
        results = []
        for form, density in forms.items():
            if operation == "sample":
                function = tf.function(lambda d=density: d.sample(batch, seed=[0, 1]))
            else:
                function = tf.function(lambda d=density, x=x: d.log_prob(x))
            results.append(function())
            found[operation, form] = measuring.turn(function, seconds, clock)
        size = max(1.0, float(np.max(np.abs(results[0]))))
        # An inverse is as exact as the layers let it: a rounding in each of them is not the same.
        np.testing.assert_allclose(results[1], results[0], rtol=0, atol=1e-4 * size)
        x = results[0]
    return found


def main():
    """Measures, prints the table, writes the JSON."""
    parser = measuring.flag_parser(__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="+", default=[*MODELS], help="names or paths")
    parser.add_argument(
        "--processors",
        action="store_true",
        help="time of processors, of all threads, which other work on the machine disturbs less",
    )
    args = parser.parse_args()
    clock = time.process_time if args.processors else time.perf_counter
    measuring.set_up_tensorflow(args.onednn)

    import tfflows
    from tfflows.evaluation import estimating

    rounds, seconds = (1, 0.0) if args.quick else (5, 0.5)
    models = args.model[:2] if args.quick else args.model
    rows = []
    for name, batch in itertools.product(models, BATCHES):
        density = open_density(name)
        forms = {"as it is": density, "for inference": tfflows.for_inference(density)}
        with estimating(seed=1):  # The log-dets of residual flows: of the same noise.
            times = measuring.in_rounds(contestants(forms, batch, seconds, clock), rounds)
        row = {"model": name, "batch": batch}
        for operation in ("sample", "score"):
            before, after = (times[operation, form] for form in forms)
            row |= {
                f"{operation}, ms": 1e3 * measuring.median(before),
                f"{operation} for inference, ms": 1e3 * measuring.median(after),
                f"{operation}, times faster": measuring.paired_ratio(before, after),
            }
        rows.append(row)
        measuring.print_table([row])
    measuring.report(rows, ["tensorflow"], args.output)


if __name__ == "__main__":
    measuring.run(main)
