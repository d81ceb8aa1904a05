"""Where the time of a training step of a zoo model goes: networks, mixing layers, everything else.

python -m benchmarks.training_step [--output=results.json] [--quick]

Each group is timed as a graph of its own, beside the whole step, in rounds:

    networks         forward and gradients of all coupling networks, one after the other
    mixing layers    the same for 1x1 convolutions and convolution exponentials with norm bounds
    everything else  the whole step of the model without mixing layers, its networks replaced by a
                     concatenation: actnorm, split and concatenation, affine maps, log-dets, prior,
                     and optimiser and checks over the parameters of the real networks
"""

import importlib

from benchmarks import measuring

MODEL = "convexp_glow.cifar10_small"
GROUPS = ("networks", "mixing layers", "everything else")
STEP = "step"


def rows(seconds) -> list[dict]:
    """Returns a row for the step and each group, and two checks on the sum.

    Args:
      seconds: group, or `STEP` -> seconds `[rounds]`.
    """
    step = seconds[STEP]
    networks, mixing, rest = (seconds[group] for group in GROUPS)
    parts = {
        STEP: step,
        **{group: seconds[group] for group in GROUPS},
        "sum of the three": networks + mixing + rest,
        "step - networks - mixing": step - networks - mixing,
    }
    return [
        {
            "part": name,
            "ms": 1e3 * measuring.median(part),
            "% of step": 100 * measuring.paired_ratio(part, step),
        }
        for name, part in parts.items()
    ]


def main():
    """Measures, prints the table, writes the JSON."""
    flags = measuring.flag_parser(__doc__.splitlines()[0]).parse_args()
    measuring.set_up_tensorflow(flags.onednn)
    # Imports TensorFlow, which reads its settings once.
    graphs = importlib.import_module("benchmarks.training_step_graphs")
    shards = measuring.num_threads()
    graphs.configure(shards)
    rounds, seconds = (2, 0.0) if flags.quick else (15, 1.5)
    found, batch_size = graphs.make_graphs(MODEL, shards)
    environment = measuring.environment(["tensorflow", "tensorflow-probability", "keras", "numpy"])
    settings = {
        "model": MODEL,
        "batch size": batch_size,
        "shards": shards,
        "rounds": rounds,
        "seconds": seconds,
    }
    measuring.print_values(environment | settings)
    turns = {name: measuring.turn(function, seconds) for name, function in found.items()}
    table = rows(measuring.in_rounds(turns, rounds))
    measuring.print_table(table)
    results = {"environment": environment, "settings": settings, "results": table}
    measuring.write_results(flags.output, results)


if __name__ == "__main__":
    measuring.run(main)
